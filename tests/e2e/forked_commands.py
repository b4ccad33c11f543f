"""Run the installed commands as real processes that need not import anything, in a world of mounts of their own.

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
from contextlib import suppress
from pathlib import Path

from asccli.ascfeat import ascfeat
from asccli.output import run


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
