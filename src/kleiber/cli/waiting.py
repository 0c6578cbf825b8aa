"""How long torch's threads spin before they sleep, settled before torch is loaded."""

from __future__ import annotations

from collections.abc import MutableMapping

__all__ = ["let_threads_sleep"]

_SPIN_COUNT = "2000"
"""Turns that libgomp's threads wait busily for each other; its own some hundred thousand cost all the time that a neighbour needs."""
_ASKED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Have OpenMP's threads sleep early, unless the environment says how they wait.

    On cores that are free a step takes as long as before; beside another busy process one of two threads is 10 to 30 times
    as fast (docs/log.md, "threads that sleep").
    """
    if not any(name in environment for name in _ASKED):
        environment["GOMP_SPINCOUNT"] = _SPIN_COUNT
