"""What goes to standard output, what to standard error, and what a shell makes of it."""

import csv
import io
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CONVCLI = f"{shlex.quote(sys.executable)} -m convcli"
COLOR_CODE = b"\x1b["
WINDOW_KEYS = ["layer", "kernel", "stride", "dilation", "padding", "boundary", "input", "output"]
REACH_KEYS = ["receptive_field", "jump", "start", "effective_padding", "unused"]
ROW_KEYS = [*WINDOW_KEYS, *REACH_KEYS, "params", "macs", "memory", "method"]
RECORD_KEYS = ["input", "output", "status", "error", "seconds", "layers", "range"]
TEXT_ROW = {  # edge on the picture of the text, worked out by hand
    "layer": "edge",
    "kernel": [3, 3],
    "stride": [1, 1],
    "dilation": [1, 1],
    "padding": [1, 1, 1, 1],
    "boundary": "reflect",
    "input": [1, 6, 8],
    "output": [1, 6, 8],
    "receptive_field": [3, 3],
    "jump": [1, 1],
    "start": [0, 0],
    "effective_padding": [1, 1],
    "unused": [0, 0],
    "params": 9,
    "macs": 432,
}
TEXT_RANGE = {"min": -3, "max": 3, "below": 0.25, "above": 0.25}


def pixels(source):
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image)


def sh(script, cwd, env=None):
    """A line of shell, as typed; ``convcli`` in it is this one."""
    script = f'convcli() {{ {CONVCLI} "$@"; }}; {script}'
    return subprocess.run(["sh", "-c", script], cwd=cwd, env=os.environ | (env or {}), capture_output=True, timeout=60)


@pytest.fixture
def text_picture(tmp_path, samples):
    path = tmp_path / "a.png"
    path.write_bytes((samples / "text-6x8.png").read_bytes())
    return path


# Pipes


def test_the_pipeline_of_the_issue(samples, tmp_path, invoke):
    done = sh(
        f"cat {shlex.quote(str(samples / 'coffee.jpg'))} | convcli blur - | convcli edge - -o - > b.png", tmp_path
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"- -> standard output") == 2
    assert invoke("blur", samples / "coffee.jpg", "-o", "blurred.png").status == 0
    assert invoke("edge", "blurred.png", "-o", "want.png").status == 0
    np.testing.assert_array_equal(pixels(tmp_path / "b.png"), pixels(tmp_path / "want.png"))


def test_the_pipeline_in_silence(samples, tmp_path):
    done = sh(f"convcli blur -q - < {shlex.quote(str(samples / 'camera.png'))} | convcli edge -q - | wc -c", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert int(done.stdout) > 10_000


def test_a_kernel_learned_elsewhere_comes_through_a_pipe(tmp_path):
    done = sh("printf '0 1\\n2 3\\n' | convcli filter '[0 1 2; 3 4 5; 6 7 8]' -k - -p valid -q", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"19 25\n37 43\n", b"")


def test_paths_feed_the_next_command(tmp_path, samples):
    script = (
        f'convcli blur -q -o out/ {shlex.quote(str(samples))} | while read -r f; do test -f "$f" && echo "$f"; done'
    )
    done = sh(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().split() == [f"out/{one.name}" for one in sorted(samples.glob("*.[pj]*g"))]


def test_standard_input_to_standard_output_is_png_whatever_came(run, samples, invoke, tmp_path):
    done = run("edge", "-", "-q", input=(samples / "coffee.jpg").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"\x89PNG")
    assert invoke("edge", samples / "coffee.jpg", "-o", "want.png").status == 0
    np.testing.assert_array_equal(pixels(done.stdout), pixels(tmp_path / "want.png"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("jpeg", "JPEG"), ("jpg", "JPEG"), ("PNG", "PNG"), ("webp", "WEBP"), ("tiff", "TIFF"), ("bmp", "BMP")],
)
def test_format_on_standard_output(name, kind, invoke, text_picture):
    done = invoke("edge", "a.png", "-o", "-", "--format", name, "-q")
    assert (done.status, done.stderr) == (0, b"")
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == kind


def test_format_beats_the_name(invoke, text_picture, tmp_path):
    assert invoke("edge", "a.png", "-o", "b.jpg", "--format", "png", "-q") == (0, b"b.jpg\n", b"")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "PNG"


def test_npy_on_standard_output(invoke, text_picture):
    done = invoke("identity", "a.png", "-o", "-", "--format", "npy", "-q")
    assert (done.status, done.stderr) == (0, b"")
    np.testing.assert_allclose(np.load(io.BytesIO(done.stdout)), pixels(text_picture) / 255, atol=1e-7)


def test_standard_input_to_a_file(run, text_picture, tmp_path):
    done = run("edge", "-", "-o", "b.png", "-q", input=text_picture.read_bytes())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"b.png\n", b"")
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", b"nothing came in on standard input"), (b"hello\n", b"not a picture")]
)
def test_standard_input_that_is_no_picture(data, reason, run):
    done = run("edge", "-", input=data)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"convcli: -: [^\n]*" + reason + rb"[^\n]*\n", done.stderr)


def test_standard_input_only_once(invoke):
    assert invoke("edge", "-", "-") == (2, b"", b"convcli: -: standard input can be read only once\n")
    done = invoke("filter", "-", "-k", "-")
    assert done == (2, b"", b"convcli: -k: the kernel and the input can't both be standard input\n")


# A closed pipe


@pytest.mark.parametrize(
    "args",
    [
        ("edge", "a.png", "-o", "-"),
        ("edge", "a.png", "-o", "-", "--json"),
        ("edge", "a.png", "-o", "b.png"),
        ("edge", "a.png", "-n"),
        ("edge", "a.png", "--json", "-q"),
        ("filter", "[1 2; 3 4]", "-k", "1"),
        ("kernels",),
        ("kernels", "gaussian:2"),
        ("--help",),
        ("edge", "--help"),
        ("--version",),
    ],
)
def test_a_closed_pipe_is_silent(args, text_picture, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "convcli", *args], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), stderr) == (1, b"")


each_buffering = pytest.mark.parametrize("unbuffered", ["", "1"])  # container images set it: raw writes may be short


@each_buffering
def test_a_pipe_closed_behind_a_big_picture(unbuffered, samples, tmp_path):
    coffee = shlex.quote(str(samples / "coffee.png"))
    script = f"{{ convcli edge {coffee} -o -; echo $? >&2; }} | head -c 8"
    done = sh(script, tmp_path, {"PYTHONUNBUFFERED": unbuffered})
    assert done.stdout == b"\x89PNG\r\n\x1a\n"
    assert done.stderr == b"1\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@each_buffering
@pytest.mark.parametrize("args", ["edge a.png -o -", "edge a.png -o b.png", "filter '[1 2; 3 4]' -k 2", "kernels"])
def test_a_full_disk_behind_standard_output(args, unbuffered, text_picture, tmp_path):
    done = sh(f"convcli {args} > /dev/full", tmp_path, {"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert re.fullmatch(rb"convcli: [^\n]*No space left on device[^\n]*\n", done.stderr)


@each_buffering
def test_a_file_that_standard_output_can_not_fill(unbuffered, samples, tmp_path):
    coffee = shlex.quote(str(samples / "coffee.png"))
    done = sh(f"ulimit -f 8; convcli edge {coffee} -o - > b.png", tmp_path, {"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert re.fullmatch(rb"convcli: [^\n]*File too large[^\n]*\n", done.stderr)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_from_the_start(closed, text_picture, tmp_path):
    done = sh(f"convcli edge a.png -o b.png {closed}", tmp_path)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    assert (tmp_path / "b.png").is_file()


def test_standard_input_closed_from_the_start(tmp_path):
    done = sh("convcli edge - <&-", tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"convcli: -: [^\n]+\n", done.stderr)


# A terminal


def on_terminal(args, cwd, *, stdin=False, stdout=False, stderr=False, env=None):
    """Run with some of the streams on a terminal: exit status, what the terminal saw, stdout, stderr."""
    master, slave = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "80"} | (env or {})
    process = subprocess.Popen(
        [sys.executable, "-m", "convcli", *args],
        cwd=cwd,
        env=variables,
        stdin=slave if stdin else subprocess.DEVNULL,
        stdout=slave if stdout else subprocess.PIPE,
        stderr=slave if stderr else subprocess.PIPE,
    )
    os.close(slave)
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        ready = select.select([master], [], [], 0.05)[0]
        if ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # Linux says so when nobody holds the other end any more
                break
            if not data:
                break
            seen += data
        elif process.poll() is not None:
            break
    out, err = process.communicate(timeout=60)
    os.close(master)
    return process.returncode, seen.replace(b"\r\n", b"\n"), out, err


def test_image_bytes_never_go_to_a_terminal(text_picture, tmp_path):
    status, seen, _, err = on_terminal(["edge", "a.png", "-o", "-"], tmp_path, stdout=True)
    assert (status, seen) == (2, b"")
    assert re.fullmatch(rb"convcli: -o: [^\n]*terminal[^\n]*\n", err)


def test_numbers_and_paths_may_go_to_a_terminal(text_picture, tmp_path):
    status, seen, _, _ = on_terminal(["filter", "[1 2; 3 4]", "-k", "2", "-q"], tmp_path, stdout=True)
    assert (status, seen) == (0, b"2 4\n6 8\n")
    status, seen, _, _ = on_terminal(["edge", "a.png", "-q"], tmp_path, stdout=True)
    assert (status, seen) == (0, b"a.edge.png\n")


def test_a_terminal_is_not_waited_for(tmp_path):
    status, _, out, err = on_terminal(["edge", "-"], tmp_path, stdin=True)
    assert (status, out) == (2, b"")
    assert re.fullmatch(rb"convcli: -: [^\n]*terminal[^\n]*\n", err)


def test_a_kernel_from_a_terminal_is_not_waited_for(text_picture, tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "convcli", "filter", "a.png", "-k", "-"],
        cwd=tmp_path,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    try:
        out, err = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("convcli waits for a kernel from the terminal")
    finally:
        os.close(master)
    assert (process.returncode, out) == (2, b"")
    assert re.fullmatch(rb"convcli: -k: [^\n]*terminal[^\n]*\n", err)


@pytest.mark.parametrize(
    ("args", "env", "colored"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"NO_COLOR": ""}, True),
        ((), {"TERM": "dumb"}, False),
        (("--no-color",), {}, False),
        (("--no-color",), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_on_a_terminal(args, env, colored, text_picture, tmp_path):
    status, seen, out, _ = on_terminal(["edge", "a.png", *args], tmp_path, stderr=True, env=env)
    assert (status, out) == (0, b"a.edge.png\n")
    assert b"a.png -> a.edge.png" in re.sub(rb"\x1b\[[0-9;]*m", b"", seen)
    assert (COLOR_CODE in seen) == colored


@pytest.mark.parametrize(
    ("env", "colored"),
    [
        ({"NO_COLOR": ""}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1", "TERM": "dumb"}, False),
    ],
)
def test_colour_in_a_pipe(env, colored, run, text_picture):
    done = run("edge", "a.png", "nothing.png", env={"TERM": "xterm"} | env)
    assert (done.returncode, done.stdout) == (1, b"a.edge.png\n")
    assert (COLOR_CODE in done.stderr) == colored


# The report for people


def test_the_report(invoke, text_picture):
    done = invoke("edge", "a.png")
    assert (done.status, done.stdout) == (0, b"a.edge.png\n")
    title, header, row, values, hint = done.stderr.decode().splitlines()
    assert re.fullmatch(r"a\.png -> a\.edge\.png  \(\d+\.\d\d s\)", title)
    assert re.split("  +", header) == [
        "layer",
        "kernel",
        "stride",
        "padding",
        "input",
        "output",
        "field",
        "multiply-adds",
    ]
    assert re.split("  +", row) == ["edge", "3x3", "1x1", "1 reflect", "1x6x8", "1x6x8", "3x3", "432"]
    assert values == "range -3 to 3 before clipping: 25.0 % below 0, 25.0 % above 1"
    assert "--range" in hint
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_the_report_of_two_layers_and_uneven_pads(invoke, text_picture):
    done = invoke(
        "filter", "a.png", "-k", "1/8 1/8; 1/8 1/8; 1/8 1/8", "-s", "2x1", "--dilation", "1x2", "--pool", "max:2"
    )
    cells = [re.split("  +", line) for line in done.stderr.decode().splitlines()[2:4]]
    assert cells[0][1:] == ["3x2 by 1x2", "2x1", "0,1,1,1 reflect", "1x6x8", "1x3x8", "3x3", "144"]
    assert cells[1] == ["maxpool", "2x2", "2x2", "none", "1x3x8", "1x1x4", "5x4", "0"]
    assert "maxpool: the last 1 row is never read" in done.stderr.decode()


def test_no_hint_when_nothing_is_lost(invoke, text_picture):
    done = invoke("blur", "a.png")
    assert done.stderr.decode().splitlines()[-1] == "range 0 to 1"
    assert b"--range" not in invoke("edge", "a.png", "--range", "minmax").stderr


def test_signed_values_beyond_their_range_are_not_lost_in_silence(invoke, text_picture):
    for choice in ("signed", "abs"):
        lines = invoke("edge", "a.png", "--range", choice, "-o", f"{choice}.png").stderr.decode().splitlines()
        assert "25.0 % below -1, 25.0 % above 1" in lines[-2]
        assert lines[-1].endswith("--range minmax keeps everything")


def test_the_report_of_several_inputs_ends_with_a_count(invoke, text_picture, tmp_path):
    (tmp_path / "b.png").write_bytes(text_picture.read_bytes())
    (tmp_path / "b.edge.png").write_bytes(b"")
    done = invoke("edge", "a.png", "b.png", "c.png", "--existing", "skip")
    assert (done.status, done.stdout) == (1, b"a.edge.png\n")
    assert done.stderr.decode().splitlines()[-1] == "1 written, 1 skipped, 1 failed"


def test_quiet_leaves_errors_and_standard_output(invoke, text_picture):
    done = invoke("edge", "a.png", "nothing.png", "-q")
    assert done == (1, b"a.edge.png\n", b"convcli: nothing.png: no such file\n")
    assert invoke("filter", "[1 2]", "-k", "2", "-q") == (0, b"2 4\n", b"")
    assert invoke("edge", "a.png", "-q", "--existing", "skip") == (0, b"", b"")


@pytest.mark.parametrize("args", [("[1e308 -1e308]", "-k", "8"), ("a.png", "-k", "1e300 1"), ("nan.npy", "-k", "edge")])
def test_numbers_beyond_all_bounds_bring_no_warnings_of_numpy(args, run, text_picture, tmp_path):
    np.save(tmp_path / "nan.npy", np.array([[np.nan, 1, 2], [np.inf, -np.inf, 3]]))
    done = run("filter", *args, "-q")
    assert (done.returncode, done.stderr) == (0, b"")


def test_image_bytes_alone_on_standard_output(invoke, text_picture):
    done = invoke("edge", "a.png", "-o", "-", "-v")
    assert done.status == 0
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    assert b"a.png -> standard output" in done.stderr


# JSON


def check_record(record, **expected):
    assert list(record) == RECORD_KEYS
    assert {key: record[key] for key in expected} == expected
    assert isinstance(record["seconds"], float)
    for row in record["layers"]:
        assert list(row) == ROW_KEYS
    if record["range"] is not None:
        assert list(record["range"]) == ["min", "max", "below", "above"]


def test_json(invoke, text_picture):
    done = invoke("edge", "a.png", "--json", "-q")
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    record = json.loads(done.stdout)
    check_record(record, input="a.png", output="a.edge.png", status="written", error=None)
    row = record["layers"][0]
    assert len(record["layers"]) == 1
    assert {key: row[key] for key in TEXT_ROW} == TEXT_ROW
    assert row["memory"] == 4 * 6 * 8
    assert record["range"] == pytest.approx(TEXT_RANGE, abs=1e-12)


def test_json_of_every_status(invoke, text_picture, tmp_path):
    (tmp_path / "b.png").write_bytes(text_picture.read_bytes())
    (tmp_path / "b.edge.png").write_bytes(b"")
    done = invoke("edge", "a.png", "b.png", "c.png", "--existing", "skip", "--json", "-q")
    assert done.status == 1
    written, skipped, failed = map(json.loads, done.stdout.splitlines())
    check_record(written, input="a.png", output="a.edge.png", status="written", error=None)
    check_record(skipped, input="b.png", output="b.edge.png", status="skipped", error=None, layers=[], range=None)
    check_record(failed, input="c.png", output=None, status="failed", error="no such file", layers=[], range=None)
    assert done.stderr == b"convcli: c.png: no such file\n"
    planned = json.loads(invoke("edge", "a.png", "-o", "x.png", "-n", "--json", "-q").stdout)
    check_record(planned, input="a.png", output="x.png", status="planned", error=None)
    assert not (tmp_path / "x.png").exists()


def test_json_goes_beside_the_data(invoke, text_picture):
    done = invoke("filter", "[0 1 2; 3 4 5; 6 7 8]", "-k", "0 1; 2 3", "-p", "valid", "--json")
    assert (done.status, done.stdout) == (0, b"19 25\n37 43\n")
    record = json.loads(done.stderr)
    check_record(record, input="[0 1 2; 3 4 5; 6 7 8]", status="written", error=None)
    assert record["range"] == {"min": 19, "max": 43, "below": 0, "above": 0}
    done = invoke("edge", "a.png", "-o", "-", "--json")
    assert done.stdout.startswith(b"\x89PNG")
    check_record(json.loads(done.stderr), input="a.png", status="written", error=None)


def test_json_of_layers(invoke, text_picture):
    args = ("-k", "1/8 1/8; 1/8 1/8; 1/8 1/8", "-s", "2x1", "--dilation", "1x2", "--bias", "10%", "--pool", "max:2")
    first, second = json.loads(invoke("filter", "a.png", *args, "--json", "-q").stdout)["layers"]
    want = {"kernel": [3, 2], "stride": [2, 1], "dilation": [1, 2], "padding": [0, 1, 1, 1], "boundary": "reflect"}
    want |= {"input": [1, 6, 8], "output": [1, 3, 8], "receptive_field": [3, 3], "jump": [2, 1], "start": [1, 0]}
    want |= {"effective_padding": [0, 1], "unused": [0, 0], "params": 7, "macs": 6 * 3 * 8}
    assert {key: first[key] for key in want} == want
    want = {"layer": "maxpool", "kernel": [2, 2], "stride": [2, 2], "dilation": [1, 1], "padding": [0, 0, 0, 0]}
    want |= {"input": [1, 3, 8], "output": [1, 1, 4], "receptive_field": [5, 4], "jump": [4, 2], "start": [2, 0.5]}
    want |= {"effective_padding": [0, 1], "unused": [1, 0], "params": 0, "macs": 0}
    assert {key: second[key] for key in want} == want


def test_json_of_a_colour_picture_counts_all_channels(invoke, samples):
    record = json.loads(invoke("blur", samples / "chelsea.png", "-o", "b.png", "--json", "-q").stdout)
    assert (record["layers"][0]["input"], record["layers"][0]["macs"]) == ([3, 300, 451], 9 * 3 * 300 * 451)


def test_json_memory_of_a_matrix_is_that_of_float64(invoke):
    done = invoke("filter", "[1 2; 3 4]", "-k", "1", "--json")
    assert json.loads(done.stderr)["layers"][0]["memory"] == 4 * 8


def test_json_is_valid_for_numbers_that_are_none(invoke, tmp_path):
    np.save(tmp_path / "a.npy", np.array([[np.nan, 1], [np.inf, 2]]))
    done = invoke("identity", "a.npy", "--json")
    assert (done.status, done.stdout) == (0, b"nan 1\ninf 2\n")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    json.loads(done.stderr, parse_constant=refuse)


# Report files


@pytest.fixture
def reported(invoke, text_picture, tmp_path):
    """The text of a report file of one picture that works, two layers, and one that does not."""

    def call(suffix):
        done = invoke("edge", "a.png", "nothing.png", "--pool", "max:2", "--report", f"r{suffix}", "-q")
        assert done == (1, b"a.edge.png\n", b"convcli: nothing.png: no such file\n")
        return (tmp_path / f"r{suffix}").read_text()

    return call


def test_report_json(reported):
    good, bad = json.loads(reported(".json"))
    check_record(good, input="a.png", output="a.edge.png", status="written", error=None)
    assert {key: good["layers"][0][key] for key in TEXT_ROW} == TEXT_ROW
    assert good["layers"][1]["output"] == [1, 3, 4]
    check_record(bad, input="nothing.png", output=None, status="failed", error="no such file")


def test_report_csv(reported):
    rows = list(csv.DictReader(io.StringIO(reported(".csv"))))
    assert [(row["file"], row["status"], row["layer"]) for row in rows] == [
        ("a.png", "written", "edge"),
        ("a.png", "written", "maxpool"),
        ("nothing.png", "failed", ""),
    ]
    assert (rows[0]["kernel"], rows[0]["output_shape"], rows[0]["macs"]) == ("3x3", "1x6x8", "432")
    assert (rows[1]["kernel"], rows[1]["output_shape"], rows[1]["macs"]) == ("2x2", "1x3x4", "0")
    assert rows[2]["error"] == "no such file"
    assert all(None not in row and None not in row.values() for row in rows)


def test_report_markdown(reported):
    lines = reported(".md").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in cells}) == 1
    assert set(cells[1]) == {"---"}
    for word in ("a.png", "written", "edge", "3x3", "1x6x8", "432"):
        assert word in cells[2]
    assert cells[3][:3] == ["a.png", "written", "maxpool"]
    assert cells[4][:2] == ["nothing.png", "failed"]
    assert "no such file" in cells[4]
    assert len(cells) == 5


def test_report_text(reported):
    lines = reported(".txt").splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:4] == ["a.png", "written", "edge", "3x3"]
    assert lines[3].split() == ["nothing.png", "failed", "no", "such", "file"]
    assert (
        len({line.index(word) for line, word in zip(lines, ("status", "written", "written", "failed"), strict=True)})
        == 1
    )


def test_report_html(reported):
    page = reported(".html")
    assert page.startswith("<!doctype html>")
    assert page.count("<tr>") == page.count("</tr>") == 4
    assert "<td>edge</td><td>3x3</td>" in page
    assert "http" not in page


def test_a_report_escapes_what_names_hold(invoke, text_picture, tmp_path):
    name = "a|<b>&\n.png"
    (tmp_path / name).write_bytes(text_picture.read_bytes())
    for suffix in (".md", ".html", ".csv", ".txt", ".json"):
        assert invoke("edge", name, "-o", f"o{suffix[1:]}.png", "--report", f"r{suffix}", "-q").status == 0
    assert r"a\|<b>&\\n.png" in (tmp_path / "r.md").read_text()
    assert "<td>a|&lt;b&gt;&amp;\\n.png</td>" in (tmp_path / "r.html").read_text()
    with (tmp_path / "r.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [name]
    assert len((tmp_path / "r.txt").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "r.json").read_text())[0]["input"] == name


@pytest.mark.parametrize("suffix", [".md", ".html", ".csv", ".txt", ".json"])
def test_a_report_of_a_name_that_is_not_utf8(suffix, invoke, text_picture, tmp_path):
    name = os.fsdecode(b"a\xff.png")
    (tmp_path / name).write_bytes(text_picture.read_bytes())
    assert invoke("edge", name, "-o", "o.png", "--report", f"r{suffix}", "-q") == (0, b"o.png\n", b"")
    assert "edge" in (tmp_path / f"r{suffix}").read_text("utf-8")


def test_a_report_replaces_an_old_one_and_nothing_else(invoke, text_picture, tmp_path):
    (tmp_path / "r.md").write_text("old")
    refused = invoke("edge", "a.png", "--report", "r.md", "-q")
    assert (refused.status, (tmp_path / "r.md").read_text()) == (2, "old")
    assert invoke("edge", "a.png", "--report", "r.md", "-q", "-f") == (0, b"a.edge.png\n", b"")
    assert (tmp_path / "r.md").read_text().startswith("| file |")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.edge.png", "a.png", "r.md"]


def test_a_report_of_a_dry_run_and_of_standard_output(invoke, text_picture, tmp_path):
    assert invoke("edge", "a.png", "-n", "--report", "n.json", "-q").status == 0
    assert json.loads((tmp_path / "n.json").read_text())[0]["status"] == "planned"
    assert invoke("edge", "a.png", "-o", "-", "--report", "o.json", "-q").status == 0
    assert json.loads((tmp_path / "o.json").read_text())[0]["status"] == "written"
