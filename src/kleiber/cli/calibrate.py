"""`kleiber calibrate`: what this machine does, measured; it is the device `local` from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, parse_whole
from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_flops, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from kleiber.cost.rates import ProcessorRates, Rates

__all__ = ["EXAMPLE", "calibrate"]

EXAMPLE = "kleiber calibrate"
_MIN_SECONDS, _MAX_SECONDS = 5, 3600


def calibrate(
    *,
    seconds: Annotated[
        str, typer.Option("--seconds", metavar="WHOLE", help="For everything; three rounds are always made.")
    ] = "55",
    json_: Json = False,
) -> None:
    """Measure this machine, so that `plan` predicts the time of a step on it: matrix products, memory, disk, GPUs.

    What else runs on the machine meanwhile is measured with it. An interrupt leaves what was measured before.

    With --json: device, measured_at, path, cpu (by number of threads) and gpus (by name) with title, limits
    (peak_flops_per_s by dtype, bandwidth by working set, call_s), fresh_page_s_per_byte, check_error_frac and num_calls;
    disk (write_bytes_per_s, read_bytes_per_s).
    """
    time_s = parse_whole(seconds, "--seconds", EXAMPLE, minimum=_MIN_SECONDS, maximum=_MAX_SECONDS)
    from kleiber.cost import calibration_path
    from kleiber.study.calibrate import calibrate as calibrate_machine

    out = Output(json_)
    with out.progress() as bar:
        rates = calibrate_machine(float(time_s), on_progress=_Seconds(bar, time_s).show).rates
    if rates is None:
        raise AssertionError("a calibration has rates")
    _print(out, rates)
    out.say(f"{calibration_path()}: plans of this machine, the device local, rest on this.")
    out.document(_document(rates) | {"path": str(calibration_path())})


class _Seconds:
    """A bar of seconds."""

    def __init__(self, bar: Bar, time_s: int) -> None:
        self._bar = bar
        self._task = bar.add_task("calibrate", total=time_s, note="")

    def show(self, passed_s: float, what: str) -> None:
        self._bar.update(self._task, completed=int(passed_s), note=what)


def _print(out: Output, rates: Rates) -> None:
    processors = [*rates.cpu.values(), *rates.gpus.values()]
    dtypes = list(dict.fromkeys(name for found in processors for name in found.limits.peak_flops_per_s))
    sets = list(dict.fromkeys(known.num_bytes for found in processors for known in found.limits.bandwidth))
    out.table(
        ["", *(found.title for found in processors)],
        [
            *([f"products, {name}", *(_peak(found, name) for found in processors)] for name in dtypes),
            *([f"memory, {format_bytes(size)}", *(_bandwidth(found, size) for found in processors)] for size in sets),
            ["smallest call", *(_micro(found.limits.call_s) for found in processors)],
            ["between small calls", *(_micro(found.gap_between(found.limits.call_s)) for found in processors)],
            ["a page of 4 KiB made anew", *(_micro(4096 * found.fresh_page_s_per_byte) for found in processors)],
            ["calls timed", *(str(len(found.calls)) for found in processors)],
            ["error on steps left out", *(_percent(found.check_error_frac) for found in processors)],
        ],
    )  # fmt: skip
    if rates.disk is not None:
        written, read = rates.disk.write_bytes_per_s, rates.disk.read_bytes_per_s
        out.say(f"Disk: {format_bytes(written)}/s written, {format_bytes(read)}/s read.")
    out.say("The error is the median over steps that were predicted from the others alone.")


def _peak(found: ProcessorRates, dtype: str) -> str:
    rate = found.limits.peak_flops_per_s.get(dtype)
    return "" if rate is None else f"{format_flops(rate)}/s"


def _bandwidth(found: ProcessorRates, num_bytes: int) -> str:
    rates = {known.num_bytes: known.bytes_per_s for known in found.limits.bandwidth}
    return f"{format_bytes(rates[num_bytes])}/s" if num_bytes in rates else ""


def _micro(time_s: float) -> str:
    return f"{time_s * 1e6:.2f} µs" if time_s < 1e-3 else format_seconds(time_s)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.1%}"


def _document(rates: Rates) -> dict[str, Any]:
    """Return what programs read: everything but the single calls, which stand in the file."""
    raw = rates.model_dump(mode="json", include={"measured_at", "disk"})
    return {
        "device": "local",
        **raw,
        "cpu": {str(threads): _summary(found) for threads, found in rates.cpu.items()},
        "gpus": {name: _summary(found) for name, found in rates.gpus.items()},
    }


def _summary(found: ProcessorRates) -> dict[str, Any]:
    extra = {"check_error_frac": found.check_error_frac, "num_calls": len(found.calls)}
    return found.model_dump(mode="json", exclude={"calls"}) | extra
