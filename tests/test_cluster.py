"""A Dask cluster whose scheduler and workers are processes of their own: the same results as at home, told the same
way, and what happens when parts of it are missing, wrong or die."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import convcli
from convcli.images.chunks import SIGNATURE
from pictures import chunks_of

if sys.platform == "win32":
    pytest.skip("kills processes as POSIX knows it", allow_module_level=True)

NEGATIVE = ("filter", "-k", "-1", "--bias", "1")  # v becomes 255 - v
WEIGHTS = "gray | conv 3x3 out=2 padding=same weights=weights.npy | relu | maxpool 2"
PACKAGES = str(Path(convcli.__file__).parents[1])
DASK = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # workers that a task may kill before it is given up
NODE = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")

# What workers load before they begin. It looks for files in the folder ``gates`` beside the folder of a picture:
# ``00.png.hold`` keeps whoever opens in/00.png waiting and leaves ``00.png.held`` with its process id, ``00.png.kill``
# kills it, and ``00.png.last`` is the last file that a process gives its name.
GATES = """
import os, signal, sys, time

def kill():
    os.write(2, b"was killed by a gate\\n")
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

def heed(event, args):
    if event not in ("open", "os.rename", "os.link"):
        return
    path = args[0 if event == "open" else 1]
    if isinstance(path, int):
        return
    folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
    gate = os.path.join(os.path.dirname(folder), "gates", name)
    if os.path.basename(folder) not in ("in", "out"):
        return
    if event != "open" and os.path.exists(gate + ".last"):
        os.unlink(gate + ".last")
        (os.link if event == "os.link" else os.replace)(*args[:2])
        kill()
    elif event == "open" and os.path.basename(folder) == "in":
        end = time.monotonic() + 30
        while os.path.exists(gate + ".hold") and time.monotonic() < end:
            if not os.path.exists(gate + ".held"):
                with open(gate + ".tmp", "w") as file:
                    file.write(str(os.getpid()))
                os.replace(gate + ".tmp", gate + ".held")
            time.sleep(0.02)
        if os.path.exists(gate + ".kill"):
            kill()

sys.addaudithook(heed)
"""

# What makes Python's modules look as if they were not installed
WITHOUT = """
import sys
from importlib import metadata

sys.modules |= dict.fromkeys(ABSENT)
found = metadata.version

def version(name):
    if name in ABSENT:
        raise metadata.PackageNotFoundError(name)
    return found(name)

metadata.version = version
"""


def noise(number, size=24):
    return np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)


def album(folder, count):
    """Pictures ``00.png``, ``01.png`` ... of noise; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(noise(number)).save(folder / f"{number:02}.png")
    return [f"{number:02}.png" for number in range(count)]


def is_negative(path):
    with Image.open(path) as image:
        return np.array_equal(np.asarray(image), 255 - noise(int(path.stem)))


def tree(folder):
    """The files below a folder, and what is in them: of a PNG its chunks with the pixels inflated, as ISA-L does not
    promise to deflate the same bytes alike each time."""
    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*") if path.is_file()}


def content(path):
    if path.suffix != ".png" or not path.read_bytes().startswith(SIGNATURE):
        return path.read_bytes()
    chunks = chunks_of(path)
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    return [one for one in chunks if one[0] != b"IDAT"], zlib.decompress(packed)


def lines(data):
    return data.decode().splitlines()


def wait_for(condition, seconds=20.0):
    """What a condition gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def kill(process):
    """End a process and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Cluster:
    """A scheduler and workers, each in a session of its own, in a folder of their own."""

    def __init__(self, folder, stack):
        if importlib.util.find_spec("distributed") is None:
            pytest.skip("distributed is not installed; the extra `cluster` has it")
        self.folder, self.stack, self.count = folder, stack, 0
        (folder / "gates.py").write_text(GATES)
        at = folder / "scheduler.json"
        args = ("--port", "0", *NODE, "--scheduler-file", at, "--idle-timeout", "60s")
        self.scheduler, _ = self.begin("scheduler", *args)
        self.address = json.loads(wait_for(lambda: at.exists() and at.read_text()))["address"]
        self.nanny = self.plain = None

    def begin(self, *words, path=()):
        """A process of Dask's, and what it says."""
        self.count += 1
        log = self.folder / f"{self.count}.log"
        env = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), PACKAGES]), **DASK}
        command = [sys.executable, "-m", "dask", *map(str, words)]
        with log.open("wb") as said:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.stack.callback(kill, process)
        return process, log

    def worker(self, *args, path=()):
        """A worker with one thread; its process and what it says."""
        args = ("--nthreads", "1", *NODE, *args, "--local-directory", self.folder, "--death-timeout", "60")
        process, log = self.begin("worker", self.address, *args, "--preload", self.folder / "gates.py", path=path)
        return process, log

    def known(self, log):
        """Wait until the scheduler knows the worker that says this; its address."""
        wait_for(lambda: b"Registered to" in log.read_bytes())
        return log.read_text().partition("Start worker at:")[2].split()[0]

    def begins(self):
        """How often the worker with a nanny has begun."""
        return self.nanny.read_bytes().count(b"Registered to")

    def mend(self):
        """A worker for two pictures at a time with a nanny, which starts it again when it dies, and one without."""
        if self.nanny is None:
            _, self.nanny = self.worker("--nthreads", "2")
        if self.plain is None or self.plain.poll() is not None:
            self.plain, log = self.worker("--no-nanny")
            self.known(log)
        wait_for(lambda: b"Registered to" in self.nanny.read_bytes().rpartition(b"was killed by")[2])


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture
def cluster(two_workers):
    """A scheduler and two workers, all of them alive and working elsewhere."""
    two_workers.mend()
    return two_workers


def begin(cwd, *args):
    command = [sys.executable, "-m", "convcli", *map(os.fspath, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True, bufsize=0
    )


@pytest.fixture
def start(tmp_path):
    """``start("edge", "in")``: the program on its way."""
    with ExitStack() as stack:

        def call(*args):
            process = stack.enter_context(begin(tmp_path, *args))
            stack.callback(kill, process)
            return process

        yield call


class Gates:
    """Which pictures are held, kill a worker or are its last."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def set(self, kind, *names):
        for name in names:
            (self.folder / f"{name}.{kind}").touch()

    def held(self):
        """The pictures that are being held, and the processes that have opened them."""
        return {path.stem: int(path.read_text()) for path in self.folder.glob("*.held")}

    def open(self, kind="*"):
        for path in self.folder.glob(f"*.{kind}"):
            path.unlink(missing_ok=True)


@pytest.fixture
def gates(tmp_path):
    made = Gates(tmp_path / "gates")
    yield made
    made.open()


class Waiting(NamedTuple):
    """A run that gives up only after a while."""

    process: subprocess.Popen
    address: str
    folder: Path

    def end(self):
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture(scope="module", autouse=True)
def waiting(tmp_path_factory):
    """Runs that begin first and are looked at last."""
    if importlib.util.find_spec("distributed") is None:
        yield {}
        return
    with ExitStack() as stack:

        def wait(address, count):
            folder = tmp_path_factory.mktemp("waiting")
            album(folder / "in", count)
            process = begin(folder, *NEGATIVE, "in", "-o", "out/", "-q", "--cluster", address)
            stack.enter_context(process)
            stack.callback(kill, process)
            return Waiting(process, address, folder)

        bound, silent = (stack.enter_context(socket.socket()) for _ in range(2))
        for one in (bound, silent):
            one.bind(("127.0.0.1", 0))
        silent.listen()
        idle, mortal = (Cluster(tmp_path_factory.mktemp("cluster"), stack) for _ in range(2))
        found = {
            "the scheduler dies": wait(mortal.address, 8),
            "nobody is there": wait(f"tcp://127.0.0.1:{bound.getsockname()[1]}", 2),
            "somebody else is there": wait(f"tcp://127.0.0.1:{silent.getsockname()[1]}", 2),
            "no workers": wait(idle.address, 2),
        }
        gates = Gates(found["the scheduler dies"].folder / "gates")
        gates.set("hold", "07.png")
        wait_for(lambda: b"Receive client connection" in (mortal.folder / "1.log").read_bytes())
        mortal.worker("--no-nanny")  # comes after the run has begun
        wait_for(gates.held)
        kill(mortal.scheduler)
        yield found


# As at home


@pytest.mark.parametrize("command", ["edge", "run"])
def test_every_command_that_makes_pictures_has_it(command, invoke):
    assert b"--cluster" in invoke(command, "--help").stdout


def test_a_cluster_changes_no_byte(cluster, invoke, run, samples, tmp_path):
    album(tmp_path / "in", 7)
    Image.fromarray(noise(7).astype(np.uint16) * 257).save(tmp_path / "in/sixteen.png")
    np.save(tmp_path / "in/numbers.npy", noise(8) / np.float32(255))
    for name in ("coffee.jpg", "text-6x8.png"):
        shutil.copy(samples / name, tmp_path / "in")
    inputs = sorted(f"in/{one.name}" for one in (tmp_path / "in").iterdir())
    found = []
    for where in (("-j", "1"), ("-j", "2"), ("--cluster", cluster.address)):
        call = run if "--cluster" in where else invoke
        done = call(*NEGATIVE, *inputs, "-o", "out/", *where, "-q")
        assert (done[0] if call is invoke else done.returncode, done.stderr) == (0, b"")
        assert lines(done.stdout) == [f"out/{Path(name).name}" for name in inputs]
        found.append(tree(tmp_path / "out"))
        shutil.rmtree(tmp_path / "out")
    assert len(found[0]) == len(inputs) == 11
    assert found[0] == found[1] == found[2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    "verb",
    [
        ("filter", "-k", "kernel.txt", "--pool", "max:2", "--format", "tiff"),
        ("run", WEIGHTS, "--trace", "traced"),
    ],
    ids=lambda verb: verb[0],
)
def test_files_that_a_run_needs_or_makes_are_found_from_elsewhere(verb, cluster, invoke, run, tmp_path):
    album(tmp_path / "in", 2)
    (tmp_path / "kernel.txt").write_text("0 1 0\n1 -4 1\n0 1 0\n")
    np.save(tmp_path / "weights.npy", np.random.default_rng(1).normal(size=(2, 1, 3, 3)).astype(np.float32))
    command, *options = verb
    given = (options[0], "in", *options[1:]) if command == "run" else ("in", *options)
    given = (command, *given, "-o", "out/{stem}-{channel}{ext}" if command == "run" else "out/", "-q")
    home = invoke(*given, "-j", "1")
    before = tree(tmp_path)
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "traced", ignore_errors=True)
    away = run(*given, "--cluster", cluster.address)
    assert home.status == 0
    assert (away.returncode, away.stdout, away.stderr) == (home.status, home.stdout, home.stderr)
    assert tree(tmp_path) == before


def told(tmp_path, status, stdout, stderr):
    """What a run said and left, without its times."""
    found = [json.loads(line) | {"seconds": 0} for line in stdout.splitlines()]
    rows = [row | {"seconds": 0} for row in csv.DictReader((tmp_path / "report.csv").read_text().splitlines())]
    (tmp_path / "report.csv").unlink()
    left = tree(tmp_path)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "failed").unlink()
    return status, found, re.sub(r"\d+\.\d+ s\b", "", stderr.decode()).splitlines(), rows, left


def test_what_is_told_is_the_same(cluster, invoke, run, tmp_path):
    names = album(tmp_path / "in", 6)
    (tmp_path / "in/02.png").write_bytes(b"no picture")
    command = ("edge", *(f"in/{name}" for name in names), "gone.png", "-o", "out/")
    command = (*command, "--json", "--failed", "failed", "--report", "report.csv")
    both = []
    for call, where in ((invoke, ("-j", "1")), (run, ("--cluster", cluster.address))):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/04.png").write_bytes(b"somebody's")
        done = call(*command, *where)
        status = done.status if call is invoke else done.returncode
        both.append(told(tmp_path, status, done.stdout, done.stderr))
    home, away = both
    for one, other in zip(home, away, strict=True):
        assert one == other
    assert (home[0], home[1][2]["input"], home[1][2]["status"]) == (1, "in/02.png", "failed")


def test_results_are_told_in_the_order_of_the_inputs(cluster, gates, start, tmp_path):
    names = album(tmp_path / "in", 6)
    gates.set("hold", "00.png")
    process = start(*NEGATIVE, "in", "-o", "out/", "-q", "--cluster", cluster.address)
    wait_for(lambda: gates.held() and len(list((tmp_path / "out").glob("*.png"))) >= 2)
    gates.open()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, lines(out), err) == (0, [f"out/{name}" for name in names], b"")


def test_a_run_is_resumed_at_home_or_away(cluster, invoke, run, tmp_path):
    names = album(tmp_path / "in", 4)
    command = (*NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    away = (*command, "--cluster", cluster.address)
    first = run(*away)
    assert (first.returncode, lines(first.stdout), first.stderr) == (0, [f"out/{name}" for name in names], b"")
    assert invoke(*command) == (0, b"", b"")
    (tmp_path / "out/01.png").unlink()
    os.utime(tmp_path / "in/03.png", (1, 1))
    second = run(*away)
    assert (second.returncode, second.stdout, second.stderr) == (0, b"out/01.png\nout/03.png\n", b"")


def test_fail_fast_begins_nothing_after_a_failure(cluster, run, tmp_path):
    album(tmp_path / "in", 40)
    (tmp_path / "in/02.png").write_bytes(b"no picture")
    done = run("edge", "in", "-o", "out/", "--fail-fast", "-q", "--cluster", cluster.address)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"convcli: in/02.png: ")
    written = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert lines(done.stdout) == [f"out/{name}" for name in written]
    assert written[:2] == ["00.png", "01.png"]
    assert len(written) <= 5  # what the other workers had begun is finished


# What dies


def test_a_worker_that_is_killed_costs_nothing_but_time(cluster, gates, start, tmp_path):
    names = album(tmp_path / "in", 12)
    gates.set("hold", *names[3:])
    process = start(*NEGATIVE, "in", "-o", "out/", "-q", "--cluster", cluster.address)
    wait_for(lambda: cluster.plain.pid in gates.held().values())
    cluster.plain.kill()
    gates.open()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, lines(out), err) == (0, [f"out/{name}" for name in names], b"")
    assert sorted(one.name for one in (tmp_path / "out").glob("*.png")) == names
    assert all(is_negative(tmp_path / "out" / name) for name in names)


HOW = [("-o", "out/"), ("-o", "out/", "--existing", "skip"), ("-o", "out/", "--existing", "rename"), ("--in-place",)]


@pytest.mark.parametrize("how", HOW, ids=lambda how: how[-1])
def test_a_worker_that_dies_after_it_wrote_does_no_harm(how, cluster, gates, run, tmp_path):
    names = album(tmp_path / "in", 6)
    gates.set("last", "02.png")
    done = run(*NEGATIVE, "in", *how, "-q", "--cluster", cluster.address)
    folder = tmp_path / ("in" if "--in-place" in how else "out")
    assert not list(gates.folder.iterdir())  # it did die
    assert sorted(one.name for one in folder.glob("*.png")) == names
    assert [name for name in names if not is_negative(folder / name)] == []
    assert (done.returncode, lines(done.stdout), done.stderr) == (0, [f"{folder.name}/{name}" for name in names], b"")


def test_a_picture_that_kills_every_worker_is_the_one_that_failed(cluster, gates, run, tmp_path):
    names = album(tmp_path / "in", 50)  # so many that a worker is given several at a time
    gates.set("kill", "03.png")
    wanted = [name for name in names if name != "03.png"]
    done = run(*NEGATIVE, "in", "-o", "out/", "-q", "--failed", "failed", "--cluster", cluster.address)
    assert [line.split(": ")[1] for line in lines(done.stderr)] == ["in/03.png"]
    assert (done.returncode, lines(done.stdout)) == (1, [f"out/{name}" for name in wanted])
    assert all(is_negative(tmp_path / "out" / name) for name in wanted)
    assert not (tmp_path / "out/03.png").exists()
    assert (tmp_path / "failed").read_text() == "in/03.png\n"


def test_a_picture_that_was_beside_one_that_kills_is_done(cluster, gates, start, tmp_path):
    names = album(tmp_path / "in", 6)
    kill(cluster.plain)  # both are on the one worker that dies again and again
    gates.set("kill", "03.png")
    gates.set("hold", "03.png", "04.png")
    process = start(*NEGATIVE, "in", "-o", "out/", "-q", "--cluster", cluster.address)
    wait_for(lambda: len(gates.held()) == 2)
    deaths = cluster.begins()
    (gates.folder / "03.png.hold").unlink()
    wait_for(lambda: cluster.begins() >= deaths + 2)
    gates.open("hold")
    out, err = process.communicate(timeout=60)
    assert [line.split(": ")[1] for line in lines(err)] == ["in/03.png"]
    assert (process.returncode, lines(out)) == (1, [f"out/{name}" for name in names if name != "03.png"])


def test_ctrl_c_stops_the_run_and_leaves_the_cluster(cluster, gates, start, run, tmp_path):
    names = album(tmp_path / "in", 30)
    gates.set("hold", *names)
    process = start(*NEGATIVE, "in", "-o", "out/", "--cluster", cluster.address)
    wait_for(gates.held)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert lines(err)[-1].endswith("30 left")
    assert b"Traceback" not in err
    assert b"distributed" not in err
    gates.open()
    again = run(*NEGATIVE, *(f"in/{name}" for name in names[:4]), "-o", "more/", "-q", "--cluster", cluster.address)
    assert (again.returncode, len(lines(again.stdout)), again.stderr) == (0, 4, b"")
    assert len(list((tmp_path / "out").glob("*.png"))) <= 3  # those that were being worked on, perhaps


# What is wrong is known before any work


def is_refused(tmp_path, status, stdout, stderr):
    """One line about --cluster, and nothing written."""
    assert (status, stdout, stderr.count(b"\n")) == (2, b"", 1)
    assert stderr.startswith(b"convcli: --cluster: ")
    assert not (tmp_path / "out").exists()
    return stderr.decode()


@pytest.mark.parametrize("address", ["", "tcp://127.0.0.1:port"])
def test_an_address_that_is_none(address, run, tmp_path):
    album(tmp_path / "in", 2)
    done = run("edge", "in", "-o", "out/", "--cluster", address)
    said = is_refused(tmp_path, done.returncode, done.stdout, done.stderr)
    assert address in said
    assert "tcp://" in said  # what an address looks like


def test_no_address_at_all(invoke, tmp_path):
    album(tmp_path / "in", 2)
    done = invoke("edge", "in", "-o", "out/", "--cluster")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


@pytest.mark.parametrize(
    "args",
    [
        ("edge", "in/00.png", "-o", "-"),
        ("filter", "[0 1 2; 3 4 5]", "-k", "1"),
        ("edge", "-", "-o", "out/"),
    ],
    ids=["a picture on stdout", "numbers on stdout", "stdin"],
)
def test_what_comes_from_a_stream_or_goes_to_one_stays_at_home(args, cluster, run, tmp_path):
    album(tmp_path / "in", 1)
    done = run(*args, "--cluster", cluster.address, input=(tmp_path / "in/00.png").read_bytes())
    is_refused(tmp_path, done.returncode, done.stdout, done.stderr)


def package(folder, name, text):
    """A folder for PYTHONPATH with a module of this name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def without(folder, *modules):
    """A folder for PYTHONPATH that makes modules look as if they were not installed."""
    return package(folder, "sitecustomize.py", f"ABSENT = {modules}\n{WITHOUT}")


def test_without_the_extra_its_name_is_told(run, tmp_path):
    album(tmp_path / "in", 2)
    missing = without(tmp_path / "without", "distributed", "dask")
    env = {"PYTHONPATH": os.pathsep.join([str(missing), PACKAGES])}
    done = run("edge", "in", "-o", "out/", "--cluster", "tcp://127.0.0.1:8786", env=env)
    assert "convcli[cluster]" in is_refused(tmp_path, done.returncode, done.stdout, done.stderr)


def test_a_worker_without_convcli_is_named(cluster, run, tmp_path):
    album(tmp_path / "in", 2)
    worker, log = cluster.worker("--no-nanny", path=[without(tmp_path / "without", "convcli")])
    address = cluster.known(log)
    done = run("edge", "in", "-o", "out/", "--cluster", cluster.address)
    kill(worker)
    said = is_refused(tmp_path, done.returncode, done.stdout, done.stderr)
    assert address.removeprefix("tcp://") in said
    assert re.search(rf"install .*convcli\b.*{re.escape(convcli.__version__)}", said)


def other_convcli(folder):
    """A folder that convcli 0.0.7 is imported from."""
    shutil.copytree(Path(convcli.__file__).parent, folder / "convcli", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "convcli/__init__.py"
    module.write_text(module.read_text().replace(f'"{convcli.__version__}"', '"0.0.7"'))
    (folder / "convcli-0.0.7.dist-info").mkdir()
    package(folder / "convcli-0.0.7.dist-info", "METADATA", "Metadata-Version: 2.1\nName: convcli\nVersion: 0.0.7\n")
    return folder


def test_a_worker_with_another_convcli_is_named(cluster, run, tmp_path):
    album(tmp_path / "in", 2)
    worker, log = cluster.worker("--no-nanny", path=[other_convcli(tmp_path / "other")])
    address = cluster.known(log)
    done = run("edge", "in", "-o", "out/", "--cluster", cluster.address)
    kill(worker)
    said = is_refused(tmp_path, done.returncode, done.stdout, done.stderr)
    assert address.removeprefix("tcp://") in said
    assert "0.0.7" in said
    assert convcli.__version__ in said


@pytest.mark.parametrize("path", [(), ("other",)], ids=["the same", "another"])
def test_when_all_workers_are_gone_a_run_says_so_and_waits_for_others(path, gates, start, tmp_path):
    """The one that comes has the same convcli, or another one."""
    names = album(tmp_path / "in", 3)
    gates.set("hold", "01.png")
    for name in ("own", *path):
        (tmp_path / name).mkdir()
    path = [other_convcli(tmp_path / name) for name in path]
    with ExitStack() as stack:
        own = Cluster(tmp_path / "own", stack)
        worker, log = own.worker("--no-nanny")
        own.known(log)
        process = start(*NEGATIVE, "in", "-o", "out/", "--cluster", own.address)
        wait_for(gates.held)
        kill(worker)
        said = iter(process.stderr.readline, b"")
        assert next(line for line in said if b"no workers" in line).startswith(b"convcli: --cluster: tcp://127.0.0.1:")
        gates.open()
        own.worker("--no-nanny", path=path)
        _, err = process.communicate(timeout=60)
    if path:
        assert process.returncode == 1
        (line,) = (line for line in lines(err) if "0.0.7" in line)
        assert f"install {convcli.__version__} there" in line
    else:
        assert process.returncode == 0
        assert all(is_negative(tmp_path / "out" / name) for name in names)


# What shows only after a while


@pytest.fixture
def waited(waiting):
    """``waited("no workers")``: the run that was begun for this."""
    if not waiting:
        pytest.skip("distributed is not installed; the extra `cluster` has it")
    return waiting.get


@pytest.mark.parametrize("name", ["nobody is there", "somebody else is there", "no workers"])
def test_where_nobody_works_a_run_gives_up(name, waited):
    run = waited(name)
    said = is_refused(run.folder, *run.end())
    assert run.address in said
    assert ("worker" in said) == (name == "no workers")


def test_a_scheduler_that_is_killed_ends_the_run(waited):
    run = waited("the scheduler dies")
    status, out, err = run.end()
    assert (status, err.count(b"\n")) == (1, 1)
    assert err.startswith(b"convcli: ")
    assert b"scheduler" in err
    written = sorted((run.folder / "out").glob("*.png"))
    assert len(written) > 3
    assert all(map(is_negative, written))
    assert lines(out) == [f"out/0{number}.png" for number in range(len(lines(out)))]
