"""The examples of README and docs are true: docs/how-to/contribute.md says how they are marked."""

import functools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from quick_commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(?:```|<!-- )(\w+)([^\n>]*)\n(.*?)^(?:```|-->)$", re.DOTALL | re.MULTILINE)
LANGUAGES = ("console", "python")


@dataclass(frozen=True)
class Block:
    """One example: a console session or a piece of Python."""

    language: str
    runs: bool
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """One command of a console session and what it should print."""

    command: str
    expected: str


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(m[1], ".norun" not in m[2], m[3], text[: m.start()].count("\n") + 1)
        for m in FENCE.finditer(text)
        if m[1] in LANGUAGES
    ]


def steps(session):
    """Split a session at its ``$`` lines; a line that ends in a backslash goes on."""
    found = re.split(r"^\$ ((?:.*\\\n)*.*)$\n?", session, flags=re.MULTILINE)
    return [Step(command, expected) for command, expected in zip(found[1::2], found[2::2], strict=True)]


def pages_with(runs):
    return [page for page in PAGES if any(block.runs is runs for block in blocks(page))]


def name(page):
    return page.relative_to(ROOT).as_posix()


def matches(expected, found):
    """Compare word by word; ``...`` stands for anything."""
    pattern = re.escape(" ".join(expected.split())).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, " ".join(found.split())) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with(runs=True), ids=name)
def test_examples_are_true(page, scenes, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCENES", str(scenes))
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if not block.runs:
            continue
        where = f"{name(page)}:{block.line}"
        if block.language == "console":
            run_session(block.text, where)
        else:
            exec(compile(block.text, where, "exec"), namespace)


def run_session(session, where):
    for step in steps(session):
        done = subprocess.run(
            ["bash", "-c", step.command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, f"{where}: `{step.command}` failed:\n{done.stdout}"
        if step.expected.strip():
            assert matches(step.expected, done.stdout), f"{where}: `{step.command}` printed:\n{done.stdout}"


@pytest.mark.parametrize("page", pages_with(runs=False), ids=name)
def test_examples_that_are_not_run_name_what_exists(page, quick):
    wrong = [
        f"{name(page)}:{block.line}: {problem}"
        for block in blocks(page)
        if block.language == "console" and not block.runs
        for step in steps(block.text)
        for problem in problems(step.command)
    ]
    assert not wrong


def problems(command):
    """What a shell line says that our commands and the Makefile do not know."""
    words = command.split("#")[0].replace("\\\n", " ").split()
    if words[:1] == ["make"]:
        return [f"make {w} does not exist" for w in words[1:] if "=" not in w and f"\n{w}:" not in makefile()]
    if words[:1] and words[0] in COMMANDS:
        deepest, text = deepest_help(tuple(words))
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        return [f"`{deepest} --help` knows no {o}" for o in sorted(options) if not re.search(rf"{o}\b", text)]
    return []


def deepest_help(words):
    """The help of the innermost sub-command that a line names."""
    command, text = words[:1], help_of(words[:1])
    while len(words) > len(command) and "Commands:" in text:
        command = words[: len(command) + 1]
        text = help_of(command)
    return " ".join(command), text


@functools.cache
def help_of(command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"`{' '.join(command)} --help` failed:\n{done.stderr}"
    return done.stdout


@functools.cache
def makefile():
    return (ROOT / "Makefile").read_text(encoding="utf-8")
