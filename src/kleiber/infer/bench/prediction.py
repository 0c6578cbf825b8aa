"""What calls will take, said before they are measured: by operation in torch, by calls of other sizes in other engines."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.cost.call_limit import CallCost
from kleiber.cost.operations import Operation
from kleiber.cost.rates import Rates
from kleiber.errors import KleiberError
from kleiber.infer.bench.candidates import Candidate, PromptShape
from kleiber.infer.bench.counting import Counted
from kleiber.infer.bench.engine_times import EngineCall, EngineTimes
from kleiber.infer.bench.traced_calls import forward_operations, text_operations
from kleiber.runs.bench_result import CallKind

__all__ = ["Prediction", "Predictor", "call_cost", "engine_call"]


@dataclass(frozen=True)
class Prediction:
    """Of the median time of a call."""

    time_s: float
    method: str
    """As in the ledger: `operations` or `engine`."""


def call_cost(counted: Counted, prompt: PromptShape | None, kind: CallKind, batch: int) -> CallCost:
    """Return what a call needs at least; of decoding, that of the token in the middle."""
    if prompt is None:
        return counted.forward(batch)
    if kind == "prefill":
        return counted.prefill(batch, prompt.num_prompt)
    return counted.decode(batch, _middle(prompt))


def engine_call(
    candidate: Candidate, kind: CallKind, cost: CallCost, num_threads: int, time_s: float = 0.0
) -> EngineCall:
    """Return a call as engine times are kept by."""
    spec = candidate.model.spec
    return EngineCall(
        engine=candidate.work.engine,
        precision=candidate.work.precision,
        kind=kind,
        family=spec.family,
        num_threads=num_threads,
        depth=int(getattr(spec, "depth", 1)),
        flops=cost.flops,
        read_bytes=cost.read_bytes,
        time_s=time_s,
    )


class Predictor:
    """Predicts calls on this machine.

    Args:
        rates: As `kleiber calibrate` measured them.
        times: Of engines, measured before.
        num_threads: Of the engines.
    """

    def __init__(self, rates: Rates, times: EngineTimes, num_threads: int) -> None:
        self._rates, self._times, self._num_threads = rates, times, num_threads
        self._operations: dict[tuple[str, CallKind, int], tuple[Operation, ...]] = {}

    def predict(self, candidate: Candidate, kind: CallKind, batch: int, cost: CallCost) -> Prediction | None:
        """Return what a call will take; None where nothing is known to tell it by."""
        if candidate.work.engine == "torch":
            try:
                operations = self._traced(candidate, kind, batch)
            except KleiberError:  # a model whose code looks at values
                return None
            found = self._rates.step_time(operations, self._num_threads)
            return Prediction(found.step_time_s, "operations")
        asked = engine_call(candidate, kind, cost, self._num_threads)
        time_s = self._times.time_s(asked, self._rates.processor(self._num_threads).limits)
        return None if time_s is None else Prediction(time_s, "engine")

    def _traced(self, candidate: Candidate, kind: CallKind, batch: int) -> tuple[Operation, ...]:
        model, key = candidate.model, (candidate.model.name, kind, batch)
        if key not in self._operations:
            prompt, bits = candidate.prompt, model.activations.cache_bits
            if prompt is None:
                found = forward_operations(model.spec, model.inputs, batch)
            elif kind == "prefill":
                found = text_operations(
                    model.spec, batch, num_before=0, num_new=prompt.num_prompt, cache_bits=bits
                )
            else:
                middle = round(_middle(prompt))
                found = text_operations(model.spec, batch, num_before=middle, num_new=1, cache_bits=bits)
            self._operations[key] = found
        return self._operations[key]


def _middle(prompt: PromptShape) -> float:
    """Return the mean of the tokens that were read before each token that is decoded."""
    return prompt.num_prompt + (prompt.num_new - 1) / 2
