"""A graphed step is the eager one; a stand-in for CUDA replays Python here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.errors import InputError
from src.models.gan import graph
from src.models.gan.augment import Translation
from src.models.gan.graph import (
    WARM_UP,
    Graphed,
    GraphedGAN,
    reading_rates,
    require_graph_support,
)
from src.models.gan.losses import Relativistic
from src.models.gan.model import ConditionalGAN
from src.models.gan.penalties import FiniteDifference, ZeroCentered, ZeroCenteredPair
from src.models.schedules import Cosine, Linear
from tests.toys import (
    BATCH,
    Critic,
    Lipschitz,
    assert_same,
    batches,
    fit,
    make_gan,
)

FUSED = partial(torch.optim.Adam, fused=True)


class StandIn:
    """Of CUDA: a capture changes nothing, and a replay repeats the function on its memory.

    ``tensors`` and ``replaying`` are to be given: what the function changes, and a context in
    which Python's numbers are those of the capture, or of no use.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.tensors: Callable[[], list[Tensor]] = list
        self.replaying: Callable[[], Any] = nullcontext
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self.stream("side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.stream("main"))
        monkeypatch.setattr(torch.cuda, "stream", self.on_stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
        monkeypatch.setattr(torch.cuda, "graph", self.capturing)
        run = Graphed.run

        def noted(graphed: Graphed) -> dict[str, Tensor]:
            self.current = graphed
            return run(graphed)

        monkeypatch.setattr(Graphed, "run", noted)

    def stream(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.calls.append(f"{name} waits for {other.name}")
        )

    @contextmanager
    def on_stream(self, stream: SimpleNamespace) -> Iterator[None]:
        self.calls.append(f"on {stream.name}")
        yield

    @contextmanager
    def capturing(self, graph: SimpleNamespace, *, stream: SimpleNamespace) -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}")
        random, tensors = torch.get_rng_state(), self.tensors()
        before = [tensor.detach().clone() for tensor in tensors]
        yield
        torch.set_rng_state(random)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        graphed, replaying = self.current, self.replaying
        context = replaying()

        def replay() -> None:
            self.calls.append("replay")
            with context():
                for name, value in graphed.run().items():
                    graphed.outputs[name].copy_(value)

        graph.replay = replay


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(monkeypatch)
    stand_in.replaying = lambda: nullcontext
    return stand_in


def test_every_call_has_its_effect_once_and_its_own_values(cuda: StandIn) -> None:
    total = torch.zeros(2)
    cuda.tensors = lambda: [total]

    def add(x: Tensor) -> dict[str, Tensor]:
        return {"total": total.add_(x).clone()}

    graphed = Graphed(add)
    values = [graphed(torch.full((2,), 2.0**n))["total"] for n in range(WARM_UP + 3)]
    assert [value[0].item() for value in values] == [2.0 ** (n + 1) - 1 for n in range(len(values))]


def test_calls_warm_up_on_a_side_stream_then_capture_there_then_replay(cuda: StandIn) -> None:
    graphed = Graphed(lambda x: {"y": x + 1})
    for _ in range(WARM_UP + 2):
        graphed(torch.ones(2))
    warm_up = ["side waits for main", "on side", "main waits for side"]
    assert cuda.calls == [*warm_up * WARM_UP, "capture on side", "replay", "replay"]


@pytest.mark.parametrize("change", ["shape", "frozen"])
def test_whatever_a_graph_cannot_change_starts_it_over(cuda: StandIn, change: str) -> None:
    graphed = Graphed(lambda x: {"y": x + 1})
    for _ in range(WARM_UP + 1):
        graphed(torch.ones(2), frozen=1)
    cuda.calls.clear()
    x, frozen = (torch.ones(1), 1) if change == "shape" else (torch.ones(2), 2)
    assert torch.equal(graphed(x, frozen=frozen)["y"], x + 1)
    assert "replay" not in cuda.calls
    assert "on side" in cuda.calls


def test_autocast_keeps_no_copies_of_weights_across_calls(cuda: StandIn) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    graphed = Graphed(lambda x: {"y": (x @ weight).detach()})
    with torch.autocast("cpu", torch.bfloat16):
        first = graphed(torch.ones(1, 2))["y"].clone()
        weight.data.mul_(2)
        second = graphed(torch.ones(1, 2))["y"]
    assert first.dtype == torch.bfloat16
    assert torch.equal(second, 2 * first)


def test_optimizers_read_a_tensor_s_rate_and_keep_their_numbers() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = FUSED([weight], lr=0.5)
    weight.grad = torch.ones(1)
    with reading_rates([optimizer], [torch.tensor(0.25)]):
        assert weight.grad is None
        weight.grad = torch.ones(1)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.25]))
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["capturable"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": torch.device("cpu")}, "needs a CUDA GPU: type trainer.gpus=1"),
        ({"n_devices": 2}, "needs a single device"),
        ({"discriminator_steps": 2}, "needs model.discriminator_steps=1"),
        ({"optimizers": [torch.optim.Adam([torch.zeros(1)])]}, "needs Adams with fused=true"),
        ({"optimizers": [torch.optim.SGD([torch.zeros(1)], fused=True)]}, "needs Adams"),
    ],
)
def test_what_cannot_be_captured_is_refused(changes: dict[str, Any], message: str) -> None:
    supported: dict[str, Any] = {"device": torch.device("cuda"), "n_devices": 1}
    supported |= {"discriminator_steps": 1, "optimizers": [FUSED([torch.zeros(1)])]}
    require_graph_support(**supported)
    with pytest.raises(InputError, match=message):
        require_graph_support(**supported | changes)


def test_on_a_cpu_the_option_is_refused() -> None:
    with pytest.raises(InputError, match=r"CUDA graph needs a CUDA GPU"):
        fit(make_gan(optimizer=FUSED, family=GraphedGAN))


# --- the GAN's step ------------------------------------------------------------------------------


def tensors_of(gan: ConditionalGAN) -> list[Tensor]:
    """All that a step changes."""
    states = [state for each in gan.trainer.optimizers for state in each.state.values()]
    return [*gan.state_dict().values(), *(value for state in states for value in state.values())]


def stay(gan: ConditionalGAN) -> Callable[[], Any]:
    """A context in which betas are those of now, other numbers NaN, and Lightning is deaf."""
    betas = [each.param_groups[0]["betas"] for each in gan.trainer.optimizers]

    @contextmanager
    def staying() -> Iterator[None]:
        groups = [each.param_groups[0] for each in gan.trainer.optimizers]
        counter, scheduled = gan.counted_optimizer, gan.scheduled
        saved = [dict(group) for group in groups]
        hooks = counter._on_before_step, counter._on_after_step
        gan.scheduled = dict.fromkeys(scheduled, torch.nan)
        counter._on_before_step = counter._on_after_step = lambda: None
        for group, frozen in zip(groups, betas, strict=True):
            group.update(lr=torch.nan, betas=frozen)
        yield
        for group, before in zip(groups, saved, strict=True):
            group.update(before)
        gan.scheduled = scheduled
        counter._on_before_step, counter._on_after_step = hooks

    return staying


PARTS: dict[str, Any] = {
    "lr_g": 2.0**-6, "lr_d": 2.0**-5,  # float32 holds them
    "loss": Relativistic(),
    "penalties": {"r1_r2": ZeroCenteredPair(4.0)},
    "ema_halflife_images": 30.0,
    "optimizer": FUSED,
}  # fmt: skip
HALVES = Linear([[0, 1.0], [8 * BATCH, 0.0]])  # of eighths
RAMP = Cosine(start=0.25, end=1.0, over_images=7 * BATCH)
BETA2 = Cosine(start=0.5, end=0.9, over_images=2 * BATCH)


@pytest.fixture
def graphed_gan(cuda: StandIn, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ConditionalGAN]:
    monkeypatch.setattr(graph, "require_graph_support", lambda *_, **__: None)

    def make(**changes: Any) -> ConditionalGAN:
        gan = make_gan(**PARTS | changes, family=GraphedGAN)
        cuda.tensors, cuda.replaying = partial(tensors_of, gan), partial(stay, gan)
        return gan

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedules": {"lr": HALVES, "gamma": RAMP, "ema_halflife": RAMP}},
        {"schedules": {"beta2": BETA2}},
        {"penalties": {"r1": ZeroCentered(4.0, at="real")}, "normalized": True},
        {
            "penalties": {"fd": FiniteDifference(4.0, at="real")},
            "critic": partial(Critic, dropout=0.0),
        },
        {"augment": {"translation": Translation(1)}},
        {"augment": {"translation": Translation(1)}, "schedules": {"augment": RAMP}},
        {"critic": Lipschitz},
        {"ema_halflife_images": None, "penalties": {}},
    ],
    ids=[
        "plain",
        "schedules",
        "beta2",
        "apart",
        "draws",
        "augment",
        "chance",
        "spectral norm",
        "no average",
    ],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_graphed_run_is_the_eager_one_to_the_bit(
    cuda: StandIn,
    graphed_gan: Callable[..., ConditionalGAN],
    changes: dict[str, Any],
    precision: str,
) -> None:
    gans = []
    for make in (graphed_gan, lambda **changes: make_gan(**PARTS | changes)):
        torch.manual_seed(1)
        critic = changes.get("critic")
        gans.append(make(**changes | {"critic": critic and critic()}))
    counts = [fit(gan, 9, precision=precision).global_step for gan in gans]
    assert counts == [9, 9]
    assert cuda.calls.count("replay") == 9 - WARM_UP - 2 * ("beta2" in changes.get("schedules", {}))
    assert_same(*gans)


def test_a_graphed_run_s_checkpoint_is_the_eager_one_s_and_resumes(
    graphed_gan: Callable[..., ConditionalGAN], tmp_path: Path
) -> None:
    parts = {"schedules": {"lr": HALVES}}
    whole, first = make_gan(**PARTS | parts), graphed_gan(**parts)
    fit(whole, 5, max_epochs=2)
    trainer = fit(first, 5, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (group, *_) = trainer.optimizers[0].state_dict()["param_groups"]
    assert isinstance(group["lr"], float)
    for second in (graphed_gan(**parts), make_gan(**PARTS | parts)):
        assert fit(second, 5, max_epochs=2, ckpt=tmp_path / "last.ckpt").global_step == 10
        assert_same(second, whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_gpu_a_graphed_run_is_the_eager_one(precision: str) -> None:
    parts = PARTS | {"schedules": {"lr": HALVES, "gamma": RAMP, "beta2": BETA2}}
    graphed, eager = make_gan(**parts, family=GraphedGAN), make_gan(**parts)
    for gan in (graphed, eager):
        trainer = pl.Trainer(
            accelerator="gpu", devices=1, precision=precision, max_epochs=1, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(gan, DataLoader(batches(12), batch_size=None))
        assert trainer.global_step == 12
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-4, atol=1e-5)
