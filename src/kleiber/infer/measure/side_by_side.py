"""Several models behind several engines, measured in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kleiber.errors import UsageError
from kleiber.infer.measure.figures import EngineFigures
from kleiber.infer.measure.memory import peak_memory_bytes
from kleiber.infer.measure.opening import Opening
from kleiber.infer.measure.ratio import median_estimate, ratio_estimate
from kleiber.infer.measure.turns import in_turns, num_calls_for, saturation_batch
from kleiber.infer.measure.work import Work

__all__ = ["measure"]


def measure(
    works: Mapping[str, Work],
    reference: str,
    *,
    num_threads: int,
    num_rounds: int = 21,
    block_s: float = 0.05,
    max_batch: int = 256,
    openings: Mapping[str, Opening] | None = None,
    seed: int = 0,
) -> tuple[EngineFigures, ...]:
    """Return figures of each model, in the order given, all timed in turns.

    Latency is that of a batch of one. For throughput each has the batch that its own engine is best with: doubled until
    samples a second gain less than 5%.

    Args:
        works: By a name; all of the same workload.
        reference: The name of the one that gains are over.
        num_threads: With which they were opened.
        num_rounds: Turns of each at either batch.
        block_s: About how long a turn lasts [s].
        max_batch: No batch is larger.
        openings: By the same names: their peak memory is measured, in a fresh process each. None measures none.
        seed: Of the order of turns and of the resamples.

    Raises:
        UsageError: The reference is not among them, they do different work, or fewer than two rounds.
        KleiberError: A process that was to measure memory failed.
    """
    _require(works, reference, num_rounds)
    batches = {name: _saturation(work, block_s, max_batch) for name, work in works.items()}
    alone_s = in_turns({name: _turn(work, 1, block_s) for name, work in works.items()}, num_rounds, seed=seed)
    full_s = in_turns(
        {name: _turn(work, batches[name], block_s) for name, work in works.items()}, num_rounds, seed=seed
    )
    rates = {name: batches[name] / times_s for name, times_s in full_s.items()}
    return tuple(
        EngineFigures(
            name=name,
            engine=work.engine,
            precision=work.precision,
            workload=work.workload,
            num_threads=num_threads,
            num_rounds=num_rounds,
            latency_s=median_estimate(alone_s[name], seed=seed),
            latency_gain=ratio_estimate(alone_s[reference], alone_s[name], seed=seed),
            throughput_per_s=median_estimate(rates[name], seed=seed),
            throughput_gain=ratio_estimate(rates[name], rates[reference], seed=seed),
            saturation_batch=batches[name],
            peak_memory_bytes=None if openings is None else peak_memory_bytes(openings[name]),
            notes=work.notes,
        )
        for name, work in works.items()
    )


def _require(works: Mapping[str, Work], reference: str, num_rounds: int) -> None:
    if reference not in works:
        raise UsageError(
            f"the reference '{reference}' is not measured. Measured: {', '.join(works) or 'nothing'}."
        )
    if len({work.workload for work in works.values()}) > 1:
        raise UsageError("what is measured side by side must do the same work: whole inputs, or tokens.")
    if num_rounds < 2:
        raise UsageError("an interval needs at least 2 rounds.", got=num_rounds)


def _turn(work: Work, batch: int, block_s: float) -> Callable[[], float]:
    turn = work.turn(batch)
    num_calls = num_calls_for(turn, block_s, work.max_calls)
    return lambda: turn(num_calls)


def _saturation(work: Work, block_s: float, max_batch: int) -> int:
    def seconds(batch: int) -> float:
        run = _turn(work, batch, block_s / 2)
        return min(run() for _ in range(3))  # the best of three: a disturbance is not the engine's

    return saturation_batch(seconds, max_batch)
