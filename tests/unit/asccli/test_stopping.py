"""A stop from outside is an exception, wherever it comes."""

import os
import signal
import sys
import time

import pytest

from asccli.stopping import Terminated, sigterm_raises


class Dying:
    """An object in whose last moments a signal comes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.001)  # where Python raises what the signal's handler raises


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_stop_that_comes_where_nothing_can_be_raised_is_raised_after_all(number, kind, capsys):
    going = Dying(number)
    with pytest.raises(kind), sigterm_raises():  # noqa: PT012  # the stop comes in the second line
        del going
        time.sleep(10)
    assert capsys.readouterr().err == ""


def test_what_was_there_before_is_there_again():
    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(Terminated), sigterm_raises():  # noqa: PT012  # as above
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
