"""Jobs for the executor's tests: a spawned process must be able to import them."""

import os
import signal

from kleiber.errors import DataError


def square(value, report):
    report(f"squaring {value}")
    return value * value, os.getpid()


def fail(report):
    raise DataError("no text.", got=3, hint="some text")


def die(report):
    os.kill(os.getpid(), signal.SIGKILL)


def crash(report):
    raise ZeroDivisionError("by hand")
