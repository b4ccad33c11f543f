"""Is output readable on a terminal and plain when piped, and do errors end with a status?"""

import io
import sys

import click
import pytest

from asccli import output
from ascschemas.problems import Difference, ProcessError, RunError, StoreMismatch


def test_plain_progress_says_rate_and_time_left(capsys, monkeypatch) -> None:
    clock = iter([0.0, 1.0, 12.0, 13.0, 50.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with output.progress_reporter(100) as report:
        for done in (1, 20, 21, 100):
            report(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["20/100 clips, 1.7 clips/s, 48 s left", "100/100 clips, 2.0 clips/s"]


def test_a_line_says_what_goes_on_when_all_is_counted(capsys) -> None:
    with output.progress_reporter(3, then="sealing") as report:
        report(3)
    assert capsys.readouterr().err.endswith("clips/s; sealing\n")


def test_a_terminal_gets_a_bar(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress_reporter(3, unit="recordings") as report:
        for done in range(1, 4):
            report(done)
    assert "3/3" in terminal.getvalue()
    assert "recordings/s" in terminal.getvalue()
    assert "left" in terminal.getvalue()


def _status(body) -> int:
    with pytest.raises(SystemExit) as caught:
        output.run(click.Command("x", callback=body), [])
    return caught.value.code


def test_an_error_is_four_parts_and_status_two(capsys) -> None:
    def fail() -> None:
        different = Difference(field="n_mels", expected="256", found="128")
        raise StoreMismatch("x.zarr is another store.", differences=[different], todo="Use another folder.")

    assert _status(fail) == 2
    assert capsys.readouterr().err.splitlines() == [
        "x.zarr is another store.",
        "  n_mels  expected 256  found 128",
        "Use another folder.",
    ]


def test_of_processes_that_train_together_one_a_machine_says_what_all_have_met(capsys, monkeypatch) -> None:
    def fail(error: type[RunError]) -> None:
        raise error("It cannot go on.", todo="Mend it.")

    for rank, said in (("0", "It cannot go on.\nMend it.\n"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert _status(lambda: fail(RunError)) == 2
        assert capsys.readouterr().err == said
    assert _status(lambda: fail(ProcessError)) == 2
    assert capsys.readouterr().err.startswith("It cannot go on.")


def test_an_interruption_says_that_nothing_is_lost(capsys) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert _status(interrupted) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_status_is_the_commands_own() -> None:
    assert _status(lambda: None) == 0
    assert _status(lambda: 1) == 1


def test_tables_keep_markup_as_text(capsys) -> None:
    output.console().print(output.table("", ["file"], [("[red]a[/red].wav",)]))
    assert "[red]a[/red].wav" in capsys.readouterr().out
