"""Measure this machine: what its processors, memory and disk do, in a given time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from kleiber.cost.calibration import Calibration, load_calibration, save_calibration
from kleiber.cost.rates import Rates
from kleiber.runs import default_cache, now, num_cores
from kleiber.study.calibration.limits import disk_rates
from kleiber.study.calibration.processor import ProcessorMeter
from kleiber.train.allocator import keep_freed_memory

__all__ = ["calibrate", "keep_rates", "measure_rates"]

_RUN_SHARE = 1 / 150
"""Of the whole time: what takes longer in one run is too dear for this machine."""
_MIN_ROUNDS = 3
"""Below this a quartile says nothing; they are made even when they take longer than was asked."""
_END_S = 2.0
"""For what is left to compute when everything is measured."""


def calibrate(
    time_s: float = 55.0,
    *,
    on_progress: Callable[[float, str], object] = lambda *_: None,
    path: Path | None = None,
) -> Calibration:
    """Measure this machine and keep what was found; an interrupt leaves what was kept before.

    Args:
        time_s: For everything [s].
        on_progress: Is told the seconds that have passed and what is measured now.
        path: Where calibrations are kept; None takes the cache.

    Raises:
        StorageError: The disk refused.
        RunFolderError: What was kept before does not parse.
    """
    load_calibration(path)  # what cannot be kept is said before a minute has passed
    return keep_rates(measure_rates(time_s, on_progress=on_progress), path)


def keep_rates(rates: Rates, path: Path | None = None) -> Calibration:
    """Write `rates` into this machine's calibration beside its probes, and return it.

    Raises:
        StorageError: The disk refused.
        RunFolderError: What was kept before does not parse.
    """
    known = load_calibration(path)
    peaks = {num_threads: found.limits.peak("fp32") for num_threads, found in rates.cpu.items()}
    calibration = Calibration(
        measured_at=rates.measured_at,
        peak_flops_per_s=(known.peak_flops_per_s if known else {}) | peaks,
        probes=known.probes if known else (),
        rates=rates,
    )
    save_calibration(calibration, path)
    return calibration


def measure_rates(
    time_s: float = 55.0,
    *,
    on_progress: Callable[[float, str], object] = lambda *_: None,
    meters: Callable[[float], tuple[dict[int, ProcessorMeter], dict[str, ProcessorMeter]]] | None = None,
) -> Rates:
    """Return what this machine does.

    All processors take turns, round by round, until the time is up: what disturbs the machine for a while disturbs all
    of them alike, and the lower quartiles over rounds leave it out.

    Args:
        time_s: For everything [s]; three rounds are made even when they take longer.
        on_progress: Is told the seconds that have passed and what is measured now.
        meters: Makes what measures, of the most that one run may take [s]; None takes this machine's processors.
    """
    start = time.perf_counter()
    keep_freed_memory()  # as training does

    def tell(names: Iterable[str], where: str) -> None:
        for name in names:
            on_progress(time.perf_counter() - start, f"{where}: {name}")

    on_progress(0.0, "disk")
    disk = disk_rates(default_cache())
    cpu, gpus = (meters or machine_meters)(_RUN_SHARE * time_s)
    everything = {**{f"threads {num}": meter for num, meter in cpu.items()}, **gpus}
    for where, meter in everything.items():
        tell(meter.warm_up(), where)
    num_rounds, round_s = 0, 0.0
    while num_rounds < _MIN_ROUNDS or time.perf_counter() - start + round_s < time_s - _END_S:
        round_start = time.perf_counter()
        for where, meter in everything.items():
            tell(meter.measure(), where)
        num_rounds, round_s = num_rounds + 1, time.perf_counter() - round_start
    on_progress(time_s, "")
    return Rates(
        measured_at=now(),
        torch_version=torch.__version__,
        cpu={num_threads: meter.rates() for num_threads, meter in cpu.items()},
        cpu_answers={num: found for num, meter in cpu.items() if (found := meter.answer_rates()) is not None},
        gpus={name: meter.rates() for name, meter in gpus.items()},
        disk=disk,
    )


def machine_meters(max_run_s: float) -> tuple[dict[int, ProcessorMeter], dict[str, ProcessorMeter]]:
    """Return meters of the CPU by number of threads, one and all cores, and of the GPUs by torch's names."""
    make = functools.partial(ProcessorMeter, max_run_s=max_run_s)
    threads = sorted({1, num_cores()})
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return (
        {num: make(torch.device("cpu"), num) for num in threads},
        {f"cuda:{index}": make(torch.device("cuda", index), num_cores(), answers={}) for index in gpus},
    )
