"""A plan as people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from kleiber.cli.ledger_table import print_ledger
from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

if TYPE_CHECKING:
    from kleiber.runs import DataShape
    from kleiber.study.cost_document import CostPlan

__all__ = ["print_plan"]

_MOST_KINDS = 5
_MOST_LAYOUTS = 8
_MOST_MODULES = 60


def print_plan(out: Output, plan: CostPlan) -> None:
    """Print what a plan says: the figures, then where time and memory go, then what they rest on."""
    out.say(_heading(plan))
    out.table(["", "total", "of which"], list(_figures(plan)), words=(0, 2))
    _print_disk(out, plan)
    _print_kinds(out, plan)
    _print_latencies(out, plan)
    _print_modules(out, plan)
    _print_layouts(out, plan)
    _print_optimum(out, plan)
    _print_room(out, plan)
    if plan.measured:
        print_ledger(out, plan.measured)
    found = plan.optimum.assumptions if plan.optimum else ()
    # What the FLOPs and the money of the best model rest on is what the plan's do.
    others = [sentence for sentence in found if not sentence.startswith(("FLOPs", "Money"))]
    for sentence in (*plan.assumptions, *others):
        out.say(f"- {sentence}")


def _heading(plan: CostPlan) -> str:
    usage = plan.usage
    what = [plan.model]
    if plan.shape is not None:
        what += _seen(plan.shape)
    elif plan.context is not None:
        what.append(f"context {plan.context}")
    batch = f"batch {usage.batch_size}"
    if usage.accumulation > 1:
        batch += f" in {usage.accumulation} micro-batches"
    what.append(batch)
    what.append("served" if usage.mode == "infer" else f"trained with {usage.optimizer}")
    if usage.is_checkpointed:
        what.append("checkpointed")
    where = plan.device if plan.num_devices == 1 else f"{plan.num_devices} x {plan.device} ({plan.layout})"
    length = ""
    if plan.num_steps is not None:
        unit = "samples" if plan.num_tokens is None else "tokens"
        num_units = format_count(plan.num_tokens or plan.num_samples or 0)
        length = f": {num_units} {unit} in {_steps(plan.num_steps)}"
    return f"{', '.join(what)}, on {where} in {plan.dtype}{length}"


def _seen(shape: DataShape) -> Iterator[str]:
    """Yield what a sample is, and what is asked of it."""
    if shape.channels is not None:
        yield f"images {shape.channels}x{shape.height}x{shape.width}"
    if shape.vocab_size is not None:
        yield f"vocabulary {shape.vocab_size}"
    if shape.context is not None:
        yield f"context {shape.context}"
    if shape.num_features is not None:
        yield f"{shape.num_features} feature{'' if shape.num_features == 1 else 's'}"
    if shape.num_outputs is not None:
        yield f"{shape.num_outputs} output{'' if shape.num_outputs == 1 else 's'}"


def _figures(plan: CostPlan) -> Iterator[list[str]]:
    flops, memory = plan.flops, plan.memory_bytes
    yield ["parameters", f"{plan.num_params.total:,}", _groups(plan)]
    passes = {"forward": flops.forward, "backward": flops.backward}
    yield ["FLOPs of a step", format_flops(flops.forward + flops.backward), _parts(passes, format_flops)]
    if plan.train_flops is not None:
        yield ["FLOPs of the job", format_flops(plan.train_flops), ""]
    lasting = {"weights": memory.weights, "optimizer": memory.optimizer}
    passing = {"activations": memory.activations, "gradients": memory.gradients}
    yield ["memory at peak", format_bytes(memory.peak), _parts(lasting, format_bytes)]
    # The peak is that of one moment; what comes and goes has its own.
    yield ["  at most", "", _parts(passing, format_bytes)]
    if plan.kv_cache_bytes is not None:
        where = "" if plan.num_devices == 1 else ", over all devices"
        yield ["KV cache", format_bytes(plan.kv_cache_bytes), f"at the full context{where}"]
    yield ["time of a step", format_seconds(plan.step_time_s), _waiting(plan)]
    if plan.total_time_s is not None:
        yield ["time of the job", format_seconds(plan.total_time_s), ""]
    if plan.energy_kwh is not None:
        yield ["energy", f"{_three_digits(plan.energy_kwh)} kWh", ""]
    if plan.usd is not None:
        yield ["money", f"{plan.usd:,.2f} USD", ""]


def _groups(plan: CostPlan) -> str:
    params = plan.num_params
    groups = {"body": params.body, "head": params.head, "embedding": params.embedding}
    tied = " (tied)" if params.is_tied else ""
    parts = [_parts(groups, format_count) + tied] if params.body != params.total else []
    if params.active != params.total:
        parts.append(f"{format_count(params.active)} active")
    if params.trainable != params.total:
        parts.append(f"{format_count(params.trainable)} trainable")
    return ", ".join(parts)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _waiting(plan: CostPlan) -> str:
    parts = []
    if plan.communication_s:
        parts.append(f"communication {format_seconds(plan.communication_s)}")
    if plan.bubble_frac:
        parts.append(f"pipeline waits {plan.bubble_frac:.0%}")
    return ", ".join(parts)


def _steps(num_steps: int) -> str:
    return f"{num_steps:,} step{'' if num_steps == 1 else 's'}"


def _parts(values: Mapping[str, float], show: Callable[[float], str]) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in values.items() if value)


def _print_disk(out: Output, plan: CostPlan) -> None:
    disk = plan.disk
    sizes = {"checkpoint": disk.checkpoint_bytes} if plan.usage.mode == "train" else {}
    # llama.cpp's formats are for Transformers that read text.
    is_text = plan.kv_cache_bytes is not None or (plan.spec is not None and plan.spec.family == "gpt")
    sizes |= {
        name: size for name, size in disk.served_bytes.items() if is_text or not name.startswith("gguf")
    }
    rates = next(iter(disk.send_time_s.values()))
    rows = [
        [name, format_bytes(size), *(format_seconds(disk.send_time_s[name][rate]) for rate in rates)]
        for name, size in sizes.items()
    ]
    out.table(["on disk", "", *(f"at {rate} Gbit/s" for rate in rates)], rows)


def _print_kinds(out: Output, plan: CostPlan) -> None:
    whole = sum(part.time_s for part in plan.time_by_kind)
    if not whole:
        return
    shown = [part for part in plan.time_by_kind[:_MOST_KINDS] if part.time_s > 0]
    rows = [
        [part.kind, format_seconds(part.time_s), f"{part.time_s / whole:.0%}", part.bound] for part in shown
    ]
    out.table(["time of a step", "", "", "bound by"], rows, words=(0, 3))


def _print_latencies(out: Output, plan: CostPlan) -> None:
    if not plan.latencies:
        return
    first = plan.latencies[0]
    out.table(
        [
            "engine, one text at a time",
            f"a prompt of {first.num_prompt}",
            f"a token of the {first.num_new} after it",
        ],
        [
            [
                one.engine,
                *(
                    "" if time_s is None else format_seconds(time_s)
                    for time_s in (one.prefill_s, one.decode_s)
                ),
            ]
            for one in plan.latencies
        ],
    )


def _print_modules(out: Output, plan: CostPlan) -> None:
    if len(plan.modules) < 2:
        return
    rows = [
        [
            "  " * part.path.count(".") + (part.path.rpartition(".")[2] or "all"),
            part.type_name,
            format_count(part.num_params),
            format_flops(part.forward_flops),
            format_flops(part.backward_flops),
            format_bytes(part.activation_bytes),
        ]
        for part in plan.modules[:_MOST_MODULES]
    ]
    if plan.num_devices > 1:
        out.say("Modules, each whole, with one device's share of the batch:")
    headers = ["module", "type", "parameters", "forward", "backward", "at the peak"]
    # A closed form does not know whose activations are held, and a model that is served has no backward pass.
    unknown = set() if plan.moments else {5}
    shown = [k for k in range(6) if k not in unknown | ({4} if plan.usage.mode == "infer" else set())]
    out.table([headers[k] for k in shown], [[row[k] for k in shown] for row in rows], words=(0, 1))
    if len(plan.modules) > _MOST_MODULES:
        out.say(f"{len(plan.modules) - _MOST_MODULES} more modules; --json has them all.")


def _print_layouts(out: Output, plan: CostPlan) -> None:
    if not plan.layouts:
        return
    rows = [
        [
            one.layout,
            "" if one.step_time_s is None else format_seconds(one.step_time_s),
            "" if one.memory_bytes is None else format_bytes(one.memory_bytes),
            one.why_not or "fits",
        ]
        for one in plan.layouts[:_MOST_LAYOUTS]
    ]
    out.table(["layout", "a step", "memory", ""], rows, words=(0, 3))
    if len(plan.layouts) > _MOST_LAYOUTS:
        num_fitting = sum(one.fits for one in plan.layouts)
        out.say(f"{num_fitting} of {len(plan.layouts)} layouts fit; --json says why each other one does not.")


def _print_optimum(out: Output, plan: CostPlan) -> None:
    found = plan.optimum
    if found is None:
        return
    runs = [
        (name, run)
        for name, run in (("lowest loss", found.best), ("that fits", found.fitting))
        if run is not None
    ]
    rows = [
        [
            name,
            format_count(run.num_params.total),
            format_count(run.num_tokens),
            f"{run.loss:.4f}",
            *([f"{run.interval_80[0]:.4f} to {run.interval_80[1]:.4f}"] if run.interval_80 else []),
            format_bytes(run.memory_bytes),
        ]
        for name, run in runs
    ]
    sure = ["80% interval"] if found.best.interval_80 else []  # a published law has none
    out.say(f"{found.budget.sentence}, best spent under the law {found.law}:")
    out.table(["", "parameters", "tokens", "loss", *sure, "memory"], rows)
    if found.intervals is not None:
        low, high = found.intervals.size_80
        out.say(
            f"Resampled, the law's best size is {format_count(low)} to {format_count(high)} parameters (80%)."
        )
    for flat in found.flat:
        low, high = flat.num_params
        out.say(
            f"From {format_count(low)} to {format_count(high)} parameters the loss is at most {flat.worse_frac:.1%} higher."
        )
    if found.room is not None:
        room = found.room
        largest = "none" if room.spec is None else format_count(room.spec.count().total)
        out.say(
            f"The most that fits: {largest} parameters at this batch; {room.micro_batch} samples a micro-batch; "
            f"{room.context} tokens of context."
        )


def _print_room(out: Output, plan: CostPlan) -> None:
    room = plan.room
    if room is None:
        return
    if room.micro_batch == 0:
        out.say("Not one sample fits.")
    elif room.micro_batch is not None:
        longest = "" if room.context is None else f", {room.context} tokens of context at this batch"
        out.say(f"The most that fits: {room.micro_batch} samples a micro-batch{longest}.")
    if room.num_steps is not None:
        tokens = "" if room.num_tokens is None else f", {format_count(room.num_tokens)} tokens"
        out.say(f"The budget pays {_steps(room.num_steps)}{tokens}.")
    if room.optimal_tokens is not None:
        out.say(f"This size is compute-optimal at {format_count(room.optimal_tokens)} tokens.")
