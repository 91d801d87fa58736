"""Flow matching and the VAE do what every family does, by the same commands."""

from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.configuration.build import build_model
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.generate import generate, load_model, walk
from src.images import grid, to_float
from src.models.flow.model import FlowMatching
from src.models.flow.solvers import Euler
from src.models.generative import GenerativeModel
from src.models.vae.model import VAE
from src.runs.checkpoints import load_checkpoint
from src.train import train
from tests.toys import Compose

STEPS = 8  # per epoch
TINY = [
    "ignore_warnings=true", "datamodule=synthetic", "logger=csv", "~callbacks.quality",
    "~callbacks.best_checkpoint", "datamodule.train_val_test_split=[256,70,64]",
    "datamodule.batch_size=32", "trainer.max_epochs=2",
]  # fmt: skip
FAMILIES = {
    "flow": ["model=flow", "model/schedules=none", "model.network.widths=[8,8]", "model.n_steps=3"],
    "vae": ["model=vae", "model/schedules=none", "model.encoder.hidden=16"],
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(family)
    with redirect_stdout((folder / "screen.txt").open("w")):
        train(compose_in(folder, *FAMILIES[family], *TINY))
    return folder


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / "last.ckpt")


def made(run: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    generate(compose_in(folder, "task=generate", f"ckpt={run}", "labels=[3,5]", *arguments))
    with np.load(folder / "samples.npz") as arrays:
        return dict(arrays)


@pytest.mark.slow
def test_a_run_leaves_pictures_and_losses_under_its_familys_names(trained: Path) -> None:
    names = load_model(trained).loss_names
    header = (trained / "metrics.csv").read_text().splitlines()[0].split(",")
    expected = {f"{split}/{name}" for split in ("train", "val", "test") for name in names}
    assert expected | {"lr/network"} <= {*header}
    assert (trained / "samples.gif").is_file()
    assert (trained / "curves.png").is_file()
    screen = (trained / "screen.txt").read_text()
    assert all(title.split(",")[0] in screen for title in names.values())


@pytest.mark.slow
def test_a_run_that_max_steps_cut_short_ends_with_the_same_bits(
    family: str, trained: Path, typed: Compose, tmp_path: Path
) -> None:
    train(typed(*FAMILIES[family], *TINY, f"trainer.max_steps={STEPS + 3}", "logger=null"))
    cfg = typed(*FAMILIES[family], *TINY, "logger=null")
    cfg.resume = str(tmp_path)
    train(cfg)
    whole, pieces = last(trained), last(tmp_path)
    assert pieces["global_step"] == whole["global_step"] == 2 * STEPS
    for name, value in whole["state_dict"].items():
        assert torch.equal(pieces["state_dict"][name], value), name


@pytest.mark.slow
def test_no_weight_is_saved_twice(trained: Path) -> None:
    """Once for the network and once for its average, which alone generates."""
    names = last(trained)["state_dict"].keys()
    averaged = {name.removeprefix("average.") for name in names if name.startswith("average.")}
    assert averaged == {name for name in names if not name.startswith("average.")}


@pytest.mark.slow
def test_equal_seeds_give_equal_bits_and_other_seeds_others(trained: Path, tmp_path: Path) -> None:
    first, again = (made(trained, tmp_path / name, "n=3", "seed=1") for name in "ab")
    other = made(trained, tmp_path / "c", "n=3", "seed=2")
    assert first["labels"].tolist() == [3, 3, 3, 5, 5, 5]
    assert np.array_equal(first["images"], again["images"])
    assert not np.array_equal(first["images"], other["images"])


@pytest.mark.slow
def test_a_walk_starts_and_ends_at_two_draws(trained: Path, tmp_path: Path) -> None:
    """Each class has ends of its own, and the ends are images of the noise as it was drawn."""
    walked = made(trained, tmp_path, "n=5", "interpolate=true", "seed=4")
    model = load_model(trained)
    noise = model.draw_noise(4, torch.Generator().manual_seed(4))
    expected = model.generate(noise, torch.tensor([3, 5, 3, 5])).numpy()
    assert walked["labels"].tolist() == [3] * 5 + [5] * 5
    ends = walked["images"][[0, 5, 4, 9]]
    assert np.abs(ends.astype(int) - expected.astype(int)).max() <= 1
    with Image.open(tmp_path / "samples.png") as picture:
        assert np.array_equal(picture, grid(torch.from_numpy(walked["images"]), columns=5))


@pytest.mark.parametrize("size", [1, 2, 500])
def test_a_walk_keeps_between_the_lengths_of_its_ends(size: int) -> None:
    draw = SimpleNamespace(
        noise_shape=(size,),
        draw_noise=lambda n, generator: torch.randn(n, size, generator=generator),
    )
    for seed in range(20):
        points = walk(draw, torch.zeros(7, dtype=torch.long), n=7, seed=seed)
        ends = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(points[[0, -1]], ends, atol=1e-4, rtol=1e-4)
        lengths = points.norm(dim=1)
        assert lengths.max() <= ends.norm(dim=1).max() + 1e-3
        if size > 1:  # single numbers may pass through 0
            assert lengths.min() >= ends.norm(dim=1).min() - 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flow"], indirect=True)
def test_what_a_checkpoint_holds_already_may_be_typed_again(trained: Path, tmp_path: Path) -> None:
    first = made(trained, tmp_path / "a", "n=2")
    again = made(trained, tmp_path / "b", "n=2", "model=flow", "model/network=unet", "model.b1=0.9",
                 "model.network.widths=[8,8]")  # fmt: skip
    assert np.array_equal(first["images"], again["images"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flow"], indirect=True)
def test_how_a_flow_generates_may_change_after_training(trained: Path, tmp_path: Path) -> None:
    asked = ["n=3", "model.n_steps=6", "model.guidance=2"]
    found = made(trained, tmp_path / "a", *asked)
    assert not np.array_equal(found["images"], made(trained, tmp_path / "b", "n=3")["images"])
    model = load_model(trained)
    model.n_steps, model.guidance = 6, model.guidance._replace(weight=2.0)
    labels = torch.tensor([3, 3, 3, 5, 5, 5])
    noise = model.draw_noise(6, torch.Generator().manual_seed(12345))
    assert np.array_equal(found["images"], model.generate(noise, labels).numpy())
    again = made(trained, tmp_path / "c", "n=3", "model=flow", "model/solver=heun")
    assert not np.array_equal(found["images"], again["images"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flow"], indirect=True)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["model=vae"], r"trained as src.models.flow.*not as src.models.vae.*leave model=vae out"),
        (
            ["model.lr=1"],
            r"model.lr=1 changes nothing in a trained model.*model/solver=NAME, or type "
            r"model.n_steps=VALUE",
        ),
        (["model.n_steps=0"], r"model.n_steps=0 is not allowed"),
        (["model.guidance=-1"], r"model.guidance=-1.* is not allowed"),
        (["model.guidance_interval=[0.9,0.1]"], r"two times from 0 to 1 in their order"),
        (["model.n_steps=abc"], r"model.n_steps=abc is not allowed: .*an integer"),
        (["n=1", "reconstruct=test"], r"FlowMatching has none: use a checkpoint of model=vae"),
        (["interpolate=true", "reconstruct=test"], r"type one of them"),
    ],
)
def test_other_options_of_a_trained_model_are_refused(
    trained: Path, typed: Compose, options: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(typed("task=generate", f"ckpt={trained}", "labels=5", *options))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flow"], indirect=True)
def test_a_resumed_flow_may_generate_in_another_way(
    family: str, trained: Path, tmp_path: Path
) -> None:
    longer = ["trainer.max_epochs=3", "model.guidance=2", f"ckpt={trained}"]
    train(compose_in(tmp_path, *FAMILIES[family], *TINY, *longer))
    assert load_model(tmp_path).guidance.weight == 2
    with pytest.raises(InputError, match=r"trained with model\.label_dropout=0\.1, not 0\.2"):
        train(compose_in(tmp_path, *FAMILIES[family], *TINY, *longer, "model.label_dropout=0.2"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_vae_reconstructs_images_of_the_classes_asked_for(trained: Path, tmp_path: Path) -> None:
    found = made(trained, tmp_path, "n=2", "reconstruct=val")
    model = load_model(trained)
    assert isinstance(model, VAE)
    with Image.open(tmp_path / "samples.png") as picture:
        shown = np.asarray(picture)[:, :, 0] if picture.mode == "RGB" else np.asarray(picture)
    assert found["labels"].tolist() == [3, 3, 5, 5]
    originals = torch.from_numpy(shown[4:60:2, 4:60:2].copy())  # of the first, at scale 2
    network, label = model.averaged, torch.tensor([3])
    mean = network.encoder(to_float(originals)[None, None], label).chunk(2, dim=1)[0]
    expected = network.decoder.generator(mean, label)[0]
    torch.testing.assert_close(
        to_float(torch.from_numpy(found["images"][0])), expected, atol=0.01, rtol=0
    )


def build(typed: Compose, *options: str) -> GenerativeModel:
    return build_model(typed("datamodule=synthetic", *options))


def test_guidance_needs_a_second_class() -> None:
    parts: dict[str, Any] = {"network": torch.nn.Identity(), "solver": Euler(), "optimizer": None}
    sizes = {"channels": 1, "img_size": 8, "n_steps": 2, "ema_halflife_images": 1}
    assert FlowMatching(**parts, **sizes, n_classes=1).n_evaluations == 2
    with pytest.raises(InputError, match=r"learned without classes too"):
        FlowMatching(**parts, **sizes, n_classes=3, guidance=2, label_dropout=0)
    with pytest.raises(InputError, match=r"there is one: type model\.guidance=1"):
        FlowMatching(**parts, **sizes, n_classes=1, guidance=2)


def test_an_encoder_that_does_not_fit_the_image_is_refused(typed: Compose) -> None:
    with pytest.raises(InputError, match="img_size=30 is no multiple of 4"):
        build(typed, "model=vae", "model.img_size=30")
    with pytest.raises(InputError, match=r"img_size=30 is no multiple of 4.*img_size=32"):
        build(typed, "model=flow", "model.img_size=30")


@pytest.mark.parametrize("generator", ["dcgan", "resnet", "mlp"])
def test_any_generator_decodes(typed: Compose, generator: str) -> None:
    vae = build(typed, "model=vae", f"model/generator={generator}")
    noise = vae.draw_noise(2, torch.Generator().manual_seed(0))
    assert vae.generate(noise, torch.tensor([0, 9])).shape == (2, 1, 28, 28)
    assert vae.n_evaluations == 1
