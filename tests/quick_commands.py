"""The installed commands as processes of their own that need not import anything.

A page of the documentation runs a dozen commands, and each would import torch for seconds. Tests that are about what
commands do, and not about how they start or are stopped, take the fixture ``quick``. As a program this is the process
that commands are forked off: what one had to import, the next one has. It computes nothing itself, so that nothing is
running in it that a fork would break.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import select
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("ascfeat", "ascmodels")
PACKAGES = ("asccli", "ascfeat", "ascmodels", "ascschemas")
CLIENT = """#!{python} -IS
import json, os, resource, socket, sys
mask = os.umask(0)
os.umask(mask)
limits = [[n, *resource.getrlimit(n)] for n in {limits}]
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
said = json.dumps([{command!r}, sys.argv[1:], os.getcwd(), dict(os.environ), mask, limits]).encode()
socket.send_fds(server, [len(said).to_bytes(8, "big")], [0, 1, 2])
server.sendall(said)
sys.exit(int.from_bytes(server.recv(1) or bytes([70]), "big"))
"""
"""A command as it stands on PATH: hands over what a process inherits, and waits for the status."""
LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
"""What `ulimit` can have limited."""


@dataclass(frozen=True)
class Asked:
    """What a client hands over."""

    command: str
    words: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    limits: list[list[int]]


@contextlib.contextmanager
def quick_commands(folder: Path) -> Iterator[Path]:
    """A folder to be put first on PATH; its commands are gone afterwards."""
    here, programs = folder / "server", folder / "bin"
    programs.mkdir(parents=True)
    for command in COMMANDS:
        program = programs / command
        program.write_text(CLIENT.format(python=sys.executable, socket=str(here), command=command, limits=LIMITS))
        program.chmod(0o755)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, __file__, str(here)], stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield programs


def serve(place: Path) -> None:
    """Fork a command off for each that asks, until the input ends: with whoever started this, killed or not."""
    learn(m.name for p in PACKAGES for m in pkgutil.walk_packages(importlib.import_module(p).__path__, f"{p}."))
    news = place.with_suffix(".news")
    news.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            client, _ = server.accept()
            for file in news.glob("*.json"):
                learn(json.loads(file.read_text()))
                file.unlink()
            threads = len([*Path("/proc/self/task").iterdir()])
            assert threads == 1, "a library has started a thread, which a fork would lack"
            if not os.fork():
                server.close()
                answer(client, news)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def learn(names: Iterator[str] | list[str]) -> None:
    """Import modules, as far as they can be."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def answer(client: socket.socket, news: Path) -> None:
    """Run what a client asks for in a process of its own, and tell the client its exit status."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as stream:
        asked = Asked(*json.loads(stream.read(int.from_bytes(size, "big"))))
    process = os.fork()
    if not process:
        client.close()
        become(asked, streams, news)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    client.sendall(bytes([status % 256]))
    os._exit(0)


def become(asked: Asked, streams: list[int], news: Path) -> None:
    """Be the command, to its end."""
    before = {*sys.modules}
    for number, handle in enumerate(streams):
        os.dup2(handle, number)
    os.chdir(asked.folder)
    os.umask(asked.umask)
    for number, *limit in asked.limits:
        resource.setrlimit(number, tuple(limit))
    os.environ.clear()
    os.environ.update(asked.environment)
    sys.argv = [asked.command, *asked.words]
    sys.path[:0] = filter(None, asked.environment.get("PYTHONPATH", "").split(os.pathsep))
    importlib.invalidate_caches()
    status: object = 1
    try:
        importlib.import_module(f"asccli.{asked.command}").main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        learnt = news / f"{os.getpid()}"
        learnt.write_text(json.dumps(sorted({*sys.modules} - before)))
        learnt.rename(learnt.with_suffix(".json"))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
