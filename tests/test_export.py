"""What task=export writes: the same images in every form, and nothing where they are not."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src import export as export_module
from src.configuration.build import build_loggers
from src.errors import InputError
from src.export import export, report_beside
from src.generate import generate, load_model, sample
from src.loggers.wandb import SturdyWandbLogger
from src.serving import check
from src.serving.bundle import GENERATOR, SUMS, Bundle, BundleError, Images
from src.serving.check import Difference, main, verdict
from src.train import train
from tests.pages import ROOT
from tests.toys import Compose, assert_says


@pytest.fixture
def bundle(exported: Path) -> Bundle:
    return Bundle(exported)


@pytest.fixture
def damaged(exported: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_the_folder_is_whole_and_holds_no_path_of_this_machine(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names >= {"generator.onnx", "model.safetensors", "config.json", "golden.npz"}
    assert names >= {"judge.onnx", "reference.npz", "canary.json", "README.md", "SHA256SUMS"}
    listed = (exported / SUMS).read_text().split()[1::2]
    assert {*listed} == names - {SUMS}
    assert exported.name == f"mnist-{Bundle(exported).sha256[:8]}"
    assert not (exported.parent / "unfinished").exists()
    for path in exported.iterdir():
        content = path.read_bytes()
        for secret in (str(ROOT), str(Path.home()), ".py\n", "site-packages"):
            assert secret.encode() not in content, (path, secret)


def test_the_weights_make_the_golden_images_again(bundle: Bundle) -> None:
    model, golden = load_model(bundle.folder), bundle.golden
    images = model.generate(torch.from_numpy(golden["noise"]), torch.from_numpy(golden["labels"]))
    assert np.array_equal(images.numpy(), golden["images"])


def test_a_seed_means_the_images_of_task_generate(bundle: Bundle) -> None:
    labels = torch.arange(10).repeat_interleave(250)  # more than one chunk
    theirs = torch.cat([*sample(load_model("pretrained"), labels, seed=7)]).numpy()
    assert check.difference(bundle.of_seed(labels.numpy(), 7), theirs).is_small


def test_an_export_can_be_generated_from_but_not_trained_on(
    exported: Path, typed: Compose, tmp_path: Path
) -> None:
    generate(typed("task=generate", f"ckpt={exported}", "labels=5", "n=2"))
    assert (tmp_path / "samples.npz").is_file()
    with pytest.raises(InputError, match="holds what generates alone"):
        train(typed(f"ckpt={exported}", "experiment=train_mnist_gan", "logger=null"))
    with pytest.raises(InputError, match="reconstruct needs an encoder, and ConditionalGAN"):
        generate(typed("task=generate", f"ckpt={exported}", "reconstruct=test"))


def test_a_gan_does_not_read_data_to_say_that_it_has_no_encoder(
    typed: Compose, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="reconstruct needs an encoder, and ConditionalGAN"):
        generate(
            typed("task=generate", "ckpt=pretrained", "reconstruct=test", f"data_dir={tmp_path}")
        )
    assert not [*tmp_path.glob("MNIST*")]


def test_a_changed_byte_is_refused_with_both_hashes(damaged: Path) -> None:
    content = bytearray((damaged / GENERATOR).read_bytes())
    wanted = hashlib.sha256(content).hexdigest()
    content[1000] ^= 1
    (damaged / GENERATOR).write_bytes(content)
    with pytest.raises(BundleError) as refusal:
        Bundle(damaged)
    assert_says(refusal.value, wanted[:12], hashlib.sha256(content).hexdigest()[:12], SUMS)
    assert main([str(damaged)]) == 1


@pytest.mark.parametrize("name", [GENERATOR, "golden.npz", "judge.onnx", "canary.json"])
def test_what_is_loaded_must_be_listed(damaged: Path, name: str) -> None:
    lines = (damaged / SUMS).read_text().splitlines(keepends=True)
    (damaged / SUMS).write_text("".join(line for line in lines if name not in line))
    with pytest.raises(BundleError, match=f"does not list {name}"):
        Bundle(damaged)


def test_a_missing_file_and_a_foreign_folder_are_refused(damaged: Path, tmp_path: Path) -> None:
    (damaged / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden.npz is missing"):
        Bundle(damaged)
    with pytest.raises(BundleError, match=r"name a folder that python run.py task=export"):
        Bundle(tmp_path)


def test_twenty_healthy_checks_raise_no_alarm(bundle: Bundle) -> None:
    for seed in range(1_000, 1_020):
        assert not verdict(bundle, bundle, seed=seed).faults


def inverted(images: Images) -> Images:
    return 255 - images


FAULTS = {
    "latents too short": (lambda noise, labels: (0.8 * noise, labels), None, "distance"),
    "uniform latents": (
        lambda noise, labels: (np.random.default_rng(0).uniform(-1, 1, noise.shape), labels),
        None,
        "distance",
    ),
    "one latent repeated": (
        lambda noise, labels: (np.repeat(noise[:1], len(noise), axis=0), labels),
        None,
        "distance",
    ),
    "labels shifted": (lambda noise, labels: (noise, (labels + 1) % 10), None, "read as asked"),
    "pixels inverted": (None, inverted, "distance"),
    "off by one": (None, lambda images: np.where(images < 255, images + 1, 255), "golden"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_caught(bundle: Bundle, fault: str) -> None:
    spoil, after, said = FAULTS[fault]

    class Faulty:
        def of_noise(self, noise: NDArray[np.float32], labels: NDArray[np.int64]) -> Images:
            noise, labels = spoil(noise, labels) if spoil else (noise, labels)
            images = bundle.of_noise(noise.astype(np.float32), labels)
            return after(images).astype(np.uint8) if after else images

        def of_seed(self, labels: NDArray[np.int64], seed: int) -> Images:
            return self.of_noise(bundle.draw(len(labels), seed=seed), labels)

    faults = verdict(bundle, Faulty(), seed=3).faults
    assert any(said in each for each in faults)


def test_numbers_of_another_step_are_not_this_model_s(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    (tmp_path / "evaluation.json").write_text('{"source": {"step": 7}}')
    assert report_beside(path, {"global_step": 7}) == {"source": {"step": 7}}
    assert report_beside(path, {"global_step": 8}) is None


@pytest.mark.slow
def test_what_makes_other_images_is_not_exported(
    typed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "difference", lambda *_: Difference(50.0, 2))
    with pytest.raises(InputError, match=r"50 of a million pixels differ, by up to 2"):
        export(typed("task=export", "ckpt=pretrained"))
    assert not [*tmp_path.glob("*/generator.onnx")]


def test_wandb_is_given_the_folder(
    exported: Path, typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(SturdyWandbLogger, "log_folder", lambda _, *what: given.append(what))
    loggers = [build_loggers(typed("task=export", f"logger={name}")) for name in ("csv", "wandb")]
    export_module.log_as_artifact(loggers[0], exported)
    assert not given
    export_module.log_as_artifact(loggers[1], exported)
    [(folder, metadata)] = given
    assert folder == exported
    assert metadata["data"] == "mnist"


def test_the_card_has_the_numbers_of_the_report(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert_says(header, "license: mit", "library_name: onnx", "datasets:\n- mnist")
    report = json.loads((ROOT / "src/runs/pretrained/evaluation.json").read_text())
    fid = report["rows"]["generated"]["fid_cnn"]
    assert f"| `fid_cnn` | {fid:.3f} |" in body
    assert "not Inception's FID" in body
    snippet = (
        body.split("```python\n")[1].split("```")[0] + "assert images.shape == (16, 1, 28, 28)"
    )
    subprocess.run([sys.executable, "-c", snippet], cwd=exported, check=True)


def test_the_service_s_modules_need_no_torch_and_leave_no_telemetry(
    exported: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from src.serving.check import main; "
        f"assert main([{str(exported)!r}]) == 0; assert 'torch' not in sys.modules"
    )
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=env)
    assert not [*tmp_path.rglob("*onnxruntime*")]
