"""What a file holds comes out again: its depth to the last code, what it says of itself, and no harm from odd files.

The files are made here, by hand or by other programs, so that every pixel in them is known.
"""

import io
import re
import shlex
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin
from scipy import ndimage

import convcli
from pictures import chunk, chunks_of

MAGICK = next((one for one in ("convert-im6.q16", "magick") if shutil.which(one)), "")
needs_magick = pytest.mark.skipif(not MAGICK, reason="ImageMagick is not installed")
needs_pngcheck = pytest.mark.skipif(not shutil.which("pngcheck"), reason="pngcheck is not installed")
needs_vips = pytest.mark.skipif(not shutil.which("vips"), reason="libvips is not installed")

EVERYWHERE, CENTRES = slice(None), slice(8, None, 16)  # the middles of squares are what a JPEG keeps
LOSSY = {"within": 12, "places": CENTRES}
NUMPY = b"\x93NUMPY"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
NAMES = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}
MIXED = 5  # no filter of PNG: each row has another one
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
MAKE, ORIENTATION, XMP, ICC, EXIF_IFD, GPS_IFD = 271, 274, 700, 34675, 34665, 34853
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


# ---- files by hand ----


def noise(*shape, dtype=np.uint16, seed=3):
    """Random codes, the least and the greatest among them; floats from 0 to 1."""
    dice, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return dice.random(shape).astype(dtype)
    codes = dice.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    codes.flat[0], codes.flat[-1] = 0, np.iinfo(dtype).max
    return codes


def blocks():
    """RGB in flat squares of the size of a JPEG's units, which even that keeps."""
    return np.kron(noise(3, 5, 3, dtype=np.uint8), np.ones((16, 16, 1), np.uint8))


def thick(pixels):
    """``(H, W, C)``, also of one channel."""
    return pixels if pixels.ndim == 3 else pixels[..., None]


def packed(codes, depth):
    """Each row of codes as the bytes of a PNG, the first code in the highest bits."""
    flat = codes.reshape(len(codes), -1).astype(np.uint16)
    if depth == 16:
        return flat.astype(">u2").view(np.uint8)
    bits = flat[..., None] >> np.arange(depth - 1, -1, -1, dtype=np.uint16) & 1
    return np.packbits(bits.reshape(len(codes), -1).astype(np.uint8), axis=1)


def paeth(left, above, corner):
    guess = left + above - corner
    far = [abs(guess - one) for one in (left, above, corner)]
    return np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))


def filtered(codes, depth, kind):
    """The scanlines of one pass: section 9 of the PNG specification, row by row."""
    rows, step = packed(codes, depth).astype(int), max(1, codes.shape[2] * depth // 8)
    lines = b""
    for y, row in enumerate(rows):
        above = rows[y - 1] if y else np.zeros_like(row)
        left, corner = (np.concatenate([np.zeros(step, int), one])[: len(row)] for one in (row, above))
        number = y % 5 if kind == MIXED else kind
        guess = [0, left, above, (left + above) // 2, paeth(left, above, corner)][number]
        lines += bytes([number]) + ((row - guess) % 256).astype(np.uint8).tobytes()
    return lines


def png_header(width, height, depth=8, color_type=0, interlaced=0):
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced))


def png_of(codes, depth=None, color_type=None, kind=MIXED, *, interlaced=False, before=(), after=(), piece=None):
    """A PNG of codes ``(H, W, C)`` with chunks before and after its pixels, those in pieces of some bytes."""
    codes = thick(codes)
    depth = depth or 8 * codes.dtype.itemsize
    color_type = COLOR_TYPE[codes.shape[2]] if color_type is None else color_type
    passes = [codes[y::down, x::across] for y, x, down, across in ADAM7] if interlaced else [codes]
    data = zlib.compress(b"".join(filtered(one, depth, kind) for one in passes if one.size))
    pieces = [data[at : at + (piece or len(data))] for at in range(0, len(data), piece or len(data))]
    chunks = [*before, *((b"IDAT", one) for one in pieces), *after, (b"IEND", b"")]
    header = png_header(codes.shape[1], codes.shape[0], depth, color_type, int(interlaced))
    return header + b"".join(chunk(*one) for one in chunks)


def entries(order, tags, place):
    """An image file directory at a place, and behind it what is longer than four bytes."""
    body, more = struct.pack(order + "H", len(tags)), b""
    behind = place + 2 + 12 * len(tags) + 4
    for tag, (kind, count, value) in sorted(tags.items()):
        if len(value) > 4:
            value, more = struct.pack(order + "I", behind + len(more)), more + value + bytes(len(value) % 2)
        body += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
    return body + bytes(4) + more


def tiff_of(pixels, tags=(), *, order="<", apart=False, bits=None, photometric=None, data=None):
    """An uncompressed TIFF by hand: ``tags`` are ``{number: (type, count, bytes)}``, planes may lie apart."""
    pixels = thick(pixels)
    height, width, channels = pixels.shape
    if data is None:
        stored = np.moveaxis(pixels, 2, 0) if apart else pixels
        data = stored.astype(pixels.dtype.newbyteorder(order)).tobytes()
    short, long = ((lambda *values, code=code: struct.pack(f"{order}{len(values)}{code}", *values)) for code in "HI")
    planes = channels if apart else 1
    size = len(data) // planes
    all_tags = {
        256: (4, 1, long(width)),
        257: (4, 1, long(height)),
        258: (3, channels, short(*[bits or 8 * pixels.itemsize] * channels)),
        259: (3, 1, short(1)),
        262: (3, 1, short((2 if channels > 2 else 1) if photometric is None else photometric)),
        273: (4, planes, long(*(8 + size * one for one in range(planes)))),
        277: (3, 1, short(channels)),
        278: (4, 1, long(height)),
        279: (4, planes, long(*[size] * planes)),
        284: (3, 1, short(2 if apart else 1)),
        339: (3, channels, short(*[3 if pixels.dtype.kind == "f" else 1] * channels)),
    }
    if channels in (2, 4):
        all_tags[338] = 3, 1, short(2)  # alpha, not premultiplied
    place = 8 + len(data) + len(data) % 2
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", place)
    return start + data + bytes(len(data) % 2) + entries(order, all_tags | dict(tags), place)


def tiff_by_tifffile(pixels, **options):
    buffer = io.BytesIO()
    channels = thick(pixels).shape[2]
    options = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None} | options
    if channels > 1:
        options.setdefault("planarconfig", "contig")
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def by_opencv(pixels, suffix, *options):
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[thick(pixels).shape[2]]
    return cv2.imencode(suffix, thick(pixels)[..., order], list(options))[1].tobytes()


def by_magick(pixels, name, *options):
    """A file written by ImageMagick, the name's format in front: ``tif:-``."""
    done = subprocess.run([MAGICK, "tif:-", *options, name], input=tiff_of(pixels), capture_output=True, check=True)
    return done.stdout


def saved(pixels, file_format, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


# ---- files read back ----


def opened(source):
    """A Pillow image of a path or of bytes, all of it read; odd EXIF data may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(source if isinstance(source, bytes) else source.read_bytes()))
        image.load()
    return image


def page_of(path):
    """The tags of a TIFF's first page."""
    return tifffile.TiffFile(io.BytesIO(path.read_bytes())).pages[0]


def stored(path):
    """The pixels ``(H, W, C)`` of a file as other programs see them."""
    data = path.read_bytes()
    if path.suffix == ".npy":
        array = np.load(path)
        return thick(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    if path.suffix == ".tif":
        return thick(tifffile.imread(path))
    if path.suffix == ".png":
        pixels = thick(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        return pixels[..., {0: [0], 4: [0, 3], 2: [2, 1, 0], 6: [2, 1, 0, 3]}[data[25]]]
    return thick(np.asarray(opened(data)))


def difference(got, want, white=1.0, within=0.0, places=EVERYWHERE):
    """Why pixels are not those wanted, but for the colour of what can't be seen; ``white`` scales what was stored."""
    want = thick(np.asarray(want))
    if got.shape != want.shape:
        return f"{got.shape} is not {want.shape}"
    got, want = got[places, places], want[places, places]
    if want.shape[2] in (2, 4):
        seen = want[..., -1:] > 0
        got, want = (np.concatenate([one[..., :-1] * seen, one[..., -1:]], axis=2) for one in (got, want))
    off = np.abs(got * white - want.astype(float)).max()
    return "" if off <= within + (1e-7 * white if got.dtype.kind == "f" else 0) else f"off by {off}"


def assert_same(got, want, white=1.0, within=0.0):
    assert difference(got, want, white, within) == ""


@pytest.fixture
def through(invoke, tmp_path):
    """``through(data, "a.png", "b.tif")``: the path of what ``identity`` makes of a file, without a word."""

    def call(data, name, result, *options):
        (tmp_path / name).write_bytes(data)
        done = invoke("identity", name, "-o", result, "-q", "-f", *options)
        assert done == (0, f"{result}\n".encode(), b"")
        return tmp_path / result

    return call


class Many(NamedTuple):
    """What came of files by the words they are known by: the results, and the errors."""

    paths: dict
    errors: dict

    def troubles(self, wants, **how):
        """Why a result is not what is wanted, for each that is not; ``how`` is as in ``difference``."""
        found = {}
        for word, want in wants.items():
            if word in self.errors:
                found[word] = self.errors[word]
            elif why := difference(stored(self.paths[word]), want, **how):
                found[word] = why
        return found


@pytest.fixture
def many(invoke, here, tmp_path):
    """``many({"a word": data}, "tif")``: what ``identity`` makes of files, whatever they hold, in one format."""

    def call(files, suffix, *options):
        (tmp_path / "in").mkdir(exist_ok=True)
        names = {}
        for number, (word, data) in enumerate(files.items()):
            names[word] = f"in/{number}.{'npy' if data.startswith(NUMPY) else 'png'}"
            (tmp_path / names[word]).write_bytes(data)
        output = f"{suffix}/{{stem}}.{suffix}"
        done = invoke("identity", *names.values(), "-o", output, "-q", "-f", *options)
        lines = done.stderr.decode().splitlines()
        errors = {word: one for word, name in names.items() for one in lines if one.startswith(f"convcli: {name}: ")}
        assert len(errors) == len(lines), lines  # a line for each that failed, and no other
        assert done.status == bool(errors)
        return Many({word: tmp_path / suffix / f"{Path(name).stem}.{suffix}" for word, name in names.items()}, errors)

    return call


def test_the_files_made_here_are_what_other_programs_take_them_for():
    for channels in NAMES:
        pixels = noise(7, 6, channels)
        for interlaced in (False, True):
            found = cv2.imdecode(np.frombuffer(png_of(pixels, interlaced=interlaced), np.uint8), cv2.IMREAD_UNCHANGED)
            order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
            assert np.array_equal(thick(found), pixels[..., order])
        for order in "<>":
            for apart in (False, channels > 1):
                found = tifffile.imread(io.BytesIO(tiff_of(pixels, order=order, apart=apart)))
                found = np.moveaxis(found, 0, -1) if apart else found
                assert np.array_equal(thick(found), pixels)


# ---- every kind of PNG ----

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
KINDS = [(color_type, depth) for color_type, depths in DEPTHS.items() for depth in depths]
SIZES = [(1, 1, 0), (1, 9, 1), (9, 1, 2), (5, 4, 3), (8, 8, 4), (2, 3, MIXED), (11, 13, MIXED)]  # and their filters


def odd_png(color_type, depth, kind, size, *, interlaced, key):
    """A PNG, and its pixels in codes of 8 or 16 bits; with a ``key`` it has a tRNS chunk."""
    dice = np.random.default_rng(depth + 31 * kind)
    codes = dice.integers(0, 2**depth, (*size, CHANNELS[color_type]))
    white = 65535 if depth == 16 else 255
    before = []
    if color_type == 3:
        palette = dice.integers(0, 256, (2**depth, 3)).astype(np.uint8)
        veil = dice.integers(0, 256, 2**depth - 1).astype(np.uint8)  # the last colour has none, and is opaque
        before = [(b"PLTE", palette.tobytes()), *([(b"tRNS", veil.tobytes())] * key)]
        want = palette[codes[..., 0]]
        alpha = np.append(veil, 255)[codes[..., 0]]
    else:
        hidden = codes[size[0] // 2, size[1] // 2]
        before = [(b"tRNS", hidden.astype(">u2").tobytes())] * key
        want = codes * (white // (2**depth - 1))
        alpha = np.where((codes == hidden).all(axis=2), 0, white)
    data = png_of(codes, depth, color_type, kind, interlaced=interlaced, before=before)
    return data, np.dstack([want, alpha]) if key else want


@pytest.mark.parametrize(("color_type", "depth"), KINDS, ids=str)
def test_every_kind_of_png_comes_out_as_it_was_written(color_type, depth, many):
    made = {
        (height, width, kind, interlaced, key): odd_png(
            color_type, depth, kind, (height, width), interlaced=interlaced, key=key
        )
        for height, width, kind in SIZES
        for interlaced in (False, True)
        for key in ((False, True) if color_type in (0, 2, 3) else (False,))
    }
    files, wants = ({word: one[place] for word, one in made.items()} for place in (0, 1))
    numbers = many(files, "npy")
    assert numbers.troubles(wants, white=65535 if depth == 16 else 255) == {}
    assert {stored(path).dtype.kind for path in numbers.paths.values()} == {"f"}
    some = [word for word in files if word[2] in (0, 3, MIXED) and not word[3]]  # nothing is written interlaced
    codes = many({word: files[word] for word in some}, "png")
    assert codes.troubles({word: wants[word] for word in some}) == {}
    assert {stored(path).dtype for path in codes.paths.values()} == {np.dtype("u2" if depth == 16 else "u1")}


GREY = noise(6, 5, dtype=np.uint8)
PALETTE = (b"PLTE", bytes(range(30)))
LAYOUTS = {
    "every byte of the pixels in a chunk of its own": png_of(GREY, piece=1),
    "an empty piece in front": png_of(GREY, before=[(b"IDAT", b"")]),
    "an empty piece behind": png_of(GREY, after=[(b"IDAT", b"")]),
    "something unknown in front": png_of(GREY, before=[(b"abCd", b"123"), (b"zzZz", b"")]),
    "something unknown behind": png_of(GREY, after=[(b"abCd", b"123")]),
    "all that may be said": png_of(
        GREY,
        before=[
            (b"sBIT", b"\5"),
            (b"bKGD", b"\0\1"),
            (b"tIME", b"\x07\xe8\1\2\3\4\5"),
            (b"sPLT", b"x\0\x08" + bytes(6)),
        ],
    ),
    "something behind its end": png_of(GREY) + b"more" * 99,
    "no end": png_of(GREY)[:-12],
    "a shape of its pixels": png_of(GREY, before=[(b"pHYs", struct.pack(">IIB", 4, 1, 0))]),
}


def test_a_png_laid_out_in_an_odd_way_is_read(many):
    assert many(LAYOUTS, "png").troubles(dict.fromkeys(LAYOUTS, GREY)) == {}


@pytest.mark.parametrize("count", [1, 2, 10])
def test_a_palette_may_be_shorter_than_its_depth_allows(count, through):
    index = np.arange(12).reshape(3, 4) % count
    colors = noise(count, 3, dtype=np.uint8)
    data = png_of(index, 8, 3, before=[(b"PLTE", colors.tobytes())])
    assert_same(stored(through(data, "a.png", "b.png")), colors[index])


def test_a_palette_that_is_only_suggested_changes_nothing(through):
    pixels = noise(4, 5, 3, dtype=np.uint8)
    assert_same(stored(through(png_of(pixels, before=[PALETTE]), "a.png", "b.png")), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_16_bit_key_is_compared_in_all_its_bits(channels, through):
    key = np.array([0x1234, 0x5678, 0x9ABC][:channels])
    near = np.array([key, key + 1, key - 1, key ^ 0x100, key ^ 0x8000, key >> 8])[None].astype(np.uint16)
    data = png_of(near, before=[(b"tRNS", key.astype(">u2").tobytes())])
    want = np.dstack([near, [[0, *[65535] * 5]]])
    assert_same(stored(through(data, "a.png", "b.png")), want)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colour_under_a_key_does_not_bleed_into_what_is_seen(depth, invoke, tmp_path):
    """A green that is not to be seen beside red: no blur may make it yellow."""
    white = 2**depth - 1
    pixels = np.zeros((8, 8, 3), f"u{depth // 8}")
    pixels[:, :4, 0], pixels[:, 4:, 1] = white, white
    (tmp_path / "a.png").write_bytes(png_of(pixels, before=[(b"tRNS", struct.pack(">3H", 0, white, 0))]))
    assert invoke("gaussian:2", "a.png", "-o", "b.png", "-q").status == 0
    shown = stored(tmp_path / "b.png")
    seen = shown[shown[..., 3] > 0]
    assert (seen[:, 0] == white).all()
    assert not seen[:, 1].any()


# ---- 16 bits and floats from other programs ----

TIFFS = {
    f"{'deflated' if compression else 'plain'} {word} {layout}": {"compression": compression, "byteorder": order} | more
    for compression in (None, "zlib")
    for order, word in (("<", "little"), (">", "big"))
    for layout, more in {
        "": {},
        "apart": {"planarconfig": "separate"},
        "in tiles": {"tile": (16, 16)},
        "by differences": {"predictor": True},
        "BigTIFF": {"bigtiff": True},
    }.items()
    if compression or layout != "by differences"
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_is_read_to_the_last_code_however_it_is_laid_out(dtype, many):
    pixels = {channels: noise(13, 11, channels, dtype=dtype) for channels in NAMES}
    files = {
        (NAMES[channels], how): tiff_by_tifffile(pixels[channels] if channels > 1 else pixels[1][..., 0], **options)
        for how, options in TIFFS.items()
        for channels in NAMES
        if not (channels == 1 and "apart" in how) and not (dtype == np.float32 and "differences" in how)
    }
    assert len(files) >= 60
    wants = {(NAMES[channels], how): pixels[channels] for channels in NAMES for how in TIFFS}
    assert many(files, "tif").troubles({word: wants[word] for word in files}) == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_of_other_lengths_are_read(dtype, channels, through):
    pixels = noise(5, 4, channels, dtype=dtype)
    got = stored(through(tiff_by_tifffile(pixels if channels > 1 else pixels[..., 0]), "a.tif", "b.tif"))
    assert got.dtype == np.float32
    assert np.array_equal(got, pixels.astype(np.float32))


OPENCV = {"png": (".png",), "tif": (".tif",)} | {
    f"tif {name}": (".tif", cv2.IMWRITE_TIFF_COMPRESSION, number)
    for name, number in [("plain", 1), ("LZW", 5), ("zip", 8)]
}


@pytest.mark.parametrize("channels", [1, 3, 4], ids=NAMES.get)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_what_opencv_writes_is_read_to_the_last_code(dtype, channels, many):
    pixels = noise(13, 11, channels, dtype=dtype)
    files = {how: by_opencv(pixels, *OPENCV[how]) for how in (OPENCV if dtype == np.uint16 else ["tif"])}
    assert many(files, "tif").troubles(dict.fromkeys(files, pixels)) == {}


MAGICKS = [
    *(
        f"tif -compress {packer} -interlace {planes}"
        for packer in ("None", "LZW", "Zip")
        for planes in ("none", "plane")
    ),
    "tif -compress Zip -endian MSB",
    "tif -compress None -endian MSB",
    "png -interlace none",
    "png -interlace PNG",
    "png -quality 95",
]


@needs_magick
@pytest.mark.parametrize("channels", NAMES, ids=NAMES.get)
def test_what_imagemagick_writes_is_read_to_the_last_code_or_refused_by_name(channels, many):
    pixels = noise(13, 11, channels)
    files = {how: by_magick(pixels, how.split()[0] + ":-", *how.split()[1:], "-depth", "16") for how in MAGICKS}
    found = many(files, "png").troubles(dict.fromkeys(files, pixels))
    refused = {how for how, why in found.items() if why.endswith(": its compression, LZW, needs convcli[codecs]")}
    assert {how: why for how, why in found.items() if not (how in refused and "LZW" in how)} == {}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_may_be_how_much_ink_there_is(dtype, many):
    ink, white = noise(5, 6, dtype=dtype), 1 if dtype == np.float32 else np.iinfo(dtype).max
    files = {
        (order, packer): tiff_by_tifffile(ink, photometric="miniswhite", byteorder=order, compression=packer)
        for order in "<>"
        for packer in (None, "zlib")
    }
    assert many(files, "tif").troubles(dict.fromkeys(files, white - ink)) == {}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [2, 4], ids=NAMES.get)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_premultiplied_colours_are_divided_by_their_alpha(dtype, channels, compression, through):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    alpha = np.array([white * share / 4 for share in (1, 2, 3, 4)])
    colors = np.arange(1, channels)[:, None] * alpha / channels  # premultiplied: 1/2, or 1/4, 2/4 and 3/4 of alpha
    pixels = np.rint(np.vstack([colors, alpha])).T[None] if white > 1 else np.vstack([colors, alpha]).T[None]
    data = tiff_by_tifffile(pixels.astype(dtype), extrasamples=["assocalpha"], compression=compression)
    got = stored(through(data, "a.tif", "b.tif")).astype(float)
    want = pixels[..., :-1] / pixels[..., -1:] * white
    assert np.abs(got[..., :-1] - want).max() <= (1 if white > 1 else 1e-6)
    assert np.array_equal(got[..., -1], pixels.astype(dtype)[..., -1])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_codes_of_any_length_are_fractions_of_their_own_white(bits, photometric, invoke, tmp_path):
    """Or are refused: but a 12-bit picture is not a sixteenth as light as it should be."""
    codes = np.arange(0, 2**bits, max(1, 2**bits // 64))[-8:].reshape(1, -1)
    codes = np.resize(codes, (3, 8))
    data = packed(codes[..., None], bits).tobytes() if bits < 16 else codes.astype("<u2").tobytes()
    tiff = tiff_of(codes.astype(np.uint16), bits=bits, photometric=photometric, data=data)
    (tmp_path / "a.tif").write_bytes(tiff)
    done = invoke("identity", "a.tif", "-o", "b.npy", "-q")
    if bits == 12 and done.status:
        assert done.status == 1
        assert b"12" in done.stderr or b"codecs" in done.stderr
        return
    assert done == (0, b"b.npy\n", b"")
    want = codes / (2**bits - 1)
    np.testing.assert_allclose(np.load(tmp_path / "b.npy"), want if photometric else 1 - want, atol=1e-3)


def test_integers_whose_white_is_not_known_are_refused(invoke, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_by_tifffile(np.array([[0, 70000]], np.uint32)))
    done = invoke("identity", "a.tif")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"convcli: a.tif: ")
    assert b"white" in done.stderr
    assert done.stderr.count(b"\n") == 1


# ---- 16 bits out ----


@pytest.mark.parametrize("channels", NAMES, ids=NAMES.get)
def test_16_bits_go_through_every_writer_of_ours_and_back(channels, through):
    pixels = noise(40, 30, channels)
    first = through(png_of(pixels, interlaced=True), "a.png", "b.tif")
    second = through(first.read_bytes(), "b2.tif", "c.png", "--png", "small")
    third = through(second.read_bytes(), "c2.png", "d.npy")
    for path, white in ((first, 1), (second, 1), (third, 65535)):
        assert_same(stored(path), pixels, white)
    assert {stored(first).dtype, stored(second).dtype} == {np.dtype(np.uint16)}


@needs_magick
@pytest.mark.parametrize("channels", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_imagemagick_reads_what_we_write_to_the_last_code(suffix, channels, through):
    pixels = noise(9, 8, channels)
    if channels in (2, 4):
        pixels[..., -1] |= 1  # no colour is hidden
    path = through(png_of(pixels), "a.png", f"b.{suffix}")
    command = [MAGICK, path, "-depth", "16", "-endian", "LSB", "rgba:-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    order = {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    want = pixels[..., order] if len(order) == 4 else np.dstack([pixels[..., order], np.full((9, 8), 65535)])
    assert np.array_equal(np.frombuffer(raw, "<u2").reshape(9, 8, 4), want)


@needs_vips
@pytest.mark.parametrize(("channels", "suffix"), [(1, "tif"), (2, "png"), (3, "tif"), (4, "png")])
def test_libvips_reads_what_we_write_to_the_last_code(channels, suffix, through, tmp_path):
    pixels = noise(9, 8, channels)
    path = through(tiff_of(pixels), "a.tif", f"b.{suffix}")
    subprocess.run(["vips", "rawsave", path, tmp_path / "raw"], capture_output=True, check=True)
    assert_same(np.fromfile(tmp_path / "raw", "<u2").reshape(9, 8, channels), pixels)


@needs_pngcheck
@pytest.mark.parametrize("packing", ["fast", "small", "0", "9"])
def test_pngcheck_has_nothing_to_say(packing, many):
    pixels = [noise(30, 20, channels, dtype=dtype) for channels in NAMES for dtype in (np.uint8, np.uint16)]
    made = many({number: png_of(one) for number, one in enumerate(pixels)}, "png", "--png", packing)
    done = subprocess.run(["pngcheck", "-q", *made.paths.values()], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "gif"])
def test_16_bits_that_do_not_fit_are_brought_to_8_and_that_is_said_once(suffix, invoke, tmp_path):
    codes = np.kron(np.array([[0, 300, 32896], [40000, 65280, 65535]], np.uint16), np.ones((8, 8), np.uint16))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png_of(codes))
    done = invoke("identity", "a.png", "b.png", "-o", "out/", "--format", suffix)
    assert done.status == 0
    assert done.stderr.count(b"16 bits") == 1
    written = stored(next((tmp_path / "out").glob("a.*")))
    shown = np.asarray(opened(next((tmp_path / "out").glob("b.*"))).convert("L"))
    assert written.dtype == np.uint8
    assert np.abs(shown - codes / 257).max() <= {"webp": 5, "jpg": 3}.get(suffix, 0.5)


# ---- 16-bit PNM ----


def pnm_of(codes, greatest, *, text):
    """A PGM or PPM, in bytes or in text."""
    codes = thick(codes)
    magic = {(1, False): "P5", (3, False): "P6", (1, True): "P2", (3, True): "P3"}[codes.shape[2], text]
    header = f"{magic}\n# a comment\n{codes.shape[1]} {codes.shape[0]}\n{greatest}\n".encode()
    if text:
        return header + b"\n".join(b" ".join(b"%d" % one for one in row.reshape(-1)) for row in codes) + b"\n"
    return header + codes.astype(">u2" if greatest > 255 else "u1").tobytes()


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_pnm_of_every_depth_is_a_fraction_of_its_greatest_code(text, many):
    codes = {}
    for greatest in (1, 15, 100, 255, 256, 1000, 4095, 65534, 65535):
        for channels in (1, 3):
            some = np.random.default_rng(1).integers(0, greatest, (4, 5, channels), endpoint=True)
            some.flat[:2] = 0, greatest
            codes[greatest, channels] = some
    made = many({word: pnm_of(one, word[0], text=text) for word, one in codes.items()}, "png")
    wants = {word: one * ((255 if word[0] < 256 else 65535) / word[0]) for word, one in codes.items()}
    assert made.troubles(wants, within=0.5 + 1e-9) == {}
    deep = {greatest for (greatest, _), path in made.paths.items() if stored(path).dtype == np.uint16}
    assert deep == {256, 1000, 4095, 65534, 65535}


# ---- --depth ----

ALL_8, ALL_16 = np.arange(256, dtype=np.uint8).reshape(16, 16), np.arange(65536, dtype=np.uint16).reshape(256, 256)
FLOATS = np.array([[0, 0.25, 0.5, 1], [0.1, 1 / 3, 0.9999, 1e-9]], np.float32)
FLOAT_COLORS = noise(6, 7, 3, dtype=np.float32)


def npy_of(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def veiled(dtype):
    """RGBA whose alpha is never 0, so that no colour is hidden."""
    pixels = noise(9, 7, 4, dtype=dtype)
    pixels[..., 3] |= 3
    return pixels


INPUTS = {  # a file's bytes, its pixels as fractions of white
    "8-bit grey": (png_of(ALL_8), ALL_8 / 255),
    "8-bit RGB": (saved(noise(9, 7, 3, dtype=np.uint8), "BMP"), noise(9, 7, 3, dtype=np.uint8) / 255),
    "8-bit RGBA": (png_of(veiled(np.uint8)), veiled(np.uint8) / 255),
    "16-bit grey": (png_of(ALL_16), ALL_16 / 65535),
    "16-bit RGB": (tiff_of(noise(9, 7, 3)), noise(9, 7, 3) / 65535),
    "16-bit RGBA": (png_of(veiled(np.uint16)), veiled(np.uint16) / 65535),
    "float grey": (tiff_of(FLOATS), FLOATS.astype(float)),
    "float RGB": (tiff_of(FLOAT_COLORS), FLOAT_COLORS.astype(float)),
    "uint8 array": (npy_of(ALL_8), ALL_8 / 255),
    "uint16 array": (npy_of(np.moveaxis(noise(9, 7, 3), 2, 0)), noise(9, 7, 3) / 65535),
    "float array": (npy_of(FLOATS), FLOATS.astype(float)),
}


def at_depth(fractions, depth):
    if depth == "float":
        return fractions.astype(np.float32)
    return np.rint(fractions * (2 ** int(depth) - 1)).astype(f"u{int(depth) // 8}")


@pytest.mark.parametrize(
    ("depth", "suffix"), [("8", "png"), ("8", "tif"), ("16", "png"), ("16", "tif"), ("float", "tif"), ("float", "npy")]
)
def test_every_depth_becomes_every_other(depth, suffix, many):
    kinds = [kind for kind in INPUTS if not (suffix == "npy" and "array" in kind)]  # numbers to numbers are not scaled
    made = many({kind: INPUTS[kind][0] for kind in kinds}, suffix, "--depth", depth)
    wants = {kind: at_depth(INPUTS[kind][1], depth) for kind in kinds}
    assert made.troubles(wants) == {}
    assert {stored(made.paths[kind]).dtype for kind in kinds} == {wants[kinds[0]].dtype}


def test_without_a_word_the_depth_is_that_of_the_input(many):
    made = many({kind: data for kind, (data, _) in INPUTS.items()}, "tif")
    dtypes = {"8-bit": np.uint8, "16-bit": np.uint16, "float": np.float32, "uint8": np.uint8, "uint16": np.uint16}
    found = {kind: str(stored(path).dtype) for kind, path in made.paths.items()}
    assert found == {kind: np.dtype(dtypes[kind.split()[0]]).name for kind in INPUTS}


@pytest.mark.parametrize("suffix", ["npy", "tif"])
@pytest.mark.parametrize("kind", ["8-bit grey", "16-bit RGB", "float grey"])
def test_range_none_keeps_floats(kind, suffix, invoke, tmp_path):
    data, fractions = INPUTS[kind]
    (tmp_path / "a.png").write_bytes(data)
    done = invoke("filter", "a.png", "-k", "-2", "--bias", "1", "--range", "none", "-o", f"b.{suffix}", "-q")
    assert done.status == 0
    assert_same(stored(tmp_path / f"b.{suffix}"), 1 - 2 * fractions, within=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_filter_is_rounded_once_and_at_the_depth_that_is_stored(dtype, invoke, tmp_path):
    """A mean of 8-bit codes kept in 16 bits is finer than any 8-bit code."""
    pixels = noise(20, 17, 3, dtype=dtype)
    (tmp_path / "a.png").write_bytes(png_of(pixels))
    fractions = pixels / np.iinfo(dtype).max
    x = np.arange(-6, 7)
    bell = np.exp(-(x**2) / 8)
    bell /= bell.sum()
    exact = {"box": ndimage.uniform_filter(fractions, (3, 3, 1), mode="mirror"), "gaussian:2": fractions}
    for axis in (0, 1):
        exact["gaussian:2"] = ndimage.correlate1d(exact["gaussian:2"], bell, axis, mode="mirror")
    for command, want in exact.items():
        for depth, white in (("8", 255), ("16", 65535)):
            assert invoke(command, "a.png", "-o", "b.png", "-f", "-q", "--depth", depth).status == 0
            assert np.abs(stored(tmp_path / "b.png") - want * white).max() <= 0.52
        assert invoke(command, "a.png", "-o", "b.tif", "-f", "-q", "--depth", "float").status == 0
        assert np.abs(stored(tmp_path / "b.tif") - want).max() <= 1e-6


def test_depth_is_for_every_command_that_makes_pictures(invoke, tmp_path):
    pixels = noise(8, 6, 3, dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png_of(pixels))
    assert invoke("pool", "a.png", "--max", "2", "--depth", "16", "-o", "b.png", "-q").status == 0
    want = pixels.reshape(4, 2, 3, 2, 3).max(axis=(1, 3)).astype(np.uint16) * 257
    assert np.array_equal(stored(tmp_path / "b.png"), want)
    assert invoke("run", "threshold 0.5", "a.png", "--depth", "float", "-o", "b.tif", "-q").status == 0
    assert np.array_equal(stored(tmp_path / "b.tif"), (pixels >= 127.5).astype(np.float32))
    done = invoke("identity", "a.png", "--depth", "16", "-o", "-")
    assert done.status == 0
    (tmp_path / "c.png").write_bytes(done.stdout)
    assert np.array_equal(stored(tmp_path / "c.png"), pixels.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    "options",
    [
        ("--depth", "16", "-o", "b.jpg"),
        ("--depth", "16", "-o", "b.webp"),
        ("--depth", "16", "-o", "b.gif"),
        ("--depth", "16", "-o", "b.bmp"),
        ("--depth", "16", "--format", "jpeg"),
        ("--depth", "float", "-o", "b.png"),
        ("--depth", "float", "-o", "b.jpg"),
        ("--depth", "float", "-o", "-"),
        ("--depth", "float"),
        ("--depth", "8", "--range", "none", "-o", "b.tif"),
        ("--depth", "16", "--range", "none", "-o", "b.tif"),
        ("--depth", "12"),
        ("--depth", "32", "-o", "b.tif"),
        ("--depth", ""),
        ("--depth", "-8"),
    ],
    ids=" ".join,
)
def test_a_depth_that_can_not_be_is_a_usage_error_before_the_input_is_read(options, invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    done = invoke("identity", "a.png", *options)
    assert (done.status, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"convcli: ")
    assert b"depth" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


# ---- other colours ----


def ink_profile():
    """A CMYK profile by hand (ICC.1:2001, a lut8Type) in which cyan alone is light: without it paper is black."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    straight = bytes(range(256))
    corners = b"".join(bytes([255 * (number >= 8), 128, 128]) for number in range(16))  # cyan varies the slowest
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + straight * 4 + corners
    table += straight * 3
    text = b"text" + bytes(4) + b"none\0" + bytes(3)
    name = b"desc" + bytes(4) + struct.pack(">I", 4) + b"ink\0" + bytes(78 + 4)
    white = b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249)
    parts, directory, place = [], b"", 128 + 4 + 12 * 4
    for tag, data in ((b"A2B0", table), (b"cprt", text), (b"desc", name), (b"wtpt", white)):
        data += bytes(-len(data) % 4)
        directory += tag + struct.pack(">II", place, len(data))
        parts.append(data)
        place += len(data)
    header = struct.pack(">I", place) + bytes(4) + struct.pack(">I", 0x02400000) + b"prtrCMYKLab "
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", 4) + directory + b"".join(parts)


PAPER, CYAN, BLACK, RED = (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0)
INKS = np.kron(np.array([[PAPER, CYAN, BLACK, RED]], np.uint8), np.ones((16, 16, 1), np.uint8))
LIGHTS = [[255, 255, 255], [0, 255, 255], [0, 0, 0], [255, 0, 0]]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_said_and_not_inverted(file_format, invoke, tmp_path):
    (tmp_path / "a.dat").write_bytes(saved(Image.fromarray(INKS, "CMYK"), file_format, **quality_of(file_format)))
    done = invoke("identity", "a.dat", "-o", "b.png")
    assert done.status == 0
    assert done.stderr.count(b"CMYK") == 1
    assert b"without a profile" in done.stderr
    assert np.abs(stored(tmp_path / "b.png")[8, 8::16].astype(int) - LIGHTS).max() <= 6


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_to_rgb_and_the_profile_is_left_behind(file_format, invoke, tmp_path):
    data = saved(Image.fromarray(INKS, "CMYK"), file_format, icc_profile=ink_profile(), **quality_of(file_format))
    (tmp_path / "a.dat").write_bytes(data)
    done = invoke("identity", "a.dat", "-o", "b.png")
    assert done.status == 0
    assert b"CMYK is converted to sRGB through its profile" in done.stderr
    middle = stored(tmp_path / "b.png")[8, 8::16].astype(int)
    assert np.abs(middle - np.array([0, 255, 0, 0])[:, None]).max() <= 6
    assert b"iCCP" not in dict(chunks_of(tmp_path / "b.png"))


WRONG_PROFILES = {
    "no profile at all": b"hello",
    "zeros": bytes(200),
    "cut short": SRGB[:150],
    "of RGB": SRGB,
    "of grey": GRAY_PROFILE,
    "of inks": ink_profile(),
    "of inks, but damaged": ink_profile()[:300],
    "claims more than there is": b"\xff" * 4 + SRGB[4:],
}


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile_that_is_none_is_still_a_picture_and_that_is_said(file_format, invoke, tmp_path):
    image, options = Image.fromarray(INKS, "CMYK"), quality_of(file_format)
    profiles = [one for word, one in WRONG_PROFILES.items() if word != "of inks"]
    names = [f"{number}.tif" for number in range(len(profiles))]
    for name, profile in zip(names, profiles, strict=True):
        (tmp_path / name).write_bytes(saved(image, file_format, icc_profile=profile, **options))
    done = invoke("identity", *names, "-o", "{stem}.png")
    assert done.status == 0
    for name in names:
        said_of_it = [line for line in done.stderr.decode().splitlines() if line.startswith(f"convcli: {name}: ")]
        assert len(said_of_it) == 1
        assert "profile" in said_of_it[0]
        shown = stored(tmp_path / name.replace("tif", "png"))[8, 8::16].astype(int)
        assert np.abs(shown - LIGHTS).max() <= 6


def quality_of(file_format):
    return {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(
        file_format, {}
    )


TO_XYZ = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
D50 = [0.96422, 1, 0.82521]


def lab_of_srgb(codes):
    """CIE L*a*b* under D50 as a TIFF has it: L over 255, a and b signed bytes."""
    fractions = codes / 255
    linear = np.where(fractions <= 0.04045, fractions / 12.92, ((fractions + 0.055) / 1.055) ** 2.4)
    share = linear @ np.transpose(TO_XYZ) / D50
    x, y, z = np.moveaxis(np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116), -1, 0)
    lab = np.stack([(116 * y - 16) * 2.55, 500 * (x - y), 200 * (y - z)], axis=-1)
    return np.rint(lab).astype(int).astype(np.uint8)


def srgb_of_lab(lab):
    """The codes of that, unrounded."""
    y = (lab[..., 0] / 2.55 + 16) / 116
    a, b = (lab[..., one].view(np.int8).astype(float) for one in (1, 2))
    each = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    share = np.where(each**3 > 216 / 24389, each**3, (116 * each - 16) * 27 / 24389)
    linear = np.clip(share * D50 @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


LAB = lab_of_srgb(noise(13, 11, 3, dtype=np.uint8))


def test_lab_is_converted_by_the_formulas(invoke, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_by_tifffile(LAB, photometric="cielab", planarconfig="contig"))
    done = invoke("identity", "a.tif", "-o", "b.png")
    assert done.status == 0
    assert b"LAB" in done.stderr
    assert np.abs(stored(tmp_path / "b.png") - srgb_of_lab(LAB)).max() <= 2


ONE_BIT = np.random.default_rng(2).integers(0, 2, (9, 13)).astype(bool)
ONE_BITS = {
    "png": saved(ONE_BIT, "PNG"),
    "tif": saved(ONE_BIT, "TIFF", compression="group4"),
    "bmp": saved(ONE_BIT, "BMP"),
    "pnm": saved(ONE_BIT, "PPM"),
    "gif": saved(ONE_BIT, "GIF"),
}


@pytest.mark.parametrize("suffix", ONE_BITS)
def test_one_bit_is_black_and_white(suffix, through):
    """In grey codes, so that a filter has something between them."""
    path = through(ONE_BITS[suffix], f"a.{suffix}", "b.png")
    got = stored(path)
    assert np.array_equal(got, np.repeat(thick(255 * ONE_BIT), got.shape[2], axis=2))
    assert suffix == "gif" or got.shape[2] == 1


# ---- profiles ----


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_wrong_profile_does_not_stop_a_picture_and_is_left_out(mode, many):
    image, profiles = Image.fromarray(blocks()).convert(mode), WRONG_PROFILES | {"none": b""}
    files = {
        (file_format, word): saved(image, file_format, icc_profile=one, **quality_of(file_format))
        for file_format in ("PNG", "JPEG", "TIFF", "WEBP")
        for word, one in profiles.items()
    }
    made = many(files, "png")
    assert made.troubles({word: np.asarray(opened(data)) for word, data in files.items()}, within=1) == {}
    for (file_format, word), path in made.paths.items():
        if word in ("no profile at all", "zeros", "of RGB", "of grey", "of inks", "none"):
            fitting = "of grey" if mode == "L" and file_format != "WEBP" else "of RGB"  # WebP knows no grey
            kept = opened(path).info.get("icc_profile")
            assert kept == (profiles[word] if word == fitting else None), (file_format, word)


ABSURD_TAGS = {
    "a profile of letters": {ICC: (2, 4, b"abc\0")},
    "a profile of numbers": {ICC: (3, 2, b"\xff\xff\xff\xff")},
    "a profile that is a fraction": {ICC: (5, 1, bytes(8))},
    "XMP of numbers": {XMP: (3, 2, b"abcd")},
    "XMP of letters": {XMP: (2, 4, b"abc\0")},
    "a description that is a number": {270: (3, 1, b"\1\0")},
    "a resolution of letters": {282: (2, 4, b"abc\0"), 283: (2, 4, b"abc\0")},
    "a resolution of 0/0": {282: (5, 1, bytes(8)), 283: (5, 1, bytes(8))},
    "a resolution of an odd unit": {282: (5, 1, struct.pack("<II", 300, 1)), 296: (3, 1, b"\x63\0")},
    "EXIF that begins at the start": {EXIF_IFD: (4, 1, b"\x08\0\0\0")},
    "EXIF far behind the end": {EXIF_IFD: (4, 1, b"\0\0\0\x80")},
    "EXIF of letters": {EXIF_IFD: (2, 4, b"abc\0")},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_absurd_tags_of_a_tiff_do_not_stop_the_picture(dtype, many):
    pixels = noise(4, 6, 3, dtype=dtype)
    files = {
        (word, layout): tiff_of(pixels, tags, apart=layout == "apart")
        for word, tags in ABSURD_TAGS.items()
        for layout in ("together", "apart")
    }
    assert many(files, "tif").troubles(dict.fromkeys(files, pixels)) == {}
    assert many(files, "png").errors == {}


def test_a_large_profile_or_text_is_no_damage(through):
    """Profiles of printers have some megabytes, and so has what programs write about how a picture was made."""
    pixels = noise(4, 5, 3, dtype=np.uint8)
    profile = SRGB + bytes(3_000_000)
    story = (b"zTXt", b"Comment\0\0" + zlib.compress(b"once upon a time " * 200_000))
    data = png_of(pixels, before=[(b"iCCP", b"x\0\0" + zlib.compress(profile)), story])
    path = through(data, "a.png", "b.png")
    assert_same(stored(path), pixels)
    assert story in chunks_of(path)


# ---- orientation ----

UPRIGHT = {  # the picture that is seen, from the one that is stored: EXIF 2.32, table of the tag Orientation
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def exif_of(orientation=None):
    """EXIF data with a maker, a time in the directory below it, and a place."""
    exif = Image.Exif()
    exif[MAKE] = "maker"
    exif[EXIF_IFD] = {36867: "2020:01:02 03:04:05"}
    exif[GPS_IFD] = {1: "N", 2: (1.0, 2.0, 3.0)}
    if orientation is not None:
        exif[ORIENTATION] = orientation
    return exif.tobytes()


def xmp_of(orientation, element=False):
    """XMP data that says who made it, and which way up it is."""
    said = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{orientation}"'
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Make="mk"{attribute}>'
        f"{said}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def xmp_chunk(data):
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + data


def oriented(kind, pixels, orientation):
    """A file of pixels that says which way up it is; with XMP where a format has it."""
    exif, xmp = exif_of(orientation), xmp_of(orientation)
    file_format = kind.split()[-1]
    if file_format == "PNG":
        return png_of(pixels, before=[(b"eXIf", exif[6:]), xmp_chunk(xmp)])
    if file_format == "TIFF":
        tags = {ORIENTATION: (3, 1, struct.pack("<H", orientation)), MAKE: (2, 6, b"maker\0"), XMP: (1, len(xmp), xmp)}
        return tiff_of(pixels, tags, apart="apart" in kind)
    return saved(pixels, file_format, exif=exif, xmp=xmp, **quality_of(file_format))


ORIENTED = {
    "JPEG": ("jpg", np.uint8, 3),
    "WEBP": ("webp", np.uint8, 3),
    "PNG": ("png", np.uint8, 3),
    "TIFF": ("tif", np.uint8, 3),
    "grey TIFF": ("tif", np.uint8, 1),
    "grey and alpha TIFF": ("tif", np.uint8, 2),
    "RGBA TIFF": ("tif", np.uint8, 4),
    "apart TIFF": ("tif", np.uint8, 3),
    "grey PNG": ("png", np.uint8, 1),
    "16-bit grey PNG": ("png", np.uint16, 1),
    "16-bit grey and alpha PNG": ("png", np.uint16, 2),
    "16-bit RGB PNG": ("png", np.uint16, 3),
    "16-bit RGBA PNG": ("png", np.uint16, 4),
    "16-bit grey TIFF": ("tif", np.uint16, 1),
    "16-bit grey and alpha TIFF": ("tif", np.uint16, 2),
    "16-bit RGB TIFF": ("tif", np.uint16, 3),
    "16-bit RGBA TIFF": ("tif", np.uint16, 4),
    "16-bit apart TIFF": ("tif", np.uint16, 3),
    "float grey TIFF": ("tif", np.float32, 1),
    "float TIFF": ("tif", np.float32, 3),
}


def said_orientations(path):
    """What a file still says about which way up it is: in EXIF, and in XMP."""
    if path.suffix == ".tif":
        tags = page_of(path).tags
        found, xmp = tags[ORIENTATION].value if ORIENTATION in tags else 1, tags[XMP].value if XMP in tags else b""
    else:
        image, found = opened(path), 1
        xmp = image.info.get("xmp") or b""
        with warnings.catch_warnings(), suppress(SyntaxError, struct.error):  # odd data may have been kept as it was
            warnings.simplefilter("ignore")
            found = image.getexif().get(ORIENTATION, 1)
    return {found, *map(int, re.findall(rb"Orientation\D*(\d)", xmp))}


@pytest.mark.parametrize("kind", ORIENTED)
def test_the_orientation_is_baked_in_and_no_longer_said(kind, many):
    suffix, dtype, channels = ORIENTED[kind]
    lossy = kind in ("JPEG", "WEBP")
    pixels = blocks() if lossy else noise(4, 6, channels, dtype=dtype)
    wants = {number: np.ascontiguousarray(turn(pixels)) for number, turn in UPRIGHT.items()}
    made = many({number: oriented(kind, pixels, number) for number in UPRIGHT}, suffix)
    assert made.troubles(wants, **(LOSSY if lossy else {})) == {}
    for number, path in made.paths.items():
        assert stored(path).dtype == dtype
        assert said_orientations(path) == {1}, number
    again = many({6: made.paths[6].read_bytes()}, suffix)
    assert again.troubles({6: wants[6]}, **(LOSSY if lossy else {})) == {}


@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tif"])
def test_a_turned_picture_stays_turned_in_another_format(target, invoke, here, tmp_path):
    kinds = {"JPEG": np.uint8, "PNG": np.uint8, "16-bit RGB PNG": np.uint16, "WEBP": np.uint8}
    for number, (kind, dtype) in enumerate(kinds.items()):
        pixels = blocks().astype(dtype) * (257 if dtype == np.uint16 else 1)
        (tmp_path / f"{number}.png").write_bytes(oriented(kind, pixels, 6))
    done = invoke("identity", *(f"{number}.png" for number in range(4)), "-o", f"out/{{stem}}.{target}")
    assert done.status == 0
    for number in range(4):
        path = tmp_path / f"out/{number}.{target}"
        assert opened(path).size == (48, 80)
        assert said_orientations(path) == {1}


@pytest.mark.parametrize("element", [False, True], ids=["attribute", "element"])
def test_the_orientation_in_xmp_is_reset_too(element, through):
    pixels = noise(4, 6, 3, dtype=np.uint8)
    chunks = [(b"eXIf", exif_of(3)[6:]), xmp_chunk(xmp_of(3, element))]
    path = through(png_of(pixels, before=chunks), "a.png", "b.png")
    assert_same(stored(path), pixels[::-1, ::-1])
    text = opened(path).info["xmp"]
    assert b'tiff:Make="mk"' in text
    assert not re.search(rb"Orientation\D*[2-8]", text)


def raw_profile(data):
    """How ImageMagick and exiftool put EXIF data into the texts of a PNG before there was a chunk for it."""
    lines = [data.hex()[at : at + 72] for at in range(0, 2 * len(data), 72)]
    return "\nexif\n{:8}\n{}\n".format(len(data), "\n".join(lines)).encode()


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_an_orientation_among_the_texts_is_not_obeyed_twice(kind, through):
    text = raw_profile(exif_of(6))
    data = b"\0" + text if kind == b"tEXt" else b"\0\0" + zlib.compress(text)
    pixels = noise(4, 6, 3, dtype=np.uint8)
    path = through(png_of(pixels, before=[(kind, b"Raw profile type exif" + data)]), "a.png", "b.png")
    again = through(path.read_bytes(), "c.png", "d.png")
    assert np.array_equal(stored(again), stored(path))
    assert opened(path).getexif().get(ORIENTATION, 1) == 1


def test_a_filter_with_a_direction_sees_the_picture_upright(invoke, tmp_path):
    seen = np.zeros((10, 8), np.uint16)
    seen[:, 4:] = 5000  # an upright edge
    stored_so = np.ascontiguousarray(np.rot90(seen, 1))  # orientation 6 turns it back
    (tmp_path / "a.png").write_bytes(png_of(stored_so, before=[(b"eXIf", exif_of(6)[6:])]))
    for name in ("sobel-x", "sobel-y"):
        assert invoke(name, "a.png", "-o", f"{name}.png", "-q").status == 0
    assert stored(tmp_path / "sobel-x.png").max() == 20000
    assert not stored(tmp_path / "sobel-y.png").any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_resolutions_are_turned_with_the_picture(suffix, orientation, through):
    options = {"exif": exif_of(orientation), "dpi": (300, 150)}
    path = through(saved(blocks(), {"jpg": "JPEG"}.get(suffix, "PNG"), **options), f"a.{suffix}", f"b.{suffix}")
    want = (150, 300) if orientation > 4 else (300, 150)
    assert opened(path).info["dpi"] == pytest.approx(want, abs=0.02)


# ---- absurd EXIF ----

MAKER, SIX = (2, 6, b"maker\0"), (3, 1, b"\6\0")
LOOP, FAR = (4, 1, b"\x08\0\0\0"), (4, 1, b"\0\0\0\x80")
ORIENTATIONS = {
    "0": (3, 1, b"\0\0"),
    "9": (3, 1, b"\x09\0"),
    "65535": (3, 1, b"\xff\xff"),
    "negative": (8, 1, b"\xff\xff"),
    "text": (2, 4, b"six\0"),
    "six as text": (2, 2, b"6\0"),
    "a fraction": (5, 1, struct.pack("<II", 13, 2)),
    "a fraction of nothing": (5, 1, struct.pack("<II", 6, 0)),
    "not a number": (12, 1, struct.pack("<d", float("nan"))),
    "bytes": (7, 4, b"abcd"),
    "nothing": (3, 0, b""),
}
ABSURD = {f"orientation {name}": {MAKE: MAKER, ORIENTATION: value} for name, value in ORIENTATIONS.items()} | {
    "a directory that leads to itself": {ORIENTATION: SIX, EXIF_IFD: LOOP},
    "places that lead to the start": {ORIENTATION: SIX, GPS_IFD: LOOP},
    "both": {ORIENTATION: SIX, EXIF_IFD: LOOP, GPS_IFD: LOOP},
    "a directory far behind the end": {ORIENTATION: SIX, EXIF_IFD: FAR},
    "a directory that is text": {ORIENTATION: SIX, EXIF_IFD: (2, 4, b"abc\0")},
    "a maker's note of 2 GiB": {ORIENTATION: SIX, 37500: (7, 2**31, LOOP[2])},
    "a type that is none": {ORIENTATION: SIX, 40000: (99, 1, LOOP[2])},
    "another size": {ORIENTATION: SIX, 256: (4, 1, b"\x99\0\0\0"), 257: (4, 1, b"\x77\0\0\0")},
    "another kind of picture": {ORIENTATION: SIX, 258: (3, 1, b"\x20\0"), 262: (3, 1, b"\6\0"), 277: (3, 1, b"\4\0")},
    "pixels laid out in another way": {ORIENTATION: SIX, 278: (3, 1, b"\7\0"), 284: (3, 1, b"\2\0")},
    "pixels stored by differences": {ORIENTATION: SIX, 317: (3, 1, b"\3\0"), 339: (3, 1, b"\3\0")},
    "pixels elsewhere": {ORIENTATION: SIX, 259: (3, 1, b"\7\0"), 273: (4, 1, FAR[2]), 279: (4, 1, FAR[2])},
    "resolutions of 0/0": {ORIENTATION: SIX, 282: (5, 1, bytes(8)), 283: (5, 1, bytes(8))},
    "a profile of numbers": {ORIENTATION: SIX, ICC: (3, 2, b"abcd")},
    "a thumbnail that is not there": {ORIENTATION: SIX, 513: (4, 1, FAR[2]), 514: (4, 1, b"\x64\0\0\0")},
}
NO_EXIF = {
    "nothing": b"",
    "two letters": b"II",
    "text": b"hello, world",
    "only a header": b"II*\0\x08\0\0\0",
    "a start far behind the end": b"II*\0\0\0\0\x80",
    "65535 entries": b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
    "a next directory that is the first": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
}
EXIFS = {name: b"II*\0\x08\0\0\0" + entries("<", tags, 8) for name, tags in ABSURD.items()} | NO_EXIF


@pytest.mark.parametrize(
    ("file_format", "suffix"),
    [("PNG", one) for one in ("png", "jpg", "webp", "tif")] + [("JPEG", "jpg"), ("JPEG", "tif"), ("WEBP", "webp")],
)
def test_absurd_exif_does_not_stop_the_picture(suffix, file_format, many):
    """It is turned as its one sensible orientation says, or not at all."""
    pixels = blocks()
    if file_format == "PNG":
        files = {word: png_of(pixels, before=[(b"eXIf", one)]) for word, one in EXIFS.items()}
    else:
        options = quality_of(file_format)
        files = {word: saved(pixels, file_format, exif=b"Exif\0\0" + one, **options) for word, one in EXIFS.items()}
    made = many(files, suffix)
    turned = {word: struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0) in one for word, one in EXIFS.items()}
    wants = {word: np.ascontiguousarray(UPRIGHT[6](pixels) if turned[word] else pixels) for word in EXIFS}
    assert made.troubles(wants, **LOSSY) == {}
    assert [word for word, path in made.paths.items() if said_orientations(path) != {1}] == []


CLAIM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from convcli.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
@pytest.mark.parametrize("result", ["b.tif", "b.png", "b.jpg"])
def test_a_size_that_only_exif_claims_takes_no_memory(result, tmp_path):
    exif = b"II*\0\x08\0\0\0" + entries("<", {256: FAR, 257: FAR, MAKE: MAKER}, 8)
    (tmp_path / "a.jpg").write_bytes(saved(blocks(), "JPEG", exif=b"Exif\0\0" + exif))
    command = [sys.executable, "-c", CLAIM, "identity", "a.jpg", "-o", result, "-q"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{result}\n".encode(), b"")
    assert stored(tmp_path / result).shape == (48, 80, 3)


def test_an_absurd_orientation_of_a_tiff_is_none(many):
    files, wants = {}, {}
    for kind, (_, dtype, channels) in ORIENTED.items():
        for word, value in ORIENTATIONS.items() if kind.endswith("TIFF") else ():
            wants[kind, word] = noise(4, 6, channels, dtype=dtype)
            files[kind, word] = tiff_of(wants[kind, word], {ORIENTATION: value}, apart="apart" in kind)
    assert many(files, "tif").troubles(wants) == {}


def test_pages_that_lead_to_themselves_end(invoke, tmp_path):
    """As one page, or as damage: but not after as many turns as there are bytes."""
    pixels = noise(4, 6, 3)
    data = bytearray(tiff_of(pixels))
    (place,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[place : place + 2])
    data[place + 2 + 12 * count : place + 6 + 12 * count] = struct.pack("<I", place)
    (tmp_path / "a.tif").write_bytes(data)
    done = invoke("identity", "a.tif", "-o", "b.png", "-q")
    if done.status == 0:
        assert_same(stored(tmp_path / "b.png"), pixels)
    else:
        assert done.status == 1
        assert done.stderr.count(b"\n") == 1
        assert not re.search(rb"page \d\d", done.stderr)  # there is but one


# ---- what a file says of itself ----

TEXTS = [
    (b"tEXt", b"Author\0J\xf6rg"),
    (b"zTXt", b"Comment\0\0" + zlib.compress(b"hello " * 20)),
    (b"iTXt", "Title\0\0\0de\0Titel\0Grüße".encode()),
    (b"iTXt", b"Description\0\1\0\0\0" + zlib.compress("ü".encode())),
]
GAMMA = (b"gAMA", struct.pack(">I", 45455))
PRIMARIES = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
COLORS = [GAMMA, PRIMARIES, (b"sRGB", b"\1"), (b"cICP", b"\1\x0d\0\1")]
DENSITY = (b"pHYs", struct.pack(">IIB", 11811, 3780, 1))
EXIF_CHUNK = (b"eXIf", exif_of()[6:])
PROFILE_CHUNK = (b"iCCP", b"x\0\0" + zlib.compress(SRGB))
KEYS_OF_OURS = b"Software\0", b"convcli\0"


def said(path):
    """The chunks of a PNG that are not its picture, but those that convcli adds."""
    return [
        (kind, data)
        for kind, data in chunks_of(path)
        if kind not in (b"IHDR", b"IDAT", b"IEND") and not data.startswith(KEYS_OF_OURS)
    ]


@pytest.mark.parametrize("depth", [8, 16])
def test_from_png_to_png_all_is_kept(depth, through):
    chunks = [*COLORS, DENSITY, EXIF_CHUNK, xmp_chunk(xmp_of(1)), *TEXTS]
    path = through(png_of(noise(4, 5, 3, dtype=f"u{depth // 8}"), before=chunks), "a.png", "b.png")
    found = said(path)
    for one in [*COLORS, DENSITY, *TEXTS]:
        assert one in found
    assert len(found) == len(chunks)
    image = opened(path)
    exif = image.getexif()
    assert exif[MAKE] == "maker"
    assert exif.get_ifd(EXIF_IFD)[36867] == "2020:01:02 03:04:05"
    assert exif.get_ifd(GPS_IFD)[2] == (1.0, 2.0, 3.0)
    assert b'tiff:Make="mk"' in image.info["xmp"]
    kinds = [kind for kind, _ in chunks_of(path)]
    assert max(map(kinds.index, (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs"))) < kinds.index(b"IDAT")


def test_a_profile_is_kept_and_alone(through):
    """The specification allows a profile or an intent of sRGB, not both."""
    path = through(png_of(noise(4, 5, 3, dtype=np.uint8), before=[PROFILE_CHUNK, GAMMA]), "a.png", "b.png")
    found = dict(said(path))
    name, _, data = found[b"iCCP"].partition(b"\0")
    assert 1 <= len(name) <= 79
    assert zlib.decompress(data[1:]) == SRGB
    assert b"sRGB" not in found


@pytest.mark.parametrize("where", ["before", "after"])
def test_what_stands_behind_the_pixels_is_kept_too(where, through):
    pixels = noise(4, 6, 3, dtype=np.uint8)
    chunks = [*TEXTS, xmp_chunk(xmp_of(6)), (b"eXIf", exif_of(6)[6:])]
    path = through(png_of(pixels, **{where: chunks}), "a.png", "b.png")
    assert_same(stored(path), np.rot90(pixels, -1))
    found = said(path)
    assert [one for one in found if one in TEXTS] == TEXTS
    assert len(found) == len(chunks)
    image = opened(path)
    image.load()
    assert image.getexif()[MAKE] == "maker"


def test_a_picture_that_says_nothing_gets_only_what_made_it(through):
    path = through(png_of(GREY), "a.png", "b.png")
    assert [kind for kind, _ in chunks_of(path)] == [b"IHDR", b"tEXt", b"tEXt", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    "words",
    [
        ["edge"],
        ["gaussian:sigma=1.5,size=7", "--boundary", "wrap", "--stride", "2"],
        ["filter", "--kernel", "1 0 -1; 2 0 -2; 1 0 -1", "--range", "signed"],
        ["pool", "--max", "2x3"],
    ],
    ids=lambda words: words[0],
)
def test_a_png_says_what_it_was_made_by(words, invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(noise(12, 12, 3, dtype=np.uint8)))
    (tmp_path / "other.png").write_bytes(png_of(noise(9, 14, 1, dtype=np.uint8)))
    assert invoke(words[0], "a.png", "-o", "b.png", "-q", *words[1:]).status == 0
    texts = opened(tmp_path / "b.png").text
    assert texts["Software"] == f"convcli {convcli.__version__}"
    assert shlex.split(texts["convcli"])[0] == words[0]
    assert {"a.png", "b.png", "-o", "-q"}.isdisjoint(shlex.split(texts["convcli"]))
    assert invoke("replay", "b.png", "other.png", "-o", "c.png", "-q").status == 0
    assert invoke(words[0], "other.png", "-o", "d.png", "-q", *words[1:]).status == 0
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()


def test_what_made_it_before_is_replaced(invoke, tmp_path):
    texts = [(b"tEXt", b"Software\0other"), (b"tEXt", b"convcli\0edge"), *TEXTS]
    (tmp_path / "a.png").write_bytes(png_of(GREY, before=texts))
    assert invoke("blur", "a.png", "-o", "b.png", "-q").status == 0
    ours = [data for _, data in chunks_of(tmp_path / "b.png") if data.startswith(KEYS_OF_OURS)]
    assert ours == [b"Software\0convcli " + convcli.__version__.encode(), b"convcli\0blur"]
    assert said(tmp_path / "b.png") == TEXTS


SPEAKING = {
    "jpg": saved(
        blocks(), "JPEG", exif=exif_of(), xmp=xmp_of(1), icc_profile=SRGB, dpi=(300, 150), comment=b"a comment"
    ),
    "png": png_of(
        blocks(), before=[PROFILE_CHUNK, DENSITY, EXIF_CHUNK, xmp_chunk(xmp_of(1)), GAMMA, PRIMARIES, *TEXTS]
    ),
    "webp": saved(blocks(), "WEBP", exif=exif_of(), xmp=xmp_of(1), icc_profile=SRGB, lossless=True),
}


def tiff_that_speaks(dtype=np.uint8):
    tags = {
        MAKE: (2, 6, b"maker\0"),
        282: (5, 1, struct.pack("<II", 300, 1)),
        283: (5, 1, struct.pack("<II", 150, 1)),
        296: (3, 1, b"\2\0"),
        ICC: (7, len(SRGB), SRGB),
        XMP: (1, len(xmp_of(1)), xmp_of(1)),
    }
    return tiff_of(blocks().astype(dtype), tags)


SPEAKING["tif"] = tiff_that_speaks()
HEARD = {  # what each format has room for
    "jpg": {"profile", "maker", "xmp", "dpi"},
    "png": {"profile", "maker", "xmp", "dpi"},
    "webp": {"profile", "maker", "xmp"},
    "tif": {"profile", "maker", "xmp", "dpi"},
}


def heard(path):
    """What a file says that another program understands."""
    image = opened(path)
    image.load()
    found = {"maker"} if image.getexif().get(MAKE) == "maker" else set()
    info = image.info
    found |= {"profile"} if info.get("icc_profile") == SRGB else set()
    found |= {"xmp"} if b'tiff:Make="mk"' in (info.get("xmp") or b"") else set()
    return found | ({"dpi"} if info.get("dpi", (0, 0))[0] > 200 else set())


@pytest.mark.parametrize("target", HEARD)
def test_profile_exif_xmp_and_resolution_go_from_format_to_format(target, many):
    made = many(SPEAKING, target)
    found = {source: made.errors.get(source) or heard(made.paths[source]) for source in SPEAKING}
    assert found == {source: HEARD[source] & HEARD[target] for source in SPEAKING}


def test_the_files_that_speak_do(tmp_path):
    for source, data in SPEAKING.items():
        (tmp_path / f"a.{source}").write_bytes(data)
        assert heard(tmp_path / f"a.{source}") == HEARD[source]


@pytest.mark.parametrize("target", ["png", "jpg", "tif"])
def test_a_resolution_is_the_same_in_every_format(target, many):
    made = many({name: saved(blocks(), name, dpi=(300, 150)) for name in ("PNG", "JPEG", "TIFF", "BMP")}, target)
    for name, path in made.paths.items():
        assert tuple(map(float, opened(path).info["dpi"])) == pytest.approx((300, 150), abs=0.02), name


@pytest.mark.parametrize("target", HEARD)
def test_strip_leaves_only_the_picture(target, many):
    made = many(SPEAKING, target, "--strip")
    assert made.errors == {}
    for source, path in made.paths.items():
        assert heard(path) == set()
        for word in (b"convcli", b"maker", b"comment", b"Author", b"adobe", b"acsp", b"Exif"):
            assert word not in path.read_bytes(), source
        if target == "png":
            assert [kind for kind, _ in chunks_of(path)] == [b"IHDR", b"IDAT", b"IEND"]


def test_a_stripped_png_can_not_be_replayed(invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(GREY))
    assert invoke("edge", "a.png", "-o", "b.png", "-q", "--strip").status == 0
    done = invoke("replay", "b.png", "a.png", "-o", "c.png")
    assert done.status != 0
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "c.png").exists()


def test_the_profile_of_colours_is_not_one_of_grey(through):
    path = through(SPEAKING["jpg"], "a.jpg", "b.png", "--gray")
    assert b"iCCP" not in dict(chunks_of(path))
    assert stored(path).shape[2] == 1
    assert opened(path).getexif()[MAKE] == "maker"


@pytest.mark.parametrize("target", ["png", "tif", "jpg"])
def test_a_profile_of_grey_is_kept_for_grey(target, through):
    data = saved(blocks()[..., 0], "PNG", icc_profile=GRAY_PROFILE)
    assert opened(through(data, "a.png", f"b.{target}")).info["icc_profile"] == GRAY_PROFILE


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_deep_tiff_keeps_its_profile_and_resolution(dtype, through):
    path = through(tiff_that_speaks(dtype), "a.tif", "b.tif")
    page = page_of(path)
    assert bytes(page.tags[ICC].value) == SRGB
    assert page.get_resolution("INCH") == pytest.approx((300, 150))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("what", ["maker", "xmp"])
def test_what_a_deep_tiff_loses_is_said(what, dtype, invoke, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_that_speaks(dtype))
    done = invoke("identity", "a.tif", "-o", "b.tif")
    assert done.status == 0
    page = page_of(tmp_path / "b.tif")
    kept = page.tags[MAKE].value if what == "maker" and MAKE in page.tags else XMP in page.tags and what == "xmp"
    assert kept or {"maker": b"EXIF", "xmp": b"XMP"}[what] in done.stderr


def test_a_photograph_of_a_camera_can_be_written_as_tiff(through):
    """With the directories of time and place that every camera writes."""
    path = through(saved(blocks(), "JPEG", exif=exif_of(6), quality=100), "a.jpg", "b.tif")
    assert stored(path).shape == (80, 48, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_times_and_places_go_into_a_tiff_and_out_of_it(dtype, invoke, tmp_path):
    exif = Image.Exif()
    exif[MAKE] = "maker"  # without which Pillow writes nothing
    exif.get_ifd(34665)[36867] = "2020:01:02 03:04:05"
    exif.get_ifd(34853)[1] = "N"
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(noise(8, 9, dtype=dtype)), "PNG", exif=exif))
    for source, target in (("a.png", "b.tif"), ("b.tif", "c.tif"), ("c.tif", "d.png")):
        assert invoke("blur", source, "-o", target, "-q").stderr == b""
        with Image.open(tmp_path / target) as image:
            found = image.getexif()
            assert found.get_ifd(34665)[36867] == "2020:01:02 03:04:05"
            assert found.get_ifd(34853)[1] == "N"


# ---- JPEG ----


def tables_of(path):
    image = opened(path)
    return {key: list(table) for key, table in image.quantization.items()}, JpegImagePlugin.get_sampling(image)


@pytest.mark.parametrize("options", [(), ("--strip",)], ids=["", "stripped"])
def test_the_quality_and_subsampling_of_a_jpeg_are_kept(options, many):
    files = {
        (quality, subsampling): saved(blocks(), "JPEG", quality=quality, subsampling=subsampling)
        for quality in (1, 30, 75, 97, 100)
        for subsampling in (0, 1, 2)
    }
    made = many(files, "jpg", *options)
    for (quality, subsampling), path in made.paths.items():
        assert tables_of(path) == tables_of(files[quality, subsampling])
        assert tables_of(path)[1] == subsampling


def test_tables_of_ones_own_are_kept(through, tmp_path):
    tables = [[7] * 64, [9] * 64, [11] * 64]
    path = through(saved(blocks(), "JPEG", qtables=tables, subsampling=0), "a.jpg", "b.jpg")
    assert tables_of(path) == (dict(enumerate(tables)), 0)


@pytest.mark.parametrize("options", [(), ("--gray",)], ids=["grey", "made grey"])
def test_a_grey_jpeg_keeps_its_quality(options, through, tmp_path):
    image = blocks() if options else blocks()[..., 0]
    path = through(saved(image, "JPEG", quality=40), "a.jpg", "b.jpg", *options)
    assert opened(path).mode == "L"
    assert tables_of(path)[0][0] == tables_of(tmp_path / "a.jpg")[0][0]


def test_the_quality_is_kept_whatever_the_subsampling(many):
    factors = {"4:1:1": 0x411111, "4:4:0": 0x121111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:4:4": 0x111111}
    options = cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR
    files = {word: by_opencv(blocks(), ".jpg", *options, number) for word, number in factors.items()}
    made = many(files, "jpg")
    assert [word for word, path in made.paths.items() if tables_of(path)[0] != tables_of(files[word])[0]] == []


@pytest.mark.parametrize("quality", [5, 50, 95])
def test_quality_asked_for_is_given(quality, through):
    path = through(saved(blocks(), "JPEG", quality=70, subsampling=0), "a.jpg", "b.jpg", "--quality", str(quality))
    usual = saved(blocks(), "JPEG", quality=quality)
    assert tables_of(path)[0] == tables_of(usual)[0]


def test_from_another_format_the_quality_is_90(through):
    path = through(png_of(blocks()), "a.png", "b.jpg")
    assert tables_of(path)[0] == tables_of(saved(blocks(), "JPEG", quality=90))[0]


def test_the_comment_of_a_jpeg_is_kept(many):
    comments = {"plain": b"a comment", "UTF-8": "Grüße".encode(), "no text": b"\xff\xfe", "long": b"x" * 60_000}
    files = {word: saved(blocks(), "JPEG", comment=one) for word, one in comments.items()}
    assert {word: opened(path).info["comment"] for word, path in many(files, "jpg").paths.items()} == comments
    assert not any("comment" in opened(path).info for path in many(files, "jpg", "--strip").paths.values())


def test_a_jpeg_of_a_file_that_has_too_much_exif_is_written_and_that_is_said(invoke, tmp_path):
    exif = Image.Exif()
    exif[MAKE] = "m" * 70_000
    (tmp_path / "a.png").write_bytes(png_of(blocks(), before=[(b"eXIf", exif.tobytes()[6:])]))
    done = invoke("identity", "a.png", "-o", "b.jpg")
    assert done.status == 0
    assert b"EXIF" in done.stderr
    assert stored(tmp_path / "b.jpg").shape == (48, 80, 3)


# ---- damaged files ----

RAW = b"\0" + bytes(GREY[0])
WHOLE = {
    "png": png_of(noise(24, 17, 3, dtype=np.uint8), kind=0),
    "jpg": saved(noise(24, 17, 3, dtype=np.uint8), "JPEG"),
    "gif": saved(noise(24, 17, dtype=np.uint8), "GIF"),
    "webp": saved(noise(24, 17, 3, dtype=np.uint8), "WEBP", lossless=True),
    "tif": tiff_by_tifffile(noise(24, 17, 3), compression="zlib"),
    "bmp": saved(noise(24, 17, 3, dtype=np.uint8), "BMP"),
    "ppm": pnm_of(noise(24, 17, 3), 65535, text=False),
    "npy": npy_of(np.arange(60.0).reshape(6, 10)),
}


def png_with(idat, width=5, height=6, depth=8, color_type=0, *chunks):
    parts = [*chunks, (b"IDAT", idat), (b"IEND", b"")]
    return png_header(width, height, depth, color_type) + b"".join(chunk(*one) for one in parts)


def spoilt(data, place, by=1):
    """The data with one byte changed, counted from the end if the place is negative."""
    changed = bytearray(data)
    changed[place] ^= by
    return bytes(changed)


def tiff_with(**tags):
    return tiff_of(noise(4, 6, 3), {int(tag[1:]): (4, 1, struct.pack("<I", value)) for tag, value in tags.items()})


RIGHT_PIXELS = zlib.compress(RAW * 6)
DAMAGED = {
    "empty.png": b"",
    "empty.npy": b"",
    "empty.txt": b"",
    "one-byte.jpg": b"\xff",
    "text.png": b"hello\n",
    "page.jpg": b"<!DOCTYPE html><title>404</title>",
    "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "zeros.tif": bytes(500),
    **{f"half.{suffix}": data[: len(data) // 2] for suffix, data in WHOLE.items()},
    **{f"start.{suffix}": data[:20] for suffix, data in WHOLE.items()},
    "crlf.png": WHOLE["png"].replace(b"\r\n", b"\n"),
    "no-pixels.png": png_header(5, 6) + chunk(b"IEND"),
    "checksum-of-header.png": spoilt(WHOLE["png"], 29),
    "checksum-of-pixels.png": spoilt(WHOLE["png"], -13),
    "checksum-of-stream.png": png_with(spoilt(RIGHT_PIXELS, -1)),
    "noise-for-pixels.png": png_with(bytes(noise(40, dtype=np.uint8))),
    "filter-5.png": png_with(zlib.compress(b"\5" + RAW[1:])),
    "no-palette.png": png_with(RIGHT_PIXELS, 5, 6, 8, 3),
    "colour-type-1.png": png_with(RIGHT_PIXELS, 5, 6, 8, 1),
    "colour-type-9.png": png_with(RIGHT_PIXELS, 5, 6, 8, 9),
    "depth-3.png": png_with(RIGHT_PIXELS, 5, 6, 3, 0),
    "depth-16-palette.png": png_with(RIGHT_PIXELS, 5, 6, 16, 3, PALETTE),
    "no-width.png": png_with(zlib.compress(bytes(6)), 0, 6),
    "no-height.png": png_with(zlib.compress(b""), 5, 0),
    "claims-much.png": png_with(RIGHT_PIXELS, 2**31 - 1, 2**31 - 1),
    "no-width.gif": b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\2\0;",
    "no-size.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0),
    "no-size.ppm": b"P6 0 0 255\n",
    "negative.ppm": b"P6 -5 3 255\n" + bytes(45),
    "greatest-0.ppm": b"P6 5 3 0\n" + bytes(45),
    "no-width.tif": tiff_with(_256=0),
    "no-bits.tif": tiff_with(_258=0),
    "compression-of-nobody.tif": tiff_with(_259=54321),
    "pixels-behind-the-end.tif": tiff_with(_273=2**31),
    "directory-behind-the-end.tif": b"II*\0\0\0\0\x80",
    "noise-for-pixels.tif": WHOLE["tif"].replace(b"\x78", b"\x87"),
    "no-numbers.npy": npy_of(np.array(["a"])),
    "pickled.npy": npy_of(np.array([None])),
    "claims-much.npy": WHOLE["npy"].replace(b"(6, 10)", b"(6, 10**99)"[:7]),
    "word.txt": b"1 2\n3 four\n",
    "ragged.csv": b"1,2\n3\n",
}


def test_a_damaged_file_is_one_line_and_nothing_is_written(invoke, tmp_path):
    """And the others are still done."""
    for name, data in DAMAGED.items():
        (tmp_path / name).write_bytes(data)
    for name in ("0.png", "z.png"):
        (tmp_path / name).write_bytes(png_of(GREY))
    done = invoke("edge", "0.png", *DAMAGED, "z.png", "-o", "out/{stem}{ext}.npy", "-q")
    names = [line.split(": ")[1] for line in done.stderr.decode().splitlines()]
    assert done.status == 1
    assert set(DAMAGED) - set(names) == set()
    assert names == list(DAMAGED)
    assert done.stdout == b"out/0.png.npy\nout/z.png.npy\n"
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["0.png.npy", "z.png.npy"]


def test_what_is_said_of_a_damaged_file_is_not_pythons_own_trouble(invoke, tmp_path):
    for name, data in DAMAGED.items():
        (tmp_path / name).write_bytes(data)
    done = invoke("edge", *DAMAGED, "-o", "out/{stem}{ext}.npy", "-q")
    trouble = re.compile("NoneType|attribute|Traceback|unexpected|instances of|Error:|element size|argument|unpack")
    assert [line for line in done.stderr.decode().splitlines() if trouble.search(line)] == []


@pytest.mark.parametrize("name", ["empty.png", "half.jpg", "pickled.npy", "word.txt"])
def test_a_damaged_file_alone_makes_no_folder(name, invoke, tmp_path):
    (tmp_path / name).write_bytes(DAMAGED[name])
    done = invoke("edge", name, "-o", "out/", "--format", "npy")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"convcli: {name}: ".encode())
    assert done.stderr.count(b"\n") == 1
    assert [one.name for one in tmp_path.rglob("*")] == [name]


@pytest.mark.parametrize("frame", [0, 1])
def test_a_damaged_frame_is_no_picture(frame, invoke, tmp_path):
    frames = [Image.fromarray(noise(24, 17, 3, dtype=np.uint8, seed=seed)) for seed in range(2)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    place = data.index(b"fdAT" if frame else b"IDAT")
    (tmp_path / "a.png").write_bytes(spoilt(data, place + 40, 0xFF))
    done = invoke("identity", "a.png", "-o", "b.png")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "b.png").exists()


# ---- names that do not tell the truth ----


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
def test_the_content_is_believed_and_the_result_is_what_its_name_says(suffix, invoke, tmp_path):
    contents = "PNG", "TIFF", "BMP", "PPM", "GIF"
    for content in contents:
        (tmp_path / f"{content}.{suffix}").write_bytes(saved(GREY, content))
    done = invoke("identity", *(f"{content}.{suffix}" for content in contents), "-o", "out/", "-q")
    assert done == (0, "".join(f"out/{content}.{suffix}\n" for content in contents).encode(), b"")
    for content in contents:
        image = opened(tmp_path / f"out/{content}.{suffix}")
        assert image.format == {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
        shown = np.asarray(image.convert("L")).astype(int)
        assert shown.shape == GREY.shape
        assert suffix in ("jpg", "webp") or np.array_equal(shown, GREY)


@pytest.mark.parametrize(("content", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("GIF", "gif")])
def test_without_a_suffix_that_says_it_the_content_names_the_result(content, suffix, invoke, tmp_path):
    for name in ("one", "two.xyz", "three.tar.gz"):
        (tmp_path / name).write_bytes(saved(GREY, content))
    done = invoke("identity", "one", "two.xyz", "three.tar.gz", "-q")
    names = [f"{stem}.identity.{suffix}" for stem in ("one", "two", "three.tar")]
    assert done == (0, "".join(f"{name}\n" for name in names).encode(), b"")
    assert {opened(tmp_path / name).format for name in names} == {content}


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("a.jpg", npy_of(GREY), ".npy"),
        ("a.png", npy_of(GREY / 255), ".npy"),
        ("a.jpg", b"hello\n", "picture"),
        ("a.png", b"[1 2; 3 4]", "picture"),
        ("a.tif", b"%PDF-1.7\n", "picture"),
        ("a.png", b"PK\3\4" + bytes(99), "picture"),
        ("a.jpg", b"\0\0\0\x20ftypisom" + bytes(20), "picture"),
        ("a.npy", png_of(GREY), ".npy"),
        ("a.npy", b"1 2\n3 4\n", ".npy"),
        ("a.txt", png_of(GREY), "text"),
        ("a.csv", npy_of(GREY), "text"),
        ("a", b"hello\n", "picture"),
    ],
)
def test_a_name_that_promises_something_else_is_one_line(name, data, word, invoke, tmp_path):
    (tmp_path / name).write_bytes(data)
    done = invoke("edge", name, "-o", "out/", "--format", "npy")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"convcli: {name}: ".encode())
    assert word in done.stderr.decode().partition(": ")[2]
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_what_comes_through_a_pipe_may_be_cut_too(suffix, run):
    data = WHOLE[suffix]
    done = run("edge", "-", "-o", "-", input=data[: len(data) // 2])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"convcli: -: ")
    assert done.stderr.count(b"\n") == 1
