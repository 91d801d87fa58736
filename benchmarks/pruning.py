"""Say whether an early epoch tells the last, and what stopping trials early would have saved.

Goes by a search whose trials, or N first ones, have all trained to their end:

python run.py -m experiment=train_mnist_gan hparams_search=mnist_tpe search.study=unpruned \
    search.pruner=null search.worker=0,1 hydra/launcher=parallel
python benchmarks/pruning.py logs/searches/unpruned [N]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.runs.studies import address, open_storage

N_ORDERS = 100  # in which the trials may have come
Curve = dict[int, float]  # by epoch


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Path(sys.argv[1]).absolute()
    study = optuna.load_study(study_name=folder.name, storage=open_storage(address(None, folder)))
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    first = study.trials[: int(sys.argv[2])] if len(sys.argv) > 2 else study.trials
    done = [trial for trial in first if trial.state == TrialState.COMPLETE]
    curves = [{e: sign * v for e, v in each.intermediate_values.items()} for each in done]
    last = max(map(max, curves))
    whole = [each for each in curves if last in each]
    print(f"{len(whole)} of {len(done)} trials trained for {last} epochs")
    for epoch in range(1, last):
        agreement = rank_correlation([c[epoch] for c in whole], [c[last] for c in whole])
        print(f"rank after epoch {epoch}, against the last: Spearman's {agreement:.2f}")
    for least in range(1, last):
        pruner = SuccessiveHalvingPruner(min_resource=least, reduction_factor=2)
        print(f"min_resource={least}: {saved(whole, pruner)}")


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's coefficient of two rows without ties."""
    ranks = [np.argsort(np.argsort(row)) for row in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def saved(curves: Sequence[Curve], pruner: BasePruner) -> str:
    """The share of epochs that are not trained, and how the best trial fares, in many orders."""
    generator = np.random.default_rng(0)
    orders = [generator.permutation(len(curves)) for _ in range(N_ORDERS)]
    lengths = np.array([replay([curves[i] for i in order], pruner) for order in orders])
    best = min(range(len(curves)), key=lambda i: curves[i][max(curves[i])])
    kept = [
        length[list(order).index(best)] == max(curves[best])
        for order, length in zip(orders, lengths, strict=True)
    ]
    share = 1 - lengths.sum(1) / sum(map(max, curves))
    return (
        f"{100 * share.mean():.0f} ± {100 * share.std():.0f} % of the epochs saved; the best "
        f"trained to its end in {sum(kept)} of {len(orders)} orders"
    )


def replay(curves: Sequence[Curve], pruner: BasePruner) -> list[int]:
    """After how many epochs each trial ends, where trials come one after the other."""
    study = optuna.create_study(pruner=pruner)
    return [replay_one(study, curve) for curve in curves]


def replay_one(study: optuna.Study, curve: Curve) -> int:
    trial = study.ask()
    for epoch, value in sorted(curve.items()):
        trial.report(value, epoch)
        if epoch != max(curve) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, curve[max(curve)])
    return max(curve)


if __name__ == "__main__":
    main()
