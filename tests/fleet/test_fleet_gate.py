import os
import signal

import pytest

from kleiber.fleet.gate import interrupt_gate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_gate(number):
    before = signal.getsignal(number)
    with interrupt_gate() as gate:
        os.kill(os.getpid(), number)
        reached = True
        with pytest.raises(KeyboardInterrupt), gate.open():
            reached = False
        assert reached
    assert signal.getsignal(number) is before


def test_a_signal_passes_the_open_gate_at_once():
    def interrupt():
        with gate.open():
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the signal did not arrive")

    with interrupt_gate() as gate, pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_signal_that_never_reached_the_gate_is_raised_after_the_block():
    def interrupt():
        with interrupt_gate() as gate:
            with gate.open():
                pass
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal was swallowed")

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_signal_is_raised_once():
    with interrupt_gate() as gate:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), gate.open():
            pass
        with gate.open():
            pass


def test_no_signal_no_interrupt():
    with interrupt_gate() as gate, gate.open():
        pass
