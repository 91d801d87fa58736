"""Commands that are printed, typed again."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.configuration.command_line import translate_one
from src.reports.terminal import command, quoted, setting, unquoted

ODD = [
    "",
    "it's", "a b", "a=b,c", 'say "x"', "'", "''", "a\\b", "end\\", "a\\'b", "a\\\\'b", "f(x)",
    "[a]", "~", "/x/$y", "caf\u00e9", "a;b", "{a}", "#", "100%", "logs/runs/2026-11-22/06-07-18",
]  # fmt: skip


def read_by_hydra(line: str) -> object:
    return OverridesParser.create().parse_override(line).value()


@pytest.mark.parametrize("value", ODD)
def test_a_shell_and_hydra_give_back_what_was_printed(value: str) -> None:
    program, file, task, ckpt = shlex.split(command(task="generate", ckpt=value))
    assert (program, file, task) == ("python", "run.py", "task=generate")
    assert read_by_hydra(translate_one(ckpt)) == value
    assert unquoted(ckpt.partition("=")[2]) == value


@pytest.mark.parametrize("value", ODD)
def test_quoting_is_undone(value: str) -> None:
    assert unquoted(quoted(value)) == value
    assert read_by_hydra(f"key={quoted(value)}") == value


def test_what_stands_in_no_quotes_stays() -> None:
    for text in ("it's", "'", "", "'a", "b'", "a'b'", "plain"):
        assert unquoted(text) == text
    assert unquoted('"it\'s"') == "it's"


def test_plain_values_look_plain() -> None:
    assert command(resume="logs/a-b/c.d") == "python run.py resume=logs/a-b/c.d"
    assert setting("labels", 5) == "labels=5"
