"""The same module through the defaults of torchao, NNCF and ONNX Runtime, each used as its documentation says.

torchao quantizes `nn.Linear` in place; NNCF and ONNX Runtime take the module as `torch.onnx.export` gives it. Nothing of ours is
between: neither our export nor our lowering, only our predictors around what came out.
"""

# ruff: noqa: PLC0415 - each tool is imported where it is used: none needs the others

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.infer.engines.onnxruntime_predictor import OnnxRuntimePredictor
from kleiber.infer.engines.torch_predictor import TorchPredictor
from kleiber.infer.predictor import Predictor
from kleiber.infer.sessions import openvino_core
from kleiber.models import Spec, build, save
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.runs import DataShape

__all__ = ["PEERS", "Peer", "with_linears"]

Arrays = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class Peer:
    """What a tool made of a module."""

    predictor: Predictor
    num_bytes: int
    """Of its file; of torchao what `torch.save` writes."""


def with_linears(module: FamilyModule, spec: Spec, folder: Path) -> nn.Module:
    """A `gpt` as transformers builds it: ours multiplies by bare parameters, which torchao, looking for `nn.Linear`, leaves alone.

    Other families come back as they are.
    """
    if not isinstance(spec, GPTSpec):
        return module
    save(module, spec, folder)
    shape = DataShape(inputs="tokens", vocab_size=spec.vocab_size, context=spec.context)
    return build(HFSpec.of_size({"path": str(folder), "pretrained": True}, shape)).eval()


def _torchao(config: Callable[[], Any], precision: str) -> Callable[[nn.Module, Arrays, int], Peer]:
    """`quantize_` with a configuration, in eager PyTorch; it finds layers by their class, `nn.Linear`."""

    def peer(module: nn.Module, _: Arrays, num_threads: int) -> Peer:
        from torchao.quantization import quantize_

        quantized = deepcopy(module).eval()
        quantize_(quantized, config())
        saved = io.BytesIO()
        torch.save(quantized.state_dict(), saved)
        return Peer(_TorchPeer("torchao", precision, quantized, num_threads), saved.getbuffer().nbytes)

    return peer


def _int8_dynamic() -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return Int8DynamicActivationInt8WeightConfig()


def _int8_weights() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig()


def _int4_weights() -> Any:
    # Its default configuration is for GPUs; this one is for CPUs, of the same scheme: groups of 128.
    import torchao.quantization as ao

    return ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=ao.PerGroup(128))


def _nncf_weights(mode: str) -> Callable[[nn.Module, Arrays, int], Peer]:
    """`nncf.compress_weights` of an OpenVINO model."""

    def peer(module: nn.Module, inputs: Arrays, num_threads: int) -> Peer:
        import nncf

        with _exported(module, inputs) as path:
            model = nncf.compress_weights(_openvino(path), mode=nncf.CompressWeightsMode(mode))
        return _openvino_peer(model, f"{mode} weights", num_threads)

    return peer


def _nncf_quantize(module: nn.Module, inputs: Arrays, num_threads: int) -> Peer:
    """`nncf.quantize` of an OpenVINO model, calibrated on the inputs one by one."""
    import nncf

    with _exported(module, inputs) as path:
        model = nncf.quantize(_openvino(path), nncf.Dataset(_singles(inputs)))
    return _openvino_peer(model, "int8", num_threads)


def _onnxruntime_dynamic(module: nn.Module, inputs: Arrays, num_threads: int) -> Peer:
    """`quantize_dynamic` after its own preparation."""
    from onnxruntime.quantization import quantize_dynamic

    with _exported(module, inputs) as path:
        quantize_dynamic(_prepared(path), path)
        return _onnxruntime_peer(path, "dynamic int8", num_threads)


def _onnxruntime_static(module: nn.Module, inputs: Arrays, num_threads: int) -> Peer:
    """`quantize_static` after its own preparation, calibrated on the inputs one by one."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    names = _names(inputs)

    class Reader(CalibrationDataReader):
        samples = iter([dict(zip(names, one, strict=True)) for one in _singles(inputs)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.samples, None)

    with _exported(module, inputs) as path:
        quantize_static(_prepared(path), path, Reader())
        return _onnxruntime_peer(path, "int8", num_threads)


PEERS: dict[str, Callable[[nn.Module, Arrays, int], Peer]] = {
    "torchao int8 dynamic": _torchao(_int8_dynamic, "dynamic int8"),
    "torchao int8 weights": _torchao(_int8_weights, "int8 weights"),
    "torchao int4 weights": _torchao(_int4_weights, "int4 weights"),
    "nncf int8 weights": _nncf_weights("int8_asym"),
    "nncf int4 weights": _nncf_weights("int4_sym"),
    "nncf int8": _nncf_quantize,
    "onnxruntime int8 dynamic": _onnxruntime_dynamic,
    "onnxruntime int8": _onnxruntime_static,
}
"""By tool and what it does. Each takes the fp32 module, real samples in the order of its arguments (calibration where it needs
some) and a number of threads; an exception of the tool's own says that it cannot."""


class _TorchPeer(TorchPredictor):
    def __init__(self, engine: str, precision: str, module: nn.Module, num_threads: int) -> None:
        super().__init__(module, num_threads)
        self.engine = engine  # type: ignore[misc]
        self.precision = precision  # type: ignore[misc]


class _OpenVinoModel:
    """A compiled `openvino.Model` as a predictor."""

    engine = "openvino"

    def __init__(self, model: Any, precision: str, num_threads: int) -> None:
        self.precision = precision
        settings = {"INFERENCE_NUM_THREADS": num_threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._request.infer(list(inputs))[0].copy()


def _openvino(path: Path) -> Any:
    import openvino

    return openvino.convert_model(path)


def _openvino_peer(model: Any, precision: str, num_threads: int) -> Peer:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder) / "model.xml", compress_to_fp16=False)
        num_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    return Peer(_OpenVinoModel(model, precision, num_threads), num_bytes)


def _onnxruntime_peer(path: Path, precision: str, num_threads: int) -> Peer:
    model = path.read_bytes()
    return Peer(
        OnnxRuntimePredictor(model, precision=precision, notes=(), num_threads=num_threads), len(model)
    )


def _prepared(path: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    return prepared


@contextmanager
def _exported(module: nn.Module, inputs: Arrays) -> Iterator[Path]:
    """The module as torch exports it, the batch and the length of token numbers free."""
    tensors = tuple(_two_of(torch.from_numpy(one)) for one in inputs)
    free = torch.export.Dim.DYNAMIC
    axes = tuple({0: free, 1: free} if one.dtype == torch.long else {0: free} for one in tensors)
    is_variadic = "inputs" in module.forward.__code__.co_varnames[:2]  # `forward(self, *inputs)`
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module.eval(),
            tensors,
            path,
            dynamo=True,
            dynamic_shapes=(axes,) if is_variadic else axes,
            input_names=_names(inputs),
            external_data=False,
            verbose=False,
        )
        yield path


def _two_of(tensor: Tensor) -> Tensor:
    # The exporter takes a batch of one for a constant.
    return torch.cat((tensor, tensor))[:2]


def _names(inputs: Arrays) -> list[str]:
    return [f"input_{index}" for index in range(len(inputs))]


def _singles(inputs: Arrays) -> list[tuple[npt.NDArray[Any], ...]]:
    return [
        tuple(np.ascontiguousarray(one[row : row + 1]) for one in inputs) for row in range(len(inputs[0]))
    ]
