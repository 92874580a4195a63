"""``convcli shape`` as it is typed: sizes, sums, what an output sees, layers as matrices, reports, bad input."""

import csv
import functools
import html
import json
import re

import numpy as np
import pytest
from PIL import Image

import convcli
from pictures import load, save

RNG = np.random.default_rng(6)
ROW = {
    "layer": "",
    "kernel": [0] * 2,
    "stride": [0] * 2,
    "dilation": [0] * 2,
    "padding": [0] * 4,
    "boundary": "",
    "input": [0] * 3,
    "output": [0] * 3,
    "receptive_field": [0] * 2,
    "jump": [0] * 2,
    "start": [0.0] * 2,
    "effective_padding": [0] * 2,
    "unused": [0] * 2,
    "params": 0,
    "macs": 0,
    "memory": 0,
    "method": "",
}
TOTAL = ["params", "macs", "memory", "receptive_field", "jump", "start", "effective_padding", "output"]
LINE = np.array([255, 217, 0], int)  # of an overlay
NET = "conv 7x7 out=64 stride=2 padding=3 | relu | maxpool 2"


def types(value):
    return [type(one) for one in value] if isinstance(value, list) else type(value)


@pytest.fixture
def refused(refused):
    """``refused(*args)``: the one line of ``convcli shape``, of status 2."""
    return functools.partial(refused, 2, "shape")


@pytest.fixture
def shape(invoke):
    """``shape(size, pipeline, *options)``: the lines of the report."""

    def call(*args):
        done = invoke("shape", *args)
        assert (done.status, done.stderr) == (0, b"")
        return done.stdout.decode().splitlines()

    return call


@pytest.fixture
def data(invoke):
    """``data(size, pipeline, *options)``: the JSON object."""

    def call(*args):
        done = invoke("shape", *args, "--json")
        assert (done.status, done.stderr) == (0, b"")
        return json.loads(done.stdout)

    return call


# Numbers


def test_ten_layers_of_the_issue(shape, data):
    lines = shape("240x240", "conv 5x5 * 10")
    assert lines[10].split()[:6] == ["10", "conv", "5x5", "1x1", "none", "1x200x200"]
    found = data("240x240", "conv 5x5 * 10")
    assert [row["output"] for row in found["layers"]] == [[1, 240 - 4 * n, 240 - 4 * n] for n in range(1, 11)]
    assert [row["receptive_field"] for row in found["layers"]] == [[4 * n + 1] * 2 for n in range(1, 11)]
    macs = sum(25 * (240 - 4 * n) ** 2 for n in range(1, 11))
    memory = sum(4 * (240 - 4 * n) ** 2 for n in range(1, 11))
    assert found["total"] == {
        "params": 250,
        "macs": macs,
        "memory": memory,
        "receptive_field": [41, 41],
        "jump": [1, 1],
        "start": [20, 20],
        "effective_padding": [0, 0],
        "output": [1, 200, 200],
    }
    assert f"total: 250 weights, {macs:,} multiply-adds, 1.91 MB of activations" in lines


def test_a_thousand_million_weights(shape, data):
    lines = shape("1000x1000", "dense 1000")
    assert "1,000,000,000" in lines[1]
    assert any(line.startswith("total: 1,000,000,000 weights, 1,000,000,000 multiply-adds") for line in lines)
    assert data("1000x1000", "dense 1000")["total"]["params"] == 10**9
    assert data("3x10x10", "dense 7 bias=0")["total"]["params"] == 7 * 300 + 7


def test_the_contract_of_json(data):
    found = data("3x224x224", NET)
    assert list(found) == ["layers", "total"]
    assert list(found["total"]) == TOTAL
    for row in found["layers"]:
        assert list(row) == list(ROW)
        assert {key: types(value) for key, value in row.items()} == {key: types(value) for key, value in ROW.items()}
    conv, relu, pool = found["layers"]
    assert conv | {"method": ""} == {
        "layer": "conv",
        "kernel": [7, 7],
        "stride": [2, 2],
        "dilation": [1, 1],
        "padding": [3, 3, 3, 3],
        "boundary": "zero",
        "input": [3, 224, 224],
        "output": [64, 112, 112],
        "receptive_field": [7, 7],
        "jump": [2, 2],
        "start": [0, 0],
        "effective_padding": [3, 3],
        "unused": [0, 0],  # what the stride drops is a pad
        "params": 9408,
        "macs": 9408 * 112 * 112,
        "memory": 4 * 64 * 112 * 112,
        "method": "",
    }
    assert (relu["kernel"], relu["padding"], relu["boundary"], relu["params"], relu["macs"]) == (
        [1, 1],
        [0] * 4,
        "none",
        0,
        0,
    )
    assert (pool["receptive_field"], pool["jump"], pool["start"]) == ([9, 9], [4, 4], [1, 1])
    assert found["total"]["memory"] == sum(row["memory"] for row in found["layers"])


def test_json_is_what_python_says(data):
    pipeline = (
        "gray | conv 3x5 out=8 stride=2x1 padding=1,0,2,3 dilation=2x1 boundary=edge bias=1 | maxpool 3 stride=2 ceil"
    )
    rows = convcli.Pipeline.parse(pipeline).shapes((3, 40, 50))
    assert data("3x40x50", pipeline)["layers"] == [row.to_dict() for row in rows]


@pytest.mark.parametrize(
    ("size", "pipeline", "params", "macs", "output"),
    [
        ("3x32x32", "conv 3x3 out=16", 432, 432 * 900, [16, 30, 30]),
        ("3x32x32", "conv 3x3 out=16 bias=0", 448, 432 * 900, [16, 30, 30]),
        ("4x32x32", "conv 3x3 out=8 groups=4", 72, 72 * 900, [8, 30, 30]),
        ("4x32x32", "conv 3x3 out=4 groups=in", 36, 36 * 900, [4, 30, 30]),
        ("3x32x32", "sobel-x", 9, 9 * 3 * 1024, [3, 32, 32]),
        ("3x32x32", "sobel", 18, 18 * 3 * 1024, [3, 32, 32]),
        ("3x32x32", "maxpool 2 | relu | normalize | globalmax", 0, 0, [3, 1, 1]),
        ("1x5x5", "conv 3x3 dilation=2", 9, 9, [1, 1, 1]),
        ("7x9", "conv 3x3 padding=same stride=2", 9, 180, [1, 4, 5]),
        ("7x9", "conv 4x4 padding=full", 16, 16 * 120, [1, 10, 12]),
        ("7x9", "avgpool 3x2 stride=2 padding=1x0 ceil", 0, 0, [1, 4, 5]),
    ],
)
def test_weights_and_work(size, pipeline, params, macs, output, data):
    total = data(size, pipeline)["total"]
    assert (total["params"], total["macs"], total["output"]) == (params, macs, output)


def test_weights_and_random_numbers_may_be_left_out_or_given(data, tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((5, 2, 3, 4)))
    rows = [
        data("2x9x9", f"conv {one}")["layers"][0] for one in ("weights=w.npy", "3x4 out=5", "3x4 out=5 init=random")
    ]
    assert [row | {"layer": ""} for row in rows] == [rows[0] | {"layer": ""}] * 3


@pytest.mark.parametrize("suffix", [".toml", ".TOML"])
def test_a_toml_file(suffix, shape, tmp_path):
    (tmp_path / f"net{suffix}").write_text('stages = [\n  "conv 5x5 * 10",\n]\n')
    assert shape("240x240", f"net{suffix}") == shape("240x240", "conv 5x5 * 10")


# The text for people


def test_the_tables(shape):
    lines = shape("3x224x224", f"{NET} | conv 3x3 dilation=2x1 padding=0,1,2,3 boundary=reflect")
    assert max(map(len, lines[:11])) <= 100
    assert not any(line != line.rstrip() for line in lines)
    header, conv, relu, pool, last = lines[:5]
    assert header.split() == ["layer", "kernel", "stride", "padding", "output", "weights", "mult-adds", "memory"]
    assert conv.split() == ["1", "conv", "7x7", "2x2", "3", "64x112x112", "9,408", "118", "M", "3.21", "MB"]
    assert relu.split() == ["2", "relu", "-", "-", "-", "64x112x112", "-", "-", "3.21", "MB"]
    assert pool.split() == ["3", "maxpool", "2x2", "2x2", "none", "64x56x56", "-", "-", "803", "kB"]
    assert "3x3 by 2x1" in last
    assert "0,1,2,3 reflect" in last
    second = lines.index("") + 1
    assert lines[second].split() == ["layer", "field", "jump", "start", "effective", "padding"]
    assert lines[second + 3].split() == ["3", "maxpool", "9x9", "4x4", "1,1", "3x3"]
    assert lines[second + 6].startswith("total: ")
    assert lines[second + 7] == "an output sees 25x17 of the input, the next one 4x4 further"


def test_the_usual_table_fits_80_columns(shape):
    assert max(map(len, shape("3x224x224", NET)[:9])) <= 80


@pytest.mark.parametrize(
    ("size", "pipeline", "words"),
    [
        ("8x8", "conv 3x3 stride=2", "layer 1, conv: the last 1 row and the last 1 column are never read"),
        ("8x7", "conv 3x3 stride=2", "layer 1, conv: the last 1 row is never read"),
        ("7x8", "conv 3x3 stride=2", "layer 1, conv: the last 1 column is never read"),
        ("11x9", "relu | maxpool 3", "layer 2, maxpool: the last 2 rows are never read"),
        ("10x10", "conv 3x3 stride=4", "layer 1, conv: the last 3 rows and the last 3 columns are never read"),
        ("5x5", "maxpool 2 ceil", None),
        ("7x7", "conv 3x3 stride=2", None),
        ("8x8", "conv 3x3 stride=2 padding=same", None),
    ],
)
def test_what_is_never_read(size, pipeline, words, shape):
    lines = [line for line in shape(size, pipeline) if "never read" in line]
    assert lines == ([words] if words else [])


@pytest.mark.parametrize(
    ("size", "pipeline", "yes", "no"),
    [
        ("32x32", "conv 3x3", "PyTorch, TensorFlow, ONNX", ""),
        ("32x32", "conv 3x3 padding=same", "PyTorch, TensorFlow, ONNX", ""),
        ("32x32", "conv 3x3 padding=1 | relu | maxpool 2", "PyTorch, TensorFlow, ONNX", ""),
        ("32x32", "conv 3x3 padding=same stride=2", "TensorFlow, ONNX", "PyTorch (layer 1, conv: refuses same"),
        (
            "32x32",
            "relu | conv 3x3 padding=1 stride=2",
            "PyTorch, ONNX",
            "TensorFlow (layer 2, conv: has only the words",
        ),
        (
            "32x32",
            "conv 3x3 padding=1 boundary=reflect",
            "PyTorch",
            "TensorFlow (layer 1, conv: has no border reflect)",
        ),
        ("32x32", "conv 4x4 padding=same-lower", "ONNX", "PyTorch"),
        ("9x9", "maxpool 2 ceil", "PyTorch, ONNX", "TensorFlow (layer 1, maxpool: does not round sizes up)"),
        ("8x8", "maxpool 2 ceil", "PyTorch, TensorFlow, ONNX", ""),
        ("32x32", "conv 3x3 padding=1 boundary=0.5", "none", "ONNX"),
        ("32x32", "dense 10 | relu", "PyTorch, TensorFlow, ONNX", ""),
    ],
)
def test_which_frameworks_give_the_same_in_one_line(size, pipeline, yes, no, shape):
    (line,) = [line for line in shape(size, pipeline) if line.startswith("the same sizes and pads: ")]
    given, _, refusing = line.removeprefix("the same sizes and pads: ").partition("; not ")
    assert given.startswith(yes) if yes == "none" else given == yes
    assert no in refusing if no else refusing == ""


def test_ten_thousand_layers_and_huge_pictures(data, shape):
    assert data("3x8x8", "conv 3x3 out=3 padding=same * 10000")["total"]["receptive_field"] == [20001, 20001]
    total = data("1000000000x1000000000", "conv 3x3 padding=same")["total"]
    assert (total["macs"], total["output"]) == (9 * 10**18, [1, 10**9, 10**9])
    assert shape("1000000000x1000000000", "sobel | globalavg | dense 10")


# What one output sees

LINEAR = [
    "conv 3x3 init=random",
    "conv 3x2 init=random stride=2 padding=1",
    "conv 3x3 init=random padding=full | conv 2x2 init=random dilation=2",
    "conv 3x3 init=random padding=same * 2 | avgpool 2 | conv 2x3 init=random padding=1,0,0,2",
    "avgpool 3 stride=2 ceil padding=1",
    "conv 2x2 init=random padding=same-lower | minpool 1",
    "conv 1x1 init=random padding=2",
    "avgpool 2 | globalavg",
    "conv 3x3 init=random stride=2 | dense 1 init=random",
]


@pytest.mark.parametrize("pipeline", LINEAR)
def test_the_box_is_what_reaches_the_output(pipeline, data):
    """Every input pixel by itself, in a batch of its own: those that move an output are the box, on the picture."""
    height, width = 9, 10
    cells = np.eye(height * width).reshape(-1, 1, height, width)
    seen = convcli.Pipeline.parse(pipeline).run(cells)
    seen = seen.reshape(height, width, *seen.shape[-2:]) != 0
    rows, columns = seen.shape[2:]
    for y, x in {(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)}:
        found = data(f"{height}x{width}", pipeline, "--at", f"{y},{x}")
        assert found["at"] == [y, x]
        top, bottom, left, right = found["box"]
        assert (bottom - top + 1, right - left + 1) == tuple(found["total"]["receptive_field"])
        want = np.zeros((height, width), bool)
        want[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
        reached = seen[:, :, y, x]
        # windows with gaps leave cells inside the box out; its hull is the same
        assert reached.any() == want.any()
        if reached.any():
            for axis in (0, 1):
                hull, box = np.flatnonzero(reached.any(axis)), np.flatnonzero(want.any(axis))
                assert (hull[0], hull[-1]) == (box[0], box[-1])


@pytest.mark.parametrize(
    ("pipeline", "at", "words"),
    [
        ("conv 3x3", "5,4", "output 5,4 sees rows 5 to 7 and columns 4 to 6"),
        ("conv 3x3 * 2 | maxpool 2", "1,0", "output 1,0 sees rows 2 to 7 and columns 0 to 5"),
        (
            "conv 3x3 padding=2",
            "0,9",
            "output 0,9 sees rows -2 to 0 and columns 7 to 9; on the picture rows 0 to 0 and columns 7 to 7",
        ),
        ("conv 1x1 padding=2", "0,0", "output 0,0 sees rows -2 to -2 and columns -2 to -2, all of them pads"),
    ],
)
def test_the_box_in_words(pipeline, at, words, shape):
    assert shape("8x8", pipeline, "--at", at)[-1] == words


@pytest.mark.parametrize("at", ["6,0", "0,6", "0,99999999999999999999999", "99999999999999999999999,0"])
def test_places_that_are_none(at, refused):
    assert refused("8x8", "conv 3x3", "--at", at).startswith("--at: ")
    assert "none of the 6 that come out, from 0" in refused("8x8", "conv 3x3", "--at", at)


@pytest.mark.parametrize("at", ["1", "1x1", "-1,0", "1,2,3", "a,b", "", "1.5,2", ","])
def test_places_that_are_no_pair(at, refused):
    line = refused("8x8", "conv 3x3", "--at", at)
    assert line.startswith("--at: must be whole numbers, as Y,X")


# The overlay


@pytest.fixture
def photo(tmp_path):
    return save(tmp_path / "photo.png", RNG.integers(0, 256, (40, 50, 3), np.uint8))


def test_the_overlay_shows_the_box_and_dims_the_rest(shape, photo, tmp_path):
    lines = shape("40x50", "conv 5x7", "--at", "10,20", "--overlay", "photo.png", "-o", "seen.png")
    assert lines[-2:] == ["output 10,20 sees rows 10 to 14 and columns 20 to 26", "seen.png"]
    before, after = load(photo), load(tmp_path / "seen.png")
    assert after.shape == before.shape
    np.testing.assert_array_equal(after[10:15, 20:27], before[10:15, 20:27])
    assert abs(after[9, 19:28] - LINE).max() <= 1
    assert abs(after[15, 19:28] - LINE).max() <= 1
    assert abs(after[9:16, 19] - LINE).max() <= 1
    assert abs(after[9:16, 27] - LINE).max() <= 1
    far = np.ones((40, 50), bool)
    far[8:17, 18:29] = False
    assert abs(after[far] - 0.6 * before[far]).max() <= 0.5 + 1e-9


def test_the_overlay_has_a_name_by_itself(shape, photo, tmp_path):
    assert shape("3x40x50", "conv 5x7", "--at", "0,0", "--overlay", "photo.png")[-1] == "photo.shape.png"
    assert load(tmp_path / "photo.shape.png").shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("mode", "shown"), [("L", "RGB"), ("LA", "RGBA"), ("RGBA", "RGBA"), ("P", "RGB"), ("1", "RGB")]
)
def test_overlays_of_any_picture(mode, shown, shape, tmp_path):
    image = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "a.png")
    shape("40x50", "maxpool 10", "--at", "3,4", "--overlay", "a.png")
    with Image.open(tmp_path / "a.shape.png") as after:
        assert (after.mode, after.size) == (shown, (50, 40))
        np.testing.assert_array_equal(np.asarray(after)[32:38, 42:48], np.asarray(image.convert(shown))[32:38, 42:48])


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".webp", ".tiff"])
def test_overlays_in_other_formats(suffix, shape, photo, tmp_path):
    shape("40x50", "maxpool 10", "--at", "3,4", "--overlay", "photo.png", "-o", f"a{suffix}")
    assert load(tmp_path / f"a{suffix}").shape[:2] == (40, 50)


def test_an_overlay_is_turned_upright_and_its_size_is_that(shape, refused, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    shape("50x40", "maxpool 10", "--at", "0,0", "--overlay", "a.jpg")
    assert "a.jpg is 50x40, not 40x50" in refused(
        "40x50", "maxpool 10", "--at", "0,0", "--overlay", "a.jpg", table=True
    )


def test_json_with_an_overlay_is_one_object(data, photo, tmp_path):
    """stdout is for ``jq``: JSON alone."""
    found = data("40x50", "conv 3x3", "--at", "1,2", "--overlay", "photo.png")
    assert found["box"] == [1, 3, 2, 4]
    assert (tmp_path / "photo.shape.png").exists()


OVERLAYS = {
    "wrong.png": "wrong.png is 5x6, not 40x50",
    "nothing.png": "nothing.png: no such file",
    "net.toml": "net.toml: not a picture",
    "bad.png": "bad.png: ",
    ".": "",
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_that_cannot_be(name, refused, tmp_path):
    save(tmp_path / "wrong.png", np.zeros((5, 6), np.uint8))
    (tmp_path / "net.toml").write_text('stages = ["relu"]')
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    line = refused("40x50", "conv 3x3", "--at", "0,0", "--overlay", name, table=True)
    assert line.startswith("--overlay: ")
    assert OVERLAYS[name] in line


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("photo.png", "photo.png is the input itself"),
        ("./photo.png", "is the input itself"),
        ("link.png", "is the input itself"),
        ("no/seen.png", "no/seen.png"),
        ("seen.docx", "the suffix must be one of"),
        ("seen", "the suffix must be one of"),
        ("dir/", ""),
        ("seen.npy", "npy"),
        ("seen.csv", "csv"),
    ],
)
def test_where_an_overlay_can_t_go(target, words, refused, photo, tmp_path):
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "dir").mkdir()
    line = refused("40x50", "conv 3x3", "--at", "0,0", "--overlay", "photo.png", "-o", target, "-f", table=True)
    assert words in line.lower()


def test_an_overlay_overwrites_only_with_f(refused, shape, photo, tmp_path):
    (tmp_path / "seen.png").write_text("mine")
    args = ("40x50", "conv 3x3", "--at", "0,0", "--overlay", "photo.png", "-o", "seen.png")
    assert refused(*args, table=True) == "-o: seen.png exists; add -f to overwrite it"
    shape(*args, "-f")
    assert load(tmp_path / "seen.png").shape == (40, 50, 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--at", "0,0", "--overlay", "wrong.png"),
        ("--at", "0,0", "--overlay", "no.png"),
        ("--at", "0,0", "--overlay", "photo.png", "-o", "photo.png"),
        ("--at", "0,0", "--overlay", "photo.png", "-o", "there.png"),
        ("--at", "0,0", "--overlay", "photo.png", "-o", "seen.docx"),
        ("--report", "there.json"),
        ("--report", "no/r.json"),
    ],
)
def test_what_is_refused_is_so_before_any_work(options, refused, photo, tmp_path):
    """Status 2: nothing on stdout yet, and no report either."""
    save(tmp_path / "wrong.png", np.zeros((5, 6), np.uint8))
    for name in ("there.png", "there.json"):
        (tmp_path / name).write_text("mine")
    refused("40x50", "conv 3x3", *options, *(() if "--report" in options else ("--report", "r.json")))


def test_the_message_of_a_format_names_its_option(refused, photo):
    for name in ("seen.npy", "seen.docx"):
        line = refused("40x50", "relu", "--at", "0,0", "--overlay", "photo.png", "-o", name, table=True)
        assert line.startswith("-o: ")
        assert "unknown file extension" not in line


def test_an_overlay_needs_a_place_and_o_an_overlay(refused, photo):
    assert "--overlay: draws what one output sees; say which with --at" in refused("40x50", "relu", "--overlay", photo)
    assert refused("40x50", "relu", "-o", "seen.png").startswith("-o: ")
    assert refused("40x50", "relu", "--at", "0,0", "-o", "seen.png").startswith("-o: ")


# Matrices


def test_the_matrix_of_the_issue(invoke):
    done = invoke("shape", "4x4", "conv 2x2", "--matrix")
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "a b 0 0 c d 0 0 0 0 0 0 0 0 0 0",
        "0 a b 0 0 c d 0 0 0 0 0 0 0 0 0",
        "0 0 a b 0 0 c d 0 0 0 0 0 0 0 0",
        "0 0 0 0 a b 0 0 c d 0 0 0 0 0 0",
        "0 0 0 0 0 a b 0 0 c d 0 0 0 0 0",
        "0 0 0 0 0 0 a b 0 0 c d 0 0 0 0",
        "0 0 0 0 0 0 0 0 a b 0 0 c d 0 0",
        "0 0 0 0 0 0 0 0 0 a b 0 0 c d 0",
        "0 0 0 0 0 0 0 0 0 0 a b 0 0 c d",
    ]


@pytest.mark.parametrize(
    ("size", "pipeline"),
    [
        ("1x5x6", "conv 3x2 init=random"),
        ("2x5x6", "conv 3x2 out=3 init=random stride=2x1 dilation=1x2 padding=1,0,2,1"),
        ("4x3x3", "conv 2x2 out=2 groups=2 init=random"),
        ("2x4x4", "conv sobel-x groups=in padding=same boundary=wrap"),
        ("2x4x4", "gaussian:1 stride=2"),
        ("1x4x3", "filter [1 2; 3 4] padding=full boundary=symmetric"),
        ("2x3x3", "dense 4 init=random"),
    ],
)
def test_a_matrix_gives_what_the_layer_gives(size, pipeline, invoke):
    shape = tuple(map(int, size.split("x")))
    x = RNG.normal(size=shape)
    want = convcli.Pipeline.parse(pipeline).run(x).ravel()
    matrix = np.array(json.loads(invoke("shape", size, pipeline, "--matrix", "--json").stdout)["matrix"])
    np.testing.assert_allclose(matrix @ x.ravel(), want, rtol=1e-9, atol=1e-9)
    printed = np.array(
        [line.split() for line in invoke("shape", size, pipeline, "--matrix").stdout.decode().splitlines()]
    )
    np.testing.assert_allclose(printed.astype(float), matrix, rtol=1e-8, atol=1e-12)


def test_names_that_meet_in_a_cell_are_summed(shape):
    lines = shape("1x3", "conv 1x3 padding=0,0,1,1 boundary=reflect", "--matrix")
    assert [line.split() for line in lines] == [["b", "a+c", "0"], ["a", "b", "c"], ["0", "a+c", "b"]]
    assert shape("3x3", "dense 2", "--matrix") == ["a b c d e f g h i", "j k l m n o p q r"]
    assert "w27" in shape("3x3", "dense 3", "--matrix")[2]


@pytest.mark.parametrize(
    ("size", "pipeline", "words"),
    [
        ("3x3", "maxpool 2", "maxpool is not a weighted sum"),
        ("3x3", "relu", "relu is not a weighted sum"),
        ("3x3", "sobel", "sobel"),
        ("3x3", "conv 2x2 * 2", "one layer, not 2"),
        ("3x3", "conv 2x2 | relu", "one layer, not 2"),
        ("300x300", "conv 3x3", "take a smaller SIZE"),
        ("1000x1000", "dense 1000", "1,000 x 1,000,000"),
        ("1000000000x1000000000", "conv 3x3", "take a smaller SIZE"),
    ],
)
def test_matrices_that_cannot_be(size, pipeline, words, refused):
    line = refused(size, pipeline, "--matrix")
    assert line.startswith("--matrix: ")
    assert words in line


@pytest.mark.parametrize(
    "options", [("--report", "r.json"), ("--at", "0,0"), ("--at", "0,0", "--overlay", "photo.png")]
)
def test_what_is_asked_for_beside_a_matrix_is_done_or_refused(options, invoke, tmp_path):
    """Never left out in silence."""
    save(tmp_path / "photo.png", np.zeros((3, 3), np.uint8))
    done = invoke("shape", "3x3", "conv 2x2", "--matrix", *options)
    if done.status == 0:
        assert "--report" not in options or (tmp_path / "r.json").exists()
        assert "--overlay" not in options or (tmp_path / "photo.shape.png").exists()
        assert "--at" not in options or b"output 0,0 sees" in done.stdout
    else:
        assert done.status == 2


# Reports


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".txt", ".html"])
def test_reports_hold_every_layer(suffix, invoke, tmp_path):
    args = ("3x226x224", NET)
    done = invoke("shape", *args, "--report", f"r{suffix}", "--at", "0,0")
    assert (done.status, done.stderr) == (0, b"")
    text = (tmp_path / f"r{suffix}").read_text()
    want = json.loads(invoke("shape", *args, "--json").stdout)
    printed = done.stdout.decode()
    notes = printed.rpartition("\n\n")[2].splitlines()
    if suffix == ".json":
        found = json.loads(text)
        assert {key: found[key] for key in want} == want
    elif suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert list(rows[0]) == list(ROW)
        for row, one in zip(rows, want["layers"], strict=True):
            for key, value in one.items():
                assert row[key] == ("x".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)), key
    elif suffix == ".txt":
        assert text == printed
    elif suffix == ".md":
        tables = [block.splitlines() for block in text.split("\n\n")]
        assert len(tables) == 3
        for lines in tables[:2]:
            assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
        assert [line[2:] for line in text.splitlines() if line.startswith("- ")] == notes
        assert "| 1 | conv | 7x7 | 2x2 | 3 | 64x113x112 |" in text
    else:
        assert text.startswith("<!doctype html>")
        assert [html.unescape(one) for one in re.findall("<p>(.*?)</p>", text)] == notes
        cells = [re.findall("<td>(.*?)</td>", line) for line in re.findall("<tr>(.*?)</tr>", text)]
        assert ["1", "conv", "7x7", "2x2", "3", "64x113x112"] in [one[:6] for one in cells]
        assert len(cells) == 2 * (1 + 3)


def test_names_in_reports_are_escaped(invoke, tmp_path):
    (tmp_path / "a|<b>.txt").write_text("1 2\n")
    for suffix in (".md", ".html", ".csv"):
        assert invoke("shape", "5x5", "filter './a|<b>.txt'", "--report", f"r{suffix}").status == 0
    assert "<b>" not in (tmp_path / "r.html").read_text()
    assert "a\\|<b>" in (tmp_path / "r.md").read_text()
    assert "a|<b>" in (tmp_path / "r.csv").read_text()


def test_a_report_overwrites_only_with_f(refused, shape, tmp_path):
    (tmp_path / "r.json").write_text("mine")
    assert refused("8x8", "relu", "--report", "r.json", table=True) == "--report: r.json exists; add -f to overwrite it"
    shape("8x8", "relu", "--report", "r.json", "-f")
    assert json.loads((tmp_path / "r.json").read_text())["total"]["output"] == [1, 8, 8]


@pytest.mark.parametrize("name", ["r.pdf", "r", "no/r.json", "dir.json"])
def test_where_a_report_can_t_go(name, refused, tmp_path):
    (tmp_path / "dir.json").mkdir()
    assert refused("8x8", "relu", "--report", name, "-f", table=True).startswith("--report: ")


def test_a_report_is_never_the_pipeline_or_its_weights(refused, tmp_path):
    (tmp_path / "w.json").write_text("[[1, 2], [3, 4]]")
    assert "w.json" in refused("8x8", "conv weights=w.json", "--report", "w.json", "-f")


# Bad input

SIZES = [
    "8",
    "8x8x8x8",
    "0x8",
    "8x0",
    "8x-1",
    "axb",
    "",
    "8x8.5",
    "1000000001x1",
    "8X",
    "x",
    "8,8",
    "99999999999999999x2",
]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_are_none(size, refused):
    line = refused("--", size, "relu") if size.startswith("-") else refused(size, "relu")
    assert line.startswith("SIZE: ")
    assert repr(size) in line


BAD = {
    "": "stage 1, nothing: is empty",
    " ": "stage 1, nothing: is empty",
    "|": "stage 1, nothing: is empty",
    "relu |": "stage 2, nothing: is empty",
    "conv 9x9": "a window of 9 does not fit height 8",
    "relu | conv 9x3": "layer 2, conv: a window of 9 does not fit height 8 padded by 0+0",
    "conv 3x3 * 10000": "layer 4, conv: a window of 3 does not fit height 2",
    "maxpool 9": "a window of 9 does not fit",
    "relu * 10001": "repeats from 1 to 10,000 times",
    "relu * 6000 | abs * 6000": "at most 10,000 layers",
    "conv 3x3 out=2 | gray": "layer 2, gray: gray takes 1 or 3 channels, but 2 came in",
    "conv 3x3 out=3 groups=2": "groups",
    "conv weights=no.npy": "no such kernel file: 'no.npy'",
    "no.toml": "no.toml",
    "x.toml": "x.toml",
    "bad.toml": "bad.toml: line 2, stage 1, rellu: there is no such stage; did you mean 'relu'",
    "picture.png": "there is no such stage",
    "rellu": "did you mean 'relu'",
    "conv 3x3 init=random | dense 3 weights=w.npy": "its weights take 4 numbers, but 1x6x6, 36 numbers, came in",
    "maxpool 2 padding=2": "padding of a pool must be smaller than its window",
}


@pytest.mark.parametrize("pipeline", BAD)
def test_pipelines_that_cannot_be(pipeline, refused, tmp_path):
    (tmp_path / "x.toml").mkdir()
    (tmp_path / "bad.toml").write_text('stages = [\n  "rellu",\n]\n')
    np.save(tmp_path / "w.npy", np.ones((3, 4)))
    assert BAD[pipeline] in refused("8x8", pipeline, "--report", "r.json")


@pytest.mark.parametrize("options", [(), ("--json",), ("--matrix",)])
def test_a_toml_without_stages(options, refused, tmp_path):
    (tmp_path / "net.toml").write_text("stages = []\n")
    assert refused("8x8", "net.toml", *options).startswith("net.toml: ")


def test_what_is_missing_is_named(refused):
    assert "PIPELINE" in refused("8x8")


def test_no_size_is_named(refused):
    assert "SIZE" in refused()


def test_a_place_of_one_pixel(data, refused):
    assert data("1x1", "edge | relu", "--at", "0,0")["box"] == [-1, 1, -1, 1]
    assert "does not fit height 1" in refused("1x1", "conv 3x3")


def test_stdout_as_a_process(run, tmp_path):
    done = run("shape", "240x240", "conv 5x5 * 10", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["total"]["output"] == [1, 200, 200]
    done = run("shape", "4x4", "conv 9x9")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"Traceback" not in done.stderr


# Help


def test_help(invoke):
    done = invoke("shape", "--help")
    assert (done.status, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    page = " ".join(" ".join(lines).replace("│", " ").split())
    assert "…" not in page
    assert "Usage: convcli shape [OPTIONS] SIZE PIPELINE" in page
    assert f'Example: convcli shape 3x224x224 "{NET}"' in page
    for option in ("--at", "--overlay", "--output", "-o", "--matrix", "--json", "--report", "--force", "-f", "-h"):
        assert re.search(rf"(^|\s){option}(\s|,|$)", page), option


def test_both_are_in_the_program_s_help(invoke):
    page = invoke("--help").stdout.decode()
    for name in ("run", "shape"):
        assert re.search(rf"^\W*{name}\s\s+\S", page, re.MULTILINE)
