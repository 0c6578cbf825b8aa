"""What calls will take, said before they are measured: by operation in torch, by calls of other sizes in other engines.

Where other sizes were measured behind torch too, its operations are off by as much as theirs were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kleiber.cost.call_limit import CallCost
from kleiber.cost.engine_times import EngineCall, EngineTimes
from kleiber.cost.operations import Operation
from kleiber.cost.rates import Rates
from kleiber.errors import KleiberError
from kleiber.infer.bench.candidates import Candidate, PromptShape
from kleiber.infer.bench.model import Benched
from kleiber.infer.bench.traced_calls import forward_operations, text_operations
from kleiber.models import Spec
from kleiber.models.counting import Counted
from kleiber.models.hf.spec import HFSpec
from kleiber.runs.bench_result import CallKind

__all__ = ["Prediction", "Predictor", "call_cost", "engine_call"]


@dataclass(frozen=True)
class Prediction:
    """Of the median time of a call."""

    time_s: float
    method: str
    """As in the ledger: `operations` or `engine`."""
    by_operations_s: float = 0.0
    """What the calibration alone gives, in torch."""
    calibrated_at: str = ""


def call_cost(counted: Counted, prompt: PromptShape | None, kind: CallKind, batch: int) -> CallCost:
    """Return what a call needs at least; of decoding, that of the token in the middle."""
    if prompt is None:
        return counted.forward(batch)
    if kind == "prefill":
        return counted.prefill(batch, prompt.num_prompt)
    return counted.decode(batch, _middle(prompt))


def engine_call(
    candidate: Candidate,
    kind: CallKind,
    cost: CallCost,
    num_threads: int,
    *,
    time_s: float = 0.0,
    predicted: Prediction | None = None,
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
        by_operations_s=predicted.by_operations_s if predicted else 0.0,
        calibrated_at=predicted.calibrated_at if predicted else "",
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
            return self._by_operations(candidate, kind, cost, operations)
        asked = engine_call(candidate, kind, cost, self._num_threads)
        time_s = self._times.time_s(asked, self._rates.processor(self._num_threads).limits)
        return None if time_s is None else Prediction(time_s, "engine")

    def _by_operations(
        self, candidate: Candidate, kind: CallKind, cost: CallCost, operations: tuple[Operation, ...]
    ) -> Prediction:
        time_s = self._rates.step_time(operations, self._num_threads, mode="infer").step_time_s
        alone = Prediction(time_s, "operations", time_s, self._rates.measured_at)
        asked = engine_call(candidate, kind, cost, self._num_threads, predicted=alone)
        return replace(alone, time_s=time_s * self._times.operations_factor(asked))

    def _traced(self, candidate: Candidate, kind: CallKind, batch: int) -> tuple[Operation, ...]:
        model, key = candidate.model, (candidate.model.name, kind, batch)
        if key not in self._operations:
            spec = _where_it_lies(model)
            prompt, bits = candidate.prompt, model.activations.cache_bits
            if prompt is None:
                found = forward_operations(spec, model.inputs, batch)
            elif kind == "prefill":
                found = text_operations(spec, batch, num_before=0, num_new=prompt.num_prompt, cache_bits=bits)
            else:
                middle = round(_middle(prompt))
                found = text_operations(spec, batch, num_before=middle, num_new=1, cache_bits=bits)
            self._operations[key] = found
        return self._operations[key]


def _where_it_lies(model: Benched) -> Spec:
    """Return the spec of a model; of one of transformers its config is where the model is now, and no weights are asked for."""
    spec = model.spec
    if isinstance(spec, HFSpec):
        return spec.model_copy(update={"path": str(model.folder), "pretrained": False})
    return spec


def _middle(prompt: PromptShape) -> float:
    """Return the mean of the tokens that were read before each token that is decoded."""
    return prompt.num_prompt + (prompt.num_new - 1) / 2
