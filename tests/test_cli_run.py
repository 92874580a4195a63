"""``convcli run`` as it is typed: pictures, arrays, pipes, feature maps, traces, memory, bad input."""

import io
import json
import pickle
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

import convcli
from convcli.engine.threads import free_memory
from pictures import files, load, save, tree

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (12, 15), np.uint8)
COLOR = RNG.integers(0, 256, (12, 15, 3), np.uint8)
WEIGHT = RNG.normal(size=(5, 1, 3, 3))
BIAS = np.array([0.5, -0.25, 0.0, 1.0, -1.0])
PAPER = (28, 34, 48)
ROW_TYPES = {
    "layer": str,
    "kernel": [int] * 2,
    "stride": [int] * 2,
    "dilation": [int] * 2,
    "padding": [int] * 4,
    "boundary": str,
    "input": [int] * 3,
    "output": [int] * 3,
    "receptive_field": [int] * 2,
    "jump": [int] * 2,
    "start": [float] * 2,
    "effective_padding": [int] * 2,
    "unused": [int] * 2,
    "params": int,
    "macs": int,
    "memory": int,
    "method": str,
}
MAPS = "gray | conv 3x3 out=5 init=random seed=3 | relu"


def planes(pixels):
    """Codes as ``(C, H, W)`` fractions of white in float64."""
    white = np.iinfo(pixels.dtype).max
    return np.moveaxis(np.atleast_3d(pixels), 2, 0) / white


def expected(pipeline, pixels):
    """What the Python door makes of the same stages."""
    return convcli.Pipeline.parse(pipeline.replace("30%", "0.3")).run(planes(pixels))


def codes(values, white=255):
    return np.clip(np.rint(np.moveaxis(np.atleast_3d(values), 0, 2).squeeze() * white), 0, white)


def check_types(row):
    assert list(row) == list(ROW_TYPES)
    for key, kind in ROW_TYPES.items():
        if isinstance(kind, list):
            assert [type(one) for one in row[key]] == kind, key
        else:
            assert type(row[key]) is kind, key


def tile_at(sheet, plane, scale=None):
    """Where a map stands on a sheet, stretched and enlarged; None if it does not."""
    low, high = plane.min(), plane.max()
    tile = np.rint(255 * (plane - low) / (high - low) if high > low else np.full(plane.shape, 127.5))
    scale = scale or max(1, round(112 / max(plane.shape)))
    tile = np.repeat(np.repeat(tile, scale, 0), scale, 1).astype(int)
    h, w = tile.shape
    gray = np.where(np.ptp(sheet, axis=2) == 0, sheet[..., 0], -9).astype(int)
    near = abs(gray[: 1 - h or None, : 1 - w or None] - tile[0, 0]) <= 1
    near &= abs(gray[h - 1 :, w - 1 :] - tile[-1, -1]) <= 1
    for y, x in np.argwhere(near):
        if abs(gray[y : y + h, x : x + w] - tile).max() <= 1:
            return int(y), int(x)
    return None


@pytest.fixture
def refused(refused):
    """``refused(status, *args)``: the one line of ``convcli run``."""
    return lambda status, *args: refused(status, "run", *args)


@pytest.fixture
def grey(tmp_path):
    return save(tmp_path / "grey.png", GREY)


@pytest.fixture
def color(tmp_path):
    return save(tmp_path / "color.png", COLOR)


# What is computed

PIPELINES = [
    "relu",
    "gray",
    "gaussian:2",
    "gray | sobel | threshold 30%",
    "edge | abs",
    "blur | filter [1 0 -1; 2 0 -2; 1 0 -1] bias=0.5",
    "sharpen stride=2 padding=valid",
    "maxpool 2 | avgpool 3x2 stride=1 padding=1 exclude-pad | minpool 2 ceil",
    "conv 3x3 out=4 init=random seed=7 padding=same | sigmoid | conv 1x1 out=3 init=random",
    "conv edge | tanh",
    "conv [1 2; 3 4] groups=in bias=-0.25 | normalize",
    "gray | conv 3x3 init=random seed=2 * 3",
    "globalavg",
    "globalmax",
    "dense 3 init=random seed=1 bias=0.5",
]


@pytest.mark.parametrize("pixels", [GREY, COLOR, RNG.integers(0, 65536, (12, 15), np.uint16)], ids=["L", "RGB", "I;16"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pictures_are_fractions_of_white_in_planes(pipeline, pixels, invoke, tmp_path):
    save(tmp_path / "a.png", pixels)
    want = expected(pipeline, pixels)
    assert invoke("run", pipeline, "a.png", "-q", "-o", "out.npy") == (0, b"out.npy\n", b"")
    got = np.load(tmp_path / "out.npy")
    assert got.dtype == np.float32
    if not pipeline.endswith("threshold 30%"):  # a value on the threshold may fall either way
        np.testing.assert_allclose(got.reshape(want.shape), want, rtol=2e-5, atol=2e-5)
    assert invoke("run", pipeline, "a.png", "-q", "-o", "out.png") == (0, b"out.png\n", b"")
    stored = load(tmp_path / "out.png")
    white = 255 if stored.ndim == 3 else np.iinfo(pixels.dtype).max  # Pillow brings 16-bit colour to 8
    step = 3 if white == 65535 else 1
    near = abs(stored.astype(float).squeeze() - codes(want if want.ndim == 3 else want[None], white))
    assert np.mean(near > step) < 0.02


@pytest.mark.parametrize(
    "pipeline",
    [
        "filter [0.01] | filter [100]",  # in 8 bits all but three levels would be lost
        "filter [-1] | filter [-1]",  # and with a clip everything
        "filter [9] | filter [1/9]",
        "filter [1] bias=0.9 | filter [1] bias=-0.9",
        "conv [1] groups=in bias=-1 | conv [1] groups=in bias=1",
    ],
)
def test_floats_between_stages_and_one_rounding_at_the_end(pipeline, invoke, color, tmp_path):
    assert invoke("run", pipeline, "color.png", "-q", "-o", "out.png").status == 0
    np.testing.assert_array_equal(load(tmp_path / "out.png"), COLOR)


def test_repeats_are_the_stage_written_out(invoke, grey, tmp_path):
    for name, pipeline in (("a", "blur * 3 | maxpool 2 * 2"), ("b", "blur|blur | blur|maxpool 2 |maxpool 2")):
        assert invoke("run", pipeline, "grey.png", "-q", "--strip", "-o", f"{name}.png").status == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_named_filter_is_the_command_of_that_name(invoke, color, tmp_path):
    for name in ("edge", "gaussian:2", "sobel", "kirsch"):
        assert invoke("run", name, "color.png", "-q", "-f", "-o", "a.png").status == 0
        assert invoke(name, "color.png", "-q", "-f", "-o", "b.png").status == 0
        np.testing.assert_array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))


def test_grey_comes_in_as_one_channel_and_colour_as_three(invoke, grey, color):
    for name, channels in (("grey.png", 1), ("color.png", 3)):
        record = json.loads(invoke("run", "relu", name, "--json").stdout)
        assert record["layers"][0]["input"] == [channels, 12, 15]


def test_matrices_are_plain_numbers_in_float64(invoke):
    done = invoke("run", "threshold 100 | filter [0.5]", "[1 200; 100 99.5]", "-q")
    assert done == (0, b"0 0.5\n0.5 0\n", b"")
    done = invoke("run", "conv [1 1] bias=1000000", "[0.123456789 0]", "-q")
    assert done == (0, b"1000000.12\n", b"")


@pytest.mark.parametrize("shape", [(6, 7), (2, 6, 7), (3, 2, 6, 7)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_in_any_rank_stay_exact(shape, suffix, invoke, tmp_path):
    array = RNG.normal(size=shape)
    np.save(tmp_path / "a.npy", array)
    pipeline = "conv 3x3 out=6 init=random seed=4 | relu | maxpool 2 stride=1"
    assert invoke("run", pipeline, "a.npy", "-q", "-o", f"out{suffix}").status == 0
    got = np.load(tmp_path / f"out{suffix}")
    got = got[got.files[0]] if suffix == ".npz" else got
    want = convcli.Pipeline.parse(pipeline).run(array)
    assert (got.shape, got.dtype) == (want.shape, np.float64)
    np.testing.assert_array_equal(got, want)


def test_nan_goes_through_and_is_pink_on_a_sheet(invoke, tmp_path):
    array = RNG.normal(size=(6, 7))
    array[2, 3] = np.nan
    np.save(tmp_path / "a.npy", array)
    done = invoke("run", "relu | maxpool 2", "a.npy", "-q")
    assert done.status == 0
    cells = [line.split(" ") for line in done.stdout.decode().splitlines()]
    assert [one for row in cells for one in row].count("nan") == 1
    assert cells[1][1] == "nan"
    done = invoke("run", "conv 1x1 out=5 init=random", "a.npy", "-o", "a.png")
    assert done.status == 0
    assert b"5 of 5 maps hold NaN or infinity, shown in pink" in done.stderr
    assert (load(tmp_path / "a.png") == (255, 0, 200)).all(axis=2).sum() == 5 * 16**2


# Weights


def weight_file(folder, name):
    from safetensors.numpy import save_file

    match name:
        case "w.npy":
            np.save(folder / name, WEIGHT)
        case "w.npz":
            np.savez(folder / name, WEIGHT)
        case "w.json":
            (folder / name).write_text(json.dumps(WEIGHT.tolist()))
        case "w.safetensors":
            save_file({"weight": WEIGHT}, folder / name)
        case "w.safetensors:b":
            save_file({"a": -WEIGHT, "b": WEIGHT}, folder / "w.safetensors")


@pytest.mark.parametrize("name", ["w.npy", "w.npz", "w.json", "w.safetensors", "w.safetensors:b"])
def test_weights_from_files_in_stages_and_in_filter(name, invoke, grey, tmp_path):
    weight_file(tmp_path, name)
    want = convcli.conv2d(planes(GREY)[0], WEIGHT)
    assert invoke("run", f"conv weights={name}", "grey.png", "-q", "-o", "a.npy").status == 0
    assert invoke("filter", "grey.png", "-k", name, "-q", "-o", "b.npy").status == 0
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_weight_of_filter_makes_a_sheet_and_a_file_for_each_channel(invoke, grey, tmp_path):
    np.save(tmp_path / "w.npy", WEIGHT)
    assert invoke("filter", "grey.png", "-k", "w.npy", "-q").stdout == b"grey.filter.png\n"
    maps = convcli.conv2d(planes(GREY)[0], WEIGHT)
    sheet = load(tmp_path / "grey.filter.png")
    assert all(tile_at(sheet, one) for one in maps)
    done = invoke("filter", "grey.png", "-k", "w.npy", "-q", "-o", "{channel}.png")
    assert done.stdout.split() == [b"0.png", b"1.png", b"2.png", b"3.png", b"4.png"]


@pytest.mark.parametrize("stage", ["filter k.toml", "conv k.toml", "conv weights=k.toml"])
def test_a_stage_that_ends_in_a_kernel_of_toml_is_no_pipeline_file(stage, invoke, grey, tmp_path):
    (tmp_path / "k.toml").write_text("kernel = [[0, 1], [2, 3]]\n")
    assert invoke("run", f"{stage} | identity", "grey.png", "-q", "-o", "a.png").status == 0
    assert invoke("run", stage, "grey.png", "-q", "-o", "b.png") == (0, b"b.png\n", b"")
    np.testing.assert_array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))


def test_a_bias_from_a_file_and_weights_of_dense(invoke, grey, tmp_path):
    np.save(tmp_path / "w.npy", WEIGHT)
    np.save(tmp_path / "b.npy", BIAS)
    matrix = RNG.normal(size=(2, 12 * 15))
    np.save(tmp_path / "d.npy", matrix)
    assert invoke("run", "conv weights=w.npy bias=b.npy", "grey.png", "-q", "-o", "a.npy").status == 0
    want = convcli.conv2d(planes(GREY)[0], WEIGHT, BIAS)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), want, rtol=1e-5, atol=1e-5)
    assert invoke("run", "dense 2 weights=d.npy", "grey.png", "-q", "-o", "d2.npy").status == 0
    want = matrix @ planes(GREY).ravel()
    np.testing.assert_allclose(np.load(tmp_path / "d2.npy").ravel(), want, rtol=1e-4)


def test_random_weights_are_the_same_for_a_seed(invoke, grey, tmp_path):
    for name, seed in (("a", "seed=1"), ("b", "seed=1"), ("c", "seed=2"), ("d", ""), ("e", "seed=0")):
        pipeline = f"conv 3x3 out=5 init=random {seed}"
        assert invoke("run", pipeline, "grey.png", "-q", "-o", f"{name}.npy").status == 0
    a, b, c, d, e = (np.load(tmp_path / f"{name}.npy") for name in "abcde")
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(d, e)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("name", ["w.npy", "w.npz", "w.pkl", "w.pt"])
def test_pickles_are_refused(name, refused, grey, tmp_path):
    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit(77)",)

    objects = np.array([Bomb()], object)
    if name == "w.npy":
        np.save(tmp_path / name, objects, allow_pickle=True)
    elif name == "w.npz":
        np.savez(tmp_path / name, objects)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    line = refused(2, f"conv weights={name}", "grey.png")
    assert name in line
    assert line.startswith("stage 1, conv: ")


# .toml


TOMLS = [
    "gray | conv 3x3 out=5 init=random seed=3 | relu",
    "filter [1 0 -1; 2 0 -2; 1 0 -1] bias=50% | abs * 3",
    "filter '1 0 -1' | filter \"0 1 0\" | threshold 0.5",
    "gaussian:sigma=2,size=9   padding=valid |  maxpool 2x3 stride=1 padding=1x0 ceil",
    "conv 3x3 init=random * 2 | blur*2",
    "identity boundary=0.25 padding=1,2,3,4",
]


@pytest.mark.parametrize("pipeline", TOMLS)
def test_a_saved_pipeline_is_the_one_that_was_typed(pipeline, invoke, color, tmp_path):
    assert invoke("run", pipeline, "color.png", "-q", "-o", "a.npy", "--save-pipeline", "net.toml").status == 0
    first = (tmp_path / "net.toml").read_bytes()
    typed, saved = convcli.Pipeline.parse(pipeline), convcli.Pipeline.parse(str(tmp_path / "net.toml"))
    assert str(typed) == str(saved)
    assert typed.shapes((3, 20, 20)) == saved.shapes((3, 20, 20))
    done = invoke("run", "net.toml", "color.png", "-q", "-o", "b.npy", "--save-pipeline", "again.toml")
    assert done == (0, b"b.npy\n", b"")
    assert (tmp_path / "again.toml").read_bytes() == first
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_toml_by_hand_with_weights_beside_it(invoke, grey, tmp_path):
    (tmp_path / "nets").mkdir()
    np.save(tmp_path / "nets/w.npy", WEIGHT)
    (tmp_path / "nets/net.TOML").write_text('# mine\nstages = ["conv weights=w.npy",\n  "relu",]\n')
    assert invoke("run", "nets/net.TOML", "grey.png", "-q", "-o", "a.npy").status == 0
    want = np.maximum(convcli.conv2d(planes(GREY)[0], WEIGHT), 0)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), want, rtol=1e-5, atol=1e-5)


def test_a_pipeline_saved_elsewhere_still_finds_its_weights(invoke, grey, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "a/w.npy", WEIGHT)
    (tmp_path / "a/net.toml").write_text('stages = ["conv weights=w.npy"]\n')
    done = invoke("run", "a/net.toml", "grey.png", "-q", "-o", "1.npy", "--save-pipeline", "b/net.toml")
    if done.status == 0:
        assert invoke("run", "b/net.toml", "grey.png", "-q", "-o", "2.npy") == (0, b"2.npy\n", b"")


BAD_TOMLS = {
    'stages = ["relu", 3]': "stage 2 is 3",
    'stages = "relu"': "no list of stages",
    'stagse = ["relu"]': "line 1: there is 'stagse'",
    'stages = ["relu"]\nname = "x"': "line 2: there is 'name'",
    'stages = ["relu",': "not TOML",
    "": "no list of stages",
    'stages = [\n "relu",\n "relo"]': "line 3, stage 2, relo: there is no such stage; did you mean 'relu'?",
    'stages = [\n "relu | abs"]': "line 2, stage 1",
    'stages = [""]': "stage 1, nothing: is empty",
    "\x00": "not TOML",
}


@pytest.mark.parametrize("text", BAD_TOMLS)
def test_a_bad_toml(text, refused, grey, tmp_path):
    (tmp_path / "net.toml").write_text(text)
    line = refused(2, "net.toml", "grey.png")
    assert line.startswith("net.toml: ")
    assert BAD_TOMLS[text] in line


def test_a_toml_without_stages_is_refused_from_the_start(refused, grey, tmp_path):
    (tmp_path / "net.toml").write_text("stages = []\n")
    assert refused(2, "net.toml", "grey.png").startswith("net.toml: ")


def test_tomls_that_are_no_files(refused, grey, tmp_path):
    (tmp_path / "x.toml").mkdir()
    (tmp_path / "utf.toml").write_bytes(b"\xff\xfe")
    assert "x.toml" in refused(2, "x.toml", "grey.png")
    assert "utf.toml: this is not UTF-8 text" in refused(2, "utf.toml", "grey.png")
    assert "no.toml" in refused(2, "no.toml", "grey.png")


@pytest.mark.parametrize("name", ["net.txt", "net", "-", ".", "grey.png"])
def test_a_pipeline_is_saved_as_toml_only(name, refused, grey):
    assert refused(2, "relu", "grey.png", "-f", "--save-pipeline", name).startswith("--save-pipeline: ")


def test_a_saved_pipeline_overwrites_only_with_f(refused, invoke, grey, tmp_path):
    (tmp_path / "net.toml").write_text("mine")
    (tmp_path / "dir.toml").mkdir()
    assert "net.toml exists; add -f" in refused(2, "relu", "grey.png", "--save-pipeline", "net.toml")
    assert "no/net.toml" in refused(2, "relu", "grey.png", "--save-pipeline", "no/net.toml")
    assert "dir.toml" in refused(2, "relu", "grey.png", "-f", "--save-pipeline", "dir.toml")
    assert invoke("run", "relu", "grey.png", "-q", "-f", "--save-pipeline", "net.toml").status == 0
    assert (tmp_path / "net.toml").read_text() == 'stages = [\n    "relu",\n]\n'


@pytest.mark.parametrize(
    "args",
    [
        ("threshold 128", "grey.png"),
        ("relu", "grey.png", "-o", "x.docx"),
        ("relu", "grey.png", "--range", "none"),
        ("relu", "grey.png", "grey.png", "-o", "x.png"),
        ("conv 3x3 out=2 init=random | gray", "grey.png"),
        ("relu", "grey.png", "--report", "no/r.txt"),
    ],
)
def test_no_pipeline_is_saved_when_the_call_is_refused(args, refused, grey):
    refused(2, *args, "--save-pipeline", "net.toml")


def test_a_dry_run_saves_no_pipeline_and_no_trace(invoke, grey, tmp_path):
    before = tree(tmp_path)
    done = invoke("run", "relu", "grey.png", "-n", "--save-pipeline", "net.toml", "--trace", "t")
    assert (done.status, done.stdout) == (0, b"grey.run.png\n")
    assert tree(tmp_path) == before


def test_the_pipeline_s_own_file_is_never_overwritten(invoke, grey, tmp_path):
    text = '# how I made it\nstages = ["relu"]\n'
    (tmp_path / "net.toml").write_text(text)
    invoke("run", "net.toml", "grey.png", "-q", "-f", "--save-pipeline", "net.toml")
    assert (tmp_path / "net.toml").read_text() == text


# Feature maps


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_one_three_or_four_channels_are_a_picture(channels, mode, invoke, color, tmp_path):
    pipeline = f"conv 3x3 out={channels} init=random seed=1"
    assert invoke("run", pipeline, "color.png", "-q", "-o", "a.png").status == 0
    with Image.open(tmp_path / "a.png") as image:
        assert (image.mode, image.size) == (mode, (13, 10))
    near = abs(load(tmp_path / "a.png").astype(float) - codes(expected(pipeline, COLOR)))
    assert near.max() <= 1


@pytest.mark.parametrize("channels", [2, 5, 6, 16])
@pytest.mark.parametrize("source", ["grey.png", "color.png"])
def test_any_other_number_is_one_labelled_sheet(channels, source, invoke, grey, color, tmp_path):
    pipeline = f"conv 3x3 out={channels} init=random seed=1"
    done = invoke("run", pipeline, source, "-o", "a.png")
    assert (done.status, done.stdout) == (0, b"a.png\n")
    sheet = load(tmp_path / "a.png")
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert tuple(sheet[0, 0]) == PAPER
    maps = expected(pipeline, GREY if source == "grey.png" else COLOR)
    places = [tile_at(sheet, one) for one in maps]
    assert None not in places
    assert sorted(places) == places  # in reading order
    assert len(set(places)) == channels
    for y, x in places:  # a label above, in two lines
        above = (sheet[y - 30 : y - 1, x : x + 60] != PAPER).any(axis=(1, 2))
        assert above.sum() > 10
    assert (sheet[8:40] != PAPER).any()  # the title


@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".webp", ".bmp", ".ppm"])
def test_sheets_in_other_formats(suffix, invoke, grey, tmp_path):
    assert invoke("run", MAPS, "grey.png", "-q", "-o", "a.png").status == 0
    assert invoke("run", MAPS, "grey.png", "-q", "-o", f"a{suffix}").status == 0
    with Image.open(tmp_path / f"a{suffix}") as image, Image.open(tmp_path / "a.png") as want:
        assert image.size == want.size
        difference = abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(want))
    assert difference.mean() < 8


def test_maps_shown_smaller_are_said_and_the_exact_way_is_named(invoke, samples):
    done = invoke("run", "conv 3x3 out=5 init=random", samples / "camera.png", "-o", "a.png")
    assert b"maps are shown at 1/2 of their size; -o NAME.npy keeps them exactly" in done.stderr
    done = invoke("run", "conv 3x3 out=5 init=random", samples / "camera.png", "-q", "-o", "b.png")
    assert done == (0, b"b.png\n", b"")


@pytest.mark.parametrize("source", ["grey.png", "color.png"])
def test_maps_exactly(source, invoke, grey, color, tmp_path):
    want = expected(MAPS, GREY if source == "grey.png" else COLOR)
    assert want.shape == (5, 10, 13)
    for suffix in (".npy", ".npz", ".tiff", ".tif", ".csv", ".txt"):
        done = invoke("run", MAPS, source, "-q", "-o", f"a{suffix}")
        assert done == (0, f"a{suffix}\n".encode(), b""), suffix
    exact = np.load(tmp_path / "a.npy")
    np.testing.assert_allclose(exact, want, rtol=1e-5, atol=1e-5)
    with np.load(tmp_path / "a.npz") as archive:
        assert len(archive.files) == 1
        np.testing.assert_array_equal(archive[archive.files[0]], exact)
    for suffix in (".tiff", ".tif"):
        with Image.open(tmp_path / f"a{suffix}") as image:
            pages = [np.asarray(page) for page in ImageSequence.Iterator(image)]
        assert pages[0].dtype == np.float32
        np.testing.assert_array_equal(pages, exact)
    printed = (tmp_path / "a.txt").read_text().split("\n\n")
    np.testing.assert_allclose([np.loadtxt(io.StringIO(one)) for one in printed], exact, rtol=1e-8)


def test_one_file_a_channel(invoke, grey, color, tmp_path):
    done = invoke("run", MAPS, "grey.png", "color.png", "-q", "-o", "maps/{stem}.{channel}.png")
    names = [f"maps/{stem}.{channel}.png" for stem in ("grey", "color") for channel in range(5)]
    assert done == (0, "".join(f"{name}\n" for name in names).encode(), b"")
    assert files(tmp_path / "maps") == sorted(name[5:] for name in names)
    for stem, pixels in (("grey", GREY), ("color", COLOR)):
        for channel, one in enumerate(expected(MAPS, pixels)):
            with Image.open(tmp_path / f"maps/{stem}.{channel}.png") as image:
                assert image.mode == "L"
                assert abs(np.asarray(image).astype(float) - codes(one[None])).max() <= 1


@pytest.mark.parametrize("suffix", [".npy", ".tiff", ".csv", ".jpg"])
def test_one_file_a_channel_in_other_formats(suffix, invoke, grey, tmp_path):
    done = invoke("run", MAPS, "grey.png", "-q", "-o", "{channel}" + suffix)
    assert done.stdout.decode().split() == [f"{number}{suffix}" for number in range(5)]
    if suffix == ".npy":
        got = [np.load(tmp_path / f"{number}.npy") for number in range(5)]
        np.testing.assert_allclose(np.squeeze(got), expected(MAPS, GREY), rtol=1e-5, atol=1e-5)


def test_channels_of_a_picture_with_alpha(invoke, tmp_path):
    pixels = np.dstack([COLOR, np.full(GREY.shape, 200, np.uint8)])
    save(tmp_path / "a.png", pixels)
    assert invoke("run", "identity", "a.png", "-q", "-o", "{channel}.png").status == 0
    for channel in range(4):
        np.testing.assert_array_equal(load(tmp_path / f"{channel}.png"), pixels[..., channel])


def test_channels_in_json(invoke, grey):
    done = invoke("run", MAPS, "grey.png", "--json", "-q", "-o", "{channel}.png")
    record = json.loads(done.stdout)
    assert record["status"] == "written"
    assert record["output"] == "{channel}.png"


def test_existing_channels(invoke, refused, grey, tmp_path):
    where = ("-o", "m.{channel}.png")
    assert invoke("run", MAPS, "grey.png", "-q", *where).status == 0
    assert "m.0.png exists" in refused(1, MAPS, "grey.png", *where)
    (tmp_path / "m.0.png").unlink()
    assert "m.1.png exists" in refused(1, MAPS, "grey.png", *where)  # m.0.png is not written either
    done = invoke("run", MAPS, "grey.png", "-q", *where, "--existing", "rename")
    assert done.stdout.split() == [b"m.0.png", b"m.1-1.png", b"m.2-1.png", b"m.3-1.png", b"m.4-1.png"]
    before = tree(tmp_path)
    done = invoke("run", MAPS, "grey.png", *where, "--existing", "skip")
    assert (done.status, done.stdout) == (0, b"")
    assert b"grey.png: skipped, m.0.png exists" in done.stderr
    assert tree(tmp_path) == before
    assert invoke("run", MAPS, "grey.png", "-q", *where, "-f").status == 0
    assert {name: data == before[name] for name, data in tree(tmp_path).items()} == dict.fromkeys(before, True)


def test_channels_of_several_inputs_in_one_name(refused, grey, color):
    line = refused(2, MAPS, "grey.png", "color.png", "-o", "{channel}.png")
    assert "grey.png and color.png would both be written to {channel}.png" in line


def test_channels_with_in_place_and_in_a_pipe(refused, grey):
    assert "--in-place: takes no -o" in refused(2, MAPS, "grey.png", "--in-place", "-o", "{channel}.png")
    assert "there is no field {chanel}" in refused(2, MAPS, "grey.png", "-o", "{chanel}.png")


def test_a_channel_never_overwrites_an_input(invoke, tmp_path):
    """Only --in-place does, says the contract."""
    save(tmp_path / "1.png", COLOR)
    before = (tmp_path / "1.png").read_bytes()
    done = invoke("run", "relu", "1.png", "-q", "-f", "-o", "{channel}.png")
    assert (tmp_path / "1.png").read_bytes() == before
    assert done.status != 0
    assert not (tmp_path / "0.png").exists()


def test_a_dry_run_of_channels_sees_all_that_exist(invoke, grey, tmp_path):
    """What would fail is planned to: with and without -n the status is the same."""
    (tmp_path / "m.1.png").write_text("mine")
    status = invoke("run", MAPS, "grey.png", "-q", "-o", "m.{channel}.png").status
    assert status == 1
    assert invoke("run", MAPS, "grey.png", "-q", "-o", "m.{channel}.png", "-n").status == 1


def test_a_dry_run_prints_the_paths_of_channels(invoke, grey):
    done = invoke("run", MAPS, "grey.png", "-q", "-o", "m.{channel}.png", "-n")
    assert done == (0, b"".join(b"m.%d.png\n" % number for number in range(5)), b"")


@pytest.mark.parametrize("where", ["w.npy", "b.npy"])
def test_the_pipeline_s_weights_are_never_overwritten(where, invoke, grey, tmp_path):
    """``filter -k w.npy -o w.npy -f`` is refused with status 2."""
    np.save(tmp_path / "w.npy", WEIGHT)
    np.save(tmp_path / "b.npy", BIAS)
    before = tree(tmp_path)
    done = invoke("run", "conv weights=w.npy bias=b.npy", "grey.png", "-q", "-f", "-o", where)
    assert tree(tmp_path) == before
    assert done.status == 2


# Alpha, palettes, frames, depths


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_stays_apart(channels, invoke, tmp_path):
    alpha = RNG.choice(np.array([60, 128, 255], np.uint8), GREY.shape)
    pixels = np.dstack([COLOR if channels == 4 else GREY, alpha])
    Image.fromarray(pixels, "LA" if channels == 2 else "RGBA").save(tmp_path / "a.png")
    record = json.loads(invoke("run", "filter [2]", "a.png", "--json", "-o", "out.png").stdout)
    assert record["layers"][0]["input"] == [channels - 1, 12, 15]
    got = load(tmp_path / "out.png")
    np.testing.assert_array_equal(got[..., -1], alpha)
    np.testing.assert_array_equal(got[..., :-1], np.minimum(2 * pixels[..., :-1].astype(int), 255))


@pytest.mark.parametrize("pipeline", [MAPS, "conv 3x3 out=2 init=random", "globalavg", "dense 3 init=random"])
def test_alpha_that_goes_nowhere_is_said_to_be_left_out(pipeline, invoke, tmp_path):
    pixels = np.dstack([COLOR, GREY])
    save(tmp_path / "a.png", pixels)
    done = invoke("run", pipeline, "a.png", "-o", "out.npy")
    assert done.status == 0
    assert done.stderr.decode().startswith("convcli: a.png: alpha is left out\n")
    want = expected(pipeline, COLOR)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy").reshape(want.shape), want, rtol=1e-4, atol=1e-5)


def test_alpha_that_was_asked_for_but_can_t_be(refused, tmp_path):
    save(tmp_path / "a.png", np.dstack([COLOR, GREY]))
    line = refused(1, MAPS, "a.png", "--alpha", "keep")
    assert line == "a.png: alpha goes with 1 or 3 colours, but the layers give 5; add --alpha drop"


def test_palettes_and_animations(invoke, refused, tmp_path):
    image = Image.fromarray(COLOR).quantize(16)
    image.save(tmp_path / "p.png")
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1]), Image.fromarray(GREY[:, ::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert invoke("run", "identity", "p.png", "-q", "-o", "q.png").status == 0
    np.testing.assert_array_equal(load(tmp_path / "q.png"), np.asarray(image.convert("RGB")))
    assert invoke("run", "gray", "a.gif", "-q", "-o", "a.png").status == 0
    with Image.open(tmp_path / "a.png") as made:
        for number, frame in enumerate(frames):
            made.seek(number)
            assert abs(np.asarray(made.convert("L")).astype(int) - np.asarray(frame)).max() <= 1


def test_16_bits_keep_their_codes(invoke, tmp_path):
    pixels = RNG.integers(0, 65536, (7, 9), np.uint16)
    save(tmp_path / "a.png", pixels)
    assert invoke("run", "identity | maxpool 1", "a.png", "-q", "-o", "b.png").status == 0
    np.testing.assert_array_equal(load(tmp_path / "b.png"), pixels)


def test_a_picture_of_one_pixel(invoke, refused, tmp_path):
    save(tmp_path / "a.png", np.array([[70]], np.uint8))
    assert invoke("run", "edge | conv 1x1 out=6 init=random | sigmoid", "a.png", "-q", "-o", "b.png").status == 0
    assert load(tmp_path / "b.png").shape[2] == 3
    line = refused(1, "relu | maxpool 2", "a.png")
    assert line.startswith("a.png: layer 2, maxpool: a window of 2 does not fit height 1")


# Streams


def test_stdout_holds_the_path_only(invoke, grey):
    done = invoke("run", "relu | maxpool 2", "grey.png")
    assert (done.status, done.stdout) == (0, b"grey.run.png\n")
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("grey.png -> grey.run.png  (")
    assert [line.split()[0] for line in lines[1:4]] == ["layer", "relu", "maxpool"]
    assert "maxpool: the last 1 column is never read" in lines
    assert lines[-1].startswith("range ")
    assert max(map(len, lines)) <= 80
    assert invoke("run", "relu", "grey.png", "-q", "-o", "b.png") == (0, b"b.png\n", b"")


@pytest.mark.parametrize("pipeline", ["blur | maxpool 2", MAPS])
def test_pipes_give_the_bytes_of_the_file(pipeline, invoke, grey, tmp_path):
    assert invoke("run", pipeline, "grey.png", "-q", "-o", "a.png").status == 0
    want = (tmp_path / "a.png").read_bytes()
    for args, data in (
        (("-",), grey.read_bytes()),
        (("-", "-o", "-"), grey.read_bytes()),
        (("grey.png", "-o", "-"), b""),
    ):
        done = invoke("run", pipeline, *args, "-q", input=data)
        assert (done.status, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"\x89PNG")
        np.testing.assert_array_equal(load(done.stdout), load(want))


@pytest.mark.parametrize(
    ("name", "magic"), [("npy", b"\x93NUMPY"), ("npz", b"PK"), ("tiff", b"II*"), ("jpeg", b"\xff\xd8")]
)
def test_pipes_in_other_formats(name, magic, invoke, grey):
    done = invoke("run", MAPS, "-", "-o", "-", "--format", name, input=grey.read_bytes())
    assert done.status == 0
    assert done.stdout.startswith(magic)
    assert b"- -> standard output" in done.stderr
    if name == "npy":
        np.testing.assert_allclose(np.load(io.BytesIO(done.stdout)), expected(MAPS, GREY), rtol=1e-5, atol=1e-5)


def test_json_goes_to_stderr_when_bytes_are_on_stdout(run, grey):
    done = run("run", MAPS, "grey.png", "-o", "-", "--json")
    assert done.returncode == 0
    assert load(done.stdout).shape[2] == 3
    (line,) = done.stderr.splitlines()
    record = json.loads(line)
    assert (record["output"], record["status"], len(record["layers"])) == ("-", "written", 3)


def test_a_pipe_of_two_runs(run, grey):
    first = run("run", "blur", "-", "-q", input=grey.read_bytes())
    second = run("run", "maxpool 2", "-", "-q", input=first.stdout)
    assert load(second.stdout).shape == (6, 7)


def test_nothing_in_a_pipe(run, tmp_path):
    done = run("run", "relu", "-", input=b"")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"convcli: -: nothing came in on standard input\n"


def test_json_of_a_run(invoke, grey, color):
    pipeline = "gray | conv 3x3 out=5 init=random padding=1,0,2,1 stride=2x1 bias=0.1 | maxpool 2 | relu"
    done = invoke("run", pipeline, "grey.png", "color.png", "--json", "-q", "-o", "out/")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    keys = ["input", "output", "status", "error", "seconds", "layers", "range"]
    assert [(list(one), one["input"], one["output"]) for one in records] == [
        (keys, "grey.png", "out/grey.png"),
        (keys, "color.png", "out/color.png"),
    ]
    for record, channels in zip(records, (1, 3), strict=True):
        assert (record["status"], record["error"], type(record["seconds"])) == ("written", None, float)
        assert {key: type(value) for key, value in record["range"].items()} == dict.fromkeys(
            ("min", "max", "below", "above"), float
        )
        for row in record["layers"]:
            check_types(row)
        assert all(row["method"] for row in record["layers"])
        gray, conv, pool, relu = record["layers"]
        assert (gray["input"], gray["output"]) == ([channels, 12, 15], [1, 12, 15])
        assert conv["output"] == [5, 6, 16]
        assert (conv["kernel"], conv["stride"], conv["padding"]) == ([3, 3], [2, 1], [1, 0, 2, 1])
        assert (conv["params"], conv["macs"], conv["memory"]) == (50, 45 * 96, 4 * 480)
        assert (conv["start"], conv["effective_padding"], conv["unused"]) == ([0.0, -1.0], [1, 2], [0, 0])
        assert (pool["output"], pool["boundary"], pool["params"], pool["macs"]) == ([5, 3, 8], "none", 0, 0)
        assert (pool["receptive_field"], pool["jump"], pool["start"]) == ([5, 4], [4, 2], [1.0, -0.5])
        assert [relu[key] for key in ("kernel", "stride", "dilation", "padding", "boundary")] == [
            [1, 1],
            [1, 1],
            [1, 1],
            [0, 0, 0, 0],
            "none",
        ]


def test_json_of_the_range_is_in_fractions_before_clipping(invoke, grey):
    record = json.loads(invoke("run", "filter [3] bias=-0.5", "grey.png", "--json", "-q").stdout)
    values = 3 * planes(GREY)[0] - 0.5
    want = {"min": values.min(), "max": values.max(), "below": (values < 0).mean(), "above": (values > 1).mean()}
    assert record["range"] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".txt", ".html"])
def test_reports(suffix, invoke, grey, color, tmp_path):
    report = tmp_path / f"r{suffix}"
    assert invoke("run", MAPS, "grey.png", "color.png", "no.png", "-q", "-o", "out/", "--report", report).status == 1
    text = report.read_text()
    if suffix == ".json":
        records = json.loads(text)
        assert [one["status"] for one in records] == ["written", "written", "failed"]
        assert records[2]["error"] == "no such file"
        assert [row["layer"] for row in records[1]["layers"]] == ["gray", "conv", "relu"]
    elif suffix == ".csv":
        import csv

        rows = list(csv.DictReader(text.splitlines()))
        assert [row["layer"] for row in rows] == ["gray", "conv", "relu"] * 2 + [""]
        assert rows[1]["output_shape"] == "5x10x13"
        assert (rows[1]["params"], rows[6]["error"]) == ("45", "no such file")
    elif suffix == ".md":
        lines = text.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 2 + 7
    elif suffix == ".html":
        assert text.startswith("<!doctype html>")
        assert text.count("<tr>") == 1 + 7
        assert "5x10x13" in text
    else:
        assert len(text.splitlines()) == 1 + 7
        assert "no such file" in text


# Trace


def test_a_trace_shows_every_stage_with_its_row(invoke, color, tmp_path):
    pipeline = "gray | conv 3x3 out=6 init=random | relu | maxpool 2"
    done = invoke("run", pipeline, "color.png", "-q", "-o", "out.png", "--trace", "steps/one")
    assert done == (0, b"out.png\n", b"")
    folder = tmp_path / "steps/one/color"
    names = ["01-gray", "02-conv", "03-relu", "04-maxpool"]
    assert files(folder) == sorted(f"{name}{suffix}" for name in names for suffix in (".png", ".json"))
    record = convcli.Pipeline.parse(pipeline).shapes((3, 12, 15))
    for number, name in enumerate(names):
        row = json.loads((folder / f"{name}.json").read_text())
        check_types(row)
        assert row | {"method": ""} == record[number].to_dict()
        stages = " | ".join(pipeline.split(" | ")[: number + 1])
        maps = np.atleast_3d(expected(stages, COLOR))
        sheet = load(folder / f"{name}.png")
        assert tuple(sheet[0, 0]) == PAPER
        places = [tile_at(sheet, one) for one in maps.reshape(-1, *maps.shape[-2:]) if np.ptp(one) > 1e-3]
        assert None not in places, name
        assert places == sorted(places), name  # in reading order
    assert (tmp_path / "out.png").exists()


def test_a_trace_changes_nothing_in_the_result(invoke, tmp_path):
    alpha = RNG.choice(np.array([0, 60, 255], np.uint8), GREY.shape)
    for name, pixels in (("a", COLOR), ("b", np.dstack([COLOR, alpha]))):
        save(tmp_path / f"{name}.png", pixels)
        for options in ((), ("--linear",), ("--mix", "50%"), ("--gray",)):
            args = ("run", "blur | edge", f"{name}.png", *options, "-q", "-f")
            assert invoke(*args, "-o", "1.png", "--trace", "t").status == 0
            assert invoke(*args, "-o", "2.png").status == 0
            np.testing.assert_allclose(load(tmp_path / "1.png").astype(int), load(tmp_path / "2.png"), atol=1)


def test_a_trace_of_a_folder_has_a_folder_for_each_input(invoke, tmp_path):
    save(tmp_path / "in/a.png", GREY)
    save(tmp_path / "in/sub/a.png", COLOR)
    done = invoke("run", "relu", "in", "-r", "-q", "-o", "out/", "--trace", "t")
    assert done.status == 0
    assert files(tmp_path / "t") == ["a/01-relu.json", "a/01-relu.png", "sub/a/01-relu.json", "sub/a/01-relu.png"]


def test_a_trace_of_pipes_and_matrices(invoke, grey, tmp_path):
    done = invoke("run", "relu", "-", "-q", "--trace", "t", input=grey.read_bytes())
    assert load(done.stdout).shape == GREY.shape
    assert invoke("run", "relu", "[1 -1]", "-q", "--trace", "t").stdout == b"1 0\n"
    assert files(tmp_path / "t") == [f"{one}/01-relu.{kind}" for one in ("matrix", "stdin") for kind in ("json", "png")]


def test_a_trace_that_is_there_is_kept(invoke, refused, grey, tmp_path):
    args = ("relu", "grey.png", "-q", "--trace", "t")
    assert invoke("run", *args, "-o", "a.png").status == 0
    (tmp_path / "t/grey/01-relu.png").write_text("mine")
    assert "t/grey/01-relu.png exists; add -f" in refused(1, *args, "-o", "b.png")
    done = invoke("run", *args, "-o", "b.png", "--existing", "skip")
    assert done.status == 0
    assert (tmp_path / "t/grey/01-relu.png").read_text() == "mine"
    assert invoke("run", *args, "-o", "b.png", "-f").status == 0
    assert load(tmp_path / "t/grey/01-relu.png").shape[2] == 3


def test_a_trace_is_whole_or_not_there(refused, grey, tmp_path):
    """A later stage's file exists: the earlier ones are not left behind, nothing half written."""
    (tmp_path / "t/grey").mkdir(parents=True)
    (tmp_path / "t/grey/02-abs.png").write_text("mine")
    refused(1, "relu | abs", "grey.png", "--trace", "t")


def test_a_trace_into_a_file(refused, grey, tmp_path):
    (tmp_path / "f").write_text("mine")
    assert "f" in refused(1, "relu", "grey.png", "--trace", "f")
    assert "f" in refused(1, "relu", "grey.png", "--trace", "f/g")


def test_traces_of_two_inputs_never_share_files(invoke, tmp_path):
    """As of sample_images/coffee.png and coffee.jpg: either each has its own, or it is refused before any work."""
    save(tmp_path / "in/a.png", GREY)
    save(tmp_path / "in/a.bmp", COLOR)
    done = invoke("run", "relu", "in", "-q", "-o", "out/", "--trace", "t")
    assert done.status in (0, 2)
    if done.status == 0:
        assert len(files(tmp_path / "t")) == 4
    else:
        assert files(tmp_path) == ["in/a.bmp", "in/a.png"]


def test_traces_of_two_inputs_never_overwrite_each_other(invoke, tmp_path):
    save(tmp_path / "in/a.png", GREY)
    save(tmp_path / "in/a.bmp", COLOR)
    done = invoke("run", "relu", "in", "-q", "-f", "-o", "out/", "--trace", "t")
    assert done.status == 2 or len(files(tmp_path / "t")) == 4


# Memory


def test_a_dry_run_says_the_estimate_and_writes_nothing(invoke, grey, tmp_path):
    before = tree(tmp_path)
    done = invoke("run", MAPS, "grey.png", "-n")
    assert (done.status, done.stdout) == (0, b"grey.run.png\n")
    assert re.fullmatch(rb"grey\.png: 1x12x15 \([\d.]+ k?B\) -> [\dx]+, about [\d.]+ [kMG]B of memory\n", done.stderr)
    assert invoke("run", MAPS, "grey.png", "-n", "-q") == (0, b"grey.run.png\n", b"")
    record = json.loads(invoke("run", MAPS, "grey.png", "-n", "--json", "-q").stdout)
    assert (record["status"], record["output"]) == ("planned", "grey.run.png")
    assert tree(tmp_path) == before


def estimate(invoke, *args):
    done = invoke("run", *args, "-n")
    found = re.search(r"about ([\d.]+) (k|M|G|T)B of memory", done.stderr.decode())
    return float(found[1]) * 1000 ** ("kMGT".index(found[2]) + 1)


def test_the_estimate_grows_with_what_is_held(invoke, samples):
    camera = samples / "camera.png"
    sizes = [estimate(invoke, f"conv 3x3 out={n} init=random", camera) for n in (1, 100, 1000)]
    assert sizes[2] - sizes[1] == pytest.approx(900 * 510 * 510 * 4, rel=0.02)
    assert sizes[0] < sizes[1]
    assert estimate(invoke, "maxpool 8 | conv 3x3 out=1000 init=random", camera) < sizes[2] / 10


def test_the_estimate_holds_the_weights(invoke, samples):
    """dense 1000 over 512x512 has 262 million of them, a gigabyte at least."""
    assert estimate(invoke, "dense 1000 init=random", samples / "camera.png") >= 1000 * 512 * 512 * 4


def test_what_needs_too_much_is_refused_and_the_others_done(invoke, samples, grey, tmp_path):
    done = invoke(
        "run", MAPS, samples / "camera.png", "grey.png", "-q", "-o", "out/", "--max-memory", "52MB", "--threads", "2"
    )
    assert (done.status, done.stdout) == (1, b"out/grey.png\n")
    line = done.stderr.decode()
    assert line.count("\n") == 1
    assert "camera.png: it would take about " in line
    assert "more than 52 MB; raise --max-memory" in line
    assert files(tmp_path) == ["grey.png", "out/grey.png"]


def test_weights_that_fit_no_memory_are_refused_at_once(refused, samples):
    line = refused(1, "dense 1000000 init=random", samples / "camera.png", "--max-memory", "100GB")
    assert "raise --max-memory" in line


@pytest.mark.parametrize("size", ["0", "-1", "much", "2XB", "", "1.5.2G"])
def test_sizes_that_are_none(size, refused, grey):
    assert refused(2, "relu", "grey.png", "--max-memory", size).startswith("--max-memory: ")


def test_three_quarters_of_what_is_free_is_the_most(refused, tmp_path):
    """512 Gpixel of floats fit nowhere; the header alone says so."""
    save(tmp_path / "a.png", np.zeros((2000, 2000), np.uint8))
    outputs = int(free_memory() / 1.6e7) + 1000
    line = refused(1, f"conv 1x1 out={outputs} init=random", "a.png", "--max-pixels", str(10**15))
    assert "raise --max-memory" in line
    more, _, most = re.search(r"about ([\d.]+) (.)B, more than ([\d.]+)", line).groups()
    assert float(more) > float(most) * 0.75


def test_the_limit_holds_for_what_comes_by_a_pipe(run, grey, tmp_path):
    args = ("run", "conv 3x3 out=1000 init=random", "-", "-q", "-o", "a.npy", "--max-memory", "1kB")
    done = run(*args, input=grey.read_bytes())
    assert (done.returncode, files(tmp_path)) == (1, ["grey.png"])


# Bad input

PIPELINES_THAT_CANNOT_BE = {
    "": "stage 1, nothing: is empty",
    "   ": "stage 1, nothing: is empty",
    "|": "stage 1, nothing: is empty",
    "gray |": "stage 2, nothing: is empty",
    "gray | | relu": "stage 2, nothing: is empty",
    "con 3x3": "stage 1, con: there is no such stage; did you mean 'conv'",
    "grey": "did you mean 'gray'",
    "photo.jpg": "stage 1, photo.jpg: there is no such stage",
    "conv 3x3": "layer 1, conv: has no weights; give weights=FILE or init=random",
    "relu | dense 5": "layer 2, dense: has no weights",
    "conv 3": "write 3x3 or [3]",
    "conv": "needs a size",
    "conv 3x3 out=0 init=random": "out= must be a whole number from 1",
    "conv 3x3 init=zeros": "init= must be random",
    "conv 3x3 seed=3": "seed= goes with init=random",
    "conv 3x3 init=random seed=-1": "seed= must be a whole number",
    "conv edge init=random": "two weights",
    "conv weights=no.npy": "'no.npy'",
    "conv 3x3 init=random bias=no.npy": "'no.npy'",
    "conv weights=w.npy out=4": "out=4 is asked for, but w.npy has 5 outputs",
    "conv 5x5 weights=w.npy": "5x5 is asked for, but w.npy is 3x3",
    "conv 3x3 init=random groups=0": "groups= must be a whole number from 1",
    "conv 3x3 init=random stride=0": "stride= ",
    "conv 3x3 init=random padding=some": "padding= must be",
    "conv 3x3 init=random boundary=some": "boundary= must be",
    "conv 3x3 init=random boundary=128": "is 0.502 meant?",
    "conv sobel": "sobel",
    "dense 3 weights=w.npy": "weights= must be 3 rows",
    "filter": "needs a KERNEL",
    "filter [1 0 -1": "left open",
    "filter [1 2; 3]": "row 2 has length 1",
    "filter edge bias=200": "is 0.784 meant?",
    "relu 3": "'3' is one too many",
    "relu x=3": "'x=' is one too many",
    "relu * 0": "'* 0' repeats from 1 to 10,000 times",
    "relu * 10001": "repeats from 1 to 10,000 times",
    "relu * 6000 | abs * 6000": "stage 2, abs: a pipeline has at most 10,000 layers",
    "* 3": "repeats",
    "threshold": "needs a level",
    "threshold 128": "is 0.502 meant?",
    "threshold much": "must be a number or a percentage",
    "maxpool": "needs a size",
    "maxpool 0": "must be from 1",
    "maxpool 2 padding=2": "padding of a pool must be smaller than its window",
    "maxpool 2 exclude-pad": "'exclude-pad' is one too many",
    "maxpool 2 cel": "did you mean 'ceil'",
    "gaussian:0": "gaussian: sigma must be a number",
    "edge padding=valid padding=same": "padding= is given twice",
    "conv 3x3 out=2 init=random | gray": "layer 2, gray: gray takes 1 or 3 channels, but 2 came in",
    "conv 3x3 init=random | dense 3 init=random | conv 3x3 init=random": "layer 3, conv: a window of 3 does not fit",
    "conv 3x3 out=4 init=random | conv weights=w.npy": "takes 1 input channels, but 4 came in",
}


@pytest.mark.parametrize("pipeline", PIPELINES_THAT_CANNOT_BE)
def test_pipelines_that_cannot_be_are_refused_before_any_picture(pipeline, refused, tmp_path):
    np.save(tmp_path / "w.npy", WEIGHT)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no picture")
    assert PIPELINES_THAT_CANNOT_BE[pipeline] in refused(2, pipeline, "bad.png", "missing.png", "-o", "out/")


def test_percent_is_for_pictures_only(refused, grey):
    assert "% is for pictures" in refused(2, "threshold 50%", "[1 2]")
    assert "is 0.502 meant?" in refused(2, "threshold 128", "grey.png")


def test_behind_a_layer_values_are_no_colours(invoke, grey):
    done = invoke("run", "conv 3x3 init=random | threshold 128 | filter [1] bias=7", "grey.png", "-n", "-q")
    assert done.status == 0


@pytest.mark.parametrize("args", [("relu",), (), ("relu", "-q")])
def test_what_is_missing(args, refused):
    assert "is missing" in refused(2, *args)


def test_a_missing_pipeline_is_named_so(refused):
    assert "PIPELINE" in refused(2)


def test_the_usual_refusals(refused, grey, tmp_path):
    save(tmp_path / "d/a.png", GREY)
    assert "grey.png is given twice" in refused(2, "relu", "grey.png", "grey.png", "-o", "o/")
    assert "-o - takes one input" in refused(2, "relu", "grey.png", "d/a.png", "-o", "-")
    assert "a folder needs -o DIR/" in refused(2, "relu", "d")
    assert "is an input; only --in-place" in refused(2, "relu", "grey.png", "-o", "grey.png", "-f")
    assert "range: none keeps floats" in refused(2, MAPS, "grey.png", "--range", "none")
    assert "no such file" in refused(1, "relu", "no.png")
    assert "--mix needs equal sizes" in refused(1, MAPS, "grey.png", "--mix", "50%")


def test_a_toml_as_an_input_by_mistake(refused, grey, tmp_path):
    (tmp_path / "net.toml").write_text('stages = ["relu"]\n')
    assert "net.toml: not a picture" in refused(1, "relu", "net.toml")
    assert "grey.png" in refused(2, "grey.png", "net.toml")


def test_a_pipeline_file_is_never_a_result(refused, grey, tmp_path):
    (tmp_path / "net.toml").write_text('stages = ["relu"]\n')
    assert "net.toml" in refused(2, "net.toml", "grey.png", "-f", "-o", "net.toml")
    assert "net.toml" in refused(2, "net.toml", "grey.png", "-f", "-o", "net.toml", "--format", "png")


def test_one_bad_input_fails_alone(invoke, tmp_path):
    save(tmp_path / "in/a.png", GREY)
    (tmp_path / "in/b.png").write_text("no picture")
    save(tmp_path / "in/c.png", np.zeros((2, 2), np.uint8))
    save(tmp_path / "in/d.jpg", COLOR)
    done = invoke("run", "gray | conv 5x5 out=5 init=random", "in", "-o", "out/")
    assert (done.status, done.stdout) == (1, b"out/a.png\nout/d.jpg\n")
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("convcli: ")]
    assert len(errors) == 2
    assert errors[0].startswith("convcli: in/b.png: not a picture")
    assert errors[1].startswith("convcli: in/c.png: layer 2, conv: a window of 5 does not fit height 2")
    assert done.stderr.endswith(b"2 written, 2 failed\n")
    assert files(tmp_path / "out") == ["a.png", "d.jpg"]
    done = invoke("run", "gray | conv 5x5 out=5 init=random", "in", "-o", "two/", "--fail-fast", "-q")
    assert (done.status, done.stdout) == (1, b"two/a.png\n")


def test_wrong_channels_fail_one_input_alone(invoke, grey, color, tmp_path):
    np.save(tmp_path / "w.npy", WEIGHT)
    done = invoke("run", "relu | conv weights=w.npy", "color.png", "grey.png", "-q", "-o", "{stem}.npy")
    assert (done.status, done.stdout) == (1, b"grey.npy\n")
    assert b"color.png: layer 2, w.npy: the weight w.npy takes 1 input channels, but 3 came in" in done.stderr


def test_arrays_that_can_t_be_pictures(refused, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 5, 6, 7)))
    assert "2x5x6x7" in refused(1, "relu", "a.npy", "-o", "a.png")
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    assert "pickles are refused" in refused(1, "relu", "b.npy")


def test_ten_thousand_layers(invoke, grey, tmp_path):
    done = invoke("run", "relu * 10000", "grey.png", "-q", "-o", "a.png")
    assert done == (0, b"a.png\n", b"")
    np.testing.assert_array_equal(load(tmp_path / "a.png"), GREY)


def test_in_place(invoke, color, tmp_path):
    assert invoke("run", "filter [-1] bias=1", "color.png", "--in-place", "-q") == (0, b"color.png\n", b"")
    np.testing.assert_array_equal(load(tmp_path / "color.png"), 255 - COLOR)


# Help


def test_help(invoke):
    done = invoke("run", "--help")
    assert (done.status, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    page = " ".join(" ".join(lines).replace("│", " ").split())
    assert "…" not in page
    assert "Usage: convcli run [OPTIONS] PIPELINE INPUT..." in page
    assert 'Example: convcli run "gray | sobel | threshold 30%" photo.jpg' in page
    for option in ("--trace", "--save-pipeline", "--max-memory", "--dry-run", "--report", "--json", "--range", "-o"):
        assert re.search(rf"(^|\s){option}(\s|,)", page), option
    for stage in (
        "filter",
        "conv",
        "maxpool",
        "avgpool",
        "minpool",
        "globalavg",
        "globalmax",
        "relu",
        "abs",
        "sigmoid",
    ):
        assert re.search(rf"• {stage}\b", page), stage
    for stage in ("tanh", "gray", "normalize", "threshold", "dense"):
        assert re.search(rf"• {stage}\b", page), stage
    assert "3/4 of what is free" in page
    assert "{channel}" in page


def test_the_example_of_the_help_works(invoke, color, tmp_path):
    assert invoke("run", "gray | sobel | threshold 30%", "color.png", "-q", "-o", "a.png").status == 0
    assert set(np.unique(load(tmp_path / "a.png"))) == {0, 255}
