"""Large TIFFs go through in strips of rows: the pixels, report and file of the whole picture, in little memory."""

import json
import os
import re
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import oracle
from convcli import strips
from convcli.images import tiff

WIDTH = 11
NEVER = 1 << 60  # bytes that no picture has
USUAL = strips.WHOLE_BYTES
SOBEL = "1 0 -1; 2 0 -2; 1 0 -1"
ICC, MAKE, XMP = 34675, 271, 700  # TIFF tags
STORAGE = {256, 257, 273, 278, 279, 322, 323, 324, 325, 34665}  # where and in what pieces the pixels lie
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height=23, channels=1, dtype=np.uint8, width=WIDTH):
    dice = np.random.default_rng(height + 7 * channels)
    shape = (height, width, channels) if channels > 1 else (height, width)
    if np.dtype(dtype).kind == "f":
        return dice.uniform(-0.25, 1.25, shape).astype(dtype)
    return dice.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def save(path, pixels, **options):
    """A TIFF in strips of a few rows."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    options = {
        "photometric": "rgb" if channels > 2 else "minisblack",
        "metadata": None,
        "compression": "zlib",
    } | options
    if "tile" not in options:
        options = {"rowsperstrip": 5} | options
    if channels > 1:
        options = {"planarconfig": "contig"} | options
    if channels in (2, 4):
        options = {"extrasamples": ["unassalpha"]} | options
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(path, pixels, **options)


def read(path):
    """The pixels as another program sees them, ``(H, W, C)``."""
    pixels = tifffile.imread(path)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def tags(path):
    """What the first page says, but for where its pixels lie."""
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags if tag.code not in STORAGE}


def files(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


@pytest.fixture(autouse=True)
def go_in_strips(monkeypatch):
    """``go_in_strips(rows)``: every TIFF, however small, so many rows of 8-bit grey at a time; with 0 none."""

    def call(rows):
        monkeypatch.setattr(strips, "STRIP_BYTES", max(1, rows) * WIDTH)
        monkeypatch.setattr(strips, "WHOLE_BYTES", 0 if rows else NEVER)

    call(4)
    return call


@pytest.fixture
def whole(monkeypatch):
    """A list that grows by one with each picture that is read whole."""
    found = []

    def counted(page_reader, number, plain=tiff.Pages.read):
        found.append(number)
        return plain(page_reader, number)

    monkeypatch.setattr(tiff.Pages, "read", counted)
    return found


def without_times(record):
    """A JSON object without what differs from run to run, and how a layer was computed."""
    layers = [{key: value for key, value in row.items() if key != "method"} for row in record["layers"]]
    return record | {"layers": layers, "seconds": 0}


def numbers(spread):
    """The range of a JSON object, with what JSON does not know as NaN."""
    return {key: np.nan if value is None else value for key, value in spread.items()}


@pytest.fixture
def both(invoke, go_in_strips, whole, tmp_path):
    """``both("edge", "a.tif")``: asserts that in strips everything is as of the whole picture; the pixels."""

    def call(*args, rows=4, exact=True, in_strips=True):
        made = {}
        for how in (0, rows):
            go_in_strips(how)
            whole.clear()
            done = invoke(*args, "-o", "out.tif", "-f", "--json")
            record = json.loads(done.stdout)
            if record["status"] != "written":
                made[how] = done.status, without_times(record), done.stderr, None, None
                continue
            assert len(whole) == (not how or not in_strips), "read whole" if whole else "read in strips"
            words = [line for line in done.stderr.splitlines() if b"->" not in line]  # the line with the seconds
            made[how] = (
                done.status,
                without_times(record),
                words,
                tags(tmp_path / "out.tif"),
                read(tmp_path / "out.tif"),
            )
        (*wanted, want), (*found, got) = made[0], made[rows]
        if wanted[1]["range"]:
            seen, known = (numbers(one[1].pop("range")) for one in (found, wanted))
            assert seen == pytest.approx(known, rel=1e-6, abs=1e-7, nan_ok=True)
        assert found == wanted
        if want is None:
            return None
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            step = 1e-6 if got.dtype.kind == "f" else 1
            np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0, atol=step)
        return got

    return call


# The pixels


PADDINGS = ["valid", "same", "same-lower", "full", "3x1", "0,2,1,3"]
BOUNDARIES = {"zero": 0, "edge": "edge", "reflect": "reflect", "symmetric": "symmetric", "40%": 102}
WINDOWS = [  # kernel, stride, dilation
    (SOBEL, (1, 1), (1, 1)),
    ("1 2; 0 -1; 3 1; -2 1", (1, 1), (1, 1)),
    ("1 2 -1; 0 -1 1", (3, 2), (1, 1)),
    ("1 0 -1; 2 0 -2; 1 0 -2", (2, 1), (3, 2)),
    ("1 -2; 2 1", (7, 5), (1, 1)),
]


def matrix(text):
    return np.array([row.split() for row in text.split(";")], float)


def pads(word):
    """Padding as the oracle takes it: a word, or front and back for each axis."""
    if word[0].isalpha():
        return word
    numbers = [int(one) for one in word.replace("x", ",").split(",")]
    top, bottom, left, right = numbers if len(numbers) == 4 else [numbers[0]] * 2 + [numbers[-1]] * 2
    return (top, bottom), (left, right)


def defined(pixels, kernel, **options):
    """Correlation by its definition, one channel after another, in 8-bit codes."""
    planes = [oracle.correlate(plane.astype(float), kernel, **options) for plane in np.moveaxis(pixels, 2, 0)]
    return np.rint(np.stack(planes, 2)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_every_padding_boundary_and_window_is_the_definition_s(padding, boundary, invoke, whole, tmp_path):
    save(tmp_path / "a.tif", noise())
    for kernel, stride, dilation in WINDOWS:
        window = "-s", f"{stride[0]}x{stride[1]}", "--dilation", f"{dilation[0]}x{dilation[1]}"
        args = "filter", "a.tif", "-k", kernel, "-p", padding, "-b", boundary, *window, "-o", "b.tif", "-f", "-q"
        assert invoke(*args) == (0, b"b.tif\n", b"")
        want = defined(
            noise()[..., None],
            matrix(kernel),
            padding=pads(padding),
            boundary=BOUNDARIES[boundary],
            stride=stride,
            dilation=dilation,
        )
        np.testing.assert_array_equal(read(tmp_path / "b.tif"), want, err_msg=f"{kernel}, {stride}, {dilation}")
    assert not whole


@pytest.mark.parametrize("padding", ["same", "same-lower", "full", "2"])
@pytest.mark.parametrize("stride", [2, 3])
def test_a_size_that_is_kept_is_the_definition_s(padding, stride, invoke, whole, tmp_path):
    pixels = noise(13, 3)
    save(tmp_path / "a.tif", pixels)
    args = "-k", "1 2 -1; 0 -1 1", "-p", padding, "-s", str(stride), "--keep-size", "-b", "symmetric"
    assert invoke("filter", "a.tif", *args, "-o", "b.tif", "-q").status == 0
    if padding == "2":  # what the same padding gives at stride 1: 13 + 4 - 2 + 1 rows, 11 + 4 - 3 + 1 columns
        totals = [(m - 1) * stride + k - n for m, k, n in ((16, 2, 13), (13, 3, WIDTH))]
        padding = tuple((total // 2, total - total // 2) for total in totals)
        want = defined(pixels, matrix(args[1]), padding=padding, boundary="symmetric", stride=(stride, stride))
    else:
        options = {"padding": padding, "boundary": "symmetric", "stride": (stride, stride), "keep": True}
        want = defined(pixels, matrix(args[1]), **options)
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), want)
    assert not whole


@pytest.mark.parametrize("rows", [1, 3, 7, 22, 23, 1000])
@pytest.mark.parametrize("height", [1, 2, 23])
def test_the_height_of_strips_changes_nothing(rows, height, both, tmp_path):
    save(tmp_path / "a.tif", noise(height, 3))
    got = both("filter", "a.tif", "-k", SOBEL, "-s", "2x1", rows=3 * rows)
    want = defined(noise(height, 3), matrix(SOBEL), padding="same", boundary="reflect", stride=(2, 1))
    np.testing.assert_array_equal(got, want)


def test_a_picture_of_float_rows_is_opencv_s(invoke, whole, tmp_path):
    pixels = noise(61, 3, np.float32).clip(0, 1)
    save(tmp_path / "a.tif", pixels)
    assert invoke("gaussian:2", "a.tif", "-o", "b.tif", "-q").status == 0
    want = cv2.GaussianBlur(pixels, (13, 13), 2, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(read(tmp_path / "b.tif"), want, rtol=0, atol=2e-6)
    assert not whole


@pytest.mark.parametrize("padding", ["same", "full"])
@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "edge", "zero"])
def test_a_window_taller_than_the_picture(padding, boundary, both, tmp_path):
    """Its border is the picture over and over, so every strip needs rows from everywhere."""
    save(tmp_path / "a.tif", noise(5, 3))
    got = both("filter", "a.tif", "-k", "box:31", "-p", padding, "-b", boundary, rows=2, exact=False)
    more = 15 if padding == "same" else 30
    mode = {"mode": "constant" if boundary == "zero" else boundary}
    padded = np.pad(noise(5, 3).astype(float), ((more, more), (more, more), (0, 0)), **mode)
    want = np.lib.stride_tricks.sliding_window_view(padded, (31, 31), axis=(0, 1)).mean(axis=(3, 4))
    assert np.abs(got - want).max() <= 0.501


@pytest.mark.parametrize("method", ["shift-add", "fft", "auto"])
def test_a_large_kernel_of_no_order(method, both, tmp_path):
    kernel = np.random.default_rng(5).integers(-9, 10, (25, 25))
    np.savetxt(tmp_path / "k.csv", kernel, "%d", ",")
    save(tmp_path / "a.tif", noise(90, 1, np.uint8, 40))
    args = ("-k", "k.csv", "--range", "signed", "--bias", "0.2")
    assert both("filter", "a.tif", *args, "--method", method, exact=False, rows=60) is not None


OPTIONS = [
    "filter -k 1,2;3,-9 --flip",
    "filter -k 1,2;3,4 --normalize",
    "filter -k 1,-1 --bias 50%",
    "filter -k 1,-1 --bias 0.2 --range abs",
    "sobel-y --range signed",
    "edge --gray",
    "gaussian:1 --linear",
    "gaussian:1 --mix 30%",
    "sharpen --mix 70% --linear --gray",
    "emboss --depth 16",
    "emboss --depth float --range none",
    "blur --depth 8",
    "sobel -p full",
    "kirsch -s 2",
    "edge --pool max:2",
    "edge --pool avg:3x2,stride=2,padding=1 -p valid",
    "blur --pool min:3 -s 3",
    "motion:size=9,angle=30 -b 20% --linear",
    "edge --strip",
    "edge --threads 1",
    "identity",
    "pool --max 2",
    "pool --max 3 -s 1 -p 1",
    "pool --min 3x2 -s 2 -p 1x0 --ceil",
    "pool --avg 4 -s 3 -p 2",
    "pool --avg 4 -s 3 -p 2 --ceil --exclude-pad",
    "pool --max 2 --dilation 3 -s 1",
    "pool --max 2x1 -s 9x1",
    "pool --avg 23x11",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_does_what_it_does_to_the_whole(options, both, tmp_path):
    verb, *more = options.split()
    for dtype, channels in ((np.uint16, 1), (np.float32, 3)):
        save(tmp_path / "a.tif", noise(23, channels, dtype))
        both(verb, "a.tif", *more, rows=4 * channels * np.dtype(dtype).itemsize, exact=False)


@pytest.mark.parametrize("size", ["2", "3x2", "5"])
def test_pools_are_the_definition_s(size, invoke, whole, tmp_path):
    save(tmp_path / "a.tif", noise(24, 3))
    tall, wide = (int(one) for one in f"{size}x{size}".split("x")[:2])
    assert invoke("pool", "a.tif", "--max", size, "-o", "b.tif", "-q").status == 0
    kept = noise(24, 3)[: 24 // tall * tall, : WIDTH // wide * wide]
    want = kept.reshape(24 // tall, tall, WIDTH // wide, wide, 3).max(axis=(1, 3))
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), want)
    assert not whole


PIPELINES = [
    "gray | sobel | threshold 30%",
    "gaussian:1 * 3",
    "gaussian:1 | maxpool 2 | sharpen | avgpool 3 stride=1 padding=1",
    "conv 3x3 out=3 padding=same init=random | relu | conv 5x5 out=1 padding=full boundary=symmetric init=random",
    "conv 3x3 out=8 stride=2 init=random | tanh | conv 1x1 out=3 init=random seed=4 | sigmoid",
    "conv [1 2; 3 4] padding=same-lower boundary=edge stride=2x1 dilation=2 bias=-0.5 | abs",
    "maxpool 3 stride=2 padding=1 ceil | minpool 2 stride=1 | edge",
    "avgpool 3 stride=2 padding=1 ceil exclude-pad | blur stride=2 padding=0,1,2,0 boundary=0.5",
    "maxpool 2 | maxpool 2 | gaussian:2",
    "relu",
    "gray",
    "filter [1 -1] | abs | filter box:7 padding=full | filter [-1;1] padding=valid | abs",
    "blur stride=5 | blur boundary=zero | blur boundary=symmetric padding=full",
]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_layers_one_after_another(pipeline, dtype, both, tmp_path):
    save(tmp_path / "a.tif", noise(47, 3, dtype))
    both("run", pipeline, "a.tif", exact=dtype == np.uint8 and not re.search("init|avgpool", pipeline), rows=12)


def test_a_chain_of_layers_is_the_definition_s(invoke, whole, tmp_path):
    """A border is made anew for each layer: of what the one before gave, not of the picture."""
    save(tmp_path / "a.tif", noise(31))
    text = "filter [1 1; 0 -1] padding=full boundary=edge | relu | maxpool 2 stride=1 | filter [0 1; 1 0; 0 0] stride=2"
    assert invoke("run", text, "a.tif", "-o", "b.tif", "-q", "--range", "clip").status == 0
    one = oracle.correlate(noise(31).astype(float), matrix("1 1; 0 -1"), "full", "edge").clip(0)
    two = oracle.pool(one, (2, 2), (1, 1), ((0, 0), (0, 0)), "max")
    want = oracle.correlate(two, matrix("0 1; 1 0; 0 0"), "same", "reflect", (2, 2))
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[..., 0], want.clip(0, 255))
    assert not whole


def test_pictures_and_options_by_chance(both, tmp_path):
    dice = np.random.default_rng(11)

    def any_of(*choices):
        return choices[dice.integers(len(choices))]

    for _ in range(40):
        channels, dtype = any_of(1, 3), any_of(np.uint8, np.uint16)
        height, width = dice.integers(1, 60), dice.integers(1, 20)
        save(tmp_path / "a.tif", noise(height, channels, dtype, width), rowsperstrip=int(dice.integers(1, 70)))
        tall, wide = dice.integers(1, 8, 2)
        kernel = "; ".join(" ".join(map(str, row)) for row in dice.integers(-3, 4, (tall, wide)))
        both(
            *("filter", "a.tif", "-k", kernel, "-b", any_of("zero", "edge", "reflect", "symmetric", "0.7")),
            *("-p", any_of("same", "same-lower", "full", f"{dice.integers(7)}x{dice.integers(7)}")),
            *("-s", f"{dice.integers(1, 6)}x{dice.integers(1, 4)}", "--dilation", str(dice.integers(1, 4))),
            *(["--pool", f"{any_of('max', 'avg')}:{dice.integers(1, 5)}"] if any_of(False, True) else []),
            *(["--keep-size"] if any_of(False, False, True) else []),
            *("--range", any_of("clip", "abs", "signed")),
            rows=int(dice.integers(1, 300)),
        )


def test_what_is_no_number_stays_where_it_is(both, tmp_path):
    pixels = noise(40, 1, np.float32)
    pixels[20, 5], pixels[30, 2], pixels[3, 3] = np.nan, np.inf, -np.inf
    save(tmp_path / "a.tif", pixels)
    got = both("filter", "a.tif", "-k", "1 -2; 3 1", "--range", "none", exact=False, rows=16)
    assert np.argwhere(np.isnan(got[..., 0])).tolist() == [[19, 4], [19, 5], [20, 4], [20, 5]]
    assert np.isinf(got).sum() == 8


# What can't go in strips


WHOLE = [
    "edge -b wrap",
    "edge --range minmax",
    "run normalize",
    "run normalize|edge",
    "run edge|globalavg",
    "run globalmax",
    "run maxpool;4|dense;3;init=random",
]


@pytest.mark.parametrize("options", WHOLE)
def test_what_needs_all_rows_is_done_whole(options, both, tmp_path):
    verb, *more = options.split()
    save(tmp_path / "a.tif", noise(23, 3))
    args = (verb, more[0].replace(";", " "), "a.tif") if verb == "run" else (verb, "a.tif", *more)
    both(*args, in_strips=False)


@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.npy", "b.webp"])
def test_other_formats_are_written_whole(target, invoke, go_in_strips, tmp_path):
    save(tmp_path / "a.tif", noise(23, 3))
    made = []
    for rows in (0, 4):
        go_in_strips(rows)
        assert invoke("edge", "a.tif", "-o", target, "-f", "-q").status == 0
        made.append((tmp_path / target).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("source", ["a.png", "a.jpg", "a.bmp"])
def test_other_formats_are_read_whole(source, invoke, go_in_strips, tmp_path):
    Image.fromarray(noise(23, 3)).save(tmp_path / source)
    made = []
    for rows in (0, 4):
        go_in_strips(rows)
        assert invoke("edge", source, "-o", "b.tif", "-f", "-q").status == 0
        made.append(read(tmp_path / "b.tif"))
    np.testing.assert_array_equal(*made)


def test_feature_maps_are_what_they_are_of_the_whole(invoke, go_in_strips, tmp_path):
    save(tmp_path / "a.tif", noise(23, 3))
    for output in ("maps.tif", "one.{channel}.tif", "maps.npy"):
        made = []
        for rows in (0, 4):
            go_in_strips(rows)
            assert invoke("run", "conv 3x3 out=5 init=random", "a.tif", "-o", output, "-f", "-q").status == 0
            names = sorted(name for name in files(tmp_path) if name.startswith(output[:3]))
            made.append([(name, (tmp_path / name).read_bytes()) for name in names])
        assert made[0] == made[1]
        assert made[0]


def test_a_trace_is_that_of_the_whole(invoke, go_in_strips, tmp_path):
    save(tmp_path / "a.tif", noise(23, 3))
    made = []
    for rows in (0, 4):
        go_in_strips(rows)
        assert invoke("run", "blur | maxpool 2", "a.tif", "-o", "b.tif", "--trace", "t", "-f", "-q").status == 0
        made.append({one.name: one.read_bytes() for one in (tmp_path / "t").rglob("*.png")})
    assert len(made[0]) == 2
    assert made[0] == made[1]


def test_a_preview_is_that_of_the_whole(invoke, go_in_strips, tmp_path):
    save(tmp_path / "a.tif", noise(23, 3))
    made = []
    for rows in (0, 4):
        go_in_strips(rows)
        done = invoke("edge", "a.tif", "-o", "b.tif", "--preview", "-f")
        assert done.status == 0
        made.append([line for line in done.stderr.splitlines() if b"->" not in line])
    assert made[0] == made[1]


# Files of every kind


def pillow_lzw(path, pixels):
    Image.fromarray(pixels).save(path, "TIFF", compression="tiff_lzw")


def two_pages(path, pixels):
    with tifffile.TiffWriter(path) as file:
        for page in (pixels, 255 - pixels):
            file.write(page, photometric="rgb", metadata=None)


def with_holes(path, pixels):
    """Strips that are not in the file are black."""
    save(path, pixels)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("StripOffsets", "StripByteCounts"):
            tag = file.pages[0].tags[name]
            tag.overwrite([0 if number in (1, 3) else value for number, value in enumerate(tag.value)])


LAYOUTS = {
    "uncompressed": partial(save, compression=None),
    "uncompressed, one strip": partial(save, compression=None, rowsperstrip=1000),
    "deflate": save,
    "deflate, a strip a row": partial(save, rowsperstrip=1),
    "deflate, one strip": partial(save, rowsperstrip=1000),
    "deflate, differences": partial(save, predictor=True),
    "lzma": partial(save, compression="lzma"),
    "LZW": pillow_lzw,
    "tiles": partial(save, tile=(16, 16)),
    "tiles, uncompressed": partial(save, tile=(16, 16), compression=None),
    "tiles, differences": partial(save, tile=(32, 16), predictor=True),
    "tiles larger than the picture": partial(save, tile=(64, 64)),
    "big endian": partial(save, byteorder=">"),
    "big endian, uncompressed": partial(save, byteorder=">", compression=None),
    "big": partial(save, bigtiff=True),
    "planes": partial(save, planarconfig="separate"),
    "two pages": two_pages,
    "holes": with_holes,
    "turned": partial(save, extratags=[(274, "H", 1, 6, True)]),
    "upside down": partial(save, extratags=[(274, "H", 1, 3, True)]),
}
SURELY_IN_STRIPS = {name for name in LAYOUTS if name.startswith(("uncompressed", "deflate,", "tiles", "big"))}
SURELY_IN_STRIPS -= {"deflate, one strip", "tiles larger than the picture"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_however_a_file_is_laid_out(layout, dtype, invoke, go_in_strips, whole, tmp_path):
    pixels = noise(43, 3, dtype)
    if layout == "LZW" and dtype == np.uint16:
        pixels = noise(43, 1, dtype)
    LAYOUTS[layout](tmp_path / "a.tif", pixels)
    made = []
    for rows in (0, 12):
        go_in_strips(rows)
        whole.clear()
        done = invoke("edge", "a.tif", "-o", "b.tif", "-f", "-q")
        made.append((done, tifffile.imread(tmp_path / "b.tif") if done.status == 0 else None))
    assert made[0][0] == made[1][0]
    np.testing.assert_array_equal(made[0][1], made[1][1])
    if layout in SURELY_IN_STRIPS:
        assert not whole


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("options", ["blur", "edge", "blur --alpha filter", "edge --alpha drop", "pool --max 2"])
def test_a_picture_with_alpha_is_what_it_is_of_the_whole(channels, options, invoke, go_in_strips, tmp_path):
    """Also where some strips have nothing to hide: to a step, since they may be rounded otherwise."""
    pixels = noise(43, channels)
    pixels[:20, :, -1] = 255
    save(tmp_path / "a.tif", pixels)
    verb, *more = options.split()
    made = []
    for rows in (0, 8):
        go_in_strips(rows)
        assert invoke(verb, "a.tif", *more, "-o", "b.tif", "-f", "-q").status == 0
        made.append(read(tmp_path / "b.tif"))
    np.testing.assert_allclose(*np.array(made, float), rtol=0, atol=1)


def test_one_page_of_several(invoke, go_in_strips, tmp_path):
    two_pages(tmp_path / "a.tif", noise(43, 3))
    made = []
    for rows in (0, 12):
        go_in_strips(rows)
        assert invoke("edge", "a.tif", "--frame", "1", "-o", "b.tif", "-f", "-q").status == 0
        made.append(read(tmp_path / "b.tif"))
    np.testing.assert_array_equal(*made)
    want = defined(255 - noise(43, 3), matrix("-1 -1 -1; -1 8 -1; -1 -1 -1"), padding="same", boundary="reflect")
    np.testing.assert_array_equal(made[1], want)


def test_one_page_never_replaces_several(invoke, tmp_path):
    two_pages(tmp_path / "a.tif", noise(43, 3))
    before = (tmp_path / "a.tif").read_bytes()
    done = invoke("edge", "a.tif", "--frame", "1", "--in-place", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert (tmp_path / "a.tif").read_bytes() == before


def test_white_that_is_zero(both, tmp_path):
    save(tmp_path / "a.tif", 255 - noise(), photometric="miniswhite")
    args = "filter", "a.tif", "-k", SOBEL, "-o", "b.tif", "-q"
    got = defined(noise()[..., None], matrix(SOBEL), padding="same", boundary="reflect")
    made = both(*args[:4])
    np.testing.assert_array_equal(made, got)


# What else is in the file, and what is said


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_profile_resolution_and_texts_are_kept(dtype, invoke, whole, tmp_path):
    texts = [(MAKE, "s", 0, "maker", True), (XMP, "B", 5, b"<xmp>", True)]
    options = {"resolution": (300, 150), "resolutionunit": "INCH", "iccprofile": SRGB, "extratags": texts}
    save(tmp_path / "a.tif", noise(43, 3, dtype), **options)
    assert invoke("blur", "a.tif", "-o", "b.tif", "-q") == (0, b"b.tif\n", b"")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert bytes(page.tags[ICC].value) == SRGB
        assert (page.tags[MAKE].value, bytes(page.tags[XMP].value)) == ("maker", b"<xmp>")
        assert page.get_resolution("INCH") == pytest.approx((300, 150))
        assert (len(file.pages), page.compression.name) == (1, "ADOBE_DEFLATE")
    assert not whole
    assert invoke("blur", "a.tif", "-o", "c.tif", "-q", "--strip").status == 0
    assert not {ICC, MAKE, XMP} & tags(tmp_path / "c.tif").keys()


def test_what_a_file_says_is_the_same_as_of_the_whole(both, invoke, tmp_path):
    """Times and places among it, which stand in directories of their own."""
    exif = Image.Exif()
    exif[MAKE] = "maker"
    exif.get_ifd(34665)[36867] = "2020:01:02 03:04:05"
    exif.get_ifd(34853)[1] = "N"
    Image.fromarray(noise(43, 3)).save(tmp_path / "a.png", exif=exif, icc_profile=SRGB, dpi=(90, 90))
    invoke("identity", "a.png", "-o", "a.tif", "-q")
    both("blur", "a.tif", rows=12)
    with Image.open(tmp_path / "out.tif") as image:
        found = image.getexif()
        assert (found[MAKE], found.get_ifd(34665)[36867], found.get_ifd(34853)[1]) == (
            "maker",
            "2020:01:02 03:04:05",
            "N",
        )


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "txt", "html"])
def test_the_report_is_that_of_the_whole(suffix, invoke, go_in_strips, tmp_path):
    save(tmp_path / "a.tif", noise(43, 3))
    made = []
    for rows in (0, 12):
        go_in_strips(rows)
        args = "-o", "b.tif", "--report", f"r.{suffix}", "--method", "shift-add", "-f", "-q"
        assert invoke("run", "blur stride=2 | sobel-x", "a.tif", *args).status == 0
        made.append((tmp_path / f"r.{suffix}").read_text())
    if suffix in ("md", "txt", "html"):
        assert made[0] == made[1]
    elif suffix == "json":
        first, second = ([without_times(one) for one in json.loads(text)] for text in made)
        assert first == second
    else:
        assert made[0].count("\n") == made[1].count("\n") == 3


def test_the_range_is_that_of_every_pixel(invoke, tmp_path):
    """Also of those at the edge of a strip, and of each once."""
    save(tmp_path / "a.tif", noise(43, 3))
    done = invoke("filter", "a.tif", "-k", SOBEL, "-o", "b.tif", "--json", "-q")
    raw = np.stack(
        [
            oracle.correlate(plane, matrix(SOBEL), "same", "reflect")
            for plane in np.moveaxis(noise(43, 3).astype(float), 2, 0)
        ]
    )
    want = {"min": raw.min() / 255, "max": raw.max() / 255, "below": (raw < 0).mean(), "above": (raw > 255).mean()}
    assert json.loads(done.stdout)["range"] == pytest.approx(want, abs=1e-6)


def test_what_is_said_for_people_is_said_once(both, tmp_path):
    save(tmp_path / "a.tif", noise(43, 3, np.uint16))
    both("edge", "a.tif", "--depth", "8", rows=24)


# Where it goes


@pytest.fixture
def a(tmp_path):
    save(tmp_path / "a.tif", noise(43, 3))
    return tmp_path / "a.tif"


def test_a_file_that_exists_is_heeded(invoke, a, tmp_path):
    (tmp_path / "b.tif").write_bytes(b"mine")
    done = invoke("edge", "a.tif", "-o", "b.tif", "-q")
    assert (done.status, done.stderr.count(b"\n")) == (1, 1)
    assert b"exists" in done.stderr
    assert invoke("edge", "a.tif", "-o", "b.tif", "--existing", "skip", "-q") == (0, b"", b"")
    assert (tmp_path / "b.tif").read_bytes() == b"mine"
    assert invoke("edge", "a.tif", "-o", "b.tif", "--existing", "rename", "-q") == (0, b"b-1.tif\n", b"")
    assert invoke("edge", "a.tif", "-o", "b.tif", "-f", "-q").status == 0
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), read(tmp_path / "b-1.tif"))
    assert files(tmp_path) == ["a.tif", "b-1.tif", "b.tif"]


def test_in_place(invoke, a, tmp_path):
    assert invoke("blur", "a.tif", "-o", "b.tif", "-q").status == 0
    a.chmod(0o640)
    assert invoke("blur", "a.tif", "--in-place", "-q") == (0, b"a.tif\n", b"")
    np.testing.assert_array_equal(read(a), read(tmp_path / "b.tif"))
    assert a.stat().st_mode & 0o777 == 0o640
    assert files(tmp_path) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("args", [("-o", "new/"), ("-o", "new/{stem}.{command}{ext}"), ("--format", "tiff")])
def test_every_way_to_say_where(args, invoke, a, tmp_path):
    done = invoke("edge", "a.tif", *args, "-q")
    assert (done.status, done.stderr) == (0, b"")
    np.testing.assert_array_equal(
        read(tmp_path / done.stdout.decode().strip()),
        defined(noise(43, 3), matrix("-1 -1 -1; -1 8 -1; -1 -1 -1"), padding="same", boundary="reflect"),
    )


def test_standard_input_and_output(run, a, tmp_path):
    done = run("edge", "-", "-o", "-", "--format", "tiff", "-q", input=a.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "b.tif").write_bytes(done.stdout)
    want = defined(noise(43, 3), matrix("-1 -1 -1; -1 8 -1; -1 -1 -1"), padding="same", boundary="reflect")
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), want)


def test_an_output_folder_that_is_not_there(invoke, a, tmp_path):
    done = invoke("edge", "a.tif", "-o", "no/b.tif", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert files(tmp_path) == ["a.tif"]


SMALL = """
from convcli import strips
from convcli.images import tiff
from convcli.cli.app import main
def forbidden(*_):
    raise AssertionError("read whole")
strips.STRIP_BYTES, strips.WHOLE_BYTES, tiff.Pages.read = 200, 0, forbidden
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are no forks, and so know other sizes")
def test_several_at_a_time_go_in_strips_and_are_the_same_files(invoke, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        save(tmp_path / f"in/{number}.tif", noise(30 + number, 3))
        assert invoke("edge", f"in/{number}.tif", "-o", "one/", "-q").status == 0
    script = SMALL + 'raise SystemExit(main(["edge", "in", "-o", "out/", "-j", "2", "-q"]))'
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    made = [{one.name: read(one).tobytes() for one in (tmp_path / name).iterdir()} for name in ("one", "out")]
    assert len(made[0]) == 4
    assert made[0] == made[1]


def test_into_a_store(invoke, a, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="the extra convcli[cluster] is not installed")
    pytest.importorskip("upath", reason="the extra convcli[cluster] is not installed")
    done = invoke("edge", "a.tif", "-o", "memory://bucket/b.tif", "-f", "-q")
    assert done == (0, b"memory://bucket/b.tif\n", b"")
    assert invoke("edge", "a.tif", "-o", "b.tif", "-q").status == 0
    assert fsspec.filesystem("memory").cat_file("/bucket/b.tif") == (tmp_path / "b.tif").read_bytes()


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no /dev/null")
def test_into_a_device(invoke, a):
    assert invoke("edge", "a.tif", "-o", "/dev/null", "--format", "tiff", "-f", "-q") == (0, b"/dev/null\n", b"")


# What goes wrong


@pytest.mark.parametrize("existing", [None, b"mine"])
@pytest.mark.parametrize("share", [0.3, 0.95])
@pytest.mark.parametrize("layout", ["deflate", "uncompressed", "tiles", "deflate, differences", "big"])
def test_a_file_that_is_cut_off_leaves_nothing(layout, share, existing, invoke, tmp_path):
    LAYOUTS[layout](tmp_path / "a.tif", noise(200, 3))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(share * len(data))])
    if existing:
        (tmp_path / "b.tif").write_bytes(existing)
    done = invoke("edge", "a.tif", "-o", "b.tif", "-q", "-f")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.tif: ")
    assert files(tmp_path) == ["a.tif", "b.tif"][: 1 + bool(existing)]
    assert not existing or (tmp_path / "b.tif").read_bytes() == existing


@pytest.mark.parametrize("place", [0.4, 0.9])
def test_a_damaged_strip_leaves_nothing(place, invoke, tmp_path):
    save(tmp_path / "a.tif", noise(200, 3))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    start = int(place * len(data))
    data[start : start + 200] = bytes(200)
    (tmp_path / "a.tif").write_bytes(data)
    done = invoke("edge", "a.tif", "-o", "b.tif", "-q")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert files(tmp_path) == ["a.tif"]


def test_one_that_is_cut_off_costs_one_line_among_others(invoke, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(4):
        save(tmp_path / f"in/{number}.tif", noise(100, 3))
    (tmp_path / "in/1.tif").write_bytes((tmp_path / "in/1.tif").read_bytes()[:3000])
    done = invoke("edge", "in", "-o", "out/", "-j", "2", "-q")
    assert (done.status, done.stdout) == (1, b"out/0.tif\nout/2.tif\nout/3.tif\n")
    assert done.stderr.count(b"\n") == 1
    assert files(tmp_path / "out") == ["0.tif", "2.tif", "3.tif"]


@pytest.mark.parametrize(
    "args",
    [
        ("filter", "-k", "box:25", "-p", "valid"),
        ("filter", "-k", "1", "--max-pixels", "400"),
        ("filter", "-k", "1", "-p", "100", "--max-pixels", "600"),
        ("run", "maxpool 30"),
        ("edge", "--mix", "50%", "-s", "2"),
        ("edge", "--frame", "1"),
    ],
)
def test_what_does_not_fit_is_told_as_of_the_whole(args, invoke, go_in_strips, a, tmp_path):
    verb, *more = args
    args = (verb, more[0], "a.tif", *more[1:]) if verb == "run" else (verb, "a.tif", *more)
    made = []
    for rows in (0, 12):
        go_in_strips(rows)
        made.append(invoke(*args, "-o", "b.tif", "-q"))
    assert made[0].status == 1
    assert made[0] == made[1]
    assert files(tmp_path) == ["a.tif"]


@pytest.mark.skipif(os.name != "posix", reason="there is no ulimit")
def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    save(tmp_path / "a.tif", noise(400, 3, np.uint8, 300))
    script = """
import resource, signal, sys
from convcli import strips
from convcli.cli.app import main
strips.STRIP_BYTES, strips.WHOLE_BYTES = 10_000, 0
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
raise SystemExit(main(["identity", "a.tif", "-o", "b.tif", "-q"]))"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.tif: can't write b.tif: ")
    assert files(tmp_path) == ["a.tif"]


# How much memory, and from when on

ROWS, ACROSS, TALL = 7168, 7000, 64  # of 16-bit colour: 301 MB


def large(path):
    """The same row over and over, compressed once for all strips."""
    row = (np.arange(ACROSS * 3) * 3).astype(np.uint16)
    strip = zlib.compress(np.tile(row, TALL).tobytes(), 1)
    options = {"photometric": "rgb", "compression": "zlib", "rowsperstrip": TALL, "metadata": None}
    tifffile.imwrite(path, (strip for _ in range(ROWS // TALL)), shape=(ROWS, ACROSS, 3), dtype=np.uint16, **options)
    return row.reshape(ACROSS, 3)


def peak_memory(folder, *args):
    """The status, the lines on stderr, and the most bytes that the program held. Its parent is a process of its own:
    what that holds counts as the program's, too."""
    script = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "convcli", *sys.argv[1:]])
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""
    done = subprocess.run([sys.executable, "-c", script, *args], cwd=folder, capture_output=True, timeout=60)
    status, peak = map(int, done.stdout.split()[-2:])
    return status, done.stderr.count(b"\n"), peak * (1 if sys.platform == "darwin" else 1024)


posix = pytest.mark.skipif(os.name != "posix", reason="there is no getrusage")


@posix
def test_a_large_picture_takes_little_memory(tmp_path):
    """Also where the whole picture would not fit into what is allowed."""
    row = large(tmp_path / "a.tif")
    args = "filter", "a.tif", "-k", "0 1 0; 1 4 1; 0 1 0", "--normalize", "-o", "b.tif", "-q"
    status, said, peak = peak_memory(tmp_path, *args, "--max-memory", "250MB", "--threads", "2")
    assert (status, said) == (0, 0)
    assert peak < 250e6  # of 301 MB in and 301 MB out, all of which would take 650
    padded = np.pad(row.astype(np.float64), ((1, 1), (0, 0)), mode="reflect")
    want = np.rint((6 * padded[1:-1] + padded[:-2] + padded[2:]) / 8)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert (page.shape, page.dtype) == ((ROWS, ACROSS, 3), np.uint16)
        assert page.rowsperstrip < ROWS / 10
        for index in {0, 1, len(page.dataoffsets) // 2, len(page.dataoffsets) - 1}:
            file.filehandle.seek(page.dataoffsets[index])
            data = file.filehandle.read(page.databytecounts[index])
            got = page.decode(data, index)[0]
            np.testing.assert_array_equal(got[0], np.broadcast_to(want, got[0].shape))


@posix
def test_a_large_picture_that_is_cut_off_takes_little_memory(tmp_path):
    large(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) * 9 // 10])
    status, said, peak = peak_memory(tmp_path, "identity", "a.tif", "-o", "b.tif", "-q", "--threads", "2")
    assert (status, said) == (1, 1)
    assert peak < 250e6
    assert files(tmp_path) == ["a.tif"]


def test_a_small_picture_is_done_whole(invoke, go_in_strips, whole, monkeypatch, tmp_path):
    monkeypatch.setattr(strips, "WHOLE_BYTES", USUAL)
    save(tmp_path / "a.tif", noise(43, 3))
    assert invoke("edge", "a.tif", "-o", "b.tif", "-q").status == 0
    assert whole == [0]
    assert 1 << 20 <= USUAL <= 1 << 28
