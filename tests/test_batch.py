"""Many inputs: planned first, worked through by several processes, killed, stopped, resumed, and what is said of it."""

import contextlib
import errno
import itertools
import json
import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from convcli import files, naming, sources

NEGATIVE = ("filter", "-k", "-1", "--bias", "1")  # v becomes 255 - v
SAME = ("filter", "-k", "1")
MAIN = "\nfrom convcli.cli.app import main\nraise SystemExit(main())"
TEMPORARY = ".convcli-*.tmp"
JOURNAL = "*journal*"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

# What a program with a part replaced does before it begins; worker processes are forks of it.
BEFORE = "import os, signal, sys, time, errno\nfrom convcli import batch, jobs\nread, write = jobs.read_pictures, "
BEFORE += "jobs.write_file\ndef name(source): return source.path.name\n"
SLOW = """
def slow(source, *args, **more):
    time.sleep(0.15)
    return read(source, *args, **more)
jobs.read_pictures = slow"""
ONE_IS_SLOW = """
def slow(source, *args, **more):
    time.sleep(0.3 if name(source) == "03.png" else 0)
    return read(source, *args, **more)
jobs.read_pictures = slow"""
FIRST_IS_SLOW = """
def slow(source, *args, **more):
    time.sleep(0.3 if name(source) == "00.png" else 0)
    return read(source, *args, **more)
jobs.read_pictures = slow"""
HANGS = """
def hang(source, *args, **more):
    if name(source) != "00.png":
        time.sleep(600)
    return read(source, *args, **more)
jobs.read_pictures = hang"""
CRASHES = """
def crash(source, *args, **more):
    if name(source) in ("03.png", "05.png"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return read(source, *args, **more)
jobs.read_pictures = crash"""
VANISHES = """
def vanish(source, *args, **more):
    if name(source) == "00.png":
        os.unlink("in/05.png")
    return read(source, *args, **more)
jobs.read_pictures = vanish"""
FAILS_TO_WRITE = """
def fail(path, *args, **more):
    if path.name >= "{first}":
        raise OSError(errno.{number}, os.strerror(errno.{number}))
    return write(path, *args, **more)
jobs.write_file = fail"""


def noise(number, size=24):
    return np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)


def album(folder, count, size=24):
    """Pictures ``00.png``, ``01.png`` ... of noise; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(noise(number, size)).save(folder / f"{number:02}.png")
    return [f"{number:02}.png" for number in range(count)]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def is_negative(path, size=24):
    return np.array_equal(pixels(path), 255 - noise(int(path.stem), size))


def contents(folder, pattern="*.png"):
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def lines(data):
    return data.decode().splitlines()


class Ended(NamedTuple):
    """What a process left behind."""

    status: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def start(tmp_path):
    """``start("edge", "in", before=SLOW)``: the program on its way, in a session of its own."""
    begun = []

    def call(*args, before=""):
        command = [sys.executable, "-c", BEFORE + before + MAIN, *map(os.fspath, args)]
        pipe = subprocess.PIPE
        begun.append(
            subprocess.Popen(
                command, cwd=tmp_path, stdout=pipe, stderr=pipe, stdin=pipe, start_new_session=True, bufsize=0
            )
        )
        return begun[-1]

    yield call
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def altered(start):
    """``altered(SLOW, "edge", "in")``: what the program does with a part replaced."""

    def call(before, *args):
        process = start(*args, before=before)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    return call


def members(session):
    """The processes of a session that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def wait_until_gone(session, seconds=2.0):
    end = time.monotonic() + seconds
    while (left := members(session)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


# The plan


def test_every_option_of_a_batch_is_in_the_help(invoke):
    said = invoke("edge", "--help").stdout.decode()
    for option in ("--jobs", "--resume", "--files-from", "--null", "--failed", "--fail-fast", "--durable"):
        assert option in said


def test_a_link_in_the_output_folder_never_leads_to_an_input(invoke, tmp_path):
    album(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/01.png").symlink_to("../in/01.png")
    before = contents(tmp_path / "in")
    invoke(*NEGATIVE, "in", "-o", "out/", "-f", "-q")
    assert contents(tmp_path / "in") == before


def test_a_link_in_the_output_folder_never_makes_two_results_one(invoke, tmp_path):
    album(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/00.png").symlink_to("01.png")
    done = invoke(*NEGATIVE, "in", "-o", "out/", "-f", "-q")
    assert done.status == 2
    assert done.stderr.count(b"\n") == 1


def test_folders_that_differ_in_case_alone_are_one_on_some_disks(invoke, tmp_path):
    album(tmp_path / "in/sub", 2)
    album(tmp_path / "in/SUB", 2)
    if len(list((tmp_path / "in").iterdir())) == 1:
        pytest.skip("this is such a disk")
    done = invoke("edge", "in", "-r", "-o", "out/", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert not (tmp_path / "out").exists()


def test_two_suffixes_that_become_one_collide_in_a_folder(invoke, tmp_path):
    album(tmp_path / "in", 3)
    Image.fromarray(noise(0)).save(tmp_path / "in/01.jpg")
    done = invoke("edge", "in", "-o", "out/", "--format", "png")
    assert (done.status, done.stdout) == (2, b"")
    assert b"in/01.jpg and in/01.png would both be written to out/01.png" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_picture_of_a_folder_given_once_more_is_refused(invoke, tmp_path):
    album(tmp_path / "in", 3)
    done = invoke("edge", "in", "in/01.png", "-o", "out/")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_a_folder_through_a_template_whose_folders_have_the_names(invoke, tmp_path):
    names = album(tmp_path / "in", 3)
    done = invoke(*NEGATIVE, "in", "-o", "out/{stem}/x.png", "-q")
    assert (done.status, lines(done.stdout)) == (0, [f"out/{Path(name).stem}/x.png" for name in names])


def test_temporary_files_and_the_journal_are_no_inputs(invoke, tmp_path):
    names = album(tmp_path / "in", 2)
    (tmp_path / "in/.convcli-0-1-2.tmp").write_bytes(b"")
    shutil.copy(tmp_path / "in/00.png", tmp_path / "in/.convcli-x.png")
    done = invoke("edge", "in", "-o", "out/", "-q")
    assert lines(done.stdout) == [f"out/{name}" for name in names]


class MadeUp:
    """An entry of a folder that is not there."""

    def __init__(self, name):
        self.name, self.path = name, f"made-up/{name}"

    def is_file(self):
        return True

    def is_symlink(self):
        return False


class MadeUpFolder:
    """As ``os.scandir`` gives it."""

    def __init__(self, count):
        self.count = count

    def __enter__(self):
        return (MadeUp(f"picture-{number:06}.png") for number in range(self.count))

    def __exit__(self, *error):
        pass


def plan_made_up(count, monkeypatch, folder):
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda _: MadeUpFolder(count))
        inputs = sources.find_sources([str(folder)])
    return naming.Plan(inputs, naming.Naming(f"{folder}/out/", "edge", into_folder=True))


def test_a_plan_of_many_names_takes_little_memory(monkeypatch, tmp_path):
    plan_made_up(10, monkeypatch, tmp_path)
    taken = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        try:
            plan = plan_made_up(count, monkeypatch, tmp_path)
            assert sum(1 for _ in itertools.islice(plan, 500)) == 500
            taken.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (taken[1] - taken[0]) / 18_000 < 500


def test_a_plan_of_many_names_asks_the_disk_little(monkeypatch, tmp_path):
    asked = []
    for call in ("stat", "lstat"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *args, real=real, **more: asked.append(args) or real(*args, **more))
    counts = []
    for count in (1_000, 20_000):
        asked.clear()
        plan = plan_made_up(count, monkeypatch, tmp_path)
        jobs = iter(plan)
        assert str(next(jobs).output) == f"{tmp_path}/out/picture-000000.png"
        counts.append(len(asked))
    assert counts[1] <= counts[0] + 20


def test_a_dry_run_of_a_batch_writes_nothing(invoke, tmp_path):
    names = album(tmp_path / "in", 3)
    done = invoke("edge", "in", "-o", "out/", "--resume", "-n")
    assert (done.status, lines(done.stdout)) == (0, [f"out/{name}" for name in names])
    assert b"3 planned" in done.stderr
    assert not (tmp_path / "out").exists()


# Several at a time


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_number_of_jobs_changes_no_byte(suffix, invoke, tmp_path):
    names = album(tmp_path / "in", 9)
    for jobs in (1, 2, 3):
        done = invoke(*NEGATIVE, "in", "-o", f"out{jobs}/", "-j", str(jobs), "--format", suffix, "-q")
        wanted = [f"out{jobs}/{Path(name).stem}.{'jpeg' if suffix == 'jpg' else suffix}" for name in names]
        assert (done.status, lines(done.stdout), done.stderr) == (0, wanted, b"")
    one, two, three = (contents(tmp_path / f"out{jobs}", "*") for jobs in (1, 2, 3))
    assert one == two == three
    assert len(one) == 9


def test_results_are_what_they_should_be(invoke, tmp_path):
    names = album(tmp_path / "in", 9)
    assert invoke(*NEGATIVE, "in", "-o", "out/", "-j", "2", "-q").status == 0
    assert all(is_negative(tmp_path / "out" / name) for name in names)


def test_results_are_told_in_the_order_of_the_inputs(altered, tmp_path):
    names = album(tmp_path / "in", 6)
    done = altered(FIRST_IS_SLOW, *NEGATIVE, "in", "-o", "out/", "-j", "2", "-q")
    assert (done.status, lines(done.stdout)) == (0, [f"out/{name}" for name in names])


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_a_number_of_jobs_that_is_none(jobs, invoke, tmp_path):
    album(tmp_path / "in", 2)
    done = invoke("edge", "in", "-o", "out/", "-j", jobs)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert not (tmp_path / "out").exists()


def test_json_is_one_line_an_input_in_order(invoke, tmp_path):
    names = album(tmp_path / "in", 5)
    (tmp_path / "in/02.png").write_bytes(b"no picture")
    done = invoke("edge", "in", "-o", "out/", "-j", "2", "--json", "-q")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.status == 1
    assert [one["input"] for one in found] == [f"in/{name}" for name in names]
    assert [one["status"] for one in found] == ["written", "written", "failed", "written", "written"]
    assert found[2]["error"]
    assert found[1]["output"] == "out/01.png"


# Names from a file


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("there", [True, False])
def test_names_from_a_file_or_standard_input(null, there, invoke, here, tmp_path):
    names = album(tmp_path / "in", 3)
    listed = "".join(f"in/{name}" + ("\0" if null else "\n") for name in names).encode()
    (tmp_path / "list").write_bytes(listed)
    extra = ["-0"] if null else []
    done = invoke("edge", "--files-from", "list" if there else "-", *extra, "-o", "out/", "-q", input=listed)
    assert (done.status, done.stderr) == (0, b"")
    assert lines(done.stdout) == [f"out/{name}" for name in names]


def test_names_from_a_file_come_after_those_given(invoke, tmp_path):
    album(tmp_path / "in", 3)
    (tmp_path / "list").write_text("in/00.png\n\nin/01.png")  # an empty line, and no end of the last
    done = invoke("edge", "in/02.png", "--files-from", "list", "-o", "out/", "-q")
    assert (done.status, lines(done.stdout)) == (0, ["out/02.png", "out/00.png", "out/01.png"])


def test_odd_names_from_a_file(invoke, tmp_path):
    odd = ["a b.png", "new\nline.png", "carriage\rreturn.png", "x\x0by.png", "-x.png", os.fsdecode(b"\xff.png")]
    for name in odd:
        Image.fromarray(noise(1)).save(tmp_path / name)
    (tmp_path / "list").write_bytes(b"".join(os.fsencode(f"./{name}") + b"\0" for name in odd))
    done = invoke("edge", odd[0], "--files-from", "list", "-0", "-o", "out/", "-n")
    assert done.status == 2  # the first one twice
    (tmp_path / "list").write_bytes(b"".join(os.fsencode(f"./{name}") + b"\0" for name in odd[1:]))
    done = invoke("edge", odd[0], "--files-from", "list", "-0", "-o", "out/", "-q")
    assert done.status == 0
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == sorted(odd)


def test_a_carriage_return_in_a_listed_name_is_a_part_of_it(invoke, tmp_path):
    Image.fromarray(noise(1)).save(tmp_path / "a\rb.png")
    Image.fromarray(noise(2)).save(tmp_path / "c.png")
    (tmp_path / "list").write_bytes(b"a\rb.png\n")
    done = invoke("edge", "c.png", "--files-from", "list", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (0, b"out/c.png\nout/a\rb.png\n")


@pytest.mark.parametrize(
    ("args", "word"), [(("--files-from", "nothing"), b"--files-from"), (("-0",), b"-0"), (("--null",), b"-0")]
)
def test_a_list_that_is_not_there(args, word, invoke, tmp_path):
    album(tmp_path / "in", 2)
    done = invoke("edge", "in", *args, "-o", "out/")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(b"convcli: " + word)


def test_a_list_and_a_picture_can_not_both_come_in_on_standard_input(run, tmp_path):
    album(tmp_path / "in", 2)
    done = run("edge", "-", "--files-from", "-", "-o", "out/", input=b"in/00.png\n")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"once" in done.stderr


# What failed


def test_a_list_of_what_failed_feeds_the_next_run(invoke, tmp_path):
    album(tmp_path / "in", 5)
    for name in ("01.png", "03.png"):
        (tmp_path / "in" / name).write_bytes(b"no picture")
    done = invoke(*NEGATIVE, "in", "gone.png", "-o", "out/", "--failed", "failed", "-q")
    assert (done.status, done.stderr.count(b"\n")) == (1, 3)
    assert (tmp_path / "failed").read_text() == "in/01.png\nin/03.png\ngone.png\n"
    album(tmp_path / "in", 5)
    Image.fromarray(noise(9)).save(tmp_path / "gone.png")
    done = invoke(*NEGATIVE, "--files-from", "failed", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (0, b"out/01.png\nout/03.png\nout/gone.png\n")


def test_a_list_of_what_failed_is_empty_if_nothing_did(invoke, tmp_path):
    album(tmp_path / "in", 2)
    assert invoke("edge", "in", "-o", "out/", "--failed", "failed", "-q").status == 0
    assert (tmp_path / "failed").read_bytes() == b""


def test_a_name_with_a_newline_that_failed_can_be_fed_on(invoke, tmp_path):
    (tmp_path / "a\nb.png").write_bytes(b"no picture")
    Image.fromarray(noise(1)).save(tmp_path / "c.png")
    (tmp_path / "list").write_bytes(b"c.png\0")
    done = invoke("edge", "a\nb.png", "--files-from", "list", "-0", "-o", "out/", "--failed", "failed", "-q")
    assert done.status == 1
    assert (tmp_path / "failed").read_bytes() == b"a\nb.png\0"


@pytest.mark.parametrize("target", ["in/00.png", "out/00.png", "in"])
def test_a_list_of_what_failed_harms_nothing(target, invoke, tmp_path):
    album(tmp_path / "in", 2)
    before = contents(tmp_path / "in")
    done = invoke("edge", "in", "-o", "out/", "--failed", target)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert contents(tmp_path / "in") == before


@pytest.mark.parametrize("before", ["", ONE_IS_SLOW], ids=["", "another is at work"])
def test_fail_fast_begins_nothing_after_a_failure(before, altered, tmp_path):
    album(tmp_path / "in", 40)
    (tmp_path / "in/02.png").write_bytes(b"no picture")
    done = altered(before, "edge", "in", "-o", "out/", "-j", "2", "--fail-fast", "-q")
    assert (done.status, done.stderr.count(b"\n")) == (1, 1)
    written = [f"out/{name}" for name in contents(tmp_path / "out")]
    assert 2 <= len(written) <= 4  # what another process had begun is finished
    assert lines(done.stdout) == written


def test_the_counts_at_the_end(invoke, tmp_path):
    album(tmp_path / "in", 6)
    (tmp_path / "in/02.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/04.png").write_bytes(b"old")
    done = invoke("edge", "in", "-o", "out/", "--existing", "skip")
    assert done.status == 1
    assert lines(done.stderr)[-1] == "4 written, 1 skipped, 1 failed"
    assert (tmp_path / "out/04.png").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_input_that_may_not_be_read(invoke, tmp_path):
    album(tmp_path / "in", 3)
    (tmp_path / "in/01.png").chmod(0)
    done = invoke("edge", "in", "-o", "out/", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"out/00.png\nout/02.png\n", 1)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_input_that_vanishes_costs_one_line(jobs, altered, tmp_path):
    names = album(tmp_path / "in", 8)
    done = altered(VANISHES, "edge", "in", "-o", "out/", "-j", jobs, "-q")
    assert (done.status, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"convcli: in/05.png: ")
    assert sorted(contents(tmp_path / "out")) == [name for name in names if name != "05.png"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_crash_costs_the_picture_that_caused_it_alone(jobs, altered, tmp_path):
    names = album(tmp_path / "in", 10)
    done = altered(CRASHES, *NEGATIVE, "in", "-o", "out/", "-j", jobs, "-q", "--failed", "failed")
    wanted = [name for name in names if name not in ("03.png", "05.png")]
    assert done.status == 1
    assert [line.split(": ")[1] for line in lines(done.stderr)] == ["in/03.png", "in/05.png"]
    assert lines(done.stdout) == [f"out/{name}" for name in wanted]
    assert all(is_negative(tmp_path / "out" / name) for name in wanted)
    assert (tmp_path / "failed").read_text() == "in/03.png\nin/05.png\n"


@linux
def test_workers_that_are_killed_cost_nothing_but_time(start, tmp_path):
    names = album(tmp_path / "in", 6)
    process = start(*NEGATIVE, "in", "-o", "out/", "-j", "2", "-q", before=SLOW)
    assert process.stdout.readline() == b"out/00.png\n"
    workers = set(members(process.pid)) - {process.pid}
    assert workers
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):  # once one is dead the others are ended
            os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, lines(out), err) == (0, [f"out/{name}" for name in names[1:]], b"")
    assert all(is_negative(tmp_path / "out" / name) for name in names)
    assert wait_until_gone(process.pid) == []


# A disk that takes no more


@pytest.mark.parametrize(
    ("number", "jobs"), [("ENOSPC", "1"), ("ENOSPC", "2"), ("EROFS", "2"), ("EDQUOT", "1"), ("EACCES", "2")]
)
def test_a_disk_that_is_full_or_read_only_ends_the_run_at_once(number, jobs, altered, tmp_path):
    album(tmp_path / "in", 30)
    before = FAILS_TO_WRITE.format(first="03", number=number)
    done = altered(before, *NEGATIVE, "in", "-o", "out/", "-j", jobs, "-q")
    assert (done.status, done.stderr.count(b"\n")) == (1, 1)
    assert b"03.png: can't write out/03.png: " in done.stderr
    assert os.strerror(getattr(errno, number)).lower().encode() in done.stderr.lower()
    assert lines(done.stdout) == ["out/00.png", "out/01.png", "out/02.png"]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["00.png", "01.png", "02.png"]


def limited(blocks, cwd, *args):
    command = f"ulimit -f {blocks}; {shlex.quote(sys.executable)} -m convcli {shlex.join(args)}"
    return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, timeout=60)


def test_a_file_that_may_not_be_so_large_fails_alone(tmp_path):
    album(tmp_path / "in", 6)
    Image.fromarray(noise(3, 200)).save(tmp_path / "in/03.png")
    done = limited(8, tmp_path, *NEGATIVE, "in", "-o", "out/", "-j", "2", "-q")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"convcli: in/03.png: can't write out/03.png")
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [f"0{n}.png" for n in (0, 1, 2, 4, 5)]


def test_a_journal_that_can_not_grow_is_one_line(tmp_path):
    album(tmp_path / "in", 40)
    done = limited(4, tmp_path, "edge", "in", "-o", "out/", "--resume", "-q")
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"journal" in done.stderr


def test_an_output_folder_that_is_a_file_is_one_line(invoke, tmp_path):
    album(tmp_path / "in", 10)
    (tmp_path / "out").write_text("a file")
    done = invoke("edge", "in", "-o", "out/", "-q")
    assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)
    assert done.status in (1, 2)
    assert (tmp_path / "out").read_text() == "a file"


# Resume


@pytest.fixture
def resumed(invoke, tmp_path):
    """``resumed("-q")``: the same run again; the names that it wrote."""
    album(tmp_path / "in", 5)

    def call(*args, verb=NEGATIVE, given="in"):
        done = invoke(*verb, given, "-o", "out/", "--resume", "-q", *args)
        assert (done.status, done.stderr) == (0, b"")
        return [Path(line).name for line in lines(done.stdout)]

    assert call() == [f"0{n}.png" for n in range(5)]
    return call


def test_a_finished_run_has_nothing_left_to_do(resumed, tmp_path):
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert resumed() == []
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("args", [("-j", "1"), ("-v",), ("--durable",), ("--threads", "1"), ("--max-pixels", "5000")])
def test_how_a_run_goes_is_no_reason_to_do_it_again(args, resumed):
    assert resumed(*args) == []


def test_with_strip_how_a_run_goes_is_no_reason_either(resumed):
    assert len(resumed("--strip")) == 5
    assert resumed("--strip", "-j", "1") == []


def test_a_new_input_is_done(resumed, tmp_path):
    shutil.copy(tmp_path / "in/01.png", tmp_path / "in/99.png")
    assert resumed() == ["99.png"]


def test_a_missing_output_is_done_again(resumed, tmp_path):
    (tmp_path / "out/03.png").unlink()
    assert resumed() == ["03.png"]
    assert is_negative(tmp_path / "out/03.png")


def test_an_input_of_another_time_is_done_again(resumed, tmp_path):
    os.utime(tmp_path / "in/02.png", (1, 1))
    assert resumed() == ["02.png"]
    assert resumed() == []


def test_an_input_of_another_size_is_done_again(resumed, tmp_path):
    path = tmp_path / "in/02.png"
    found = path.stat()
    Image.fromarray(noise(77, 30)).save(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert resumed() == ["02.png"]
    assert np.array_equal(pixels(tmp_path / "out/02.png"), 255 - noise(77, 30))


def test_another_input_with_the_same_name_size_and_time_is_done(resumed, tmp_path):
    shutil.copytree(tmp_path / "in", tmp_path / "other")
    for name in contents(tmp_path / "in"):
        found = (tmp_path / "in" / name).stat()
        os.utime(tmp_path / "other" / name, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert len(resumed(given="other")) == 5


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        (SAME, ()),
        (("edge",), ()),
        (NEGATIVE, ("--bias", "0.9")),
        (NEGATIVE, ("--stride", "2")),
        (NEGATIVE, ("--pool", "max:2")),
        (NEGATIVE, ("--mix", "50%")),
        (NEGATIVE, ("--depth", "16")),
        (NEGATIVE, ("--strip",)),
        (NEGATIVE, ("--png", "small")),
        (NEGATIVE, ("--frame", "0")),
    ],
    ids=lambda value: " ".join(value) or "-",
)
def test_what_another_recipe_makes_is_done_again(verb, args, resumed, here):
    assert len(resumed(*args, verb=verb)) == 5
    assert resumed(*args, verb=verb) == []


def test_another_filter_with_strip_is_done_again(resumed):
    assert len(resumed("--strip", verb=("edge",))) == 5
    assert len(resumed("--strip", verb=("laplacian",))) == 5


def test_another_quality_is_done_again(invoke, tmp_path):
    album(tmp_path / "in", 2)
    common = ("edge", "in", "-o", "out/", "--format", "jpeg", "--resume", "-q", "--quality")
    assert len(lines(invoke(*common, "30").stdout)) == 2
    assert len(lines(invoke(*common, "95").stdout)) == 2
    assert invoke(*common, "95").stdout == b""


def test_a_changed_kernel_file_is_done_again(invoke, tmp_path):
    album(tmp_path / "in", 2)
    common = ("filter", "in", "-k", "kernel.txt", "-o", "out/", "--resume", "-q")
    (tmp_path / "kernel.txt").write_text("0 0 0\n0 1 0\n0 0 0\n")
    assert len(lines(invoke(*common).stdout)) == 2
    assert invoke(*common).stdout == b""
    (tmp_path / "kernel.txt").write_text("0 0 0\n1 0 0\n0 0 0\n")
    assert len(lines(invoke(*common).stdout)) == 2


def test_what_failed_is_tried_again(invoke, tmp_path):
    album(tmp_path / "in", 3)
    good = (tmp_path / "in/01.png").read_bytes()
    (tmp_path / "in/01.png").write_bytes(b"no picture")
    assert invoke(*NEGATIVE, "in", "-o", "out/", "--resume", "-q").status == 1
    assert invoke(*NEGATIVE, "in", "-o", "out/", "--resume", "-q").status == 1
    (tmp_path / "in/01.png").write_bytes(good)
    done = invoke(*NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    assert (done.status, done.stdout) == (0, b"out/01.png\n")


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_torn_last_line_of_the_journal_costs_one_input_at_most(cut, resumed, here, tmp_path):
    [journal] = (tmp_path / "out").glob(f".{JOURNAL}")
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert len(resumed()) <= 1
    assert resumed() == []


def test_a_journal_of_rubbish_is_no_reason_to_give_up(resumed, tmp_path):
    [journal] = (tmp_path / "out").glob(f".{JOURNAL}")
    journal.write_bytes(b'\xff\xfe\0\n[]\n3\n{"output": 1}\nnull\n' + journal.read_bytes())
    assert resumed() == []


@pytest.mark.parametrize("existing", ["error", "skip"])
def test_resume_never_overwrites_what_it_did_not_make(existing, invoke, tmp_path):
    album(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/01.png").write_bytes(b"somebody's")
    for _ in range(3):
        invoke("edge", "in", "-o", "out/", "--resume", "--existing", existing, "-q")
        assert (tmp_path / "out/01.png").read_bytes() == b"somebody's"


def test_resume_after_a_dry_run_never_overwrites_either(invoke, tmp_path):
    album(tmp_path / "in", 3)
    invoke("edge", "in", "-o", "out/", "--resume", "-n", "-q")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/01.png").write_bytes(b"somebody's")
    invoke("edge", "in", "-o", "out/", "--resume", "-q")
    assert (tmp_path / "out/01.png").read_bytes() == b"somebody's"


@pytest.mark.parametrize("args", [(), ("--in-place",), ("-o", "-")])
def test_resume_needs_an_output_folder(args, invoke, tmp_path):
    album(tmp_path, 1)
    before = contents(tmp_path)
    done = invoke("edge", "00.png", "--resume", *args)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(b"convcli: --resume: ")
    assert contents(tmp_path, "*") == before


@linux
def test_two_resumed_runs_at_once_in_one_folder_are_one_too_many(start, invoke, tmp_path):
    album(tmp_path / "in", 4)
    first = start(*NEGATIVE, "in", "-o", "out/", "--resume", "-q", before=HANGS)
    assert first.stdout.readline() == b"out/00.png\n"
    done = invoke(*NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"another run" in done.stderr
    first.kill()  # and its workers are still there for a moment
    first.wait()
    done = invoke(*NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    assert (done.status, lines(done.stdout)) == (0, ["out/01.png", "out/02.png", "out/03.png"])


@linux
def test_a_disk_that_knows_no_locks_keeps_no_run_waiting(altered, tmp_path):
    album(tmp_path / "in", 2)
    broken = """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
from convcli import journal
journal.PATIENCE = 1000"""
    done = altered(broken, *NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    assert (done.status, lines(done.stdout), done.stderr) == (0, ["out/00.png", "out/01.png"], b"")


def test_two_runs_at_once_leave_every_file_whole(start, tmp_path):
    names = album(tmp_path / "in", 30)
    both = [start(*NEGATIVE, "in", "-o", "out/", "-f", "-j", "2", "-q") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err, len(lines(out))) == (0, b"", 30)
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == names
    assert all(is_negative(tmp_path / "out" / name) for name in names)


# Killed


@linux
@pytest.mark.parametrize(("whole", "kills"), [(True, 15), (False, 5)], ids=["with its workers", "alone"])
def test_kill_leaves_every_target_old_or_new_and_whole(whole, kills, start, run, tmp_path):
    count, size, chance = 24, 48, random.Random(whole)
    names = album(tmp_path / "in", count, size)
    shutil.copytree(tmp_path / "in", tmp_path / "out")
    for turn in range(kills):
        verb = NEGATIVE if turn % 2 == 0 else SAME
        process = start(*verb, "in", "-o", "out/", "-f", "-j", "2", "-q")
        for _ in range(chance.randrange(1, count)):
            process.stdout.readline()
        time.sleep(chance.random() / 500)
        (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        assert wait_until_gone(process.pid) == []
        for name in names:
            found, old = pixels(tmp_path / "out" / name), noise(int(name[:2]), size)
            assert np.array_equal(found, old) or np.array_equal(found, 255 - old)
    done = run(*NEGATIVE, "in", "-o", "out/", "-f", "-q")
    assert done.returncode == 0
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == names
    assert all(is_negative(tmp_path / "out" / name, size) for name in names)


@linux
def test_a_run_that_is_killed_again_and_again_does_each_input_once(start, tmp_path):
    names, chance = album(tmp_path / "in", 96), random.Random(7)
    told, finished = [], False
    for _ in range(24):
        process = start(*NEGATIVE, "in", "-o", "out/", "--resume", "-j", "2", "-q")
        lately = [line for _ in range(chance.randrange(6, 16)) if (line := process.stdout.readline())]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        told.append([*lately, *process.stdout.readlines()])
        status = process.wait()
        assert wait_until_gone(process.pid) == []
        assert all(is_negative(path) for path in (tmp_path / "out").glob("*.png"))
        if finished := status == 0:
            break
    assert finished
    assert len(told) > 2
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == names
    assert list((tmp_path / "out").glob(TEMPORARY)) == []
    for one, following in itertools.pairwise(told):
        assert len(set(one[:-1]) & set(following)) == 0  # what was told was noted, but perhaps the last


@linux
@pytest.mark.parametrize("args", [("-f",), ("--existing", "skip"), ("--resume",)])
def test_stale_temporary_files_are_cleared_by_the_next_run(args, invoke, tmp_path):
    names = album(tmp_path / "in", 3)
    assert invoke(*NEGATIVE, "in", "-o", "out/", "-q", *args).status == 0
    script = (
        "import os, pathlib\nfrom convcli.files import write_file\n"
        "def pieces():\n    yield b'x'\n    os.kill(os.getpid(), 9)\n"
        "write_file(pathlib.Path('out/02.png'), pieces(), overwrite=True)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert len(list((tmp_path / "out").glob(TEMPORARY))) == 1
    assert invoke(*NEGATIVE, "in", "-o", "out/", "-q", *args).status == 0
    assert sorted(contents(tmp_path / "out")) == names
    assert list((tmp_path / "out").glob(TEMPORARY)) == []


def test_a_temporary_file_of_a_live_process_is_left_alone(invoke, tmp_path):
    album(tmp_path / "in", 2)

    def pieces():
        assert invoke("edge", "in", "-o", "out/", "-q").status == 0
        yield b"whole"

    (tmp_path / "out").mkdir()
    files.write_file(tmp_path / "out/mine.png", pieces(), overwrite=False)
    assert (tmp_path / "out/mine.png").read_bytes() == b"whole"


def test_durable_waits_for_the_disk(invoke, monkeypatch, tmp_path):
    album(tmp_path, 1)
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert invoke("edge", "00.png", "-o", "a.png", "-q").status == 0
    assert synced == []
    assert invoke("edge", "00.png", "-o", "b.png", "-q", "--durable").status == 0
    assert synced.count("file") == 1
    if sys.platform == "linux":
        assert synced == ["file", "folder"]


# Stopped


@linux
@pytest.mark.parametrize(
    ("number", "everyone"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)]
)
def test_a_signal_finishes_what_is_running_and_no_more(number, everyone, start, tmp_path):
    album(tmp_path / "in", 30)
    process = start(*NEGATIVE, "in", "-o", "out/", "-j", "2", before=SLOW)
    first = process.stdout.readline()
    (os.killpg if everyone else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    written = sorted(contents(tmp_path / "out"))
    assert process.returncode == 128 + number
    assert lines(first + out) == [f"out/{name}" for name in written]
    assert 1 <= len(written) <= 7
    assert lines(err)[-1] == f"{len(written)} written, {30 - len(written)} left"
    assert b"Traceback" not in err
    assert all(is_negative(tmp_path / "out" / name) for name in written)
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == written
    assert wait_until_gone(process.pid) == []


@linux
def test_what_does_not_finish_after_a_signal_is_dropped(start, tmp_path):
    album(tmp_path / "in", 6)
    process = start(*NEGATIVE, "in", "-o", "out/", "-j", "2", before=HANGS + "\nbatch.GRACE = 0.1")
    assert process.stdout.readline() == b"out/00.png\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert lines(err)[-1] == "1 written, 5 left"
    assert b"Traceback" not in err
    assert wait_until_gone(process.pid) == []


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_everything_at_once(number, start, tmp_path):
    album(tmp_path / "in", 6)
    process = start(*NEGATIVE, "in", "-o", "out/", "-j", "2", before=HANGS + "\nbatch.GRACE = 1000")
    assert process.stdout.readline() == b"out/00.png\n"
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert wait_until_gone(process.pid) == []
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["00.png"]


def test_a_stopped_run_is_resumed(start, run, tmp_path):
    names = album(tmp_path / "in", 12)
    process = start(*NEGATIVE, "in", "-o", "out/", "-j", "2", "--resume", "-q", before=SLOW)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    done = run(*NEGATIVE, "in", "-o", "out/", "--resume", "-q")
    assert done.returncode == 0
    assert lines(first + out + done.stdout) == [f"out/{name}" for name in names]


# What is said


def test_without_a_terminal_there_is_a_plain_line_now_and_then(altered, tmp_path):
    album(tmp_path / "in", 30)
    done = altered("from convcli.cli import progress\nprogress.PAUSE = 0", "edge", "in", "-o", "out/", "-j", "2")
    said = lines(done.stderr)
    assert done.status == 0
    assert any(line.startswith("15 of 30 files, ") and "files/s" in line and line.endswith("left") for line in said)
    assert said[-1] == "30 written"
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr


def test_quiet_says_nothing(altered, tmp_path):
    album(tmp_path / "in", 30)
    done = altered("from convcli.cli import progress\nprogress.PAUSE = 0", "edge", "in", "-o", "out/", "-q")
    assert (done.status, done.stderr, len(lines(done.stdout))) == (0, b"", 30)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_has_a_bar(quiet, tmp_path):
    album(tmp_path / "in", 30)
    (tmp_path / "in/07.png").write_bytes(b"no picture")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "convcli", "edge", "in", "-o", "out/", *(["-q"] if quiet else [])]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
        out = process.stdout.read()
    os.close(master)
    assert (process.returncode, len(lines(out))) == (1, 29)
    assert said.count(b"convcli: in/07.png: ") == 1
    assert (b"/30" in said) == (b"29 written, 1 failed" in said) == (not quiet)
    assert (b"\x1b[2K" in said) == (not quiet)


def test_it_shows_whether_a_worker_that_died_had_written(tmp_path):
    """It may die between writing its file and saying so."""
    from convcli.batch import _handed_out
    from convcli.crew import was_written
    from convcli.images.formats import FORMATS
    from convcli.jobs import Settings
    from convcli.naming import Job
    from convcli.sources import Source

    settings = Settings()
    job = _handed_out(Job(Source("a.png"), tmp_path / "b.png", FORMATS["PNG"]), settings, set())
    assert not was_written(job, settings)
    (tmp_path / "b.png").write_bytes(b"by the worker")
    assert was_written(job, settings)
    job = _handed_out(job, settings, set())
    assert not was_written(job, settings)
    (tmp_path / "b.png").write_bytes(b"by another one")
    assert was_written(job, settings)
