"""Judgements that are there are kept, others are made as typed, and each point is where it lies."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks import families

ROWS = {"generated": {"fid_cnn": 0.5, "recall": 0.8}, "real": {"fid_cnn": 0.1, "recall": 0.9}}


class Process:
    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code


def test_a_judgement_is_made_once_and_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, typed = tmp_path / "guidance_2", []

    def start(where: Path, arguments: list[str]) -> Process:
        typed.append(arguments)
        where.mkdir()
        (where / "metrics.json").write_text(json.dumps({"rows": ROWS}))
        return Process(0)

    monkeypatch.setattr(families, "start", start)
    for _ in range(2):
        found = families.judge(folder, Path("my run"), ["n=500", "model.guidance=2.0"])
        assert found == ROWS
    assert typed == [
        ["task=evaluate", "ckpt='my run'", "cas_seeds=0", "n=500", "model.guidance=2.0"]
    ]


def test_a_judgement_that_fails_says_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gan"
    folder.with_suffix(".log").write_text("judging\nerror: no such run\n")
    monkeypatch.setattr(families, "start", lambda *_: Process(1))
    with pytest.raises(families.subprocess.SubprocessError, match="error: no such run"):
        families.judge(folder, Path("run"), [])


def test_the_line_leads_over_guidance_and_others_are_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    flow = {1.0: {"fid_cnn": 0.9, "recall": 0.9}, 2.0: {"fid_cnn": 0.5, "recall": 0.8}}
    families.draw_guidance(tmp_path / "x.png", flow, {"gan": ROWS["generated"]})
    line, point = drawn[0].axes[0].lines
    assert line.get_xydata().tolist() == [[0.9, 0.9], [0.5, 0.8]]
    assert point.get_xydata().tolist() == [[0.5, 0.8]]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["1", "2"]
