"""How results are stored and looked at: PNGs that others read, storage options, replays, previews, sheets, help."""

import io
import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw, ImageFont, features

from convcli.images.picture import Frames, Picture
from pictures import chunks_of, encoded

LAPLACE_8 = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], float)
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
PACKINGS = ["fast", "small", *"01369"]


def noise(*shape, dtype=np.uint8, seed=3):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def picture_of(pixels):
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return Picture(pixels, float(np.iinfo(pixels.dtype).max), pixels.shape[2] in (2, 4))


def tree(folder):
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@contextmanager
def put_in_order(folder):
    """Afterwards the folder is as it was."""
    before = tree(folder)
    yield
    after = tree(folder)
    for name in after.keys() - before.keys():
        (folder / name).unlink()
    for name, data in before.items():
        if after.get(name) != data:
            (folder / name).write_bytes(data)


def assert_refused(done, status=2):
    """One line of this program's own, and nothing for the next program in a pipe."""
    assert (done.status, done.stdout) == (status, b"")
    assert done.stderr.startswith(b"convcli: ")
    assert done.stderr.count(b"\n") == 1
    assert b"unexpected" not in done.stderr
    assert len(done.stderr) < 2000


@pytest.fixture(params=["isal", "zlib"])
def deflater(request, monkeypatch):
    """With ISA-L's deflate and as if it were not installed."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="isal is not installed")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    return request.param


# ---- PNG: exact, whatever the packing ----


def unfiltered(stream, height, line, step):
    """Rows from the bytes of PNG section 9, one after another: slow, and nobody else's code."""
    rows, above = [], np.zeros(line, int)
    for top in range(0, height * (1 + line), 1 + line):
        kind, row = stream[top], np.frombuffer(stream, np.uint8, line, top + 1).astype(int)
        for x in range(line):
            left, corner = (row[x - step], above[x - step]) if x >= step else (0, 0)
            guess = left + above[x] - corner
            nearest = min((abs(guess - one), place, one) for place, one in enumerate((left, above[x], corner)))[2]
            row[x] = (row[x] + (0, left, above[x], (left + above[x]) // 2, nearest)[kind]) % 256
        rows.append(row)
        above = row
    return np.array(rows, np.uint8)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_packing_is_exact_by_the_letter_of_the_specification(packing, channels, dtype):
    ramp = np.add.outer(np.arange(7), 3 * np.arange(9))[..., None] * np.arange(1, channels + 1)
    pixels = np.concatenate([ramp.astype(dtype), noise(4, 9, channels, dtype=dtype)])
    chunks = chunks_of(encoded(picture_of(pixels), "PNG", png=packing))
    header = struct.unpack(">IIBBBBB", chunks[0][1])
    assert header == (9, 11, 8 * pixels.itemsize, COLOR_TYPES[channels], 0, 0, 0)
    stream = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    step = channels * pixels.itemsize
    rows = unfiltered(stream, 11, 9 * step, step)
    assert np.array_equal(rows.view(f">u{pixels.itemsize}").reshape(pixels.shape), pixels)


THIN = [(1, 1), (1, 2), (2, 1), (3, 7), (1, 70_001), (70_001, 1), (65_537, 2), (2, 999_983)]


@pytest.mark.parametrize("packing", ["fast", "small", "0"])
@pytest.mark.parametrize("size", THIN, ids=lambda size: "x".join(map(str, size)))
def test_odd_and_thin_sizes_read_back(size, packing):
    pixels = noise(*size)
    data = encoded(picture_of(pixels), "PNG", png=packing)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), pixels)


def test_without_isal_pixels_are_the_same(deflater):
    pixels = noise(500, 800, 3) // 16 + np.arange(800, dtype=np.uint8)[:, None] // 4
    with Image.open(io.BytesIO(encoded(picture_of(pixels), "PNG"))) as image:
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("packing", ["fast", "small", "0"])
def test_files_are_the_same_whatever_the_threads(packing, deflater, invoke, tmp_path):
    pixels = (np.add.outer(np.arange(1200), 3 * np.arange(1000)) // 7).astype(np.uint8)
    pixels[500:700, 300:600] = noise(200, 300)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    made = set()
    for threads in ("1", "3"):
        assert invoke("identity", "a.png", "-o", "b.png", "-fq", "--png", packing, "--threads", threads).status == 0
        made.add((tmp_path / "b.png").read_bytes())
    assert len(made) == 1
    assert sum(kind == b"IDAT" for kind, _ in chunks_of(made.pop())) > 1  # or threads had nothing to share


# ---- PNG: read by others ----


def program(*names):
    return next(filter(None, map(shutil.which, names)), None)


def pixels_of_magick(*command):
    def read(path, shape):
        done = subprocess.run([*command, path, "-depth", "16", "-endian", "LSB", "rgba:-"], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        return np.frombuffer(done.stdout, "<u2").reshape(*shape[:2], 4)

    return read


def pixels_of_vips(path, shape):
    raw = path.with_suffix(".raw")
    done = subprocess.run(["vips", "rawsave", path, raw], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    dtype = np.uint8 if raw.stat().st_size == np.prod(shape) else np.uint16
    return in_16_bits(np.fromfile(raw, dtype).reshape(shape))


def in_16_bits(pixels):
    """The same as RGBA of 16 bits."""
    wide = pixels.astype(np.uint16) * (257 if pixels.dtype == np.uint8 else 1)
    color, alpha = (wide[..., :-1], wide[..., -1:]) if wide.shape[2] in (2, 4) else (wide, wide[..., :1] * 0 + 65535)
    return np.concatenate([np.broadcast_to(color, (*wide.shape[:2], 3)), alpha], axis=2)


IMAGEMAGICK = program("magick", "convert-im6.q16")
READERS = {
    "ImageMagick": (IMAGEMAGICK, pixels_of_magick(IMAGEMAGICK)),
    "GraphicsMagick": (program("gm"), pixels_of_magick("gm", "convert")),
    "libvips": (program("vips"), pixels_of_vips),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("reader", READERS)
def test_other_programs_see_the_same_pixels(reader, dtype, channels, tmp_path):
    there, read = READERS[reader]
    if there is None:
        pytest.skip(f"{reader} is not installed")
    pixels = noise(13, 17, channels, dtype=dtype)
    pixels[..., -1] |= 1  # not quite transparent: some forget colours there
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture_of(pixels), "PNG"))
    assert np.array_equal(read(path, pixels.shape), in_16_bits(pixels))


@pytest.fixture
def pngcheck():
    if program("pngcheck") is None:
        pytest.skip("pngcheck is not installed")

    def check(*paths):
        done = subprocess.run(["pngcheck", "-q", *paths], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "")

    return check


def test_pngcheck_finds_nothing_wrong(pngcheck, deflater, tmp_path):
    paths = []
    for packing in ("fast", "small", "0", "9"):
        for channels in (1, 2, 3, 4):
            for pixels in (noise(5, 7, channels), noise(40, 50, channels, dtype=np.uint16), noise(1, 1, channels)):
                paths.append(tmp_path / f"{len(paths)}.png")
                paths[-1].write_bytes(encoded(picture_of(pixels), "PNG", png=packing))
    large = noise(900, 700, 3)
    for packing in ("fast", "0"):
        paths.append(tmp_path / f"{packing}.png")
        paths[-1].write_bytes(encoded(picture_of(large), "PNG", png=packing))
    pngcheck(*paths)


def test_pngcheck_finds_nothing_wrong_with_what_commands_write(pngcheck, invoke, samples, tmp_path):
    for number, words in enumerate(
        [("edge",), ("gaussian:2", "--depth", "16"), ("filter", "-k", "1 0 -1\n2 0 -2"), ("run", "gray | sobel")]
    ):
        name, *more = words
        assert invoke(name, *more, samples / "chart.png", "-q", "-o", f"{number}.png").status == 0
    pngcheck(*tmp_path.glob("*.png"))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_animations_are_whole(channels, dtype, pngcheck, tmp_path):
    stack = [picture_of(noise(40, 30, channels, dtype=dtype, seed=seed)) for seed in range(4)]
    data = encoded(Frames(stack, delays=[40, 1000, 70_000, 33], loop=3), "PNG")
    chunks = chunks_of(data)
    kinds = [kind for kind, _ in chunks]
    assert kinds.index(b"acTL") < kinds.index(b"IDAT")
    assert dict(chunks)[b"acTL"] == struct.pack(">II", 4, 3)
    numbers = [struct.unpack(">I", body[:4])[0] for kind, body in chunks if kind in (b"fcTL", b"fdAT")]
    assert numbers == list(range(len(numbers)))
    controls = [struct.unpack(">IIIIIHHBB", body) for kind, body in chunks if kind == b"fcTL"]
    assert [one[1:5] for one in controls] == [(30, 40, 0, 0)] * 4
    assert [one[5] / (one[6] or 100) for one in controls] == pytest.approx([0.04, 1, 70, 0.033])
    path = tmp_path / "a.png"
    path.write_bytes(data)
    pngcheck(path)
    with Image.open(path) as image:
        assert image.n_frames == 4
        for number, one in enumerate(stack if dtype == np.uint8 else []):  # Pillow has no 16-bit colour
            image.seek(number)
            assert np.array_equal(np.asarray(image).reshape(one.pixels.shape), one.pixels)


# ---- PNG: small enough ----


def lettering(width, height, color="white"):
    image = Image.new("RGB", (width, height), color)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13)
    for line in range(height // 15):
        words = f"{line * line} the quick brown fox jumps over {line} lazy dogs, packs my box with jugs"
        draw.text((4, 15 * line), words, (10, 10, 30), font)
    return np.array(image)


def screenshot():
    """Bars, buttons and lines of code."""
    pixels = lettering(480, 320, (250, 250, 245))
    pixels[:24], pixels[24:, :90] = (40, 44, 52), (225, 228, 235)
    for top in range(40, 300, 26):
        pixels[top : top + 18, 8:82] = (80, 120, 220) if top % 3 else (210, 215, 225)
    return pixels


def flat_art():
    image = Image.new("RGB", (400, 300), (240, 220, 180))
    draw = ImageDraw.Draw(image)
    for ring in range(9):
        color = (25 * ring, 240 - 20 * ring, 90 + 15 * ring)
        draw.ellipse((20 + 17 * ring, 10 + 14 * ring, 390 - 15 * ring, 290 - 16 * ring), color)
    return np.array(image)


ACROSS, DOWN = np.arange(400) * 255 // 399, np.arange(300)[:, None] * 255 // 299
DRAWN = {
    "flat art": flat_art,
    "one colour": lambda: np.full((300, 400, 3), (30, 60, 90), np.uint8),
    "gradient across": lambda: np.tile(ACROSS, (300, 1)).astype(np.uint8),
    "gradient down": lambda: np.tile(DOWN, (1, 400)).astype(np.uint8),
    "gradient of colours": lambda: np.dstack(
        [np.tile(ACROSS, (300, 1)), np.tile(DOWN, (1, 400)), (ACROSS + DOWN) // 2]
    ).astype(np.uint8),
    "text": partial(lettering, 480, 320),
    "grey text": lambda: lettering(480, 320)[..., 0],
    "screenshot": screenshot,
    "cut-out": lambda: np.dstack([flat_art(), 255 * (flat_art() != (240, 220, 180)).any(axis=2)]).astype(np.uint8),
}
PHOTOS = ["camera.png", "chelsea.png", "coffee.jpg", "brick.png"]
SUBJECTS = [*PHOTOS, *(f"edges of {name}" for name in ("camera.png", "chelsea.png", "brick.png", "text")), *DRAWN]


@pytest.fixture(scope="module")
def size():
    """``size("text", "fast")``: the bytes of a PNG of a picture by its name, made once; ``"pillow"`` for Pillow's."""
    folder = Path(__file__).parents[1] / "sample_images"

    @cache
    def pixels(name):
        if name.startswith("edges of "):
            return cv2.filter2D(pixels(name.removeprefix("edges of ")), -1, LAPLACE_8)
        if name in DRAWN:
            return DRAWN[name]()
        with Image.open(folder / name) as image:
            return np.array(image)[:240, :300]

    @cache
    def measured(name, packing, deflater=None):
        if packing != "pillow":
            return len(encoded(picture_of(pixels(name)), "PNG", png=packing))
        buffer = io.BytesIO()
        Image.fromarray(pixels(name)).save(buffer, "PNG")
        return buffer.tell()

    return measured


@pytest.mark.parametrize("name", SUBJECTS)
def test_fast_is_at_most_1_6_times_pillows_default(name, size, deflater):
    assert size(name, "fast", deflater) <= 1.6 * size(name, "pillow")


@pytest.mark.parametrize("name", SUBJECTS)
def test_small_is_hardly_ever_larger_than_pillows_default(name, size):
    assert size(name, "small") <= 1.02 * size(name, "pillow")


@pytest.mark.parametrize("name", SUBJECTS)
def test_small_is_hardly_ever_larger_than_the_highest_level(name, size):
    assert size(name, "small") <= 1.02 * size(name, "9")


@pytest.mark.parametrize("name", SUBJECTS)
def test_higher_levels_make_no_larger_files(name, size):
    for less, more in ("01", "19"):
        assert size(name, more) <= 1.01 * size(name, less)


def test_level_0_is_not_deflated():
    pixels = np.zeros((100, 100), np.uint8)
    assert 10_100 < len(encoded(picture_of(pixels), "PNG", png="0")) < 10_300


# ---- options of storage ----


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Pictures of several kinds, kernels of several kinds, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("stock")
    Image.fromarray(noise(24, 30, 3, seed=1)).save(folder / "a.png")
    Image.fromarray(noise(21, 33, 4, seed=2)).save(folder / "b.png")
    smooth = cv2.GaussianBlur(noise(32, 40, 3, seed=4), (0, 0), 2)
    Image.fromarray(smooth).save(folder / "c.jpg", quality=70)
    cv2.imwrite(str(folder / "deep.png"), noise(9, 11, 3, dtype=np.uint16))
    Image.fromarray(np.zeros((6, 8, 4), np.uint8)).save(folder / "clear.png")
    (folder / "broken.png").write_text("not a picture")
    (folder / "k.csv").write_text("1,0,-1\n2,0,-2\n")
    (folder / "k.mat").write_text("3 3 4 51\n1 0 -1\n1 0 -1\n1 0 -1\n")
    (folder / "blur").write_text("1 2 1\n")
    (folder / "k.json").write_text('{"kernel": [[0.1, -0.2], [0.333333333333333315, 2e-7]], "bias": 0.125}')
    (folder / "much.json").write_text('{"kernel": [[1.0, -3.5]], "bias": 2.5}')
    (folder / "layer.json").write_text(json.dumps(np.linspace(-1, 1, 27).reshape(1, 3, 3, 3).tolist()))
    (folder / "edges.toml").write_text('stages = ["gray", "sobel", "threshold 30%"]\n')
    (folder / 'my "d"').mkdir()
    (folder / 'my "d"' / "ö k.csv").write_text("1 2 1\n")
    return folder


@pytest.fixture
def desk(invoke, stock, monkeypatch):
    """Them to work on, in order again afterwards."""
    monkeypatch.chdir(stock)
    with put_in_order(stock):
        yield stock


WRONG = [
    *(("c.jpg", "--quality", one) for one in ("0", "101", "-1", "high", "90.5", "", "90%")),
    *(("a.png", "--png", one) for one in ("10", "-1", "", "best", "FAST", "9.0", "06")),
    *(("c.jpg", "--background", one) for one in ("", "colourless", "#12", "#gggggg", "rgb(1,2)", "0.5", "255,0,0")),
    *(("a.png", "--format", one) for one in ("", "docx", "jpeg2000", "-")),
    *(("a.png", "--depth", one) for one in ("", "12", "32", "-8", "half")),
]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_wrong_values_are_refused_by_their_option(args, invoke, desk):
    before = tree(desk)
    done = invoke("edge", *args)
    assert_refused(done)
    assert done.stderr.startswith(f"convcli: {args[1]}: ".encode())
    assert not args[2] or args[2].encode() in done.stderr
    assert tree(desk) == before


UNHEEDED = [
    ("--quality", "80", "x.png"),
    ("--quality", "80", "x.tif"),
    ("--quality", "80", "x.npy"),
    ("--quality", "80", "x.gif"),
    ("--png", "small", "x.jpg"),
    ("--png", "small", "x.npy"),
    ("--png", "9", "x.webp"),
    ("--background", "red", "x.png"),
    ("--background", "red", "x.webp"),
    ("--background", "red", "x.npy"),
    ("--depth", "16", "x.jpg"),
    ("--depth", "16", "x.webp"),
    ("--depth", "16", "x.csv"),
    ("--depth", "8", "x.npy"),
    ("--depth", "float", "x.png"),
    ("--depth", "float", "x.jpg"),
    ("--range", "none", "x.png"),
]


@pytest.mark.parametrize("args", UNHEEDED, ids=" ".join)
def test_options_that_no_output_heeds_are_refused_before_any_work(args, invoke, desk):
    """That the input can't be read is not met, for it is not read."""
    before = tree(desk)
    option, value, output = args
    done = invoke("edge", "broken.png", option, value, "-o", output)
    assert_refused(done)
    assert done.stderr.startswith(f"convcli: {option}: ".encode())
    assert tree(desk) == before


def test_an_option_that_one_of_several_outputs_heeds_is_right(invoke, desk):
    assert invoke("edge", "a.png", "c.jpg", "--quality", "30", "-q").status == 0
    with Image.open(desk / "c.edge.jpg") as image, Image.open(desk / "c.jpg") as own:
        assert image.quantization != own.quantization


@pytest.mark.parametrize("option", [("--png", "small"), ("--quality", "5"), ("--background", "red"), ("--depth", "16")])
def test_matrices_have_no_storage(option, invoke, desk):
    assert_refused(invoke("edge", "[1 2; 3 4]", *option))


@pytest.mark.parametrize("quality", ["1", "55", "100", None])
def test_quality_is_pillows(quality, invoke, desk):
    given = ("--quality", quality) if quality else ()
    assert invoke("edge", "a.png", "-o", "x.jpg", "-q", *given).status == 0
    buffer = io.BytesIO()
    Image.fromarray(noise(8, 8, 3)).save(buffer, "JPEG", quality=int(quality or 90))
    with Image.open(buffer) as want, Image.open(desk / "x.jpg") as image:
        assert image.quantization == want.quantization


@pytest.mark.parametrize(
    ("color", "want"),
    [
        (None, (255, 255, 255)),
        ("red", (255, 0, 0)),
        ("White", (255, 255, 255)),
        ("#0f0", (0, 255, 0)),
        ("#123456", (18, 52, 86)),
        ("rgb(1,2,3)", (1, 2, 3)),
        ("hsl(240,100%,50%)", (0, 0, 255)),
    ],
)
@pytest.mark.parametrize("output", ["x.bmp", "x.ppm"])
def test_the_background_shows_through(color, want, output, invoke, desk):
    given = ("--background", color) if color else ()
    assert invoke("identity", "clear.png", "-o", output, *given).status == 0
    with Image.open(desk / output) as image:
        assert (np.asarray(image.convert("RGB")) == want).all()


def test_a_background_beyond_white_does_not_wrap(invoke, desk):
    done = invoke("identity", "clear.png", "-o", "x.bmp", "--background", "rgb(300,0,0)")
    if done.status == 0:
        with Image.open(desk / "x.bmp") as image:
            assert (np.asarray(image) == (255, 0, 0)).all()
    else:
        assert_refused(done)


def test_depths(invoke, desk):
    assert invoke("identity", "a.png", "--depth", "16", "-o", "x.png", "-q").status == 0
    assert np.array_equal(
        cv2.imread(str(desk / "x.png"), cv2.IMREAD_UNCHANGED), noise(24, 30, 3, seed=1)[..., ::-1] * np.uint16(257)
    )
    assert invoke("identity", "deep.png", "--depth", "8", "-o", "y.png", "-q").status == 0
    want = np.rint(noise(9, 11, 3, dtype=np.uint16) / 257)
    assert np.array_equal(cv2.imread(str(desk / "y.png"), cv2.IMREAD_UNCHANGED), want)
    assert invoke("identity", "deep.png", "--depth", "float", "-o", "z.tif", "-q").status == 0
    floats = tifffile.imread(desk / "z.tif")
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats[..., ::-1], noise(9, 11, 3, dtype=np.uint16) / 65535, atol=1e-7)


@pytest.mark.parametrize(
    ("word", "start"),
    [("png", b"\x89PNG"), ("JPG", b"\xff\xd8\xff"), ("tiff", b"II"), ("webp", b"RIFF"), ("npy", b"\x93NUMPY")],
)
def test_the_format_beats_the_name(word, start, invoke, desk):
    assert invoke("edge", "a.png", "-o", "x.gif", "--format", word, "-q").status == 0
    assert (desk / "x.gif").read_bytes().startswith(start)


def texts_of(path):
    with Image.open(path) as image:
        return dict(image.text)


@pytest.mark.parametrize("words", [("edge",), ("run", "gray | edge"), ("pool", "--max", "2"), ("filter", "-k", "1 2")])
def test_a_png_says_what_made_it_unless_stripped(words, invoke, desk):
    assert invoke(*words, "a.png", "-o", "x.png", "-q").status == 0
    assert invoke(*words, "a.png", "-o", "y.png", "-q", "--strip").status == 0
    texts = texts_of(desk / "x.png")
    assert set(texts) == {"Software", "convcli"}
    assert texts["Software"].startswith("convcli ")
    assert shlex.split(texts["convcli"])[0] == words[0]
    assert "a.png" not in texts["convcli"]
    assert [kind for kind, _ in chunks_of((desk / "y.png").read_bytes())] == [b"IHDR", b"IDAT", b"IEND"]


# ---- replay ----

INPUT = object()
REPLAYED = [
    ("edge", INPUT),
    ("gaussian:2", INPUT),
    ("gaussian:sigma=1.5,size=5", INPUT),
    ("motion:size=5,angle=-30", INPUT),
    ("sobel-x", INPUT, "--range", "signed"),
    ("edge", INPUT, "--range", "minmax", "--gray"),
    ("gaussian:1", INPUT, "--linear", "--mix", "30%"),
    ("edge", INPUT, "--pool", "avg:3x2,stride=2"),
    ("box:3", INPUT, "--depth", "16"),
    ("blur", INPUT, "--alpha", "filter"),
    ("edge", INPUT, "--alpha=drop", "-p", "1,2,3,4", "-b", "25%", "-s", "2x1", "--dilation", "2", "--flip"),
    ("blur:5", INPUT, "--keep-size", "-s2", "-b", "0.25"),
    ("filter", INPUT, "-k", "1 0 -1; 2 0 -2"),
    ("filter", INPUT, "-k", "1 0 -1\n2 0 -2\n"),
    ("filter", INPUT, "-k", "-1 0 1", "--bias", "-0.25", "--range", "abs"),
    ("filter", INPUT, "-k", "-1", "--bias=100%"),
    ("filter", INPUT, "-k", "[[1, 2], [3, 4]]", "--normalize"),
    ("filter", INPUT, "-k", "3x2: 1,2,3 4,5,6", "--normalize"),
    ("filter", INPUT, "-k", "1/9 1/9; 0 1/3"),
    ("filter", INPUT, "-k", "unsharp:1,2"),
    ("filter", INPUT, "-k", "kirsch"),
    ("filter", INPUT, "-k", "k.csv"),
    ("filter", INPUT, "-k", "k.mat"),
    ("filter", INPUT, "-k", "./blur", "--normalize"),
    ("filter", INPUT, "-k", "k.json"),
    ("filter", INPUT, "-k", "k.json", "--bias", "10%"),
    ("filter", INPUT, "-k", "k.json", "--normalize"),
    ("filter", INPUT, "-k", "much.json"),
    ("filter", INPUT, "-k", "layer.json"),
    ("pool", INPUT, "--max", "2"),
    ("pool", INPUT, "--avg", "3x2", "--exclude-pad", "-p", "1", "--ceil"),
    ("pool", INPUT, "--min", "2", "-s", "1", "--dilation", "2x1"),
    ("run", "gray | sobel | threshold 30%", INPUT),
    ("run", "filter [1 0 -1; 2 0 -2] | abs * 2", INPUT, "--range", "minmax"),
    ("run", "conv 3x3 out=3 init=random seed=3 padding=same | relu", INPUT),
    ("run", "edges.toml", INPUT, "--depth", "16"),
]


def words_of(command, name):
    return [name if word is INPUT else word for word in command]


@pytest.mark.parametrize("command", REPLAYED, ids=lambda one: repr(" ".join(words_of(one, "INPUT"))))
def test_a_replay_is_the_command_byte_for_byte(command, invoke, desk):
    assert invoke(*words_of(command, "a.png"), "-o", "made.png", "-q") == (0, b"made.png\n", b"")
    assert invoke(*words_of(command, "b.png"), "-o", "want.png", "-q").status == 0
    assert invoke("replay", "made.png", "b.png", "-o", "got.png", "-q") == (0, b"got.png\n", b"")
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


def test_a_replay_is_what_opencv_says(invoke, desk):
    kernel = np.array([[1, 2, 0], [0, -3, 0], [0, 0, 1.0]])
    assert invoke("filter", "a.png", "-k", "1 2 0; 0 -3 0; 0 0 1", "-o", "made.png", "-q").status == 0
    assert invoke("replay", "made.png", "b.png", "-o", "got.png", "-q", "--alpha", "drop").status == 0
    with Image.open(desk / "b.png") as image, Image.open(desk / "got.png") as got:
        want = cv2.filter2D(np.asarray(image)[..., :3].astype(np.float64), -1, kernel)
        assert np.abs(np.asarray(got) - np.clip(want, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("kernel", ["k.csv", "k.json", "./blur", "k.mat", "layer.json", "a.png"])
def test_a_replay_needs_no_kernel_file(kernel, invoke, desk):
    more = ("--normalize",) if kernel == "a.png" else ()
    assert invoke("filter", "a.png", "-k", kernel, "-o", "made.png", "-q", *more).status == 0
    Image.fromarray(noise(20, 20, 3, seed=8)).save(desk / "other.png")
    assert invoke("filter", "other.png", "-k", kernel, "-o", "want.png", "-q", *more).status == 0
    (desk / kernel).unlink()
    assert invoke("replay", "made.png", "other.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


@pytest.mark.parametrize("pipeline", ["edges.toml"])
def test_a_replay_needs_no_file_of_a_pipeline(pipeline, invoke, desk):
    for name, output in (("a.png", "made.png"), ("b.png", "want.png")):
        assert invoke("run", pipeline, name, "-o", output, "-q").status == 0
    (desk / "edges.toml").unlink()
    (desk / "k.csv").unlink()
    assert invoke("replay", "made.png", "b.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


def test_a_kernel_that_was_learned_with_its_bias(invoke, samples, desk):
    with Image.open(samples / "camera.png") as image:
        image.crop((180, 60, 300, 160)).save(desk / "before.png")
    assert invoke("gaussian:1", "before.png", "--bias", "0.03", "-o", "after.png", "-q").status == 0
    assert invoke("learn", "before.png", "after.png", "-k", "3", "--bias", "-o", "learned.json").status == 0
    for name, output in (("a.png", "made.png"), ("b.png", "want.png")):
        assert invoke("filter", name, "-k", "learned.json", "-o", output, "-q").status == 0
    (desk / "learned.json").unlink()
    assert invoke("replay", "made.png", "b.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


@pytest.mark.parametrize("kernel", [b"1 0 -1\n2 0 -2\n", b"[[1, 2], [3, 4]]", b"[[[[1]], [[2]], [[-3]]]]"])
def test_a_kernel_from_a_pipe(kernel, invoke, desk):
    assert invoke("filter", "a.png", "-k", "-", "-o", "made.png", input=kernel).status == 0
    assert invoke("filter", "a.png", "-k", kernel.decode(), "-o", "want.png", "-q").status == 0
    assert invoke("replay", "made.png", "a.png", "-o", "got.png", "-q").status == 0
    with Image.open(desk / "want.png") as want, Image.open(desk / "got.png") as got:
        assert np.array_equal(np.asarray(want), np.asarray(got))


def made_by(invoke, *command):
    assert invoke(*command, "-o", "made.png", "-f", "-q").status == 0


def test_replays_are_named_like_the_command_s_own_results(invoke, desk):
    made_by(invoke, "gaussian:2", "a.png")
    assert invoke("replay", "made.png", "c.jpg", "-q") == (0, b"c.gaussian-2.jpg\n", b"")
    assert invoke("gaussian:2", "c.jpg", "-q", "-o", "want.jpg").status == 0
    assert (desk / "c.gaussian-2.jpg").read_bytes() == (desk / "want.jpg").read_bytes()
    assert invoke("replay", "made.png", "a.png", "b.png", "-q", "-o", "{stem}~{command}{ext}").stdout == (
        b"a~gaussian-2.png\nb~gaussian-2.png\n"
    )
    (desk / "in").mkdir()
    shutil.copy(desk / "a.png", desk / "in/x.png")
    shutil.copy(desk / "c.jpg", desk / "in/y.jpg")
    assert invoke("replay", "made.png", "in", "-q", "-o", "out/").stdout == b"out/x.png\nout/y.jpg\n"
    assert invoke("replay", "made.png", "in/x.png", "-n", "-q") == (0, b"in/x.gaussian-2.png\n", b"")
    assert not (desk / "in/x.gaussian-2.png").exists()


def test_a_replay_in_a_pipe(run, invoke, desk):
    made_by(invoke, "edge", "a.png")
    assert invoke("edge", "b.png", "-o", "want.png", "-q").status == 0
    done = run("replay", "made.png", "-", "-q", input=(desk / "b.png").read_bytes(), cwd=desk)
    assert (done.returncode, done.stdout, done.stderr) == (0, (desk / "want.png").read_bytes(), b"")
    assert invoke("replay", "made.png", "b.png", "-q", "-o", "-").stdout == (desk / "want.png").read_bytes()


def test_a_replay_in_place(invoke, desk):
    made_by(invoke, "edge", "a.png")
    assert invoke("edge", "b.png", "-o", "want.png", "-q").status == 0
    assert invoke("replay", "made.png", "b.png", "-q", "--in-place") == (0, b"b.png\n", b"")
    assert (desk / "b.png").read_bytes() == (desk / "want.png").read_bytes()


@pytest.mark.parametrize(
    ("recorded", "own", "both"),
    [
        (("edge",), ("--gray",), ("--gray",)),
        (("edge", "--range", "signed"), ("--range", "abs"), ("--range", "abs")),
        (("blur", "--mix", "30%"), ("--mix", "0.6"), ("--mix", "0.6")),
        (("blur", "--depth", "16"), ("--depth", "8"), ("--depth", "8")),
        (("blur", "--png", "0"), ("--png", "9", "--linear"), ("--linear", "--png", "9")),
        (("blur", "--alpha", "keep"), ("--alpha", "drop"), ("--alpha", "drop")),
        (("edge", "--gray"), ("--strip",), ("--gray", "--strip")),
    ],
)
def test_own_options_come_on_top(recorded, own, both, invoke, desk):
    made_by(invoke, *recorded, "a.png")
    assert invoke(recorded[0], *both, "b.png", "-o", "want.png", "-q").status == 0
    assert invoke("replay", *own, "made.png", "b.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


@pytest.mark.parametrize("packing", ["small", "9"])
def test_how_a_png_was_packed_is_no_matter_for_another_format(packing, invoke, desk):
    made_by(invoke, "edge", "a.png", "--png", packing)
    assert invoke("edge", "c.jpg", "-o", "want.jpg", "-q").status == 0
    assert invoke("replay", "made.png", "c.jpg", "-o", "got.jpg", "-q").status == 0
    assert (desk / "got.jpg").read_bytes() == (desk / "want.jpg").read_bytes()


def test_a_replay_of_a_replay(invoke, desk):
    made_by(invoke, "run", "filter '0 1 0' | abs", "a.png")
    assert invoke("replay", "made.png", "b.png", "-o", "second.png", "-q", "--gray").status == 0
    assert invoke("replay", "second.png", "a.png", "-o", "third.png", "-q").status == 0
    assert invoke("run", "--gray", "filter '0 1 0' | abs", "a.png", "-o", "want.png", "-q").status == 0
    assert (desk / "third.png").read_bytes() == (desk / "want.png").read_bytes()
    kinds = [kind for kind, _ in chunks_of((desk / "third.png").read_bytes())]
    assert kinds == [b"IHDR", b"tEXt", b"tEXt", b"IDAT", b"IEND"]
    words = shlex.split(texts_of(desk / "third.png")["convcli"])
    assert words == ["run", "filter '0 1 0' | abs", "--gray"]


def test_a_replay_says_what_a_command_says(invoke, desk):
    made_by(invoke, "edge", "a.png")
    done = invoke("replay", "made.png", "b.png", "missing.png", "--json", "-o", "{stem}.x.png", "-q")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.status, [one["status"] for one in records]) == (1, ["written", "failed"])
    assert records[0]["layers"][0]["layer"] == "edge"
    assert done.stderr == b"convcli: missing.png: no such file\n"


@pytest.mark.parametrize("args", [(), ("--bogus",), ("-k", "1"), ("--png", "best"), ("-o", "x.docx"), ("--quality",)])
def test_a_replay_s_own_errors(args, invoke, desk):
    made_by(invoke, "edge", "a.png")
    before = tree(desk)
    assert_refused(invoke("replay", "made.png", *(("b.png",) if args else ()), *args))
    assert tree(desk) == before


def test_what_is_replayed_is_not_overwritten(invoke, desk):
    made_by(invoke, "edge", "a.png")
    before = tree(desk)
    done = invoke("replay", "made.png", "b.png", "-o", "made.png", "-f")
    assert_refused(done)
    assert tree(desk) == before


# ---- replay: files from elsewhere ----


def with_chunk(data, kind, body):
    """A PNG with one more chunk behind its header."""
    return (
        data[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]
    )


@pytest.fixture
def claim(desk):
    """``claim("edge")``: a PNG named evil.png that says it was made by this command."""

    def write(text, kind=b"tEXt", between=b"\0"):
        body = b"convcli" + between + (text if isinstance(text, bytes) else text.encode())
        (desk / "evil.png").write_bytes(with_chunk((desk / "b.png").read_bytes(), kind, body))

    return write


def test_a_claim_is_believed(claim, invoke, desk):
    claim("edge --gray")
    assert invoke("edge", "--gray", "a.png", "-o", "want.png", "-q").status == 0
    assert invoke("replay", "evil.png", "a.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == (desk / "want.png").read_bytes()


HOSTILE = [
    "",
    "''",
    "kernels",
    "learn a.png b.png -k 3 -o x.json",
    "replay evil.png",
    "gallery a.png -f",
    "shape 3x3 edge",
    "--version",
    "--help",
    "-h",
    "edge -h",
    "edge --help",
    "--no-color edge",
    "rm -rf .",
    "edge a.png",
    "edge -",
    "edge -- a.png",
    "edge --gray -- --in-place",
    "edge --in-place",
    "edge -fr",
    "edge -n",
    "edge -o x.png",
    "edge -o-",
    "edge --output",
    "edge --existing overwrite",
    "edge --report x.html",
    "edge --json",
    "edge --format npy",
    "edge --max-pixels 999999999999",
    "run edge --trace x",
    "run edge --save-pipeline x.toml",
    "run edge --max-memory 1TB",
    "run",
    "run 'gray | rm'",
    "run 'edge * 99999999'",
    "filter",
    "filter -k -",
    "filter -k nowhere.csv",
    "filter --kernel=-",
    "pool --max 2 --min 2",
    "edge --bias",
    "edge --bias 1e999",
    "edge --nonsense",
    "edge --range nonsense",
    "gaussian:1e9",
    "box:99999999",
    "edge 'unclosed",
    "edge\0--in-place",
    "\x1b[2Jedge",
    "edge\nrm",
    "edge " + 100_000 * "x",
    bytes(range(256)) * 40,
    b"\xff\xfe\xfd edge",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:40]))
def test_what_is_no_filtering_of_a_picture_is_refused(text, claim, invoke, desk):
    claim(text)
    before = tree(desk)
    assert_refused(invoke("replay", "evil.png", "a.png", "-o", "got.png"))
    assert tree(desk) == before


@pytest.mark.parametrize("kernel", ["' -'", "'- '", "/dev/stdin"])
def test_a_claim_reads_no_standard_input(kernel, claim, invoke, desk):
    claim(f"filter -k {kernel}")
    done = invoke("replay", "evil.png", "a.png", "-o", "got.png", input=b"1 2 1")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert not (desk / "got.png").exists()


BOMB = zlib.compress(b"edge " + bytes(20_000_000), 9)


@pytest.mark.parametrize(
    ("kind", "between", "text"),
    [
        (b"zTXt", b"\0\0", BOMB),
        (b"iTXt", b"\0\1\0\0\0", BOMB),
        (b"zTXt", b"\0\0", b"not deflated"),
        (b"iTXt", b"\0\0", b""),
        (b"tEXt", b"", b""),
        (b"tEXt", b" ", b"edge"),
        (b"tEXt", b"\0", b"edge " + 20_000_000 * b"x"),
    ],
)
def test_odd_chunks_are_refused_without_being_unfolded(kind, between, text, claim, invoke, desk):
    claim(text, kind, between)
    assert_refused(invoke("replay", "evil.png", "a.png", "-o", "got.png"))
    assert not (desk / "got.png").exists()


def test_a_chunk_that_claims_to_be_longer_than_the_file(invoke, desk):
    (desk / "evil.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 0x7FFFFFFF, b"tEXt") + b"convcli\0edge")
    done = invoke("replay", "evil.png", "a.png", "-o", "got.png")
    assert done.status in (0, 2)
    assert b"unexpected" not in done.stderr


@pytest.mark.parametrize(
    "name", ["missing.png", "broken.png", "empty.png", "c.jpg", 'my "d"', "b.png", "bare.png", "x/y"]
)
def test_files_without_a_command(name, invoke, desk):
    (desk / "empty.png").write_bytes(b"")
    assert invoke("edge", "a.png", "-o", "bare.png", "--strip", "-q").status == 0
    before = tree(desk)
    done = invoke("replay", name, "a.png", "-o", "got.png")
    assert_refused(done)
    assert done.stderr.startswith(f"convcli: {name}: ".encode())
    assert tree(desk) == before


def test_a_png_cut_off_behind_its_command_is_still_replayed_and_before_it_is_not(invoke, desk):
    made_by(invoke, "edge", "a.png")
    data = (desk / "made.png").read_bytes()
    (desk / "half.png").write_bytes(data[: data.index(b"IDAT") + 9])
    assert invoke("replay", "half.png", "a.png", "-o", "got.png", "-q").status == 0
    assert (desk / "got.png").read_bytes() == data
    (desk / "less.png").write_bytes(data[: data.index(b"tEXt") + 4])
    assert_refused(invoke("replay", "less.png", "a.png", "-o", "more.png", "-q"))


# ---- preview ----

CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")


@pytest.fixture
def preview(invoke, monkeypatch):
    """``preview("identity", "a.png", color=True)``: the lines that ``--preview`` adds on stderr."""

    def call(*args, color=False, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "" if color else "1")
        monkeypatch.setenv("FORCE_COLOR", "1" if color else "")
        monkeypatch.delenv("TERM", raising=False)
        bare = invoke(*args, "-f")
        done = invoke(*args, "-f", "--preview")
        assert (bare.status, done.status, done.stdout) == (0, 0, bare.stdout)
        plain = len(bare.stderr.decode().splitlines())
        return done.stderr.decode().removesuffix("\n").split("\n")[plain:]

    return call


def cells(lines):
    """The pixels of half blocks: ``(2 * lines, columns, 3)``."""
    rows = []
    for line in lines:
        assert CELL.sub("", line) == "\x1b[0m"
        codes = [[int(one) for one in cell.groups()] for cell in CELL.finditer(line)]
        rows += [[one[:3] for one in codes], [one[3:] for one in codes]]
    return np.array(rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_preview_in_colour_is_the_picture_in_half_blocks(channels, dtype, preview, tmp_path):
    pixels = noise(80, 160, channels, dtype=dtype)
    (tmp_path / "a.png").write_bytes(encoded(picture_of(pixels), "PNG"))
    shown = cells(preview("identity", "a.png", "-o", "x.png", color=True, columns=40))
    means = pixels.reshape(20, 4, 40, 4, channels).mean(axis=(1, 3)) * 255 / np.iinfo(dtype).max
    assert shown.shape == (20, 40, 3)
    assert np.abs(shown - means).max() <= 0.5 + 1e-6


def test_a_preview_without_colour_goes_from_dark_to_light(preview, tmp_path):
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (20, 1))).save(tmp_path / "a.png")
    lines = preview("identity", "a.png", "-o", "x.png", columns=64)
    assert len(set(lines)) == 1
    line = lines[0].ljust(64)
    letters = list(dict.fromkeys(line))
    assert len(letters) >= 5
    assert letters[0] == " "
    assert line == "".join(sorted(line, key=letters.index))  # each letter has one stretch of levels
    assert "\x1b" not in line


@pytest.mark.parametrize("columns", [1, 7, 80])
@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (333, 500)])
def test_a_preview_fits_the_terminal(size, color, columns, preview, tmp_path):
    Image.fromarray(noise(*size) | 128).save(tmp_path / "a.png")
    lines = preview("identity", "a.png", "-o", "x.png", color=color, columns=columns)
    widths = {cells([line]).shape[1] for line in lines} if color else {len(line) for line in lines}
    assert widths == {min(columns, size[1])}
    assert len(lines) <= max(1, size[0])


def test_a_preview_of_a_tall_strip_does_not_flood_the_terminal(preview, tmp_path):
    Image.fromarray(noise(5000, 1)).save(tmp_path / "a.png")
    assert len(preview("identity", "a.png", "-o", "x.png")) < 500


def test_a_preview_shows_no_colour_that_is_hidden(preview, tmp_path):
    pixels = np.zeros((8, 80, 4), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (255, 0, 0, 255), (0, 255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = cells(preview("identity", "a.png", "-o", "x.png", color=True, columns=40))
    red, green, blue = shown[..., 0], shown[..., 1], shown[..., 2]
    assert np.array_equal(green, blue)  # those of what lies behind
    assert np.abs(red - green - 127.5).max() <= 1.5  # half of it is covered with pure red


def test_a_preview_of_nothing_shows_what_lies_behind(preview, tmp_path):
    Image.fromarray(np.zeros((20, 40, 4), np.uint8)).save(tmp_path / "a.png")
    shown = cells(preview("identity", "a.png", "-o", "x.png", color=True))
    assert len(np.unique(shown)) == 2  # a chequered board
    assert (shown == shown[..., :1]).all()


def test_a_preview_of_floats(preview, tmp_path):
    floats = np.linspace(-1, 2, 40 * 60, dtype=np.float32).reshape(40, 60)
    floats[3, 3], floats[5, 5], floats[7, 7] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", floats)
    for output in ("x.tif", "x.png", "x.npy"):
        shown = cells(preview("identity", "a.tif", "-o", output, color=True))
        assert shown.shape == (40, 60, 3)
        assert (shown[-1] == 255).all()
        assert (shown[0] == 0).all()


@pytest.mark.parametrize(
    "args",
    [
        ("identity", "n.npy", "-o", "x.png"),
        ("identity", "n.npy", "-o", "x.npy"),
        ("identity", "[1 2; 3 4]"),
        ("identity", "a.png", "-o", "x.csv"),
        ("run", "conv 3x3 out=2 init=random", "a.png", "-o", "x.png"),
        ("run", "conv 3x3 out=2 init=random", "a.png", "-o", "x.npy"),
        ("run", "conv 3x3 out=7 init=random", "a.png", "-o", "x.npy"),
        ("run", "conv 3x3 out=7 init=random", "a.png", "-o", "x.tif"),
        ("run", "conv 3x3 out=7 init=random", "a.png", "-o", "x.{channel}.png"),
        ("run", "globalavg", "a.png", "-o", "x.png"),
        ("edge", "a.png", "b.png", "-o", "{stem}.x.png"),
        ("edge", "b.png", "-o", "x.jpg"),
    ],
    ids=lambda args: " ".join(args),
)
def test_a_preview_harms_no_run(args, preview, desk):
    np.save(desk / "n.npy", np.random.default_rng(0).random((3, 20, 30)))
    preview(*args)


def test_a_preview_leaves_stdout_to_data(invoke, desk):
    done = invoke("edge", "a.png", "-o", "-", "--preview")
    want = invoke("edge", "a.png", "-o", "-")
    assert (done.status, done.stdout) == (0, want.stdout)
    done = invoke("edge", "a.png", "-o", "x.png", "--json", "--preview")
    assert json.loads(done.stdout)["status"] == "written"
    assert done.stdout.count(b"\n") == 1
    done = invoke("edge", "a.png", "-o", "-", "--json", "--preview")
    assert json.loads(done.stderr)["status"] == "written"


def test_quiet_leaves_stderr_to_errors(invoke, desk):
    assert invoke("edge", "a.png", "-o", "x.png", "--preview", "-q") == (0, b"x.png\n", b"")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "", "TERM": "dumb"}, {"NO_COLOR": "", "LC_ALL": "C"}])
def test_a_preview_has_no_colour_where_none_is_wanted_and_no_blocks_where_there_are_none(env, run, desk):
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} if "LC_ALL" in env else {}
    done = run("edge", "a.png", "--preview", env={"FORCE_COLOR": "1", "TERM": "xterm", **ascii_only, **env}, cwd=desk)
    assert (done.returncode, done.stdout) == (0, b"a.edge.png\n")
    assert b"\\u" not in done.stderr
    assert done.stderr.isascii()
    if not ascii_only:
        assert b"\x1b" not in done.stderr


# ---- gallery and compare ----


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """Pictures of one colour in every way of storing it, and damaged ones."""
    folder = tmp_path_factory.mktemp("books")
    color = np.array([20, 200, 90])
    flat = np.broadcast_to(color, (24, 24, 3)).astype(np.uint8)
    Image.fromarray(flat).save(folder / "rgb.png")
    cv2.imwrite(str(folder / "16.png"), flat[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(np.dstack([flat, np.full((24, 24), 255, np.uint8)])).save(folder / "rgba.png")
    Image.fromarray(flat).quantize(4).save(folder / "palette.png")
    later = [Image.fromarray(noise(24, 24, 3, seed=seed)) for seed in (1, 2)]
    Image.fromarray(flat).save(folder / "moving.png", save_all=True, append_images=later, duration=100)
    Image.fromarray(flat).save(folder / "other.png", save_all=True, append_images=later[::-1], duration=100)
    tifffile.imwrite(folder / "float.tif", (flat / 255).astype(np.float32), photometric="rgb")
    for name, value in (("nan.tif", np.nan), ("inf.tif", np.inf)):
        floats = (flat / 255).astype(np.float32)
        floats[2, 3, 1] = value
        tifffile.imwrite(folder / name, floats, photometric="rgb")
    np.save(folder / "array.npy", flat)
    (folder / "text.png").write_text("not a picture")
    (folder / "cut.png").write_bytes((folder / "moving.png").read_bytes()[:70])
    (folder / "folder").mkdir()
    return folder


@pytest.fixture
def shelf(invoke, books, monkeypatch):
    """Them to look at, in order again afterwards."""
    monkeypatch.chdir(books)
    with put_in_order(books):
        yield books


@pytest.mark.parametrize("name", ["rgb.png", "16.png", "rgba.png", "palette.png", "moving.png", "float.tif", "nan.tif"])
def test_a_gallery_has_the_colours_of_the_picture(name, invoke, shelf):
    done = invoke("gallery", name, "-o", "g.png")
    assert (done.status, done.stdout) == (0, b"g.png\n")
    assert b"Warning" not in done.stderr
    with Image.open(shelf / "g.png") as image:
        sheet = np.asarray(image)
    found = (np.abs(sheet.astype(int) - (20, 200, 90)) <= 1).all(axis=2)
    assert found.sum() >= 8 * 24 * 24  # the picture, identity, and blurs of one colour


def test_a_gallery_shows_no_colour_that_is_hidden(invoke, tmp_path):
    Image.fromarray(np.broadcast_to(np.array([0, 255, 0, 0], np.uint8), (24, 24, 4))).save(tmp_path / "a.png")
    assert invoke("gallery", "a.png", "-o", "g.png").status == 0
    with Image.open(tmp_path / "g.png") as image:
        assert not (np.asarray(image) == (0, 255, 0)).all(axis=2).any()


@pytest.mark.parametrize(
    "name", ["text.png", "cut.png", "missing.png", "folder", ".", "..", "array.npy", "[1 2; 3 4]", "a\nb.png"]
)
def test_what_no_gallery_is_made_of(name, invoke, shelf):
    before = tree(shelf)
    assert_refused(invoke("gallery", name), status=1)
    assert tree(shelf) == before


def test_an_array_is_not_told_to_be_called_what_it_is_called(invoke, shelf):
    for args in (("gallery", "array.npy"), ("compare", "rgb.png", "array.npy")):
        assert b"let its name end in .npy" not in invoke(*args).stderr


@pytest.mark.parametrize(
    "output", ["x.npy", "x.csv", "x.txt", "x.docx", "x", "", "folder", "nowhere/x.png", "text.png", "rgb.png"]
)
@pytest.mark.parametrize("command", [("gallery", "rgb.png"), ("compare", "rgb.png", "16.png")], ids=lambda one: one[0])
def test_where_no_sheet_can_be_written(command, output, invoke, shelf):
    before = tree(shelf)
    done = invoke(*command, "-o", output)
    assert_refused(done)
    assert done.stderr.startswith(b"convcli: -o: ")
    assert tree(shelf) == before


def test_a_gallery_is_written_over_only_if_told(invoke, shelf):
    assert invoke("gallery", "rgb.png").stdout == b"rgb.gallery.png\n"
    assert_refused(invoke("gallery", "rgb.png"))
    assert invoke("gallery", "rgb.png", "-f", "--gray", "--range", "signed").status == 0
    assert_refused(invoke("gallery", "rgb.png", "-o", "rgb.png", "-f"))


@pytest.mark.parametrize("pair", [("rgb.png", "16.png"), ("rgb.png", "palette.png")])
def test_pictures_that_are_equal(pair, invoke, shelf):
    assert invoke("compare", *pair) == (0, b"equal\n", b"")
    found = json.loads(invoke("compare", *pair, "--json").stdout)
    assert (found["greatest"], found["differing"], found["ssim"]) == (0, 0, pytest.approx(1))


def test_floats_are_compared_as_fractions(invoke, shelf):
    found = json.loads(invoke("compare", "rgb.png", "float.tif", "--json").stdout)
    assert found["greatest"] < 1e-7


@pytest.mark.parametrize("pair", [("float.tif", "nan.tif"), ("inf.tif", "float.tif"), ("nan.tif", "inf.tif")])
def test_what_is_not_a_number_is_not_equal(pair, invoke, shelf, recwarn):
    done = invoke("compare", *pair)
    assert not recwarn.list
    assert done.status in (0, 1)
    assert done.stdout != b"equal\n"
    assert b"Warning" not in done.stderr


@pytest.mark.parametrize("other", ["nan.tif", "inf.tif"])
def test_json_of_what_is_not_a_number_is_json(other, invoke, shelf, recwarn):
    done = invoke("compare", "float.tif", other, "--json")
    if done.status == 0:
        json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    else:
        assert_refused(done, status=1)


def test_animations_are_not_called_equal_by_their_first_frames(invoke, shelf):
    done = invoke("compare", "moving.png", "other.png")
    assert done[1:] != (b"equal\n", b"")


def test_transparency_is_compared_too(invoke, tmp_path):
    pixels = noise(16, 16, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pixels[3, 4, 3] ^= 64
    Image.fromarray(pixels).save(tmp_path / "b.png")
    found = json.loads(invoke("compare", "a.png", "b.png", "--json").stdout)
    assert (found["greatest"], found["place"]) == (pytest.approx(64 / 255), [3, 4, 3])
    assert found["differing"] == 1 / 256


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (("rgb.png", "text.png"), "text.png: "),
        (("cut.png", "rgb.png"), "cut.png: "),
        (("rgb.png", "missing.png"), "missing.png: no such file"),
        (("folder", "rgb.png"), "folder: "),
        (("array.npy", "rgb.png"), "array.npy: "),
    ],
)
def test_what_is_not_compared(pair, says, invoke, shelf):
    before = tree(shelf)
    done = invoke("compare", *pair, "-o", "d.png")
    assert_refused(done, status=1)
    assert says in done.stderr.decode()
    assert tree(shelf) == before


# ---- help ----

SHARED = [
    "-o",
    "--output",
    "--format",
    "--existing",
    "-f",
    "--force",
    "--in-place",
    "-r",
    "--recursive",
    "-n",
    "--dry-run",
    "--fail-fast",
    "--frame",
    "--report",
    "--json",
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "--preview",
    "--no-color",
    "--max-pixels",
    "--method",
    "--threads",
    "--range",
    "--gray",
    "--linear",
    "--alpha",
    "--mix",
    "--depth",
    "--quality",
    "--png",
    "--background",
    "--strip",
    "-h",
    "--help",
]
WINDOW = [
    "-p",
    "--padding",
    "-b",
    "--boundary",
    "-s",
    "--stride",
    "--dilation",
    "--keep-size",
    "--flip",
    "--bias",
    "--normalize",
    "--pool",
]
OPTIONS = {
    "edge": SHARED + WINDOW,
    "filter": [*SHARED, *WINDOW, "-k", "--kernel"],
    "pool": [*SHARED, "--max", "--avg", "--min", "--ceil", "--exclude-pad", "-p", "-s"],
    "run": [*SHARED, "--trace", "--save-pipeline"],
    "replay": SHARED,
    "gallery": ["-o", "--output", "-f", "--force", "--range", "--gray", "-h"],
    "compare": ["-o", "--output", "-f", "--json", "-h"],
}


@pytest.fixture(scope="module")
def pages():
    return {}


@pytest.fixture
def page_of(invoke, pages):
    """``page_of("edge")``: its help, asked for once."""

    def page(name):
        if name not in pages:
            done = invoke(name, "--help")
            assert (done.status, done.stderr) == (0, b"")
            pages[name] = done.stdout.decode()
        return pages[name]

    return page


@pytest.mark.parametrize("name", OPTIONS)
def test_help_fits_80_columns_and_nothing_is_cut_off(name, page_of):
    page = page_of(name)
    assert max(map(len, page.splitlines())) <= 80
    assert "…" not in page
    words = " ".join(page.replace("│", " ").split())
    assert [one for one in OPTIONS[name] if not re.search(rf"(^|\s){one}(\s|,|$)", words)] == []
    assert "Example: convcli " + name in words


def shown_default(page, option):
    words = " ".join(page.replace("│", " ").split())
    described = re.search(rf" {option} (.*?)( --[a-z]| ╰|$)", words)[1]
    return re.search(r"\[default: \(?([^\])]+)\)?\]", described)[1]


@pytest.mark.parametrize(
    ("option", "part", "name", "output"),
    [
        ("--range", 0, "edge", "x.png"),
        ("--alpha", 0, "blur", "x.png"),
        ("--padding", 0, "edge", "x.png"),
        ("--boundary", 0, "edge", "x.png"),
        ("--existing", 0, "edge", "x.png"),
        ("--max-pixels", 0, "edge", "x.png"),
        ("--png", 0, "edge", "x.png"),
        ("--background", 0, "edge", "x.jpg"),
        ("--quality", -1, "edge", "x.jpg"),
    ],
)
def test_the_defaults_in_the_help_are_true(option, part, name, output, invoke, page_of, desk):
    """Given by hand, they change no byte."""
    default = re.split(r"[;,] (?:or )?", shown_default(page_of(name), option))[part].split(" ")[0]
    made = []
    for more in ((), (option, default)):
        (desk / output).unlink(missing_ok=True)
        assert invoke(name, "b.png", "-o", output, "-q", "--strip", *more).status == 0
        made.append((desk / output).read_bytes())
    assert made[0] == made[1]


def test_the_default_depth_and_frames_in_the_help_are_true(invoke, page_of, desk):
    assert shown_default(page_of("edge"), "--depth") == "the input's"
    assert invoke("edge", "deep.png", "-o", "x.png", "-q").status == 0
    assert cv2.imread(str(desk / "x.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert shown_default(page_of("edge"), "--frame") == "all"
    later = Image.fromarray(noise(24, 30, 3, seed=9))
    Image.fromarray(noise(24, 30, 3)).save(desk / "moving.png", save_all=True, append_images=[later], duration=100)
    assert invoke("edge", "moving.png", "-o", "y.png", "-q").status == 0
    with Image.open(desk / "y.png") as image:
        assert image.n_frames == 2


# ---- AVIF and HEIF ----

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@needs_avif
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_avif_is_read_as_pillow_reads_it(mode, invoke, samples, tmp_path):
    with Image.open(samples / "chelsea.png") as image:
        part = image.crop((100, 60, 180, 120)).convert(mode)
    if mode == "RGBA":
        part.putalpha(Image.linear_gradient("L").resize(part.size))
    part.save(tmp_path / "a.avif", quality=80)
    assert invoke("identity", "a.avif", "-o", "x.png", "-q", "--alpha", "filter").status == 0
    with Image.open(tmp_path / "a.avif") as want, Image.open(tmp_path / "x.png") as got:
        assert np.array_equal(np.asarray(got.convert("RGBA")), np.asarray(want.convert("RGBA")))


@needs_avif
def test_avif_is_written_and_its_quality_heeded(invoke, samples, tmp_path):
    with Image.open(samples / "coffee.png") as image:
        part = np.array(image)[100:260, 200:420]
    Image.fromarray(part).save(tmp_path / "a.png")
    want, sizes = cv2.GaussianBlur(part.astype(np.float32), (13, 13), 2), []
    for quality in (None, "100", "20"):
        given = ("--quality", quality) if quality else ()
        assert invoke("gaussian:2", "a.png", "-o", "x.avif", "-qf", *given).status == 0
        with Image.open(tmp_path / "x.avif") as got:
            assert (got.format, got.mode) == ("AVIF", "RGB")
            assert np.abs(np.asarray(got) - want).mean() < (6 if quality == "20" else 2)
        sizes.append((tmp_path / "x.avif").stat().st_size)
    assert sizes[2] < sizes[0] < sizes[1]


@needs_avif
def test_avif_keeps_frames_delays_and_transparency(invoke, tmp_path):
    stack = [Image.fromarray(np.full((20, 24, 4), (80 * k, 200, 30, 255), np.uint8)) for k in range(3)]
    stack[0].save(tmp_path / "a.png", save_all=True, append_images=stack[1:], duration=[100, 200, 300])
    assert invoke("identity", "a.png", "-o", "x.avif", "-q").status == 0
    with Image.open(tmp_path / "x.avif") as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append((np.asarray(image.convert("RGB"))[10, 12, 0], image.info["duration"]))
    assert [duration for _, duration in found] == [100, 200, 300]
    assert [red for red, _ in found] == pytest.approx([0, 80, 160], abs=6)
    Image.fromarray(np.dstack([noise(20, 24, 3), np.full((20, 24), 128, np.uint8)])).save(tmp_path / "b.png")
    assert invoke("identity", "b.png", "-o", "y.avif", "-q", "--quality", "100").status == 0
    with Image.open(tmp_path / "y.avif") as image:
        assert image.mode == "RGBA"
        assert np.abs(np.asarray(image)[..., 3].astype(int) - 128).max() <= 1


HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize(
    "args",
    [("a.heic", "-o", "x.png"), ("a.heic",), ("b.png", "-o", "x.heic"), ("b.png", "--format", "heif", "-o", "x.any")],
    ids=" ".join,
)
def test_heif_without_its_extra_is_one_clear_line(args, invoke, desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (desk / "a.heic").write_bytes(HEIC)
    before = tree(desk)
    done = invoke("edge", *args)
    assert done.status in (1, 2)
    assert_refused(done, done.status)
    assert b"convcli[heif]" in done.stderr
    assert tree(desk) == before
