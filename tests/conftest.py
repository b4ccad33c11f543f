"""What every test shares: the installed commands, one thread a process, no display, and the demo dataset."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import servers
from hypothesis import settings
from quick_commands import quick_commands

from asccli.memory import keep_freed_memory

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the tests themselves run in parallel
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ASC_CACHE"] = tempfile.mkdtemp(prefix="ascfeat-tests-")  # digests of recordings are not a person's own
keep_freed_memory()  # as the commands do: fresh memory can cost more than what is computed in it
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

ROOT = Path(__file__).parents[1]
Server = TypeVar("Server")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture
def ascmodels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str, str, str]]:
    """Run the command in this process: status, output, errors."""
    from asccli.ascmodels import main

    def run(*words: object) -> tuple[int | str, str, str]:
        monkeypatch.setattr(sys, "argv", ["ascmodels", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset as a person gets it; tests read it and never write into it."""
    folder = tmp_path_factory.mktemp("demo") / "scenes"
    subprocess.run(["ascfeat", "demo-data", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def quick_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the commands that import nothing a second time."""
    with quick_commands(tmp_path_factory.mktemp("quick")) as folder:
        yield folder


@pytest.fixture
def quick(quick_programs: Path) -> Iterator[None]:
    """``ascfeat`` and ``ascmodels`` in new processes without their imports; not for commands that a test signals."""
    with _first_on_path(quick_programs):
        yield


@pytest.fixture(scope="module")
def all_quick(quick_programs: Path) -> Iterator[None]:
    """The same from here to the end of a file of tests."""
    with _first_on_path(quick_programs):
        yield


@pytest.fixture(scope="session")
def seaweed() -> Iterator[servers.ObjectStore]:
    """A real object store, one for each worker; whoever stops it starts it again."""
    with _started(servers.object_store()) as server:
        yield server


@pytest.fixture(scope="session")
def nginx() -> Iterator[servers.WebServer]:
    """A real web server, one for each worker."""
    with _started(servers.web_server()) as server:
        yield server


@pytest.fixture
def bucket(seaweed: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty prefix of a bucket, in an environment that finds it and gives up soon."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in {**seaweed.environment(), "ASCFEAT_NETWORK_SECONDS": "10"}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{servers.SHARED}/{secrets.token_hex(6)}"


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as here:
        here.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@contextmanager
def _started(server: AbstractContextManager[Server]) -> Iterator[Server]:
    """Start a server, or skip with the reason; where everything must run, a reason is a failure."""
    with ExitStack() as until_the_end:
        try:
            started = until_the_end.enter_context(server)
        except servers.CannotStart as reason:
            if os.environ.get("ASC_TEST_SERVERS") == "required":
                raise
            pytest.skip(str(reason))
        yield started
