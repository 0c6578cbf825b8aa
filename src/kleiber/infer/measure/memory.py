"""Load time and peak memory of an engine with a model, in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from kleiber.errors import KleiberError
from kleiber.infer.measure.opening import Opening
from kleiber.train.measure import MemoryMeter

__all__ = ["Fresh", "fresh_process", "main", "peak_memory_bytes"]

_TIMEOUT_S = 600


@dataclass(frozen=True)
class Fresh:
    """What a process saw that opened a model and made one call on one sample."""

    load_s: float
    """To open it, when the packages of the engine were imported."""
    peak_memory_bytes: int
    """Above a process that holds the engine alone."""


def peak_memory_bytes(opening: Opening) -> int:
    """Return the most that opening a model and one call on one sample take, above a process that holds the engine alone.

    Raises:
        KleiberError: The process failed; its last words are in the message.
    """
    return fresh_process(opening).peak_memory_bytes


def fresh_process(opening: Opening) -> Fresh:
    """Open a model in a process of its own and make one call on one sample.

    Raises:
        KleiberError: The process failed; its last words are in the message.
    """
    # It finds the function where this process would, in a script's own folder too.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "kleiber.infer.measure.memory"],
        input=opening.model_dump_json(),
        capture_output=True,
        text=True,
        env=environment,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if ran.returncode:
        said = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise KleiberError(f"the memory of {opening.function} cannot be measured: {said}")
    return Fresh(**json.loads(ran.stdout.splitlines()[-1]))


def main() -> None:
    """Read an opening from stdin, write what was seen to stdout."""
    opening = Opening.of(json.loads(sys.stdin.read()), "stdin", KleiberError)
    for package in (*opening.packages, opening.function.partition(":")[0]):
        importlib.import_module(package)
    meter = MemoryMeter()
    start = time.perf_counter()
    work = opening.open()
    load_s = time.perf_counter() - start
    work.turn(1)(1)
    sys.stdout.write(f"{json.dumps(asdict(Fresh(load_s, meter.peak_bytes())))}\n")


if __name__ == "__main__":
    main()
