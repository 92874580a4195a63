"""A folder that is watched, runs that are only planned, and how much memory may be used."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

NEGATIVE = ("filter", "-k", "-1", "--bias", "1")  # v becomes 255 - v
PATIENCE = 10.0  # seconds until something is taken for not happening
A_WHILE = 0.3  # seconds in which a mistake would have happened
QUICK = "from convcli import watching\nwatching.SETTLED, watching.STEP = 0.05, 20"
MAIN = "\nfrom convcli.cli.app import main\nraise SystemExit(main())"


def noise(number, height=24, width=32):
    return np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)


def save(path, number, **size):
    """A picture of noise, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.parent / f".{path.name}"
    Image.fromarray(noise(number, **size)).save(hidden, "JPEG" if path.suffix == ".jpg" else "PNG")
    hidden.replace(path)


def album(folder, count, **size):
    for number in range(count):
        save(folder / f"{number}.png", number, **size)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def is_negative(path, number, **size):
    """Whether a file is whole and the negative of a picture of noise."""
    try:
        return np.array_equal(pixels(path), 255 - noise(number, **size))
    except OSError:
        return False


def names(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def lines(data):
    return data.decode().splitlines()


# Watching


class Ended(NamedTuple):
    """What a run left behind."""

    status: int
    stdout: list[str]
    stderr: list[str]


class Watch(NamedTuple):
    """A run on its way that watches a folder."""

    process: "subprocess.Popen[bytes]"

    def said(self, seconds=PATIENCE):
        """The next line on standard output; '' if there is none for so long."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode().removesuffix("\n") if ready else ""

    def complained(self, seconds=PATIENCE):
        """The next line on standard error."""
        ready, _, _ = select.select([self.process.stderr], [], [], seconds)
        return self.process.stderr.readline().decode().removesuffix("\n") if ready else ""

    def end(self, number=signal.SIGINT):
        """Stop it, as Ctrl-C does, and what else it said."""
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in err
        return Ended(self.process.returncode, lines(out), lines(err))


@pytest.fixture
def watch(tmp_path):
    """``watch("edge", "in", "-o", "out/")``: the program as it watches, in a session of its own."""
    pytest.importorskip("watchfiles", reason="the extra convcli[watch] is not installed")
    if os.name != "posix":
        pytest.skip("there are no signals to stop it with")
    begun = []

    def call(*args, before=QUICK):
        command = [sys.executable, "-c", before + MAIN, *map(os.fspath, args), "--watch"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, start_new_session=True, bufsize=0)
        begun.append(process)
        return Watch(process)

    yield call
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def eventually(is_so):
    """Whether something becomes true."""
    end = time.monotonic() + PATIENCE
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def test_what_is_there_is_done_then_what_arrives(watch, tmp_path):
    album(tmp_path / "in", 2)
    (tmp_path / "in/notes.txt").write_text("no picture")
    album(tmp_path / "in/sub", 1)  # without -r it is left alone
    save(tmp_path / "in/5.png", 5)  # as is, without a word, what has an output
    (tmp_path / "out").mkdir()
    (tmp_path / "out/5.png").write_text("mine")
    run = watch(*NEGATIVE, "in", "-o", "out/")
    assert [run.said(), run.said()] == ["out/0.png", "out/1.png"]
    save(tmp_path / "in/sub/6.png", 6)
    save(tmp_path / "in/7.png", 7)  # at once: nothing may come between the first look and the watch
    assert run.said() == "out/7.png"
    assert all(is_negative(tmp_path / f"out/{one}.png", one) for one in (0, 1, 7))
    done = run.end(signal.SIGTERM)
    assert (done.status, done.stdout) == (143, [])
    assert "3 written" in done.stderr[-1]
    assert not any("notes" in line or "5.png" in line for line in done.stderr)
    assert (tmp_path / "out/5.png").read_text() == "mine"
    assert names(tmp_path / "out") == ["0.png", "1.png", "5.png", "7.png"]


def test_what_changes_is_done_again(watch, tmp_path):
    """If its result is of this run; another's is an error of one line, as without a watch."""
    album(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/1.png").write_text("mine")
    run = watch(*NEGATIVE, "in", "-o", "out/", "-q")
    assert run.said() == "out/0.png"
    for number in (5, 6):
        save(tmp_path / "in/0.png", number)
        assert run.said() == "out/0.png"
        assert is_negative(tmp_path / "out/0.png", number)
    save(tmp_path / "in/1.png", 8)
    line = run.complained()
    assert line.startswith("convcli: in/1.png: ")
    assert "exists" in line
    save(tmp_path / "in/2.png", 2)
    assert run.said() == "out/2.png"
    assert run.end() == (130, [], [])
    assert (tmp_path / "out/1.png").read_text() == "mine"


def test_what_has_other_attributes_is_not_done_again(watch, tmp_path):
    album(tmp_path / "in", 1)
    run = watch(*NEGATIVE, "in", "-o", "out/", "-q")
    assert run.said() == "out/0.png"
    (tmp_path / "in/0.png").chmod(0o600)
    save(tmp_path / "in/1.png", 1)
    assert run.said() == "out/1.png"
    (tmp_path / "out/0.png").unlink()  # unless there is no result
    (tmp_path / "in/0.png").chmod(0o644)
    assert run.said() == "out/0.png"
    assert run.end() == (130, [], [])


@pytest.mark.parametrize("seconds", [None, 1_700_000_000])
def test_what_is_written_in_place_is_done_again(seconds, watch, tmp_path):
    """Also if its size is the same, and its time where that is in seconds."""
    picture = tmp_path / "in/0.pgm"
    picture.parent.mkdir()
    run = watch(*NEGATIVE, "in", "-o", "out/", "--format", "png", "-q")
    for number in (3, 4):
        picture.write_bytes(b"P5 32 24 255\n" + noise(number).tobytes())
        if seconds:
            os.utime(picture, (seconds, seconds))
        assert run.said() == "out/0.png"
        assert is_negative(tmp_path / "out/0.png", number)
    assert run.end() == (130, [], [])


def test_what_was_there_before_is_replaced_if_asked(watch, tmp_path):
    album(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/0.png").write_text("mine")
    run = watch(*NEGATIVE, "in", "-o", "out/", "-f", "-q")
    save(tmp_path / "in/first.png", 3)
    assert any(run.said() == "out/first.png" for _ in range(2))
    save(tmp_path / "in/0.png", 9)
    assert run.said() == "out/0.png"
    assert is_negative(tmp_path / "out/0.png", 9)
    run.end()


def test_what_was_there_before_is_kept_beside_a_new_name(watch, tmp_path):
    album(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/0.png").write_text("mine")
    run = watch(*NEGATIVE, "in", "-o", "out/", "--existing", "rename", "-q")
    save(tmp_path / "in/first.png", 3)
    assert run.said() == "out/first.png"
    for number in (8, 9):
        save(tmp_path / "in/0.png", number)
        assert run.said() == "out/0-1.png"
        assert is_negative(tmp_path / "out/0-1.png", number)
    run.end()
    assert (tmp_path / "out/0.png").read_text() == "mine"


def test_what_was_there_before_is_skipped_if_asked(watch, tmp_path):
    album(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/0.png").write_text("mine")
    run = watch(*NEGATIVE, "in", "-o", "out/", "--existing", "skip", "-q")
    save(tmp_path / "in/1.png", 1)
    assert run.said() == "out/1.png"
    save(tmp_path / "in/0.png", 9)
    save(tmp_path / "in/1.png", 4)
    assert run.said() == "out/1.png"
    assert run.end() == (130, [], [])
    assert (tmp_path / "out/0.png").read_text() == "mine"
    assert is_negative(tmp_path / "out/1.png", 4)


def test_a_file_that_is_copied_slowly_is_done_when_it_is_whole(watch, tmp_path):
    album(tmp_path / "in", 1)
    save(tmp_path / "slow.png", 4, height=100)
    data = (tmp_path / "slow.png").read_bytes()
    run = watch(*NEGATIVE, "in", "-o", "out/", "-q", before=QUICK.replace("0.05", "0.5"))
    assert run.said() == "out/0.png"
    with (tmp_path / "in/slow.png").open("wb", buffering=0) as file:
        for start in range(0, len(data), len(data) // 6):
            file.write(data[start : start + len(data) // 6])
            time.sleep(0.12)
    assert run.said() == "out/slow.png"
    assert eventually(lambda: is_negative(tmp_path / "out/slow.png", 4, height=100))
    assert run.end() == (130, [], [])


def test_a_broken_picture_costs_one_line(watch, tmp_path):
    """What became of all is in the report and the list of the failed ones at the end."""
    album(tmp_path / "in", 1)
    (tmp_path / "in/1.png").write_bytes((tmp_path / "in/0.png").read_bytes()[:-300])
    run = watch(*NEGATIVE, "in", "-o", "out/", "-q", "--report", "r.json", "--failed", "failed.txt")
    assert run.said() == "out/0.png"
    assert run.complained().startswith("convcli: in/1.png: ")
    (tmp_path / "in/2.png").write_bytes(b"no picture at all")
    assert run.complained().startswith("convcli: in/2.png: ")
    save(tmp_path / "in/1.png", 1)  # mended
    assert run.said() == "out/1.png"
    assert run.end() == (130, [], [])
    assert names(tmp_path / "out") == ["0.png", "1.png"]
    became = [("0", "written"), ("1", "failed"), ("2", "failed"), ("1", "written")]
    records = json.loads((tmp_path / "r.json").read_text())
    assert [(Path(one["input"]).stem, one["status"]) for one in records] == became
    assert "in/2.png" in (tmp_path / "failed.txt").read_text().splitlines()


@pytest.mark.parametrize(("output", "starts"), [("in/out/", 1), ("in/{stem}.{command}.jpg", 2)])
def test_results_among_the_inputs_are_no_inputs(output, starts, watch, tmp_path):
    """Nor after a second start."""
    album(tmp_path / "in", 2)
    for number in (2, 3)[:starts]:
        run = watch("edge", "in", "-r", "-o", output, "-q")
        assert all(run.said() for _ in range(2 if number == 2 else 0))
        save(tmp_path / f"in/{number}.png", number)
        assert Path(run.said()).name.count(f"{number}") == 1
        assert run.said(A_WHILE) == ""
        assert len(names(tmp_path / "in")) == 2 * (number + 1)
        assert run.end() == (130, [], [])


def test_sub_folders_that_come_are_watched_with_r(watch, tmp_path):
    album(tmp_path / "in", 1)
    album(tmp_path / "elsewhere/deep", 1)
    run = watch(*NEGATIVE, "in", "-r", "-o", "out/", "-q")
    assert run.said() == "out/0.png"
    save(tmp_path / "in/new/5.png", 5)
    assert run.said() == "out/new/5.png"
    (tmp_path / "elsewhere").rename(tmp_path / "in/moved")
    assert run.said() == "out/moved/deep/0.png"
    save(tmp_path / "in/.hidden/6.png", 6)
    save(tmp_path / "in/.7.png", 7)
    (tmp_path / "in/link").symlink_to(tmp_path / "in/new", target_is_directory=True)
    save(tmp_path / "in/new/8.png", 8)
    assert run.said() == "out/new/8.png"
    assert run.end() == (130, [], [])
    assert names(tmp_path / "out") == ["0.png", "moved/deep/0.png", "new/5.png", "new/8.png"]


def test_an_empty_folder_is_waited_at(watch, tmp_path):
    """Several arrive at once, and each is told of once; one goes away, one gets another name."""
    (tmp_path / "in").mkdir()
    album(tmp_path / "more", 12)
    run = watch("run", "gray | edge", "in", "-o", "out/", "-j", "2", "--json", "-q")
    time.sleep(0.5)  # whether they are there when it begins or come later is the same
    assert run.process.poll() is None
    for path in (tmp_path / "more").iterdir():
        shutil.copy(path, tmp_path / "in")
    records = [json.loads(run.said()) for _ in range(12)]
    assert sorted(one["input"] for one in records) == sorted(f"in/{number}.png" for number in range(12))
    assert {one["status"] for one in records} == {"written"}
    (tmp_path / "in/0.png").unlink()
    (tmp_path / "in/1.png").rename(tmp_path / "in/new.png")
    assert json.loads(run.said())["input"] == "in/new.png"
    assert run.end() == (130, [], [])
    assert len(names(tmp_path / "out")) == 13


def test_what_comes_while_the_first_ones_are_done_is_not_missed(watch, tmp_path):
    before = f"""{QUICK}
import time
from convcli import jobs
read = jobs.read_pictures
def slow(*args, **more):
    time.sleep(0.1)
    return read(*args, **more)
jobs.read_pictures = slow"""
    album(tmp_path / "in", 4)
    run = watch(*NEGATIVE, "in", "-o", "out/", "-j", "1", "-q", before=before)
    assert run.said() == "out/0.png"
    save(tmp_path / "in/8.png", 8)
    save(tmp_path / "in/0.png", 9)
    assert {run.said() for _ in range(5)} == {f"out/{number}.png" for number in (0, 1, 2, 3, 8)}
    assert is_negative(tmp_path / "out/0.png", 9)
    assert run.end() == (130, [], [])


def test_two_that_would_have_one_name(watch, tmp_path):
    """The result of another input is not taken for an older one of this."""
    album(tmp_path / "in", 1)
    run = watch(*NEGATIVE, "in", "-o", "out/", "--format", "png", "-q")
    assert run.said() == "out/0.png"
    save(tmp_path / "in/0.jpg", 5)
    assert run.complained().startswith("convcli: in/0.jpg: ")
    save(tmp_path / "in/1.png", 1)
    assert run.said() == "out/1.png"
    assert run.end() == (130, [], [])
    assert is_negative(tmp_path / "out/0.png", 0)


@pytest.fixture
def refused(invoke):
    """``refused("edge", "a.png", "--watch")``: the one line of what is wrong before any work; never waits."""

    def too_long(*_):
        raise TimeoutError("it watches")

    def call(*args):
        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(5)
        try:
            done = invoke(*args)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
        return done.stderr.decode()

    return call


@pytest.mark.parametrize(
    "args",
    [
        ("in/0.png", "-o", "out/"),
        ("in", "in/0.png", "-o", "out/"),
        ("-", "-o", "out/"),
        ("[1 2; 3 4]", "-o", "out/"),
        ("nothing", "-o", "out/"),
        ("in",),
        ("in", "-o", "-"),
        ("in", "-o", "b.png"),
        ("in", "-o", "memory://out/"),
    ],
)
def test_what_can_not_be_watched(args, refused, tmp_path):
    pytest.importorskip("watchfiles", reason="the extra convcli[watch] is not installed")
    album(tmp_path / "in", 2)
    assert refused("edge", *args, "--watch").startswith("convcli: ")
    assert names(tmp_path) == ["in/0.png", "in/1.png"]


def test_without_the_extra_there_is_one_line(refused, monkeypatch, tmp_path):
    album(tmp_path / "in", 1)
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    line = refused("edge", "in", "-o", "out/", "--watch")
    assert line.startswith("convcli: --watch")
    assert "convcli[watch]" in line
    assert names(tmp_path) == ["in/0.png"]


# Plans


def claims(height, width, bits=8, kind=0):
    """A PNG that says how large it is, and no more."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([bits, kind, 0, 0, 0]))
    return start + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def line_of(name, stderr):
    """The only line about an input."""
    (found,) = (line for line in lines(stderr) if line.startswith(name))
    return found


def test_a_plan_says_the_sizes_of_each_and_of_all(invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(claims(3000, 4000) + bytes(500_000))
    (tmp_path / "b.png").write_bytes(claims(1000, 500, kind=2) + bytes(20_000))
    done = invoke("filter", "a.png", "b.png", "-k", "1 1; 1 1", "-p", "valid", "-s", "2x1", "-o", "out/", "-n")
    assert (done.status, done.stdout) == (0, b"out/a.png\nout/b.png\n")
    first, second = line_of("a.png", done.stderr), line_of("b.png", done.stderr)
    assert re.search(r"3000x4000\b.*500 kB.*1500x3999\b", first)
    assert re.search(r"1000x500\b.*20\.1 kB.*500x499\b", second)
    last = lines(done.stderr)[-1]
    assert re.search(r"\b2\b", last)  # files
    assert re.search(r"\b12\.5\b", last)  # megapixels
    assert re.search(r"\b520 kB", last)
    assert names(tmp_path) == ["a.png", "b.png"]


def test_a_plan_of_many_has_a_line_for_each_of_twenty_at_most(invoke, tmp_path):
    for number in range(21):
        (tmp_path / f"{number:02}.png").write_bytes(claims(100, 200))
    args = "edge", *(f"{number:02}.png" for number in range(21)), "-o", "out/", "-j", "1", "-n"
    for more, most in ((), 20), (("-v",), 21):
        done = invoke(*args, *more)
        told = [line for line in lines(done.stderr) if re.match(r"\d\d\.png", line)]
        assert len(told) <= most if most == 20 else len(told) == most
        assert done.stdout == b"".join(b"out/%02d.png\n" % number for number in range(21))
        assert re.search(r"\b21\b.*\b0\.42\b", lines(done.stderr)[-1])


def test_a_plan_needs_no_pixels(invoke, tmp_path):
    """As large a picture as no memory holds."""
    (tmp_path / "a.png").write_bytes(claims(2_000_000, 2_000_000))
    done = invoke("edge", "a.png", "-n", "--max-pixels", str(10**13), "--max-memory", "1000000TB")
    assert (done.status, done.stdout) == (0, b"a.edge.png\n")
    assert "2000000x2000000" in line_of("a.png", done.stderr)


def test_a_plan_finds_what_its_headers_say_is_wrong(invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(claims(30, 40))
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(claims(2, 2))
    (tmp_path / "d.png").write_bytes(claims(30_000, 30_000))
    args = "filter", "a.png", "b.png", "c.png", "d.png", "-k", "box:5", "-p", "valid", "-o", "out/", "-n"
    done = invoke(*args, "-q")
    assert (done.status, done.stdout) == (1, b"out/a.png\n")
    assert [line.partition(": ")[2][:6] for line in lines(done.stderr)] == ["b.png:", "c.png:", "d.png:"]
    said = lines(invoke(*args).stderr)[-1]
    assert "1 planned" in said
    assert "3 failed" in said


def rows_of(invoke, *args):
    return json.loads(invoke("shape", *args, "--json").stdout)["layers"]


def without_method(rows):
    return [{key: value for key, value in row.items() if key != "method"} for row in rows]


def test_the_json_of_a_plan_has_its_layers(invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(claims(300, 400, kind=2))
    pipeline = "gaussian:1 stride=2 | maxpool 3 | conv 3x3 out=5 init=random"
    planned = json.loads(invoke("run", pipeline, "a.png", "-n", "--json", "-q").stdout)
    assert (planned["status"], planned["output"], planned["error"]) == ("planned", "a.run.png", None)
    assert without_method(planned["layers"]) == without_method(rows_of(invoke, "3x300x400", pipeline))
    assert planned["layers"][-1]["output"] == [5, 48, 64]
    assert planned["range"] is None


@pytest.mark.parametrize(
    "args",
    [
        ("edge",),
        ("blur", "-s", "3", "--pool", "max:2", "--gray"),
        ("pool", "--avg", "2"),
        ("edge", "--alpha", "filter"),
        ("pool", "--max", "2", "--alpha", "drop"),
    ],
)
def test_the_layers_of_a_plan_are_those_of_the_run(args, invoke, tmp_path):
    for channels in ((), (3,), (4,)):
        data = np.random.default_rng(1).integers(0, 256, (24, 32, *channels), np.uint8)
        Image.fromarray(data).save(tmp_path / "a.png")
        planned, done = (
            json.loads(invoke(*args, "a.png", "-o", "b.png", "-f", "--json", flag).stdout) for flag in ("-nq", "-q")
        )
        assert (planned["status"], done["status"]) == ("planned", "written")
        assert without_method(planned["layers"]) == without_method(done["layers"])


def test_a_sideways_photograph_is_planned_upright(invoke, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(1)).save(tmp_path / "a.jpg", exif=exif)
    done = invoke("edge", "a.jpg", "-n")
    assert "32x24" in line_of("a.jpg", done.stderr)


def test_a_plan_of_arrays_and_of_what_has_no_header(invoke, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 30, 40)))
    done = invoke("filter", "a.npy", "-k", "1 1", "-p", "valid", "-o", "b.npy", "-n", "--json")
    record = json.loads(done.stdout)
    assert (record["status"], record["layers"][0]["output"]) == ("planned", [4, 30, 39])
    assert re.search(r"30x40\b.*30x39\b", line_of("a.npy", done.stderr))
    done = invoke("filter", "[1 2; 3 4]", "-k", "1 1", "-n")
    assert (done.status, done.stdout) == (0, b"")


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "txt", "html"])
def test_the_report_of_a_plan_has_its_layers(suffix, invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(claims(300, 400))
    assert invoke("edge", "a.png", "-n", "--report", f"r.{suffix}", "-q").status == 0
    text = (tmp_path / f"r.{suffix}").read_text()
    if suffix == "json":
        assert json.loads(text)[0]["layers"][0]["input"] == [1, 300, 400]
    else:
        assert "1x300x400" in text


def test_a_plan_leaves_out_what_is_skipped(invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(claims(1000, 2000))
    (tmp_path / "b.png").write_bytes(claims(1000, 1000))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"")
    done = invoke("edge", "a.png", "b.png", "-o", "out/", "-n", "--existing", "skip")
    assert (done.status, done.stdout) == (0, b"out/b.png\n")
    assert re.search(r"\b1 planned", lines(done.stderr)[-1])
    assert re.search(r"\b1 M|\b1 megapixel|\b1\.0+ ", lines(done.stderr)[-1])


# Memory


@pytest.fixture
def large(tmp_path):
    """Pictures that take some memory, not much less than what the threads do."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        Image.new("L", (1600, 1200), number).save(tmp_path / f"in/{number}.png", compress_level=1)
    return "in"


@pytest.fixture
def needed(invoke):
    """``needed("in/0.png")``: the bytes that a picture would take by itself, with one thread."""

    def call(name):
        done = invoke("edge", name, "-o", "out/", "--threads", "1", "-q", "--max-memory", "10kB")
        size, unit = re.search(r"it would take about ([\d.]+) (k|M|G|T)B, more than", done.stderr.decode()).groups()
        return float(size) * 1000 ** ("kMGT".index(unit) + 1)

    return call


@pytest.mark.parametrize(
    "args",
    [("edge",), ("filter", "-k", "1 1"), ("pool", "--max", "2"), ("run", "edge|blur"), ("gaussian:2", "--gray")],
)
def test_every_command_that_makes_pictures_has_a_limit(args, invoke, tmp_path):
    save(tmp_path / "a.png", 1)
    command, *more = args
    inputs = (command, more[0], "a.png") if command == "run" else (command, "a.png", *more)
    done = invoke(*inputs, "-q", "--max-memory", "10kB")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.png: it would take about ")
    assert b"more than 10 kB; raise --max-memory" in done.stderr
    assert names(tmp_path) == ["a.png"]
    assert invoke(*inputs, "-q", "--max-memory", "2GB").status == 0


@pytest.mark.parametrize("size", ["0", "-1", "much", "2XB", "", "1.5.2G"])
def test_sizes_that_are_none(size, invoke, tmp_path):
    save(tmp_path / "a.png", 1)
    done = invoke("edge", "a.png", "--max-memory", size)
    assert (done.status, done.stderr.count(b"\n")) == (2, 1)
    assert b"--max-memory" in done.stderr


def test_the_limit_changes_no_byte(invoke, tmp_path):
    save(tmp_path / "a.png", 1)
    made = []
    for args in ((), ("--max-memory", "3GB")):
        assert invoke("edge", "a.png", "-q", "-f", *args).status == 0
        made.append((tmp_path / "a.edge.png").read_bytes())
    assert made[0] == made[1]


def test_another_limit_is_no_reason_to_do_it_again(invoke, tmp_path):
    album(tmp_path / "in", 2)
    assert invoke("edge", "in", "-o", "out/", "--resume", "-q").stdout.count(b"\n") == 2
    assert invoke("edge", "in", "-o", "out/", "--resume", "-q", "--max-memory", "3GB") == (0, b"", b"")


def test_what_alone_takes_too_much_fails_and_the_others_are_done(invoke, needed, large, tmp_path):
    save(tmp_path / "in/2.png", 2)
    assert needed("in/2.png") < needed("in/1.png") / 1.5
    most = f"{int(needed('in/2.png') * 1.2)}"
    done = invoke("edge", large, "-o", "out/", "-j", "2", "--threads", "1", "-q", "--max-memory", most)
    assert (done.status, done.stdout) == (1, b"out/2.png\n")
    assert [line.split(": ")[1] for line in lines(done.stderr)] == ["in/0.png", "in/1.png", "in/3.png"]


TIMED = """
import os, time
from convcli import jobs
read, write = jobs.read_pictures, jobs.write_file
def note(word):
    descriptor = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, word)
    os.close(descriptor)
def reading(*args, **more):
    note(b"+")
    time.sleep(0.1)
    return read(*args, **more)
def writing(*args, **more):
    done = write(*args, **more)
    note(b"-")
    return done
jobs.read_pictures, jobs.write_file = reading, writing"""


def at_once(log):
    """The most pictures that were under way together."""
    balance = np.cumsum([1 if one == ord("+") else -1 for one in log])
    assert balance[-1] == 0
    return balance.max()


@pytest.mark.parametrize(("share", "most"), [(2.2, 2), (20, 3)])
def test_no_more_are_under_way_than_fit_together(share, most, needed, large, tmp_path):
    args = "edge", large, "-o", "out/", "-j", "3", "--threads", "1", "-q"
    command = [sys.executable, "-c", TIMED + MAIN, *args, "--max-memory", f"{int(share * needed('in/0.png'))}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines(done.stdout) == [f"out/{number}.png" for number in range(4)]
    assert at_once((tmp_path / "log").read_bytes()) == most


def test_small_ones_go_on_beside_large_ones(invoke, needed, large, tmp_path):
    """Also where a large one has to wait, and comes first or last; in their order all the same."""
    for number in (0, 2, 3, 5, 6, 7):
        save(tmp_path / f"in/{number}.png", number)
    args = "edge", large, "-o", "out/", "-j", "2", "--threads", "1", "-q"
    done = invoke(*args, "--max-memory", f"{int(1.1 * needed('in/1.png'))}")
    assert done == (0, b"".join(b"out/%d.png\n" % number for number in (0, 1, 2, 3, 5, 6, 7)), b"")
