"""What Ctrl-C does, before, during and after training."""

import os
import signal

import pytest

from sb3_dream.stopping import StopSignal


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: signal.Signals) -> None:
    with StopSignal() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert stop.received


def test_training_ends_a_step_at_the_first_signal_and_breaks_off_at_the_second() -> None:
    with StopSignal() as stop:
        with stop.patiently():
            press_ctrl_c()
            assert stop.received
            with pytest.raises(KeyboardInterrupt):
                press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_saving_is_never_broken_off() -> None:
    with StopSignal() as stop:
        with stop.ignored():
            press_ctrl_c()
            press_ctrl_c()
        assert stop.received


def test_the_signals_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignal():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
