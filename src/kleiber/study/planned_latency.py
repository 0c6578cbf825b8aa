"""How long a decoder that is not built takes behind each engine, from what `kleiber bench` measured of other sizes."""

from __future__ import annotations

from kleiber.cost.call_limit import CallCost
from kleiber.cost.engine_times import EngineCall, EngineTimes, load_engine_times
from kleiber.models import Spec
from kleiber.models.counting import Counted
from kleiber.models.gpt import GPTSpec
from kleiber.study.cost_document import PlannedLatency
from kleiber.study.place import Place

__all__ = ["planned_latencies"]

_USUAL_PROMPT, _USUAL_NEW = 512, 128
"""As `kleiber bench` takes them."""
_IN = "fp32"


def planned_latencies(
    spec: Spec | None, place: Place, times: EngineTimes | None = None
) -> tuple[PlannedLatency, ...]:
    """Return what reading a prompt and writing a token takes, by engine, the quickest token first.

    Args:
        spec: Of a dense gpt; of others nothing is said.
        place: This machine, calibrated: of another nothing is said.
        times: Of engines; None takes those that are kept.

    Raises:
        RunFolderError: What is kept does not parse.
    """
    rates = place.calibration.rates if place.calibration else None
    if not (place.is_here and rates and isinstance(spec, GPTSpec) and spec.is_closed_form):
        return ()
    times = load_engine_times() if times is None else times
    limits = rates.processor(place.num_threads).limits
    num_prompt = max(1, min(_USUAL_PROMPT, spec.context // 2))
    num_new = min(_USUAL_NEW, spec.context - num_prompt)
    counted = Counted.of_size(spec)
    costs = {
        "prefill": counted.prefill(1, num_prompt),
        "decode": counted.decode(1, num_prompt + (num_new - 1) / 2),
    }
    found = []
    for engine in dict.fromkeys(one.engine for one in times.calls if one.precision == _IN):
        by_kind = {
            kind: times.time_s(_asked(engine, kind, cost, spec, place.num_threads), limits)
            for kind, cost in costs.items()
        }
        if any(by_kind.values()):
            found.append(
                PlannedLatency(
                    engine=engine,
                    num_prompt=num_prompt,
                    prefill_s=by_kind["prefill"],
                    num_new=num_new,
                    decode_s=by_kind["decode"],
                )
            )
    return tuple(sorted(found, key=lambda one: (one.decode_s is None, one.decode_s)))


def _asked(engine: str, kind: str, cost: CallCost, spec: GPTSpec, num_threads: int) -> EngineCall:
    return EngineCall(
        engine=engine,
        precision=_IN,
        kind=kind,
        family=spec.family,
        num_threads=num_threads,
        depth=spec.depth,
        flops=cost.flops,
        read_bytes=cost.read_bytes,
    )
