"""Small modules and weights in few bits for the tests of lowering and engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.infer.engines.onnxruntime_predictor import OnnxRuntimePredictor
from kleiber.infer.engines.openvino_predictor import OpenVinoPredictor
from kleiber.infer.lowering import Lowered, export, lower, to_bytes
from kleiber.models.stored import Form, Forms, LowRank, Masked, Quantized

ENGINES = ("onnxruntime", "openvino")
OPENED = {"onnxruntime": OnnxRuntimePredictor, "openvino": OpenVinoPredictor}


def rounded(
    weight: Tensor, num_bits: int = 8, *, num_groups: int = 1, is_symmetric: bool = True
) -> Quantized:
    """Round to nearest, without a thought for what follows."""
    weight_RC = weight.detach().flatten(1)
    R, C = weight_RC.shape
    size, top = -(-C // num_groups), 2**num_bits - 1
    parts_RGS = F.pad(weight_RC, (0, size * num_groups - C)).view(R, num_groups, size)
    if is_symmetric:
        scale_RG = parts_RGS.abs().amax(2) / (top // 2)
        zero_RG = torch.full_like(scale_RG, 2 ** (num_bits - 1))
    else:
        low_RG, high_RG = parts_RGS.amin(2).clamp(max=0), parts_RGS.amax(2).clamp(min=0)
        scale_RG = (high_RG - low_RG) / top
        zero_RG = (-low_RG / scale_RG).round()
    codes_RGS = ((parts_RGS / scale_RG[..., None]).round() + zero_RG[..., None]).clamp(0, top)
    return Quantized(codes_RGS.view(R, -1)[:, :C].byte(), scale_RG, zero_RG.byte(), num_bits)


def thin(weight: Tensor, rank: int) -> LowRank:
    left, values, right = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
    return LowRank(left[:, :rank] * values[:rank], right[:rank])


def install_(module: nn.Module, forms: Forms) -> None:
    """Give the module the weights that its forms stand for."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, form in forms.items():
            dense = parameters[name] if isinstance(form, Masked) else form.dense()
            parameters[name].copy_(dense.view_as(parameters[name]))


class Texts(nn.Module):
    """A look-up, a product in three dimensions with a bias, a bare one, and one in two with a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(12, 64)
        self.up = nn.Linear(64, 40)
        self.bare = nn.Parameter(torch.randn(32, 40) / 6)
        self.head = nn.Linear(32, 9)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x = F.linear(F.silu(self.up(self.table(tokens_BT))), self.bare)
        logits: Tensor = self.head(torch.tanh(x).mean(1))
        return logits


class Images(nn.Module):
    """Convolutions with a norm of gains of both signs, a residual sum, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.outer = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([1.0, -0.7, 0.4, 0.0, -1.2, 0.9, 1.1, -0.3]))
            self.norm.bias.uniform_(-0.5, 0.5)
            self.norm.running_mean.uniform_(-0.5, 0.5)
            self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x = self.inner(torch.relu(self.norm(self.stem(images_BCHW))))
        logits: Tensor = self.head(torch.relu(x + self.outer(x)).mean((2, 3)))
        return logits


class Exported:
    """A module that is traced once and lowered many times, each time with other weights."""

    def __init__(self, module: nn.Module, sample: Tensor) -> None:
        self.module = module.eval()
        self.sample = sample
        self._state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self._bytes = to_bytes(export(module, (sample,)))

    def weights(self, make: Callable[[Tensor], Form], names: tuple[str, ...]) -> Forms:
        """Set the module's weights back, then to those of the forms that `make` gives these."""
        self.module.load_state_dict(self._state)
        parameters = dict(self.module.named_parameters())
        forms = {name: make(parameters[name]) for name in names}
        install_(self.module, forms)
        return forms

    def graph(self) -> Any:
        """Return the graph with the module's weights."""
        model = onnx_ir.from_proto(onnx.load_from_string(self._bytes))
        for name, parameter in self.module.named_parameters():
            if name in model.graph.initializers:
                array = parameter.detach().numpy().copy()
                model.graph.initializers[name].const_value = onnx_ir.tensor(array, name=name)
        return model

    def lowered(self, engine: str, forms: Forms, **asked: Any) -> Lowered:
        return lower(self.graph(), engine, forms=forms, samples=(self.sample,), **asked)

    def expected(self, sample: Tensor | None = None) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            answer: npt.NDArray[np.float32] = self.module(self.sample if sample is None else sample).numpy()
        return answer


def answers(lowered: Lowered, engine: str, sample: Tensor) -> npt.NDArray[np.float32]:
    predictor = OPENED[engine](
        to_bytes(lowered.model), precision=lowered.precision, notes=lowered.notes, num_threads=1
    )
    return predictor(sample.numpy())


def miss(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference in standard deviations of what is expected."""
    return float(np.abs(found - expected).max() / expected.std())


def operations(lowered: Lowered) -> Mapping[str, int]:
    kinds = [node.op_type for node in lowered.model.graph]
    return {kind: kinds.count(kind) for kind in kinds}
