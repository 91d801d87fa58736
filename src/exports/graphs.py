"""Networks as ONNX files of equal bytes, which hold nothing of the machine that wrote them."""

from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn
from typing_extensions import override

from src.images import to_float, to_uint8
from src.networks.classifier import Classifier

MOST = 4_096  # images in a call


class Pixels(nn.Module):
    """Maps noise (N, *noise_shape) and class indices int64 (N,) to images uint8 (N, C, H, W).

    The rounding to pixels belongs to the file, so that no two readers of it can disagree.
    """

    def __init__(self, sampler: nn.Module) -> None:
        super().__init__()
        self.sampler = sampler

    @override
    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return to_uint8(self.sampler(noise, labels))


class Opinions(nn.Module):
    """Maps images uint8 (N, C, H, W) to features (N, D) and probabilities of classes (N, K)."""

    def __init__(self, *, features: Classifier, labels: Classifier) -> None:
        super().__init__()
        self.features, self.labels = features, labels

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = to_float(images)
        return self.features.features(seen), self.labels(seen).softmax(1)


def to_onnx(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    metadata: Mapping[str, str],
) -> bytes:
    """A network's file for any number of images; ``inputs`` are an example of two."""
    n = torch.export.Dim("N", min=1, max=MOST)
    shapes = {name: {0: n} for name in inputs}
    # By way of a program, for else the exporter warns that it does not keep the name of N.
    program = torch.export.export(network.eval(), tuple(inputs.values()), dynamic_shapes=shapes)
    exported = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=[*inputs], output_names=[*outputs]
    )
    if exported is None:
        raise RuntimeError("torch.onnx.export has returned nothing")
    proto = exported.model_proto
    strip(proto)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def strip(proto: onnx.ModelProto) -> None:
    """Remove what tells of source files, and call the first axis of what goes in and out N."""
    graph = proto.graph
    del graph.value_info[:]
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
