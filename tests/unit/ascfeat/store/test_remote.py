"""Are servers found the standard ways, and does everything that can be wrong with them end soon, in clear words?"""

import http.server
import json
import multiprocessing
import os
import pickle
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading

import numpy as np
import pytest
import servers

from ascfeat.store import contents, open_store
from ascfeat.store.listing import listing
from ascfeat.store.places import PlaceError, open_place
from ascschemas.problems import StoreError

NEVER = "\n\nDebug source", "Generic {", "Traceback", "RetryError"
"""What obstore's errors hold and no person should see."""


def refusal(act) -> str:
    """What a person is told."""
    with pytest.raises(PlaceError) as told:
        act()
    text = str(told.value)
    assert not [word for word in NEVER if word in text]
    assert len(text.splitlines()) == 2, text
    return text


def every_way(place) -> dict[str, str]:
    """What a person is told, whatever is tried."""
    out = np.zeros(4, np.uint8)
    ways = {
        "read": lambda: place.read("a"),
        "tail": lambda: place.tail("a", 2),
        "spans": lambda: list(place.spans("a", [(0, 2)], [out])),
        "exists": lambda: place.exists("a"),
        "modified": lambda: place.modified("a"),
        "files": lambda: list(place.files()),
        "folders": place.folders,
        "write": lambda: place.write("a", [b"x"]),
        "create": lambda: place.create("a", b"x"),
        "remove": lambda: place.remove("a"),
    }
    return {way: refusal(act) for way, act in ways.items()}


@pytest.fixture
def hasty(monkeypatch):
    """Gives up soon."""
    monkeypatch.setenv("ASCFEAT_NETWORK_SECONDS", "0.5")


# where they are, and who asks


def test_endpoint_and_credentials_from_the_files_of_a_profile(seaweed, bucket, monkeypatch, tmp_path):
    open_place(bucket).write("a", [b"1"])
    for name in seaweed.environment():
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {seaweed.endpoint}\n")
    keys = f"[lab]\naws_access_key_id = {servers.KEY}\naws_secret_access_key = {servers.SECRET}\n"
    (tmp_path / "credentials").write_text(keys)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert open_place(bucket).read("a") == b"1"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "The config profile (nobody) could not be found" in refusal(lambda: open_place(bucket).read("a"))


def test_the_endpoint_for_s3_goes_before_the_one_for_all(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert list(open_place(bucket).files()) == []


def test_public_buckets_are_read_without_credentials(bucket, seaweed, monkeypatch):
    open_place(f"s3://{servers.PUBLIC}/x").write("a", [b"1"])
    open_place(bucket).write("a", [b"1"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    public = open_place(f"s3://{servers.PUBLIC}/x")
    assert (public.read("a"), list(public.files())) == (b"1", ["a"])
    assert "AccessDenied" in refusal(lambda: public.write("a", [b"2"]))
    assert "AccessDenied" in refusal(lambda: open_place(bucket).read("a"))


def test_who_may_only_read_reads(bucket, seaweed, monkeypatch):
    open_place(bucket).write("a", [b"1"])
    for name, value in seaweed.environment(servers.READER_KEY, servers.READER_SECRET).items():
        monkeypatch.setenv(name, value)
    assert open_place(bucket).read("a") == b"1"
    for act in (lambda p: p.write("a", [b"2"]), lambda p: p.create("b", b"2")):
        assert "rights" in refusal(lambda act=act: act(open_place(bucket)))


@pytest.mark.parametrize(("key", "secret"), [(servers.KEY, "wrong"), ("nobody", "wrong")])
def test_wrong_credentials_are_said_to_be_wrong(bucket, seaweed, monkeypatch, key, secret):
    for name, value in seaweed.environment(key, secret).items():
        monkeypatch.setenv(name, value)
    for text in every_way(open_place(bucket)).values():
        assert "cannot be" in text
        assert "Check the credentials" in text


def test_a_bucket_that_does_not_exist_is_named(bucket):
    for way, text in every_way(open_place("s3://there-is-none/x")).items():
        assert "s3://there-is-none" in text, way
        assert "Create the bucket, or correct its name" in text, way


@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "1e9"])
def test_a_patience_of_no_sensible_length_is_refused(bucket, monkeypatch, value):
    monkeypatch.setenv("ASCFEAT_NETWORK_SECONDS", value)
    assert "ASCFEAT_NETWORK_SECONDS" in refusal(lambda: open_place(bucket).read("a"))


def test_a_server_that_is_down_is_no_damaged_store(bucket, monkeypatch, hasty):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(PlaceError) as told:
        open_store(f"{bucket}/x.zarr")
    assert isinstance(told.value, OSError)
    assert not isinstance(told.value, StoreError)
    assert told.value.todo == str(told.value).splitlines()[1]


def test_a_bundle_of_certificates_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "AWS_CA_BUNDLE names" in refusal(lambda: open_place("https://host/x").read("a"))


# servers that are not well


@pytest.mark.slow
def test_a_server_that_is_down_is_given_up(bucket, monkeypatch, hasty):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for text in every_way(open_place(bucket)).values():
        assert "no connection to the server (Connection refused)" in text
        assert "goes on from there" in text
    web = open_place("http://127.0.0.1:1/x")
    assert "Connection refused" in refusal(lambda: web.read("a"))
    assert "Connection refused" in refusal(web.folders)


def test_a_server_that_nobody_knows_is_given_up(bucket, monkeypatch, hasty):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")
    assert "name is not known" in refusal(lambda: open_place(bucket).read("a"))


def test_a_server_that_says_nothing_is_given_up(bucket, monkeypatch, hasty):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "did not answer in time" in refusal(lambda: open_place(bucket).read("a"))
        assert "did not answer in time" in refusal(lambda: open_place(bucket).write("a", [b"x"]))


def test_a_server_in_trouble_is_given_up(nginx, hasty):
    broken = open_place(nginx.url.replace("/plain", "/broken"))
    assert "the server answers 503" in refusal(lambda: broken.read("a"))
    assert "the server answers 503" in refusal(broken.folders)


def test_a_server_without_rights_says_so(nginx):
    closed = open_place(nginx.url.replace("/plain", "/secret"))
    assert "401" in refusal(lambda: closed.read("a"))
    assert "401" in refusal(closed.folders)


@pytest.mark.slow
def test_a_place_opened_before_the_server_stopped_serves_again(bucket, seaweed, hasty):
    place = open_place(bucket)
    place.write("a", [b"1"])
    seaweed.kill()
    try:
        refusal(lambda: place.read("a"))
    finally:
        seaweed.start()
    assert place.read("a") == b"1"


class _Dropping(socketserver.StreamRequestHandler):
    """Passes one connection on, and drops the answer to the first writing request, which the server has carried out."""

    def handle(self):
        request = b""
        while b"\r\n\r\n" not in request:
            request += self.request.recv(1 << 16)
        head, _, body = request.partition(b"\r\n\r\n")
        size = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0)
        while len(body) < size:
            body += self.request.recv(1 << 16)
        head = b"\r\n".join(h for h in head.split(b"\r\n") if not h.lower().startswith(b"connection"))
        with socket.create_connection(self.server.to) as there:
            there.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = b""
            while piece := there.recv(1 << 16):
                answer += piece
        if head.startswith(b"PUT") and not self.server.dropped:
            self.server.dropped.append(answer.split(b"\r\n")[0])
            return
        self.request.sendall(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))


@pytest.fixture
def dropping(seaweed, bucket, monkeypatch):
    """A way to the object store on which the answer to the first write gets lost."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Dropping) as server:
        server.daemon_threads = True
        server.to, server.dropped = ("127.0.0.1", seaweed.ports[0]), []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # requests are signed for the host that they are sent to, and SeaweedFS takes the name from the request
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()


def test_who_created_knows_it_even_where_the_answer_was_lost(dropping, bucket):
    place = open_place(bucket)
    assert place.create("once", b"mine") is True
    assert dropping.dropped == [b"HTTP/1.1 200 OK"]
    assert place.create("once", b"mine") is False
    assert place.read("once") == b"mine"


def test_who_swapped_knows_it_even_where_the_answer_was_lost(dropping, bucket):
    place = open_place(bucket)
    dropping.dropped.append(b"not yet")
    tag = place.swap("lease", b"1", None)
    dropping.dropped.clear()
    again = place.swap("lease", b"2", tag)
    assert dropping.dropped == [b"HTTP/1.1 200 OK"]
    assert again == place.marked("lease").tag
    assert place.swap("lease", b"3", tag) is None
    assert place.read("lease") == b"2"


# compare and swap


def test_of_those_who_swap_one_version_one_does(bucket):
    place = open_place(bucket)
    tag = place.swap("lease", b"0", None)
    assert tag == place.marked("lease").tag
    assert place.swap("lease", b"0", None) is None
    told = [place.swap("lease", b"%d" % i, tag) for i in range(1, 5)]
    assert [bool(t) for t in told] == [True, False, False, False]
    assert place.marked("lease").data == b"1"
    assert place.swap("never", b"x", tag) is None
    assert not place.exists("never")


def test_the_servers_clock_is_asked_and_leaves_nothing(bucket):
    place = open_place(bucket)
    place.write("a", [b"1"])
    assert -1 <= place.clock("probe") - place.modified("a") < 60
    assert list(place.files()) == ["a"]


def test_parts_of_a_killed_upload_are_swept(bucket, seaweed):
    place, client = open_place(bucket), seaweed.client()
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    client.create_multipart_upload(Bucket=name, Key=f"{prefix}/x.zarr/a")
    client.create_multipart_upload(Bucket=name, Key=f"{prefix}/y.zarr/a")
    (place / "x.zarr").sweep()
    left = [u["Key"] for u in client.list_multipart_uploads(Bucket=name, Prefix=prefix).get("Uploads", ())]
    assert left == [f"{prefix}/y.zarr/a"]


def test_objects_that_stand_for_folders_are_no_files(bucket, seaweed):
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    seaweed.client().put_object(Bucket=name, Key=f"{prefix}/a/")
    open_place(bucket).write("a/b", [b"1"])
    assert list(open_place(bucket).files()) == ["a/b"]


# processes


def _read_in_a_child(place, answers):
    try:
        answers.put(place.read("a"))
    except PlaceError as error:
        answers.put(str(error))


def test_a_spawned_process_opens_the_place_anew(bucket):
    place = open_place(bucket)
    place.write("a", [b"1"])
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_child, args=(pickle.dumps(place), answers))
    child.start()
    assert answers.get(timeout=60) == b"1"
    child.join()


def _child(pickled, answers):
    _read_in_a_child(pickle.loads(pickled), answers)


def test_a_forked_process_is_told_instead_of_waiting_for_ever(bucket):
    """After a fork the threads that would answer are gone; in a program of its own, for pytest has threads."""
    code = f"""
import os, sys
from ascfeat.store.places import open_place
place = open_place({bucket!r})
place.write("a", [b"1"])
child = os.fork()
if not child:
    import signal; signal.alarm(20)
    for where in (place, open_place({bucket!r})):
        try:
            where.read("a")
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("ended with", status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("PlaceError") == 2
    assert "before this process was forked off" in done.stdout
    assert "ended with 0" in done.stdout


def test_a_process_forked_before_anything_was_opened_opens_it(bucket):
    open_place(bucket).write("a", [b"1"])
    code = f"""
import os
from ascfeat.store.places import open_place
place = open_place({bucket!r})
child = os.fork()
if not child:
    import signal; signal.alarm(60)
    assert place.read("a") == b"1"
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert place.read("a") == b"1"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# web servers


def test_a_server_without_listings_says_so(nginx):
    (nginx.files / "some" / "thing").mkdir(parents=True, exist_ok=True)
    place = open_place(f"{nginx.url}/some")
    for act in (place.folders, lambda: list(place.files())):
        text = refusal(act)
        assert "does not list" in text
        assert "autoindex on" in text


@pytest.mark.parametrize("kind", ["listed", "listed_json"])
def test_listings_of_nginx_are_read(nginx, kind):
    root = nginx.files / "lists"
    for key in ("a/ü x+%41&.txt", "b c/d", "top", ".hidden/x", 'q"uo<te/x'):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(key.encode())
    place = open_place(f"{getattr(nginx, kind)}/lists")
    assert place.folders() == sorted(["a", "b c", 'q"uo<te'])
    found = list(place.files())
    assert found == sorted(f for f in ["a/ü x+%41&.txt", "b c/d", "top", ".hidden/x", 'q"uo<te/x'] if f in found)
    assert {"a/ü x+%41&.txt", "b c/d", "top", 'q"uo<te/x'} <= {*found}
    assert [place.read(key) for key in found] == [key.encode() for key in found]
    with pytest.raises(FileNotFoundError):
        list(open_place(f"{getattr(nginx, kind)}/nowhere").files())


def quiet(folder):
    """Python's own web server, of a folder, without a word."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    return Quiet


@pytest.fixture
def encrypted(tmp_path):
    """A web server with a certificate of an authority that only this test knows: its URL, and the authority's file."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, which makes the certificates")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ours",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out asked.csr -subj /CN=localhost",
        "x509 -req -in asked.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    ):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_bytes(b"1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet(tmp_path / "files")) as server:
        server.handle_error = lambda *arguments: None  # a refused handshake is what is tested
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}", tmp_path / "ca.pem"
        server.shutdown()


def test_an_authority_of_ones_own_is_named_in_the_usual_variable(encrypted, monkeypatch, hasty):
    url, authority = encrypted
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    text = refusal(lambda: open_place(url).read("f"))
    assert "certificate is not accepted (UnknownIssuer)" in text
    assert "AWS_CA_BUNDLE" in text
    assert "certificate verify failed" in refusal(lambda: list(open_place(url).folders()))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    assert open_place(url).read("f") == b"1"
    assert list(open_place(url).files()) == ["f"]


def test_the_listing_of_another_server_is_read_and_its_files_without_ranges(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "f").write_bytes(b"0123456789")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet(tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = open_place(f"http://127.0.0.1:{server.server_address[1]}")
        assert place.folders() == ["a b"]
        assert list(place.files()) == ["a b/f"]
        out = np.zeros(4, np.uint8)
        assert [out[:3].tobytes() for _ in place.spans("a b/f", [(7, 10), (0, 3)], [out, out])] == [b"789", b"012"]
        assert place.tail("a b/f", 2) == b"89"
        with pytest.raises(EOFError):
            list(place.spans("a b/f", [(8, 12)], [out]))
        server.shutdown()


def test_what_is_no_listing_is_not_taken_for_one(nginx):
    for name, text in {"page": "<html><a href='x/'>x</a></html>", "data": '{"a": 1}'}.items():
        (nginx.files / "fake" / name).mkdir(parents=True, exist_ok=True)
        (nginx.files / "fake" / name / "index.html").write_text(text)
        assert "does not list" in refusal(lambda name=name: listing(f"{nginx.listed}/fake/{name}", seconds=5))


def test_a_listing_leads_nowhere_else(nginx):
    links = ["../", "/etc/", "http://other/x/", "?C=N;O=D", "a/b", "..%2F..%2Fx", "good/", "./fine", "%2e%2e/", "#x"]
    page = "<title>Index of /</title>" + "".join(f'<a href="{link}">x</a>' for link in links)
    (nginx.files / "trap").mkdir(exist_ok=True)
    (nginx.files / "trap" / "index.html").write_text(page)
    assert listing(f"{nginx.listed}/trap", seconds=5) == ["fine", "good/"]


def root_of(**arrays) -> bytes:
    return json.dumps({"consolidated_metadata": {"metadata": arrays}}).encode()


def array(shape, chunk):
    return {"node_type": "array", "shape": shape, "chunk_grid": {"configuration": {"chunk_shape": chunk}}}


def test_a_stores_files_are_told_from_its_metadata():
    root = root_of(x=array([5, 3], [2, 3]), ledger={"node_type": "group"}, **{"ledger/record": array([2], [1])})
    assert list(contents.files(root)) == [
        "ledger/zarr.json", "ledger/record/zarr.json", "ledger/record/c/0", "ledger/record/c/1",
        "x/zarr.json", "x/c/0/0", "x/c/1/0", "x/c/2/0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "root",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"consolidated_metadata": null}',
        root_of(x=array([10**12], [1])),
        root_of(x=array([10**7], [1]), y=array([10**7 + 1], [1])),
        root_of(x=array([5], [0])),
        root_of(x=array([-5], [1])),
        root_of(x=array([5, 5], [1])),
        root_of(x=array(["a"], [1])),
        root_of(x={"node_type": "array"}),
        root_of(x=3),
    ],
)
def test_metadata_of_no_store_are_refused(root, nginx):
    with pytest.raises(ValueError, match=r"zarr\.json|chunks|Expecting"):
        list(contents.files(root))
    (nginx.files / "bad.zarr").mkdir(exist_ok=True)
    (nginx.files / "bad.zarr" / "zarr.json").write_bytes(root)
    assert "cannot be told" in refusal(lambda: list(open_place(f"{nginx.url}/bad.zarr").files()))


def test_without_the_packages_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for url in ("s3://bucket/x", "http://host/x"):
        assert 'pip install "ascfeat[s3]"' in refusal(lambda url=url: open_place(url).read("a"))
