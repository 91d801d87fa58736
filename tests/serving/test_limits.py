"""A client's bucket of images empties at once and fills up evenly."""

import pytest

from src.serving import limits
from src.serving.limits import Buckets


def test_a_bucket_fills_up_within_a_minute() -> None:
    buckets = Buckets(60)
    assert buckets.wait("a", 60, now=0) == 0
    assert buckets.wait("a", 30, now=0) == 30
    assert buckets.wait("a", 30, now=29) == pytest.approx(1)
    assert buckets.wait("a", 30, now=30) == 0
    assert buckets.wait("b", 60, now=30) == 0


def test_more_than_a_bucket_takes_a_full_one_and_as_long_afterwards() -> None:
    buckets = Buckets(60)
    assert buckets.wait("a", 120, now=0) == 0
    assert buckets.wait("a", 1, now=60) == pytest.approx(1)
    assert buckets.wait("a", 1, now=61) == 0


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 2)
    buckets = Buckets(60)
    for client in "abc":
        buckets.wait(client, 60, now=0)
    assert [*buckets.levels] == ["b", "c"]
