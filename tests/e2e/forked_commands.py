"""Run the installed commands as real processes that need not import anything, in a world of mounts of their own.

Tests use :class:`World`. As a program it is what forks the commands off:

usage: forked_commands.py WARM…   runs ``ascfeat WARM…`` once to know what is imported, then answers lines of JSON

``{"run": [words], "log": path, "env": {…}, "user": number}`` forks a process that is the command and answers its
number; ``{"wait": number}`` answers its exit status, of a killed one minus the signal; ``{"shell": text}`` runs a line
in this world, and answers status and output.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import weightless

from asccli.ascfeat import ascfeat
from asccli.output import run


@dataclass
class Command:
    """A command under way."""

    process: int
    log: Path

    @property
    def hold(self) -> Path:
        """A file: while it is there, a command that was started to be held does not come to its end."""
        return _hold_of(self.log)

    @property
    def said(self) -> str:
        return self.log.read_text()


HANGS_SECONDS = 120
"""A command that takes longer hangs."""


class World:
    """Commands as processes, in a world where mounts come and go without anybody else's seeing it."""

    def __init__(self, folder: Path, warm: Sequence[str]) -> None:
        self.folder, self.count = folder, 0
        program = [sys.executable, __file__, *warm]
        apart = _apart()
        self.mounts, self.why = isinstance(apart, list), str(apart)
        self.users = self.mounts and "--user" not in apart
        self.server = subprocess.Popen(
            [*(apart if isinstance(apart, list) else []), *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "ASC_MODULES": str(folder / "modules.json")},
        )  # fmt: skip
        assert self.server.stdout.readline() == "ready\n"

    def close(self) -> None:
        """End it, and with it all that is mounted there."""
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()

    def ask(self, **question: object) -> object:
        self.server.stdin.write(json.dumps(question) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, *words: object, user: int | None = None, held: bool = False, **env: str) -> Command:
        """Start ``ascfeat`` with some words.

        Held, with a weightless recipe, it gets half way and waits there until :meth:`end` is called: whatever is done
        to it meets it at work, though this process may get no time for a while.
        """
        self.count += 1
        log = self.folder / f"log-{self.count}.txt"
        log.touch(mode=0o666)
        log.chmod(0o666)
        if held:
            _hold_of(log).touch()
            env[weightless.HOLD] = str(_hold_of(log))
        return Command(self.ask(run=[str(w) for w in words], log=str(log), env=env, user=user), log)

    def end(self, command: Command) -> tuple[int, str]:
        """Exit status of a command, and all that it said; it must come to its end."""
        command.hold.unlink(missing_ok=True)
        until(lambda: _ended(command.process))
        return self.ask(wait=command.process), command.said

    def run(self, *words: object, user: int | None = None, **env: str) -> tuple[int, str]:
        return self.end(self.start(*words, user=user, **env))

    def shell(self, text: str) -> str:
        """Run a line of shell there; it must succeed."""
        status, said = self.ask(shell=text)
        assert status == 0, said
        return said

    def seen(self, path: Path) -> Path:
        """A path as it is there."""
        return Path(f"/proc/{self.server.pid}/root{path}")


def _hold_of(log: Path) -> Path:
    return log.with_suffix(".hold")


def _apart() -> list[str] | str:
    """What gives a process mounts of its own, or why nothing does."""
    why = ""
    for words in (
        ["unshare", "--mount", "--propagation", "private"],
        ["unshare", "--user", "--map-root-user", "--mount"],
    ):
        try:
            done = subprocess.run([*words, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, text=True)
        except FileNotFoundError:
            return "unshare is not installed"
        if done.returncode == 0:
            return words
        why = done.stderr.strip()
    return f"this machine lets nobody mount: {why}"


def _ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(there: Callable[[], object]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + HANGS_SECONDS
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def fork(words: list[str], log: str, env: dict[str, str], user: int | None, modules: str = "") -> int:
    """Start a command; nothing that a fork would break is ever used here."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.environ.update(env)
    status = 1
    try:
        run(ascfeat, words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        if modules:
            Path(modules).write_text(json.dumps(sorted({*sys.modules} - {"__main__"})))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: int) -> int:
    """Exit status of a process; of a killed one minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def answer(asked: dict[str, object]) -> object:
    """Do what a line asks for."""
    if "run" in asked:
        return fork(asked["run"], asked["log"], asked.get("env", {}), asked.get("user"))
    if "wait" in asked:
        return wait(asked["wait"])
    done = subprocess.run(["sh", "-ec", asked["shell"]], capture_output=True, text=True, check=False)
    return [done.returncode, done.stdout + done.stderr]


def main() -> None:
    """Warm up, and answer until the input ends."""
    modules = os.environ["ASC_MODULES"]
    status = wait(fork(sys.argv[1:], f"{modules}.log", {}, None, modules))
    if status:
        sys.exit(f"warming up failed: {Path(f'{modules}.log').read_text()}")
    for name in json.loads(Path(modules).read_text()):
        with suppress(Exception):
            importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
