"""What a person sees: consoles, tables, progress on a terminal and plain lines when piped, errors in four parts."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ascschemas.problems import AscError, ProcessError

PLAIN_LINE_SECONDS = 10.0
"""How often a piped job says where it is."""
READING = ("check", "diff", "ensemble", "evaluate", "info", "ls", "papers", "predict", "recipes", "show", "verify")
"""Commands that leave nothing half done."""
STOPPED = "Stopped. What is finished is kept; the same command goes on from there."
STOPPED_READING = "Stopped."


def console() -> Console:
    """The console for results: standard output; 120 columns when piped, so that no line is folded for nobody."""
    return _console(stderr=False)


def err_console() -> Console:
    """The console for progress and errors: standard error."""
    return _console(stderr=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table without decoration; columns whose values are all numbers stand to the right."""
    drawn = Table(title=title or None, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(value)) for value in row))
    return drawn


@contextmanager
def progress_reporter(total: int, unit: str = "clips", then: str = "") -> Iterator[Callable[[int], None]]:
    """Yield ``report(done)``: a bar with rate and time left on a terminal, a line now and then when piped.

    ``then`` is what goes on when all is counted, in a word.
    """
    err = err_console()
    if not total:
        yield lambda done: None
    elif err.is_terminal:
        with _bar(err, unit) as bar, _above(err):
            task = bar.add_task("", total=total, now="")
            yield lambda done: bar.update(task, completed=done, now=then if done >= total else "")
            bar.update(task, completed=total, now="")
    else:
        yield _plain_lines(total, unit, then)


def say(line: str, *, err: bool = False) -> None:
    """A line that is never folded; on a terminal above the bar that is drawn there."""
    there = err_console() if err else console()
    if _BARS and there.is_terminal:
        there = _BARS[-1]
    there.print(Text(line), soft_wrap=True)


_BARS: list[Console] = []
"""The console that draws a bar now, which alone can write above it."""


@contextmanager
def _above(bar: Console) -> Iterator[None]:
    _BARS.append(bar)
    try:
        yield
    finally:
        _BARS.remove(bar)


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Run a command as a program: its errors are text on standard error and an exit status, never a traceback."""
    try:
        sys.exit(command.main(arguments, standalone_mode=False) or 0)
    except AscError as error:
        if leads() or isinstance(error, ProcessError):
            err_console().print(Text(error.text()), soft_wrap=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        err_console().print(STOPPED_READING if _only_reads(arguments) else STOPPED)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except (ImportError, MemoryError, SystemError) as error:  # under a limit of memory, a library may not even load
        why = str(error) or type(error).__name__
        err_console().print(Text(f"Something does not load, or there is not enough memory: {why}."), soft_wrap=True)
        err_console().print("Raise the limit of memory (`ulimit -v`), if there is one, or install the package anew.")
        sys.exit(2)
    except OSError as error:
        err_console().print(Text(f"{error.filename or 'A file'}: {error.strerror or error}."), soft_wrap=True)
        err_console().print("Check the path, its rights and the space there; then run the same command again.")
        sys.exit(2)


def leads() -> bool:
    """Whether this process speaks, of those that ``torchrun`` has started on its machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _only_reads(arguments: Sequence[str] | None) -> bool:
    words = sys.argv[1:] if arguments is None else arguments
    return next((w for w in words if not w.startswith("-")), "") in READING


def duration(seconds: float) -> str:
    """A duration in words a person reads at a glance.

    Examples
    --------
    >>> duration(42.4), duration(200), duration(7300)
    ('42 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, thing: str) -> str:
    """A number of things.

    Examples
    --------
    >>> count(1, "problem"), count(2, "problem")
    ('1 problem', '2 problems')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"


def size(count: float) -> str:
    """A number of bytes in decimal units.

    Examples
    --------
    >>> size(883_000), size(13_700_000_000)
    ('883 kB', '13.7 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=cast(TextIO, _Unpadded(stream)), width=120, highlight=False)


class _Unpadded(io.TextIOBase):
    """A stream whose lines end with their last word: tables are padded, and a pipe has no width to pad to."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write without the blanks before line ends."""
        return self.stream.write(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class _Rate(ProgressColumn):
    """How many a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The current rate as text."""
        speed = task.completed / task.elapsed if task.elapsed else None  # of all so far: the last second says little
        return Text(f"{speed:.1f} {self.unit}/s" if speed else f"- {self.unit}/s")


def _bar(err: Console, unit: str) -> Progress:
    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), _Rate(unit), TextColumn("left"), TimeRemainingColumn())
    now = TextColumn("{task.fields[now]}")
    return Progress(*columns, now, console=err, transient=False, redirect_stdout=False, redirect_stderr=False)


def _plain_lines(total: int, unit: str, then: str) -> Callable[[int], None]:
    start, last = time.monotonic(), [0.0]

    def report(done: int) -> None:
        spent = time.monotonic() - start
        if done < total and spent - last[0] < PLAIN_LINE_SECONDS:
            return
        last[0] = spent
        rate = done / spent if spent > 0 else 0.0
        left = f", {duration((total - done) / rate)} left" if 0 < done < total and rate else ""
        now = f"; {then}" if then and done >= total else ""
        err_console().print(f"{done}/{total} {unit}, {rate:.1f} {unit}/s{left}{now}", soft_wrap=True)

    return report
