"""What an early epoch tells of the last, on curves whose answer is known."""

import pytest
from optuna.pruners import NopPruner, SuccessiveHalvingPruner

from benchmarks.pruning import rank_correlation, replay, saved

HALVING = SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
BETTER = dict.fromkeys(range(1, 5), 1.0)
WORSE = dict.fromkeys(range(1, 5), 2.0)


def test_ranks_agree_oppose_or_know_nothing_of_each_other() -> None:
    row = [1.0, 10.0, 100.0, 1000.0]
    assert rank_correlation(row, [0.1, 0.2, 0.3, 9.0]) == pytest.approx(1)
    assert rank_correlation(row, row[::-1]) == pytest.approx(-1)
    assert rank_correlation(row, [2.0, 4.0, 1.0, 3.0]) == pytest.approx(0)


def test_a_trial_that_comes_after_a_better_one_ends_at_its_first_rung() -> None:
    assert replay([BETTER, WORSE, WORSE], HALVING) == [4, 2, 2]
    assert replay([WORSE, BETTER], HALVING) == [4, 4]
    assert replay([BETTER, WORSE], NopPruner()) == [4, 4]


def test_what_is_saved_is_a_share_of_all_epochs() -> None:
    none = saved([BETTER, WORSE], NopPruner())
    assert none == "0 ± 0 % of the epochs saved; the best trained to its end in 100 of 100 orders"
    # Two of four epochs of the worse one, where it comes second: in half of all orders.
    share = float(saved([BETTER, WORSE], HALVING).partition(" ")[0])
    assert share == pytest.approx(12.5, abs=3)
