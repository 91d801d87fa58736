"""The model card of an export, with the header and in the sections that Hugging Face knows."""

from typing import Any

import yaml

from src.class_names import listed
from src.metrics.panel import METRICS, written
from src.serving.bundle import Bundle
from src.serving.check import Difference

FILES = {
    "generator.onnx": "noise float32 and class indices int64 to images uint8, for every runtime",
    "model.safetensors": "the same weights for torch, with config.json: ckpt=FOLDER",
    "config.json": "the options of the model and of its data, and the names of the classes",
    "golden.npz": "noise, labels, and the images that torch makes of them",
    "judge.onnx": "images to features and probabilities of classes: both judges of the project",
    "reference.npz": "mean and covariance of the features of healthy images",
    "digits.html": "a page that generates in the browser, opened by a double click",
    "canary.json": "what the judges say of healthy images, and the bounds of what they may say",
}
HEADLINES = "fid_cnn", "label_accuracy", "coverage"  # of the panel, where there is little room


def model_card(bundle: Bundle, found: Difference, *, report: dict[str, Any] | None) -> str:
    """The text of README.md; ``report`` is what task=evaluate has found, if it has been asked."""
    facts = bundle.metadata
    channels, height, width = bundle.image_shape
    classes = f"{len(bundle.class_names)} classes ({listed(bundle.class_names)})"
    title = f"{facts['family']} of {facts['data']}"
    return f"""---
{yaml.safe_dump(header(bundle, title=title, report=report), sort_keys=False)}---

# {title}

Makes images of {classes}, {channels} x {height} x {width} pixels, by
{facts["n_evaluations"]} evaluation{"s" * (facts["n_evaluations"] != "1")} of a network.

## Use

For teaching, for tests of software, and as a baseline. Images look like the training data of their
class, and are evidence of nothing. What the classifiers below call good is good to them alone. It
has learned from {facts["data"]} and makes nothing else.

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("generator.onnx")
noise = np.random.default_rng(0).standard_normal((16, {shape(bundle)}), dtype=np.float32)
labels = np.full(16, {len(bundle.class_names) - 1})  # {bundle.class_names[-1]}
(images,) = session.run(None, {{"noise": noise, "labels": labels}})  # uint8 (16, C, H, W)
```

## Training

With the options in `config.json`. The optimizers and the rest of the run are not in this folder.

## Evaluation

{evaluation(report)}

Of the same seed, {found.differing_ppm:.1f} in a million pixels are others than torch's, by at most
{found.largest} of 255.

## Files

| file | |
| --- | --- |
{files(bundle)}

The images are synthetic, and whoever publishes them should say so. `SHA256SUMS` has the hashes of
all files; the generator's is `{bundle.sha256}`.
"""


def header(bundle: Bundle, *, title: str, report: dict[str, Any] | None) -> dict[str, Any]:
    """What Hugging Face reads of a card."""
    data = bundle.metadata["data"]
    said: dict[str, Any] = {
        "license": "mit",
        "library_name": "onnx",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["image-generation", "class-conditional", bundle.metadata["family"]],
        "datasets": [data],
    }
    if report is None:
        return said
    row = report["rows"]["generated"]
    metrics = [
        {"type": name, "name": METRICS[name].title, "value": round(row[name], 4)}
        for name in HEADLINES
        if name in row
    ]
    result = {
        "task": {"type": "unconditional-image-generation"},
        "dataset": {"type": data, "name": data, "split": "test"},
        "metrics": metrics,
    }
    return said | {"model-index": [{"name": title, "results": [result]}]}


def evaluation(report: dict[str, Any] | None) -> str:
    """The panel as a table, beside what real images and noise score."""
    if report is None:
        return "Not measured: task=evaluate ckpt=RUN before task=export adds the numbers."
    rows = report["rows"]
    lines = [
        f"| `{name}` | {' | '.join(written(rows[row], name) for row in rows)} |"
        for name in METRICS
        if name in rows["generated"]
    ]
    heads = {"generated": "generated", "real": "real images", "noise": "noise"}
    return "\n".join([
        f"{report['n']:,} generated images and the test images of {report['data']['name']}:",
        "",
        f"| | {' | '.join(heads[row] for row in rows)} |",
        "| --- | --- | --- | --- |",
        *lines,
        "",
        "`fid_cnn` is not Inception's FID: it is measured in the features of a small classifier of "
        "these data,\nand compares only with other numbers of the same judges.",
    ])  # fmt: skip


def shape(bundle: Bundle) -> str:
    return ", ".join(map(str, bundle.noise_shape))


def files(bundle: Bundle) -> str:
    there = [(name, said) for name, said in FILES.items() if (bundle.folder / name).is_file()]
    return "\n".join(f"| `{name}` | {said} |" for name, said in there)
