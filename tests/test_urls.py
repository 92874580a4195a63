"""URLs as inputs and outputs: S3 through a server of its own that counts requests, memory:// and file:// beside it."""

import importlib.util
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

PAGE = 4  # names that the server lists in one answer, so that every listing has several
USER = "somebody-who-tests"  # the access key
NEGATIVE = ("filter", "-k", "-1", "--bias", "1", "-q")
ODD_NAMES = ["a b.png", "ä€😀.png", "a#b.png", "100%.png", "%41.png", "a?b.png", "a+b&c=d.png", "[1].png", "*.png"]
ODD_NAMES += ["{stem}.png", "a;b,c.png", "q'.png", "a:b.png", "$HOME.png", "~.png", "two..dots.png"]

# An S3 whose log is a line for each request. What it does depends on names: "forbidden" may not be touched, "vanished"
# is listed but not there, and "taken.filter.png" is written by somebody else just before one does it.
SERVER = """
import io, json, sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

class Quiet(WSGIRequestHandler):
    def log_request(self, *args): pass

moto, log, lock = DomainDispatcherApplication(create_backend_app), open(sys.argv[1], "a"), threading.Lock()

def answer(environ, start):
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode()
    if "HTTP_X_UNSEEN" in environ:
        return moto(environ, start)
    with lock:
        rest = environ["QUERY_STRING"], environ.get("HTTP_RANGE", ""), environ.get("HTTP_AUTHORIZATION", "")
        print(json.dumps([method, path, *rest]), file=log, flush=True)
    status, code = ("403 Forbidden", "AccessDenied") if "forbidden" in path else ("", "")
    if "vanished" in path and method in ("GET", "HEAD"):
        status, code = "404 Not Found", "NoSuchKey"
    if status:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        words = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode() if method != "HEAD" else b""
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(words)))])
        return [words]
    if path.endswith("taken.filter.png") and method == "PUT":
        data = b"somebody else's"
        other = {**environ, "wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))}
        for header in [one for one in other if one.startswith(("HTTP_X_AMZ", "HTTP_IF", "HTTP_CONTENT_ENCODING"))]:
            del other[header]
        moto(other, lambda *args: lambda data: None)
    return moto(environ, start)

server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
print(server.port, flush=True)
server.serve_forever()
"""

# The program, forked from a process that has imported it and the libraries already
WARM = """
import json, os, signal, sys
import numpy, s3fs, aiobotocore.session
import convcli.cli.apply, convcli.cli.filter, convcli.produce
from convcli.__main__ import main
for line in sys.stdin:
    args, folder, env, files = json.loads(line)
    process = os.fork()
    if not process:
        for number, file in enumerate(files):
            os.dup2(os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(folder)
        os.environ |= env
        sys.argv, sys.stdin = ["convcli", *args], open(0, closefd=False)
        signal.alarm(15)
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""

# A scheduler and a worker
CLUSTER = """
import sys, distributed
if __name__ == "__main__":
    with distributed.LocalCluster(1, 1, processes=False, protocol="tcp", dashboard_address=":0") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Done(NamedTuple):
    """What a call of the program left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


class Request(NamedTuple):
    """What was asked of the server. ``key`` is empty where the bucket itself was asked."""

    method: str
    key: str
    query: str
    part: str  # of the object, where not all of it was asked for
    authorization: str


class Server(NamedTuple):
    """Where it listens, and its log."""

    address: str
    log: Path

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.address, **ALONE}


ALONE = {
    "AWS_ACCESS_KEY_ID": USER,
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
    "NO_PROXY": "*",
    "FSSPEC_S3": json.dumps({"default_block_size": 5 * 2**20}),  # what is written piece by piece is so in small ones
}


class Bucket(NamedTuple):
    """A bucket of the server, filled and looked at past its log."""

    name: str
    server: Server

    def url(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"

    def ask(self, method: str, key: str = "", data: bytes | None = None) -> bytes:
        address = f"{self.server.address}/{self.name}{'/' if '?' not in key else ''}{key}"
        headers = {"X-Unseen": "1", "Content-Type": "application/octet-stream", "X-Amz-Acl": "public-read"}
        headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
        request = urllib.request.Request(address, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def put(self, key: str, data: bytes) -> str:
        """Store an object; its URL."""
        self.ask("PUT", quote(key), data)
        return self.url(key)

    def get(self, key: str) -> bytes:
        return self.ask("GET", quote(key))

    def keys(self, prefix: str = "") -> list[str]:
        """Every key below a prefix, without that."""
        answer = ElementTree.fromstring(self.ask("GET", "?list-type=2&encoding-type=url&max-keys=1000"))
        found = [unquote(one.text) for one in answer.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key")]
        return sorted(key.removeprefix(prefix) for key in found if key.startswith(prefix))

    def requests(self, *methods: str) -> list[Request]:
        """What the program has asked for."""
        every = [json.loads(line) for line in self.server.log.read_text().splitlines()]
        mine = [one for one in every if one[1].split("/")[1] == self.name]
        return [
            Request(method, path.removeprefix(f"/{self.name}").removeprefix("/"), *rest)
            for method, path, *rest in mine
            if method in methods or not methods
        ]

    def written(self) -> list[str]:
        """The keys that were written, one for each request that writes anything."""
        return sorted(one.key for one in self.requests("PUT", "POST", "DELETE", "PATCH"))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    for package in ("moto", "flask", "s3fs"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    log = tmp_path_factory.mktemp("server") / "log"
    log.touch()
    env = os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(log)], stdout=subprocess.PIPE, env=env)
    with process:
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
        process.kill()


NUMBERS = itertools.count()


@pytest.fixture
def bucket(server, tmp_path) -> Iterator[Bucket]:
    yield new_bucket(server)
    assert not [one.name for one in tmp_path.iterdir() if ":" in one.name]  # as of a URL taken for a path


def new_bucket(server: Server) -> Bucket:
    made = Bucket(f"bucket-{next(NUMBERS)}", server)
    made.ask("PUT", "")
    return made


@pytest.fixture(scope="module")
def warm(server) -> Iterator[subprocess.Popen]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    command, pipe, env = [sys.executable, "-c", WARM], subprocess.PIPE, os.environ | server.env
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env) as process:
        yield process
        process.stdin.close()


def caller(warm: subprocess.Popen, folder: Path, streams: Path):
    """What runs the program in a folder, with files as its standard streams."""

    def call(*args: object, stdin: bytes = b"", **env: str) -> Done:
        files = [streams / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin)
        order = [list(map(str, args)), str(folder), env, list(map(str, files))]
        warm.stdin.write(json.dumps(order).encode() + b"\n")
        warm.stdin.flush()
        status = int(warm.stdout.readline())
        assert status != -signal.SIGALRM, "it did not end"
        return Done(status, *(file.read_bytes().decode("utf-8", "surrogateescape") for file in files[1:]))

    return call


@pytest.fixture
def convcli(warm, tmp_path, tmp_path_factory):
    """``convcli("edge", url)``: the program in a process, in ``tmp_path``, with the server in its environment."""
    return caller(warm, tmp_path, tmp_path_factory.mktemp("streams"))


@pytest.fixture
def memory():
    """The file system behind ``memory://``, empty."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found
    found.store.clear()


@pytest.fixture
def here(invoke, tmp_path):
    """The program in this process, its streams as text."""

    def call(*args: object) -> Done:
        done = invoke(*map(str, args))
        assert not [one.name for one in tmp_path.iterdir() if one.name.endswith(":")]
        return Done(done.status, done.stdout.decode(), done.stderr.decode())

    return call


def noise(number: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 7, channels), np.uint8).squeeze()


def picture(number: int = 0, file_format: str = "PNG", **options) -> bytes:
    return saved(Image.fromarray(noise(number)), file_format, **options)


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def frames(file_format: str) -> bytes:
    """Three of them, in one file."""
    images = [Image.fromarray(noise(number)) for number in range(3)]
    return saved(images[0], file_format, save_all=True, append_images=images[1:])


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def is_negative(data: bytes, number: int = 0) -> bool:
    return np.array_equal(pixels(data), 255 - noise(number))


def stored(memory) -> list[str]:
    return sorted(one.lstrip("/") for one in memory.store)


def refused(done: Done, status: int = 2) -> str:
    """The one line of an error that nothing was done after."""
    assert (done.status, done.stdout, done.stderr.count("\n")) == (status, "", 1), done
    assert done.stderr.startswith("convcli: ")
    return done.stderr


# Where results go


def test_a_result_goes_beside_its_object_and_is_what_a_file_gives(convcli, bucket, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    assert convcli("edge", "a.png", "-q").status == 0
    url = bucket.put("deep/a.png", picture())
    assert convcli("edge", url, "-q") == (0, bucket.url("deep/a.edge.png") + "\n", "")
    assert bucket.get("deep/a.edge.png") == (tmp_path / "a.edge.png").read_bytes()
    assert bucket.get("deep/a.png") == picture()


def test_an_output_is_one_put_with_the_credentials_of_the_environment(convcli, bucket):
    assert convcli(*NEGATIVE, bucket.put("a.png", picture())).status == 0
    assert bucket.written() == ["a.filter.png"]
    assert all(f"Credential={USER}/" in one.authorization for one in bucket.requests())
    assert is_negative(bucket.get("a.filter.png"))


def test_an_output_of_6_megabytes_is_one_put_too(convcli, bucket, tmp_path):
    Image.new("L", (1300, 1200), 77).save(tmp_path / "a.png")
    assert convcli("identity", "a.png", "-q", "-o", bucket.url("a.npy")).status == 0
    assert [(one.method, one.key) for one in bucket.requests("PUT", "POST", "DELETE")] == [("PUT", "a.npy")]
    made = np.load(io.BytesIO(bucket.get("a.npy")))
    assert made.nbytes > 6e6
    assert np.allclose(made, 77 / 255)


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (("{in}a.png",), "{in}a.filter.png"),
        (("{in}a.png", "--format", "webp"), "{in}a.filter.webp"),
        (("{in}a.png", "-o", "{out}x.png"), "{out}x.png"),
        (("{in}a.png", "-o", "{out}x.JPG"), "{out}x.JPG"),
        (("{in}a.png", "-o", "{out}"), "{out}a.png"),
        (("{in}a.png", "-o", "{out}deep/er/"), "{out}deep/er/a.png"),
        (("{in}a.png", "-o", "{out}", "--format", "tiff"), "{out}a.tiff"),
        (("{in}a.png", "-o", "{out}{{stem}}.{{command}}{{ext}}"), "{out}a.filter.png"),
        (("{in}a.png", "-o", "{out}{{command}}/{{stem}}.bmp"), "{out}filter/a.bmp"),
        (("{in}", "-o", "{out}{{parent}}/{{stem}}{{ext}}"), "{out}a.png"),
        (("local.png", "-o", "{out}"), "{out}local.png"),
        (("local.png", "-o", "{out}{{stem}}.{{command}}{{ext}}"), "{out}local.filter.png"),
        (("{in}a.png", "-o", "there/"), "there/a.png"),
        (("{in}a.png", "-o", "x.png"), "x.png"),
    ],
)
def test_where_the_result_goes(args, output, here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    (tmp_path / "local.png").write_bytes(picture())
    places = {"in": "memory://in/", "out": "memory://out/"}
    output = output.format(**places)
    assert here(*NEGATIVE, *(one.format(**places) for one in args)) == (0, output + "\n", "")
    data = memory.cat_file(output) if "://" in output else (tmp_path / output).read_bytes()
    file_format = {"JPG": "JPEG"}.get(suffix := output.rpartition(".")[2].upper(), suffix)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == file_format
    if file_format not in ("JPEG", "WEBP"):
        assert is_negative(data)


def test_objects_and_files_together(here, memory, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    memory.pipe_file("/in/b.png", picture(1))
    done = here(*NEGATIVE, "a.png", "memory://in/b.png", "-o", "memory://out/")
    assert done == (0, "memory://out/a.png\nmemory://out/b.png\n", "")
    assert is_negative(memory.cat_file("/out/a.png"))
    assert is_negative(memory.cat_file("/out/b.png"), 1)
    assert here(*NEGATIVE, "a.png", "memory://in/b.png", "-o", "out/") == (0, "out/a.png\nout/b.png\n", "")
    assert is_negative((tmp_path / "out/b.png").read_bytes(), 1)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_several_results_in_memory_are_there_afterwards(jobs, here, memory):
    for number in range(3):
        memory.pipe_file(f"/in/{number}.png", picture(number))
    done = here(*NEGATIVE, "memory://in/", "-o", "memory://out/", "-j", jobs)
    assert (done.status, done.lines) == (0, [f"memory://out/{number}.png" for number in range(3)])
    assert all(is_negative(memory.cat_file(f"/out/{number}.png"), number) for number in range(3))


def test_several_jobs_write_what_one_process_does_to_files(run, here, bucket, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(7):
        bucket.put(f"in/{number}.png", picture(number))
        (tmp_path / f"in/{number}.png").write_bytes(picture(number))
    done = run("edge", bucket.url("in/"), "-o", bucket.url("out/"), "-j", "2", "-q", env=bucket.server.env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [bucket.url(f"out/{number}.png") for number in range(7)]
    assert bucket.written() == [f"out/{number}.png" for number in range(7)]
    assert here("edge", "in", "-o", "out/", "-j", "1", "-q").status == 0
    for number in range(7):
        assert bucket.get(f"out/{number}.png") == (tmp_path / f"out/{number}.png").read_bytes()


def test_workers_of_a_cluster_read_and_write_urls(run, bucket, tmp_path):
    pytest.importorskip("distributed", reason="distributed is not installed")
    for number in range(3):
        bucket.put(f"in/{number}.png", picture(number))
    command, pipe, silent = [sys.executable, "-c", CLUSTER], subprocess.PIPE, subprocess.DEVNULL
    env = os.environ | bucket.server.env
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=silent, env=env, cwd=tmp_path) as cluster:
        address = cluster.stdout.readline().decode().strip()
        args = [*NEGATIVE, bucket.url("in/"), "-o", bucket.url("out/"), "--cluster", address]
        done = run(*args, env=bucket.server.env)
        cluster.kill()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [bucket.url(f"out/{number}.png") for number in range(3)]
    assert bucket.written() == [f"out/{number}.png" for number in range(3)]
    assert is_negative(bucket.get("out/2.png"), 2)


# Names


def test_odd_names_in_a_folder_and_one_by_one(convcli, bucket):
    names = [f"x{name}" for name in ODD_NAMES]
    for number, name in enumerate(ODD_NAMES):
        bucket.put(f"in/{name}", picture(number))
    urls = [bucket.put(f"one/{name}", picture(number)) for number, name in enumerate(names)]
    done = convcli(*NEGATIVE, bucket.url("in/"), *urls, "-o", bucket.url("out/"), "-j", "1", "--json")
    assert [one for one in done.objects if one["status"] != "written"] == []
    assert (done.status, done.stderr) == (0, "")
    pairs = {one["input"]: one["output"] for one in done.objects}
    assert pairs == {
        bucket.url(f"{folder}/{name}"): bucket.url(f"out/{name}")
        for folder, some in (("in", ODD_NAMES), ("one", names))
        for name in some
    }
    assert bucket.keys("out/") == sorted(ODD_NAMES + names)
    wrong = [name for number, name in enumerate(ODD_NAMES) if not is_negative(bucket.get(f"out/{name}"), number)]
    wrong += [name for number, name in enumerate(names) if not is_negative(bucket.get(f"out/{name}"), number)]
    assert wrong == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_in_memory(name, here, memory):
    memory.pipe_file(f"/in/{name}", picture())
    output = f"memory://in/{name.removesuffix('.png')}.filter.png"
    assert here(*NEGATIVE, f"memory://in/{name}") == (0, output + "\n", "")
    assert is_negative(memory.store["/" + output.removeprefix("memory://")].getvalue())


def test_an_odd_name_as_the_output(convcli, bucket, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    url = bucket.url("ö 100%?#[1]/a*?.png")
    assert convcli(*NEGATIVE, "a.png", "-o", url) == (0, url + "\n", "")
    assert bucket.keys() == ["ö 100%?#[1]/a*?.png"]


# Folders

ALBUM = ["in/b.png", "in/a.jpg", "in/c.PNG", "in/sub/d.png", "in/sub/deep/e.png", "in/odd.png/f.png"]
NO_PART = ["in/.hidden.png", "in/.cache/g.png", "in/notes.txt", "in/table.csv", "in/array.npy", "in/data", "in.png"]
NO_PART += ["in2/h.png", "i/j.png", "b.png"]


def fill(put) -> None:
    """Folders as they are: sub-folders, hidden objects, other things."""
    for key in (*ALBUM, *NO_PART):
        put(key, picture(file_format="JPEG" if key.endswith(".jpg") else "PNG"))


@pytest.fixture
def album(memory):
    """Such folders in memory."""
    fill(lambda key, data: memory.pipe_file(f"/{key}", data))
    return memory


def below(memory, folder: str) -> list[str]:
    return [key.removeprefix(folder) for key in stored(memory) if key.startswith(folder)]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder(slash, here, album):
    done = here(*NEGATIVE, f"memory://in{slash}", "-o", "memory://out/")
    assert done == (0, "".join(f"memory://out/{name}\n" for name in ("a.jpg", "b.png", "c.PNG")), "")
    assert below(album, "out/") == ["a.jpg", "b.png", "c.PNG"]


def test_a_folder_and_its_folders(convcli, bucket):
    fill(bucket.put)
    for key in ("in/", "in/sub/", "in/empty/"):  # as a console makes them
        bucket.put(key, b"")
    bucket.put("in/b.png/b.png", picture())  # as no disk can have it
    done = convcli(*NEGATIVE, bucket.url("in"), "-r", "-o", bucket.url("out/"), "-j", "1")
    expected = sorted(key.replace("in/", "out/", 1) for key in [*ALBUM, "in/b.png/b.png"])
    assert (done.status, sorted(done.lines), done.stderr) == (0, [bucket.url(key) for key in expected], "")
    assert bucket.written() == expected
    assert is_negative(bucket.get("out/sub/deep/e.png"))


def test_a_folder_through_a_template(here, album):
    done = here(*NEGATIVE, "memory://in/", "-r", "-o", "memory://out/{parent}/{stem}.{command}{ext}")
    parts = [key.removeprefix("in/").rpartition(".") for key in ALBUM]
    expected = sorted(f"out/{stem}.filter.{suffix}" for stem, _, suffix in parts)
    assert (done.status, sorted(done.lines), done.stderr) == (0, [f"memory://{key}" for key in expected], "")
    assert [key for key in stored(album) if key.startswith("out/")] == expected


def test_a_folder_into_local_ones(here, album, tmp_path):
    done = here(*NEGATIVE, "memory://in/", "-r", "-o", "out/")
    expected = sorted(key.replace("in/", "out/", 1) for key in ALBUM)
    assert (done.status, sorted(done.lines), done.stderr) == (0, expected, "")
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()) == expected


def test_a_local_folder_into_one_in_memory(here, memory, tmp_path):
    (tmp_path / "in/sub/deep").mkdir(parents=True)
    (tmp_path / "in/sub/deep/a.png").write_bytes(picture())
    done = here(*NEGATIVE, "in", "-r", "-o", "memory://out/")
    assert done == (0, "memory://out/sub/deep/a.png\n", "")
    assert stored(memory) == ["out/sub/deep/a.png"]


def test_a_whole_bucket_into_another(convcli, bucket):
    other = new_bucket(bucket.server)
    bucket.put("sub/b.png", picture())
    done = convcli(*NEGATIVE, f"s3://{bucket.name}", "-r", "-o", f"s3://{other.name}")
    assert done == (0, other.url("sub/b.png\n"), "")
    assert (bucket.written(), other.written()) == ([], ["sub/b.png"])


def test_an_output_folder_inside_the_input_folder_is_not_taken(here, album):
    for _ in range(2):
        assert here(*NEGATIVE, "memory://in/", "-r", "-o", "memory://in/out/", "-f").status == 0
        assert below(album, "in/out/") == sorted(key.removeprefix("in/") for key in ALBUM)


def test_an_output_folder_that_is_there_needs_no_slash(convcli, bucket):
    bucket.put("out/old.png", picture())
    assert convcli(*NEGATIVE, bucket.put("a.png", picture()), "-o", bucket.url("out")).lines == [
        bucket.url("out/a.png")
    ]
    assert bucket.keys("out") == ["/a.png", "/old.png"]


def test_an_output_without_a_suffix_that_is_no_folder(here, memory):
    memory.pipe_file("/a.png", picture())
    refused(here(*NEGATIVE, "memory://a.png", "-o", "memory://out"))


def test_an_empty_bucket(convcli, bucket):
    line = refused(convcli(*NEGATIVE, bucket.url(), "-o", bucket.url("out/")), 1)
    assert line.startswith(f"convcli: {bucket.url()}: ")
    assert bucket.written() == []


@pytest.mark.parametrize("folder", ["memory://in/", "memory://in/none/"])
def test_a_folder_without_pictures(folder, here, memory):
    memory.pipe_file("/in/notes.txt", b"1 2")
    line = refused(here(*NEGATIVE, folder, "-o", "memory://out/"), 1)
    assert line.startswith(f"convcli: {folder}: ")
    assert stored(memory) == ["in/notes.txt"]


def test_a_folder_whose_folders_have_pictures_has_a_hint(here, memory):
    memory.pipe_file("/in/sub/a.png", picture())
    assert "-r" in refused(here(*NEGATIVE, "memory://in/", "-o", "memory://out/"), 1)


# What is there already


@pytest.fixture
def there(memory):
    """An input and an object in the place of its result."""
    memory.pipe_file("/a.png", picture())
    memory.pipe_file("/a.filter.png", b"old")
    return memory


def test_existing_error(convcli, bucket):
    bucket.put("a.filter.png", b"old")
    line = refused(convcli(*NEGATIVE, bucket.put("a.png", picture())), 1)
    assert bucket.url("a.filter.png") in line
    assert "-f" in line
    assert (bucket.get("a.filter.png"), bucket.written()) == (b"old", [])


def test_existing_skip(here, there):
    done = here(*NEGATIVE, "memory://a.png", "--existing", "skip", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert [(one["status"], one["output"]) for one in done.objects] == [("skipped", "memory://a.filter.png")]
    assert there.cat_file("/a.filter.png") == b"old"


@pytest.mark.parametrize("option", [("-f",), ("--existing", "overwrite")])
def test_existing_overwrite(option, here, there):
    assert here(*NEGATIVE, "memory://a.png", *option) == (0, "memory://a.filter.png\n", "")
    assert is_negative(there.cat_file("/a.filter.png"))


def test_existing_rename(here, there):
    there.pipe_file("/a.filter-1.png", b"old, too")
    assert here(*NEGATIVE, "memory://a.png", "--existing", "rename") == (0, "memory://a.filter-2.png\n", "")
    assert (there.cat_file("/a.filter.png"), there.cat_file("/a.filter-1.png")) == (b"old", b"old, too")
    assert is_negative(there.cat_file("/a.filter-2.png"))


def test_a_name_that_is_taken_meanwhile_is_left_alone(convcli, bucket):
    bucket.put("taken.png", picture())
    line = refused(convcli(*NEGATIVE, bucket.url("taken.png")), 1)
    assert bucket.url("taken.filter.png") in line
    assert bucket.get("taken.filter.png") == b"somebody else's"


def test_a_name_that_is_taken_meanwhile_is_no_name_for_another(convcli, bucket):
    bucket.put("taken.png", picture())
    done = convcli(*NEGATIVE, bucket.url("taken.png"), "--existing", "rename")
    assert done == (0, bucket.url("taken.filter-1.png\n"), "")
    assert bucket.get("taken.filter.png") == b"somebody else's"
    assert is_negative(bucket.get("taken.filter-1.png"))


def test_skipping_lists_the_folder_and_asks_for_no_object(convcli, bucket):
    count = 14
    for number in range(count):
        bucket.put(f"in/{number:02}.png", picture(number))
        if number != 9:
            bucket.put(f"out/{number:02}.png", b"old")
    options = ("--existing", "skip", "--json", "-j", "1")
    done = convcli(*NEGATIVE, bucket.url("in/"), "-o", bucket.url("out/"), *options)
    assert (done.status, done.stderr) == (0, "")
    assert [one["status"] for one in done.objects] == ["skipped"] * 9 + ["written"] + ["skipped"] * 4
    assert is_negative(bucket.get("out/09.png"), 9)
    asked = bucket.requests()
    assert {one.key for one in asked if one.key.endswith(".png")} == {"in/09.png", "out/09.png"}
    assert bucket.written() == ["out/09.png"]
    assert len([one for one in asked if "out%2F" in one.query]) <= count // PAGE + 3


def test_in_place(convcli, bucket):
    bucket.put("in/a.png", picture())
    assert convcli(*NEGATIVE, bucket.url("in/"), "--in-place") == (0, bucket.url("in/a.png\n"), "")
    assert bucket.written() == ["in/a.png"]
    assert is_negative(bucket.get("in/a.png"))


def test_what_one_run_knows_the_next_asks_anew(here, memory):
    memory.pipe_file("/in/a.png", picture())
    args = (*NEGATIVE, "memory://in/", "-o", "memory://out/")
    assert here(*args).status == 0
    refused(here(*args), 1)
    memory.rm_file("/out/a.png")
    assert here(*args).status == 0
    assert is_negative(memory.cat_file("/out/a.png"))


# Planning


def test_a_dry_run_writes_nothing(here, album, tmp_path):
    before = stored(album)
    outputs = sorted(key.replace("in/", "memory://out/", 1) for key in ALBUM)
    args = ("edge", "memory://in/", "-r", "-o", "memory://out/", "-n")
    done = here(*args, "-q")
    assert (done.status, sorted(done.lines), done.stderr) == (0, outputs, "")
    found = here(*args, "--json").objects
    assert {one["status"] for one in found} == {"planned"}
    assert sorted(one["output"] for one in found) == outputs
    assert sorted(one["input"] for one in found) == [f"memory://{key}" for key in sorted(ALBUM)]
    assert (stored(album), list(tmp_path.iterdir())) == (before, [])


def test_a_dry_run_sends_nothing_and_reads_headers_only(convcli, bucket):
    url = bucket.put("a.bmp", saved(Image.new("RGB", (1000, 1000)), "BMP"))
    assert convcli("edge", url, "-n", "-q") == (0, bucket.url("a.edge.bmp\n"), "")
    assert bucket.written() == []
    assert [one.key for one in bucket.requests("GET") if one.key and not one.part] == []


REFUSED = {
    "two names that become one": ("memory://in/a.png", "memory://in/a.jpg", "-o", "memory://out/{stem}.png"),
    "two folders with one name": ("memory://in/a.png", "memory://more/a.png", "-o", "memory://out/"),
    "a file and an object with one name": ("a.png", "memory://in/a.png", "-o", "memory://out/"),
    "several inputs and one output": ("memory://in/a.png", "memory://in/b.png", "-o", "memory://out/x.png"),
    "several inputs to stdout": ("memory://in/a.png", "memory://in/b.png", "-o", "-"),
    "one input twice": ("memory://in/a.png", "memory://in/a.png"),
    "an output that is the input": ("memory://in/a.png", "-o", "memory://in/a.png", "-f"),
    "an output that is another input": ("memory://in/a.png", "memory://in/b.png", "-o", "memory://in/{stem}.png", "-f"),
    "a folder without an output": ("memory://in/",),
    "an unknown field": ("memory://in/a.png", "-o", "memory://out/{foo}.png"),
    "an unknown suffix": ("memory://in/a.png", "-o", "memory://out/a.xyz"),
    "a journal in a URL": ("memory://in/a.png", "-o", "memory://out/", "--resume"),
    "an unknown protocol": ("memory://in/a.png", "-o", "nonsense://out/"),
    "a web server": ("memory://in/a.png", "-o", "http://127.0.0.1:9/out/"),
    "a web server with TLS": ("memory://in/a.png", "-o", "https://127.0.0.1:9/out/a.png"),
    "a template on a web server": ("memory://in/a.png", "-o", "http://127.0.0.1:9/{stem}.png"),
    "both in place and out": ("memory://in/a.png", "-o", "memory://out/", "--in-place"),
}


@pytest.mark.parametrize("args", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_any_work(args, here, memory, tmp_path):
    for key in ("in/a.png", "in/b.png", "in/a.jpg", "more/a.png"):
        memory.pipe_file(f"/{key}", picture(file_format="JPEG" if key.endswith(".jpg") else "PNG"))
    (tmp_path / "a.png").write_bytes(picture())
    before = stored(memory)
    refused(here("edge", *args))
    assert stored(memory) == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("a.png", "-o", "nonsense://out/"), ["nonsense"]),
        (("a.png", "-o", "http://127.0.0.1:9/out/"), ["http"]),
        (("a.png", "-o", "memory://out/", "--resume"), ["--resume"]),
        (("memory://in/a.png", "a.png", "-o", "memory://out/"), ["memory://in/a.png", "memory://out/a.png"]),
    ],
)
def test_what_a_refusal_names(args, words, here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    (tmp_path / "a.png").write_bytes(picture())
    line = refused(here("edge", *args))
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("url", ["s3://b/k.json", "memory://k.json", "file:///tmp/k.json", "s3://b/k.npy"])
def test_a_kernel_is_no_url(url, here, memory, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    memory.pipe_file("/k.json", b"[[1]]")
    line = refused(here("filter", "a.png", "-k", url))
    assert url in line
    assert "no such" not in line
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("option", ["--report", "--failed", "--trace", "--files-from"])
def test_other_files_are_no_urls(option, here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    verb = ["run", "edge"] if option == "--trace" else ["edge"]
    line = refused(here(*verb, "memory://in/a.png", option, "memory://out/x.json"))
    assert line.startswith(f"convcli: {option}: ")
    assert "memory://out" in line
    assert (stored(memory), list(tmp_path.iterdir())) == (["in/a.png"], [])


@pytest.mark.parametrize(
    "args",
    [
        ("gallery", "memory://in/a.png", "-o", "x.png"),
        ("gallery", "a.png", "-o", "memory://in/x.png"),
        ("compare", "a.png", "memory://in/a.png", "-o", "x.png"),
        ("learn", "memory://in/a.png", "memory://in/a.png", "-k", "3x3"),
        ("learn", "a.png", "a.png", "-k", "3x3", "-o", "memory://in/k.json"),
        ("replay", "memory://in/a.png", "a.png"),
        ("run", "memory://in/p.toml", "a.png"),
        ("run", "conv 3x3 weights=memory://in/k.npy", "a.png"),
        ("kernels", "memory://in/k.json"),
    ],
)
def test_other_commands_take_urls_or_say_that_they_do_not(args, here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    (tmp_path / "a.png").write_bytes(picture())
    done = here(*args)
    if done.status:
        line = refused(done, done.status)
        assert next(one for one in args if "memory://" in one).rpartition("=")[2] in line
        assert "no such" not in line.lower()
        assert "damaged" not in line


# Errors


@pytest.fixture(scope="module")
def faulty(server, warm, tmp_path_factory):
    """A run with everything that can be wrong with one input, and two sound ones; the objects by what is wrong."""
    made = new_bucket(server)
    for name in ("a", "vanished", "z"):
        made.put(f"in/{name}.png", picture())
    made.put("in/broken.png", b"\x89PNG\r\n\x1a\n no")
    made.put("in/cut.png", picture()[:60])
    made.put("in/empty.png", b"")
    made.put("in/forbidden.png", picture())
    made.put("readme", b"# Read me")
    urls = {
        "no object": made.url("none.png"),
        "no bucket": "s3://there-is-no-such-bucket/a.png",
        "no folder in a bucket": "s3://there-is-no-such-bucket/in/",
        "no permission": "s3://forbidden-bucket/a.png",
        "no picture": made.url("readme"),
        "no such protocol": "nonsense://b/a.png",
        "a protocol that is not installed": "gs://b/a.png",
    }
    names = {name: made.url(f"in/{name}.png") for name in ("a", "broken", "cut", "empty", "forbidden", "z")}
    names["vanished"] = made.url("in/vanished.png")
    folder = tmp_path_factory.mktemp("faulty")
    inputs = [*urls.values(), made.url("in/")]
    call = caller(warm, folder, tmp_path_factory.mktemp("streams"))
    return (
        call("edge", *inputs, "-q", "--json", "-o", "out/", "--failed", "failed.txt", "-j", "1"),
        urls | names,
        folder,
    )


FAULTS = ["no object", "no bucket", "no folder in a bucket", "no permission", "no picture", "no such protocol"]
FAULTS += ["a protocol that is not installed", "broken", "cut", "empty", "forbidden", "vanished"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_input_that_fails_costs_one_line(fault, faulty):
    done, urls, _ = faulty
    records = [one for one in done.objects if one["input"] == urls[fault]]
    assert [(one["status"], one["output"]) for one in records] == [("failed", None)]
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"convcli: {urls[fault]}: ")]
    assert len(lines) == 1
    error = records[0]["error"]
    assert lines[0].endswith(error)
    assert "unexpected" not in error
    assert "Error" not in error


def test_the_others_are_done(faulty):
    done, urls, folder = faulty
    assert done.status == 1
    assert [one["input"] for one in done.objects if one["status"] == "written"] == [urls["a"], urls["z"]]
    assert sorted(one.name for one in (folder / "out").iterdir()) == ["a.png", "z.png"]
    assert len(done.stderr.splitlines()) == len(FAULTS)
    failed = [one["input"] for one in done.objects if one["status"] == "failed"]
    assert (folder / "failed.txt").read_text().splitlines() == failed


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no object", ["no such"]),
        ("no bucket", ["no such"]),
        ("vanished", ["no such"]),
        ("no picture", ["not a picture"]),
        ("no such protocol", ["nonsense"]),
        ("a protocol that is not installed", ["gcsfs"]),
    ],
)
def test_what_the_line_says(fault, words, faulty):
    if fault == "a protocol that is not installed" and importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    done, urls, _ = faulty
    error = next(one["error"] for one in done.objects if one["input"] == urls[fault])
    assert [word for word in words if word not in error.lower()] == []


@pytest.mark.parametrize("fault", ["forbidden", "no permission"])
def test_a_lack_of_permission_is_called_so(fault, faulty):
    done, urls, _ = faulty
    error = next(one["error"] for one in done.objects if one["input"] == urls[fault])
    assert re.search("permission|access|forbidden|denied", error, re.IGNORECASE)


@pytest.mark.parametrize("url", ["s3://", "s3:///a.png", "nonsense://", "http://"])
def test_urls_of_nothing_are_one_line(url, convcli, tmp_path):
    done = convcli("edge", url, "-o", "out/")
    assert refused(done, done.status).startswith(f"convcli: {url}: ")
    assert done.status in (1, 2)
    assert "unexpected" not in done.stderr
    (tmp_path / "a.png").write_bytes(picture())
    done = convcli("edge", "a.png", "-o", url)
    assert url in refused(done, done.status)
    assert done.status in (1, 2)
    assert "unexpected" not in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


def test_an_output_bucket_that_is_not_there_is_not_made(convcli, bucket, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    other = bucket._replace(name="a-bucket-not-yet-there")
    for output in (other.url("out/"), other.url("x.png")):
        line = refused(convcli("edge", "a.png", "-o", output), 1)
        assert f"s3://{other.name}" in line
    assert [one for one in other.requests("PUT") if not one.key] == []
    with pytest.raises(urllib.error.HTTPError, match="404"):
        other.keys()


@pytest.mark.parametrize("name", ["forbidden-bucket", "another-bucket-not-yet-there"])
def test_an_output_that_can_not_be_written_ends_the_run_at_once(name, convcli, bucket, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(8):
        (tmp_path / f"in/{number}.png").write_bytes(picture(number))
    line = refused(convcli("edge", "in", "-o", f"s3://{name}/out/", "-j", "1", "-q"), 1)
    assert f"s3://{name}/out/" in line
    assert "unexpected" not in line
    assert len(bucket._replace(name=name).requests("PUT")) < 5


def test_a_server_that_is_not_there_is_one_line(convcli, bucket):
    line = refused(convcli("edge", bucket.url("a.png"), AWS_ENDPOINT_URL="http://127.0.0.1:9"), 1)
    assert line.startswith(f"convcli: {bucket.url('a.png')}: ")
    assert "unexpected" not in line


BLOCKED = "import sys; sys.modules.update(dict.fromkeys({!r})); from convcli.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize("missing", [["fsspec", "s3fs", "upath"], ["s3fs"]], ids=["fsspec", "s3fs"])
@pytest.mark.parametrize(("args", "statuses"), [(["s3://b/a.png"], (1, 2)), (["a.png", "-o", "s3://b/x.png"], (2,))])
def test_the_extra_is_named_where_it_is_missing(args, statuses, missing, tmp_path):
    if "fsspec" not in missing:
        pytest.importorskip("fsspec", reason="fsspec is not installed")
    (tmp_path / "a.png").write_bytes(picture())
    command = [sys.executable, "-c", BLOCKED.format(missing), "edge", *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode in statuses
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("convcli: ")
    assert "pip install 'convcli[cluster]'" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


# What is in the objects


def test_an_object_without_a_suffix_is_what_its_bytes_say(here, memory):
    memory.pipe_file("/photo", picture(1))
    assert here(*NEGATIVE, "memory://photo") == (0, "memory://photo.filter.png\n", "")
    assert is_negative(memory.cat_file("/photo.filter.png"), 1)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("a.tiff", [], 3),
        ("a.tiff", ["--frame", "1"], 1),
        ("a.png", [], 3),
        ("a.png", ["--frame", "2"], 1),
        ("a.gif", ["--frame", "0"], 1),
    ],
)
def test_pictures_of_several_frames(name, options, count, here, memory, tmp_path):
    data = frames(name.partition(".")[2].upper())
    (tmp_path / name).write_bytes(data)
    memory.pipe_file(f"/{name}", data)
    suffix = name.partition(".")[2]
    assert here("edge", name, *options, "-q").status == 0
    assert here("edge", f"memory://{name}", *options, "-q").lines == [f"memory://a.edge.{suffix}"]
    made = memory.cat_file(f"/a.edge.{suffix}")
    with Image.open(io.BytesIO(made)) as image:
        assert getattr(image, "n_frames", 1) == count
    assert made == (tmp_path / f"a.edge.{suffix}").read_bytes()


def test_an_object_for_each_frame(here, memory):
    memory.pipe_file("/a.tiff", frames("TIFF"))
    outputs = [f"memory://out/a-{number}.png" for number in range(3)]
    done = here(*NEGATIVE, "memory://a.tiff", "-o", "memory://out/{stem}-{frame}.png")
    assert (done.status, done.lines, done.stderr) == (0, outputs, "")
    assert all(is_negative(memory.cat_file(f"/out/a-{number}.png"), number) for number in range(3))


def test_arrays(here, memory):
    array = np.arange(12, dtype=np.float64).reshape(3, 4) ** 2
    buffer = io.BytesIO()
    np.save(buffer, array)
    memory.pipe_file("/x.npy", buffer.getvalue())
    done = here("filter", "memory://x.npy", "-k", "1 0 -1", "-p", "valid", "-q", "-o", "memory://y.npy")
    assert done == (0, "memory://y.npy\n", "")
    assert np.array_equal(np.load(io.BytesIO(memory.cat_file("/y.npy"))), array[:, :-2] - array[:, 2:])


def test_matrices(here, memory):
    memory.pipe_file("/in/m.csv", b"1,2\n3,4.5\n")
    assert here("filter", "memory://in/m.csv", "-k", "2", "-q") == (0, "2 4\n6 9\n", "")
    done = here("filter", "memory://in/m.csv", "-k", "2", "-q", "-o", "memory://out/n.txt")
    assert done == (0, "memory://out/n.txt\n", "")
    assert memory.cat_file("/out/n.txt") == b"2 4\n6 9\n"
    assert here("filter", "[1 2]", "-k", "2", "-q", "-o", "memory://out/o.npy").status == 0
    assert np.array_equal(np.load(io.BytesIO(memory.cat_file("/out/o.npy"))), [[2, 4]])


def test_a_matrix_is_never_taken_from_a_folder(here, memory):
    memory.pipe_file("/in/m.csv", b"1,2\n")
    memory.pipe_file("/in/a.png", picture())
    assert here(*NEGATIVE, "memory://in/", "-o", "memory://out/").lines == ["memory://out/a.png"]


def test_standard_streams(convcli, bucket):
    assert convcli(*NEGATIVE, "-", "-o", bucket.url("x.png"), stdin=picture()) == (0, bucket.url("x.png\n"), "")
    assert is_negative(bucket.get("x.png"))
    done = convcli(*NEGATIVE, bucket.url("x.png"), "-o", "-")
    assert (done.status, done.stderr) == (0, "")
    assert np.array_equal(pixels(done.stdout.encode("utf-8", "surrogateescape")), noise(0))


def test_pools_and_pipelines(here, memory):
    memory.pipe_file("/a.png", picture())
    blocks = noise(0)[:, :6].reshape(3, 2, 3, 2, 3)
    assert here("pool", "memory://a.png", "--max", "2", "-q").lines == ["memory://a.pool.png"]
    assert np.array_equal(pixels(memory.cat_file("/a.pool.png")), blocks.max((1, 3)))
    assert here("run", "minpool 2", "memory://a.png", "-q", "-o", "memory://out/").lines == ["memory://out/a.png"]
    assert np.array_equal(pixels(memory.cat_file("/out/a.png")), blocks.min((1, 3)))


# Other ways to name and tell


def test_json_and_the_report_have_the_whole_urls(here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    done = here("edge", "memory://in/a.png", "-o", "memory://out/", "--json", "-q", "--report", "report.json")
    assert (done.status, done.stderr) == (0, "")
    (found,) = done.objects
    assert (found["input"], found["output"]) == ("memory://in/a.png", "memory://out/a.png")
    assert (found["status"], found["error"]) == ("written", None)
    assert found["layers"][0]["input"] == [3, 6, 7]
    assert "memory://in/a.png" in (tmp_path / "report.json").read_text()


def test_urls_from_a_list_and_those_that_failed_into_one(here, memory, tmp_path):
    memory.pipe_file("/in/a.png", picture())
    (tmp_path / "list").write_text("memory://in/a.png\nmemory://in/none.png\n")
    done = here(*NEGATIVE, "--files-from", "list", "-o", "out/", "--failed", "failed")
    assert (done.status, done.lines) == (1, ["out/a.png"])
    assert (tmp_path / "failed").read_text() == "memory://in/none.png\n"
    memory.pipe_file("/in/none.png", picture(1))
    assert here(*NEGATIVE, "--files-from", "failed", "-o", "out/").lines == ["out/none.png"]


def test_a_run_of_urls_into_a_local_folder_is_resumed(here, memory, tmp_path):
    for number in range(2):
        memory.pipe_file(f"/in/{number}.png", picture(number))
    args = (*NEGATIVE, "memory://in/", "-o", "out/", "--resume")
    assert here(*args) == (0, "out/0.png\nout/1.png\n", "")
    (tmp_path / "out/0.png").unlink()
    assert here(*args) == (0, "out/0.png\n", "")
    assert here(*args) == (0, "", "")
    memory.pipe_file("/in/1.png", picture(2)[:-12] + b"more" + picture(2)[-12:])
    assert here(*args).lines == ["out/1.png"]


def test_an_object_from_a_web_server(convcli, bucket, tmp_path):
    bucket.put("sub/a.png", picture())
    url = f"{bucket.server.address}/{bucket.name}/sub/a.png"
    assert convcli(*NEGATIVE, url, "-o", "out/") == (0, "out/a.png\n", "")
    assert is_negative((tmp_path / "out/a.png").read_bytes())
    done = convcli(*NEGATIVE, url)
    assert done.status in (1, 2)
    assert "http" in refused(done, done.status)
    assert bucket.written() == []


def test_files_by_their_urls(here, tmp_path):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    for key in (*ALBUM, "in/.hidden.png"):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(picture(file_format="JPEG" if key.endswith(".jpg") else "PNG"))
    done = here(*NEGATIVE, f"file://{tmp_path}/in/", "-r", "-o", f"file://{tmp_path}/out/")
    expected = sorted(key.replace("in/", "out/", 1) for key in ALBUM)
    assert (done.status, sorted(done.lines), done.stderr) == (0, [f"{tmp_path}/{key}" for key in expected], "")
    found = [str(one.relative_to(tmp_path)) for one in (tmp_path / "out").rglob("*") if one.is_file()]
    assert sorted(found) == expected
    assert is_negative((tmp_path / "out/sub/deep/e.png").read_bytes())


@pytest.mark.parametrize(
    "args",
    [
        ("{url}/a.png", "-o", "{path}/a.png", "-f"),
        ("{path}/a.png", "-o", "{url}/a.png", "-f"),
        ("a.png", "-o", "{url}/a.png", "-f"),
        ("a.png", "{url}/a.png"),
        ("{url}/a.png", "b.png", "-o", "{url}/{{stem}}.png", "-f"),
    ],
)
def test_a_file_and_its_url_are_one(args, here, tmp_path):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(picture())
    refused(here(*NEGATIVE, *(one.format(url=f"file://{tmp_path}", path=tmp_path) for one in args)))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert (tmp_path / "a.png").read_bytes() == picture()


def test_a_file_that_is_there_is_not_overwritten_by_its_url(here, tmp_path):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "x.png").write_bytes(b"old")
    refused(here(*NEGATIVE, "a.png", "-o", f"file://{tmp_path}/x.png"), 1)
    assert (tmp_path / "x.png").read_bytes() == b"old"
    assert here(*NEGATIVE, "a.png", "-o", f"file://{tmp_path}/x.png", "-f").status == 0
    assert is_negative((tmp_path / "x.png").read_bytes())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.png", "x.png"]


def test_a_run_without_urls_imports_none_of_it(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    code = "import sys; from convcli.__main__ import main; main(); "
    code += "print([one for one in ('fsspec', 's3fs', 'upath', 'distributed') if one in sys.modules])"
    command = [sys.executable, "-c", code, "edge", "a.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.stdout == "a.edge.png\n[]\n"
