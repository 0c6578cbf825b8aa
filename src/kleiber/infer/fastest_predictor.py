"""The engine `auto` for models that answer whole inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.infer.choice import Choice, SampleRequest, chosen
from kleiber.infer.engines import ENGINES, EngineName, open_predictor
from kleiber.infer.identity import identity_of
from kleiber.infer.measure.turns import num_calls_for
from kleiber.infer.measure.work import ForwardWork
from kleiber.infer.predictor import Predictor
from kleiber.models.stored import AS_COMPUTED, Activations, Forms

__all__ = ["fastest_predictor"]

_BLOCK_S = 0.02
"""About how long a turn lasts."""
_WRITES_ALONE: EngineName = "llamacpp"


def fastest_predictor(
    module: nn.Module,
    inputs: Sequence[Tensor],
    *,
    forms: Forms | None = None,
    activations: Activations = AS_COMPUTED,
    num_threads: int | None = None,
    request: SampleRequest | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Predictor, Choice]:
    """Return `module` behind the engine that is the fastest here, and how it was found; arguments as of `open_predictor`.

    Args:
        module: fp32, with the spec of a family; its weights are those that `forms` stand for.
        inputs: Real samples, in the order of its arguments.
        forms: How weights are stored.
        activations: How the inputs of layers are held.
        num_threads: None takes torch's number.
        request: The batch that engines are compared on; None is one sample.
        on_progress: Is told which engine is measured.

    Raises:
        UsageError: No engine runs the model.
    """
    threads, asked = num_threads or torch.get_num_threads(), request or SampleRequest()
    given: dict[str, Any] = {"forms": forms, "activations": activations, "num_threads": threads}
    openers: dict[str, Callable[[], Predictor]] = {
        name: partial(open_predictor, name, module, inputs, **given)
        for name in ENGINES
        if name != _WRITES_ALONE
    }
    arrays = [one.numpy() for one in inputs]

    def timed(predictor: Predictor) -> Callable[[], float]:
        work = ForwardWork(predictor, arrays)
        turn = work.turn(asked.batch)
        num_calls = num_calls_for(turn, _BLOCK_S, work.max_calls)
        return lambda: turn(num_calls)

    shapes = [list(one.shape[1:]) for one in inputs]
    identity = {**identity_of(module, forms or {}, activations), "inputs": shapes}
    return chosen(openers, timed, asked, identity, num_threads=threads, on_progress=on_progress)
