"""Opens a language model behind an engine, for decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kleiber.errors import UsageError, nearest
from kleiber.infer.compiled import CompiledStepper
from kleiber.infer.decoding.cached_forward import Heads, cached_heads
from kleiber.infer.decoding.decoder import Decoder
from kleiber.infer.decoding.onnxruntime_stepper import OnnxRuntimeStepper
from kleiber.infer.decoding.openvino_stepper import OpenVinoStepper
from kleiber.infer.decoding.step_graph import buffer_graph, growing_graph
from kleiber.infer.decoding.torch_stepper import TorchStepper
from kleiber.infer.engines import ENGINES, EngineName
from kleiber.infer.lowering import lower, to_bytes
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import require_cache_bits
from kleiber.models.stored import AS_COMPUTED, Activations, Forms

__all__ = ["StepModel", "open_decoder", "step_model"]

_NO_INT8_CACHE = "onnxruntime keeps keys and values as computed: on a CPU it has no cache in 8 bits."


@dataclass(frozen=True)
class StepModel:
    """A step of a language model as a file for an engine."""

    engine: EngineName
    """`onnxruntime` or `openvino`."""
    model: bytes
    """Of an `.onnx` file."""
    heads: Heads
    """Sizes of the cache."""
    precision: str
    """What its products compute in."""
    notes: tuple[str, ...] = ()
    """What was lowered otherwise than asked, a sentence each."""
    cache_bits: int | None = None

    def open(self, num_threads: int) -> Decoder:
        """Return the model behind its engine.

        Raises:
            MissingExtraError: The engine's package is not installed.
        """
        if self.engine == "onnxruntime":
            notes = (*self.notes, *((_NO_INT8_CACHE,) if self.cache_bits else ()))
            return Decoder(
                OnnxRuntimeStepper(
                    self.model, self.heads, precision=self.precision, notes=notes, num_threads=num_threads
                ),
                self.heads.context,
            )
        stepper = OpenVinoStepper(
            self.model,
            self.heads,
            precision=self.precision,
            notes=self.notes,
            num_threads=num_threads,
            cache_bits=self.cache_bits,
        )
        return Decoder(stepper, self.heads.context)


def step_model(
    engine: EngineName,
    module: FamilyModule,
    *,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
) -> StepModel:
    """Return a step of a language model for `onnxruntime` or `openvino`; arguments as of `open_decoder`.

    Raises:
        UsageError: A module that does not go on from text, or bits that no cache has.
        MissingExtraError: onnx or onnxscript is not installed.
        RecipeError: The module cannot be exported.
    """
    if engine not in ("onnxruntime", "openvino"):
        raise AssertionError(f"{engine} runs modules, not graphs")
    require_cache_bits(activations.cache_bits)
    graph = buffer_graph(module) if engine == "onnxruntime" else growing_graph(module)
    lowered = lower(graph, engine, forms=forms, activations=activations)
    return StepModel(
        engine=engine,
        model=to_bytes(lowered.model),
        heads=cached_heads(module),
        precision=lowered.precision,
        notes=lowered.notes,
        cache_bits=activations.cache_bits,
    )


def open_decoder(
    engine: EngineName,
    module: FamilyModule,
    *,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
    num_threads: int | None = None,
) -> Decoder:
    """Return a language model behind an engine.

    Args:
        engine: `torch` computes in fp32 with the weights that the forms stand for; `compiled` with the codes themselves, single
            tokens in native code; `onnxruntime` and `openvino` as `lower` says.
        module: fp32, of the family gpt or hf; its weights are those that `forms` stand for.
        forms: How weights are stored, by the name of the parameter.
        activations: How the inputs of layers are held, and a decoder's keys and values.
        num_threads: None takes torch's number.

    Raises:
        UsageError: An unknown engine, a module that does not go on from text, or bits that no cache has.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The module cannot be exported.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}'. {nearest(engine, ENGINES)}")
    threads = num_threads or torch.get_num_threads()
    context = cached_heads(module).context
    if engine == "torch":
        return Decoder(TorchStepper(module, activations.cache_bits, threads), context)
    if engine == "compiled":
        stepper = CompiledStepper(
            module,
            forms or {},
            cache_bits=activations.cache_bits,
            num_threads=threads,
        )
        return Decoder(stepper, context)
    return step_model(engine, module, forms=forms, activations=activations).open(threads)
