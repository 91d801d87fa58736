"""Networks of every family mean the same in ONNX, whatever the number of images."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from src.configuration.build import build_model
from src.exports.graphs import Opinions, Pixels, to_onnx
from src.images import to_float
from src.models.generative import GenerativeModel
from src.networks.classifier import Classifier
from tests.pages import ROOT
from tests.toys import Compose

pytestmark = pytest.mark.slow
FAMILIES = [
    ["model=small_gan"],
    ["model=small_gan", "model.img_size=32", "model.generator.conditioning=concat"],
    ["model=mnist_gan_model"],
    ["model=small_gan", "model/generator=resnet"],
    ["model=small_gan", "model/generator=style", "model.generator.truncation=0.7"],
    ["model=flow", "model.n_steps=3", "model.guidance=1.5"],
    ["model=vae"],
]


def exported(model: GenerativeModel) -> bytes:
    inputs = {
        "noise": torch.zeros(2, *model.noise_shape),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    return to_onnx(Pixels(model.sampler), inputs, ["images"], metadata={"a": "b"})


@pytest.mark.parametrize("options", FAMILIES, ids=" ".join)
def test_every_family_makes_the_same_images(typed: Compose, options: list[str]) -> None:
    model = build_model(typed("datamodule=synthetic", *options)).eval()
    session = ort.InferenceSession(exported(model), providers=["CPUExecutionProvider"])
    for n in (1, 2, 7, 70):
        noise, labels = torch.randn(n, *model.noise_shape), torch.arange(n) % model.n_classes
        ours = model.generate(noise, labels).numpy()
        (theirs,) = session.run(None, {"noise": noise.numpy(), "labels": labels.numpy()})
        gap = np.abs(ours.astype(int) - theirs)
        assert gap.max() <= 1
        assert (gap > 0).mean() < 1e-3


def test_equal_networks_are_equal_bytes_that_tell_nothing_of_this_machine(typed: Compose) -> None:
    model = build_model(typed("datamodule=synthetic", "model=small_gan")).eval()
    content = exported(model)
    assert content == exported(model)
    assert str(ROOT).encode() not in content
    proto = onnx.load_from_string(content)
    assert {each.key: each.value for each in proto.metadata_props} == {"a": "b"}
    sizes = [each.type.tensor_type.shape.dim[0].dim_param for each in proto.graph.input]
    assert sizes == ["N", "N"]


@pytest.mark.parametrize(
    ("channels", "img_size", "flip"),
    [(1, 28, False), (1, 20, False), (3, 32, True), (3, 48, False)],
)
def test_judges_say_the_same(channels: int, img_size: int, flip: bool) -> None:
    shape = {"channels": channels, "n_classes": 4, "img_size": img_size, "flip": flip}
    judges = {role: Classifier(**shape).eval() for role in ("features", "labels")}
    images = torch.randint(256, (5, channels, img_size, img_size), dtype=torch.uint8)
    names = ["features", "probabilities"]
    content = to_onnx(Opinions(**judges), {"images": images[:2]}, names, metadata={})
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    features, probabilities = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        seen = to_float(images)
        np.testing.assert_allclose(features, judges["features"].features(seen), atol=1e-4)
        np.testing.assert_allclose(probabilities, judges["labels"](seen).softmax(1), atol=1e-4)
