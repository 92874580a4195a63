"""Decoding: every mode, orientation and kind of damage, against pixels that the test itself put into the file."""

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from convcli.errors import PictureError
from convcli.filtering import filter_picture
from convcli.images.picture import Metadata, Picture
from convcli.images.reading import read_picture
from convcli.kernels.reading import read_kernel
from convcli.layers import Filter
from convcli.recipe import Recipe
from pictures import chunk, encoded, noise

MAKE, ORIENTATION, X_RESOLUTION = 0x010F, 0x0112, 0x011A
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


def saved(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_of(width, height, depth, color_type, rows, *chunks):
    """A PNG file by hand: ``rows`` is the packed data of each row, ``chunks`` go before the pixels."""
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))]
    parts += [chunk(*one) for one in chunks]
    parts.append(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def tiff_of(pixels, order):
    """An uncompressed grey TIFF by hand, ``order`` is ``<`` or ``>``."""
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = 8 * pixels.dtype.itemsize
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(data))]]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(data))
    return start + data + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def exif_of(orientation, **more):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for tag, value in more.items():
        exif[int(tag[1:])] = value
    return exif


@dataclass
class Case:
    """A file, and what must come of it. ``notice`` is a word of the one notice; without it there must be none."""

    name: str
    data: bytes
    pixels: np.ndarray
    white: float = 255.0
    alpha: bool = False
    notice: str = ""
    within: float = 0

    def __repr__(self):
        return self.name


GREY, GREY16 = noise(7, 5), noise(7, 5, dtype=np.uint16)
RGB, RGBA, LA = noise(7, 5, 3), noise(7, 5, 4), noise(7, 5, 2)
FLOATS = np.linspace(-0.5, 1.5, 35, dtype=np.float32).reshape(7, 5)
INDEX = np.random.default_rng(5).integers(0, 4, (7, 5)).astype(np.uint8)
COLORS = np.array([[255, 0, 0], [0, 128, 0], [9, 8, 7], [250, 251, 252]], np.uint8)
VEIL = np.array([0, 100, 200, 255], np.uint8)  # the alpha of each of the four colours
BITS = np.random.default_rng(6).integers(0, 2, (7, 10)).astype(bool)
INKS = noise(7, 5, 4)


def palette_image(mode="P", index=INDEX):
    image = Image.frombytes(mode, index.shape[1::-1], index.tobytes())
    image.putpalette(COLORS.tobytes())
    return image


def with_alpha(colors, alpha):
    colors = colors if colors.ndim == 3 else colors[..., None]
    return np.concatenate([colors, np.broadcast_to(alpha, colors.shape[:2])[..., None]], axis=2).astype(np.uint8)


def from_inks(inks):
    """The plain formula: each ink and the black take light away, one after the other."""
    light = 1 - inks.astype(float) / 255
    return 255 * light[..., :3] * light[..., 3:]


def from_ycbcr(codes):
    """JFIF 1.02: full-range BT.601."""
    y, cb, cr = np.moveaxis(codes.astype(float), 2, 0)
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    return np.clip(np.stack(rgb, 2), 0, 255)


def packed(values, bits):
    """Rows of codes below ``2**bits``, as PNG packs them: the first in the highest bits."""
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return rows


TWO_BITS, FOUR_BITS = np.arange(8).reshape(2, 4) % 4, np.arange(16).reshape(2, 8)
RAMP16 = np.array([[0, 1, 255, 256], [257, 1000, 65534, 65535]], np.uint16)
TINTS16 = np.array([[[1000, 2000, 3000], [2000, 2000, 3000], [65535, 0, 257]]], np.uint16)

CASES = [
    Case("L png", saved(Image.fromarray(GREY), "PNG"), GREY),
    Case("L tiff", saved(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), GREY),
    Case("L tiff big endian", tiff_of(GREY, ">"), GREY),
    Case("L bmp", saved(Image.fromarray(GREY), "BMP"), GREY),
    Case("L pgm", saved(Image.fromarray(GREY), "PPM"), GREY),
    Case("LA png", saved(Image.fromarray(LA), "PNG"), LA, alpha=True),
    Case("LA tiff", saved(Image.fromarray(LA), "TIFF"), LA, alpha=True),
    Case("RGB png", saved(Image.fromarray(RGB), "PNG"), RGB),
    Case("RGB ppm", saved(Image.fromarray(RGB), "PPM"), RGB),
    Case("RGB bmp", saved(Image.fromarray(RGB), "BMP"), RGB),
    Case("RGB webp", saved(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    Case("RGB tiff", saved(Image.fromarray(RGB), "TIFF", compression="tiff_deflate"), RGB),
    Case("RGBA png", saved(Image.fromarray(RGBA), "PNG"), RGBA, alpha=True),
    Case("RGBA tiff", saved(Image.fromarray(RGBA), "TIFF"), RGBA, alpha=True),
    Case("RGBA webp", saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), RGBA, alpha=True),
    Case("P png", saved(palette_image(), "PNG"), COLORS[INDEX]),
    Case("P gif", saved(palette_image(), "GIF"), COLORS[INDEX]),
    Case("P bmp", saved(palette_image(), "BMP"), COLORS[INDEX]),
    Case("P tiff", saved(palette_image(), "TIFF"), COLORS[INDEX]),
    Case(
        "P png, an alpha for each colour",
        saved(palette_image(), "PNG", transparency=VEIL.tobytes()),
        with_alpha(COLORS[INDEX], VEIL[INDEX]),
        alpha=True,
    ),
    Case(
        "P gif, one colour transparent",
        saved(palette_image(), "GIF", transparency=2),
        with_alpha(COLORS[INDEX], 255 * (INDEX != 2)),
        alpha=True,
    ),
    Case(
        "PA tiff",
        saved(palette_image("PA", np.dstack([INDEX, VEIL[INDEX]])), "TIFF"),
        with_alpha(COLORS[INDEX], VEIL[INDEX]),
        alpha=True,
    ),
    Case("1 png", saved(Image.fromarray(BITS), "PNG"), 255 * BITS),
    Case("1 tiff", saved(Image.fromarray(BITS), "TIFF", compression="group4"), 255 * BITS),
    Case("1 bmp", saved(Image.fromarray(BITS), "BMP"), 255 * BITS),
    Case("1 pbm", b"P1 3 2\n1 0 1\n0 1 1\n", np.array([[0, 255, 0], [255, 0, 0]])),
    Case("2-bit grey png", png_of(4, 2, 2, 0, packed(TWO_BITS, 2)), TWO_BITS * 85),
    Case("4-bit grey png", png_of(8, 2, 4, 0, packed(FOUR_BITS, 4)), FOUR_BITS * 17),
    Case("I;16 png", saved(Image.fromarray(GREY16), "PNG"), GREY16, 65535.0),
    Case("I;16 png, every part of the range", saved(Image.fromarray(RAMP16), "PNG"), RAMP16, 65535.0),
    Case("I;16 tiff, little endian", tiff_of(GREY16, "<"), GREY16, 65535.0),
    Case("I;16 tiff, big endian", tiff_of(GREY16, ">"), GREY16, 65535.0),
    Case("16-bit pgm", b"P5 2 1 65535\n" + struct.pack(">HH", 1000, 60000), np.array([[1000, 60000]]), 65535.0),
    Case("F tiff", saved(Image.fromarray(FLOATS), "TIFF"), FLOATS, 1.0),
    Case("CMYK tiff", saved(Image.fromarray(INKS, "CMYK"), "TIFF"), from_inks(INKS), notice="CMYK", within=1.5),
    Case("YCbCr tiff", saved(Image.fromarray(RGB, "YCbCr"), "TIFF"), from_ycbcr(RGB), notice="YCbCr", within=1.5),
    Case(
        "L with tRNS",
        png_of(5, 7, 8, 0, [row.tobytes() for row in GREY], (b"tRNS", struct.pack(">H", GREY[3, 2]))),
        with_alpha(GREY, 255 * (GREY[3, 2] != GREY)),
        alpha=True,
    ),
    Case(
        "RGB with tRNS",
        png_of(5, 7, 8, 2, [row.tobytes() for row in RGB], (b"tRNS", struct.pack(">HHH", *RGB[3, 2]))),
        with_alpha(RGB, 255 * (RGB[3, 2] != RGB).any(axis=2)),
        alpha=True,
    ),
    Case(
        "L gif, one grey transparent",
        saved(Image.fromarray(GREY), "GIF", transparency=int(GREY[3, 2]), optimize=False),
        with_alpha(GREY, 255 * (GREY[3, 2] != GREY)),
        alpha=True,
    ),
    *(
        Case(
            f"1-bit grey with tRNS {key}",
            png_of(10, 7, 1, 0, packed(BITS.astype(int), 1), (b"tRNS", struct.pack(">H", key))),
            with_alpha(255 * BITS, 255 * (key != BITS)),
            alpha=True,
        )
        for key in (0, 1)
    ),
    Case(
        "2-bit grey with tRNS",
        png_of(4, 2, 2, 0, packed(TWO_BITS, 2), (b"tRNS", struct.pack(">H", 1))),
        with_alpha(TWO_BITS * 85, 255 * (TWO_BITS != 1)),
        alpha=True,
    ),
    Case(
        "4-bit grey with tRNS",
        png_of(8, 2, 4, 0, packed(FOUR_BITS, 4), (b"tRNS", struct.pack(">H", 5))),
        with_alpha(FOUR_BITS * 17, 255 * (FOUR_BITS != 5)),
        alpha=True,
    ),
    Case(
        "16-bit RGB",
        encoded(Picture(noise(7, 5, 3, dtype=np.uint16), 65535.0), "PNG"),
        noise(7, 5, 3, dtype=np.uint16),
        white=65535.0,
    ),
    Case(
        "16-bit RGBA",
        encoded(Picture(noise(7, 5, 4, dtype=np.uint16), 65535.0, alpha=True), "PNG"),
        noise(7, 5, 4, dtype=np.uint16),
        alpha=True,
        white=65535.0,
    ),
    Case(
        "16-bit RGB with tRNS",
        png_of(3, 1, 16, 2, [TINTS16.astype(">u2").tobytes()], (b"tRNS", TINTS16[0, 0].astype(">u2").tobytes())),
        np.dstack([TINTS16, [[0, 65535, 65535]]]),
        alpha=True,
        white=65535.0,
    ),
    Case(
        "16-bit ppm",
        b"P6 2 1 65535\n" + struct.pack(">6H", 1000, 2000, 3000, 40000, 50000, 65535),
        np.array([[[1000, 2000, 3000], [40000, 50000, 65535]]]),
        white=65535.0,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize("by", ["path", "bytes"])
def test_mode(case, by, tmp_path):
    path = tmp_path / "picture.dat"
    path.write_bytes(case.data)
    picture = read_picture(path if by == "path" else case.data)
    want = case.pixels if case.pixels.ndim == 3 else case.pixels[..., None]
    assert picture.pixels.shape == want.shape
    assert picture.alpha == case.alpha
    assert picture.white == case.white
    assert picture.pixels.dtype.newbyteorder("=") == {255.0: np.uint8, 65535.0: np.uint16, 1.0: np.float32}[case.white]
    assert np.abs(picture.pixels.astype(float) - want).max() <= case.within
    assert len(picture.notices) == bool(case.notice)
    assert case.notice in "".join(picture.notices)


def test_the_table_holds_what_it_says():
    modes = {case.name: Image.open(io.BytesIO(case.data)).mode for case in CASES}
    for name, mode in modes.items():
        if name.split()[0] in ("L", "LA", "RGB", "RGBA", "P", "PA", "1", "I", "F", "CMYK", "YCbCr"):
            assert mode == name.split()[0], name
    assert {mode[:4] for name, mode in modes.items() if name.startswith("I;16")} == {"I;16"}
    assert {"L", "LA", "RGB", "RGBA", "P", "PA", "1", "I", "F", "CMYK", "YCbCr", "I;16", "I;16B"} <= set(modes.values())


def test_16_bit_grey_alpha():
    pixels = noise(7, 5, 2, dtype=np.uint16)
    picture = read_picture(encoded(Picture(pixels, 65535.0, alpha=True), "PNG"))
    assert picture.alpha
    assert np.array_equal(picture.pixels, pixels)
    assert picture.notices == ()


def test_16_bit_grey_with_a_transparent_key_does_not_lose_it_in_silence():
    data = png_of(4, 2, 16, 0, [row.astype(">u2").tobytes() for row in RAMP16], (b"tRNS", struct.pack(">H", 257)))
    picture = read_picture(data)
    assert picture.alpha or picture.notices
    if picture.alpha:
        assert np.array_equal(picture.pixels[..., -1] == 0, RAMP16 == 257)


def test_32_bit_integers_have_no_white():
    with pytest.raises(PictureError, match="32-bit"):
        read_picture(saved(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"))
    with pytest.raises(PictureError, match="32-bit"):
        read_picture(saved(Image.fromarray(np.array([[0, -1]], np.int32)), "TIFF"))


def test_cmyk_jpeg_is_not_inverted():
    inks = np.zeros((16, 64, 4), np.uint8)
    for place, one in enumerate([(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]):
        inks[:, 16 * place : 16 * place + 16] = one
    data = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    picture = read_picture(data)
    middle = picture.pixels[8, 8::16].astype(int)
    assert np.abs(middle - [[255, 0, 0], [0, 255, 0], [0, 0, 0], [255, 255, 255]]).max() <= 12
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[8, 8::16, ::-1].astype(int)
    assert np.abs(middle - other).max() <= 12
    assert len(picture.notices) == 1
    assert "CMYK" in picture.notices[0]


def test_common_jpeg_is_read_as_opencv_reads_it():
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    data = saved(Image.fromarray(np.dstack([ramp, 2 * ramp, 255 - ramp])), "JPEG", quality=95, subsampling=0)
    picture = read_picture(data)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert picture.notices == ()
    assert np.abs(picture.pixels.astype(int) - other).max() <= 2


# The picture that is seen, from the one that is stored: EXIF 2.32, table of the tag Orientation
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
KEEPERS = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF deflated": {"compression": "tiff_deflate"},
    "JPEG": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_orientation_is_baked_in(orientation, keeper):
    stored = np.repeat(np.repeat(noise(3, 5, 3), 8, axis=0), 8, axis=1)  # flat blocks, which JPEG keeps
    file_format = keeper.split()[0]
    options = KEEPERS[keeper] | {"exif": exif_of(orientation, _271="maker")}
    picture = read_picture(saved(Image.fromarray(stored), file_format, **options))
    want = UPRIGHT[orientation](stored)
    assert picture.pixels.shape == want.shape
    assert np.abs(picture.pixels.astype(int) - want).max() <= (4 if file_format == "JPEG" else 0)
    assert picture.notices == ()
    if file_format == "TIFF":
        return
    exif = Image.Exif()
    exif.load(picture.metadata.exif)
    assert exif.get(ORIENTATION, 1) == 1
    assert exif[MAKE] == "maker"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_not_baked_in_twice(file_format):
    stored = np.repeat(np.repeat(noise(3, 5, 3), 8, axis=0), 8, axis=1)
    first = read_picture(saved(Image.fromarray(stored), "PNG", exif=exif_of(6)))
    again = read_picture(encoded(first, file_format))
    assert again.size == first.size == (40, 24)


def test_a_direction_dependent_kernel_sees_upright_pixels():
    seen = np.zeros((10, 8), np.uint8)
    seen[:, 4:] = 25  # an upright edge
    want = cv2.filter2D(seen, -1, np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float))
    stored = np.rot90(seen, 1)  # orientation 6 turns it back by a quarter, clockwise
    picture = read_picture(saved(Image.fromarray(stored.copy()), "PNG", exif=exif_of(6)))
    results = {
        name: filter_picture(picture, Recipe((Filter(kernel=read_kernel(name)),)))[0].pixels[..., 0]
        for name in ("sobel-x", "sobel-y")
    }
    assert want.max() == 100
    assert np.array_equal(results["sobel-x"], want)
    assert not results["sobel-y"].any()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_exif_and_resolution_are_carried(file_format):
    exif = Image.Exif()
    exif[MAKE] = "maker"
    options = {"icc_profile": SRGB, "exif": exif, "dpi": (300, 150)}
    if file_format == "WEBP":
        del options["dpi"]
    metadata = read_picture(saved(Image.fromarray(RGB), file_format, **options)).metadata
    assert metadata.icc == SRGB
    if file_format != "WEBP":
        assert metadata.dpi == pytest.approx((300, 150), abs=0.02)
    if file_format != "TIFF":
        kept = Image.Exif()
        kept.load(metadata.exif)
        assert kept[MAKE] == "maker"


def test_nothing_is_carried_where_there_was_nothing():
    assert read_picture(saved(Image.fromarray(RGB), "PNG")).metadata == Metadata()


@pytest.mark.parametrize(
    ("image", "icc", "gray", "kept"),
    [
        (Image.fromarray(RGB), SRGB, False, True),
        (Image.fromarray(RGBA), SRGB, False, True),
        (palette_image(), SRGB, False, True),
        (Image.fromarray(GREY), GRAY_PROFILE, False, True),
        (Image.fromarray(RGB), SRGB, True, False),
        (Image.fromarray(GREY), SRGB, False, False),
        (Image.fromarray(RGB), GRAY_PROFILE, False, False),
        (Image.fromarray(INKS, "CMYK"), SRGB, False, False),
    ],
    ids=["RGB", "RGBA", "P", "grey", "RGB made grey", "grey with RGB's", "RGB with grey's", "CMYK"],
)
@pytest.mark.parametrize("output", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_profile_goes_on_where_it_fits(image, icc, gray, kept, output):
    file_format = "TIFF" if image.mode == "CMYK" else "PNG"
    picture = read_picture(saved(image, file_format, icc_profile=icc))
    picture = filter_picture(picture, Recipe((Filter(kernel=read_kernel("blur")),), gray=gray))[0]
    data = encoded(picture, output)
    if output == "WEBP" and picture.color.shape[2] == 1:
        return  # WebP has no grey, so neither profile is right
    assert Image.open(io.BytesIO(data)).info.get("icc_profile") == (icc if kept else None)


@pytest.mark.parametrize(
    ("per_metre", "unit", "dpi"),
    [
        ((11811, 3780), 1, (300, 96)),
        ((0, 0), 1, None),
        ((0, 3780), 1, None),
        ((3780, 0), 1, None),
        ((2**31 - 1, 3780), 1, None),
        ((2, 1), 0, None),  # the shape of a pixel, not its size
    ],
)
def test_a_senseless_resolution_is_left_out(per_metre, unit, dpi):
    data = png_of(1, 1, 8, 0, [b"a"], (b"pHYs", struct.pack(">IIB", *per_metre, unit)))
    found = read_picture(data).metadata.dpi
    assert found == (dpi if dpi is None else pytest.approx(dpi, abs=0.02))


FRAMES = [Image.fromarray(np.full((6, 9, 3), value, np.uint8)) for value in (10, 100, 200)]


@pytest.mark.parametrize(("file_format", "count"), [("GIF", 3), ("TIFF", 2), ("PNG", 3), ("WEBP", 2)])
def test_first_frame_with_a_notice(file_format, count):
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = saved(FRAMES[0], file_format, save_all=True, append_images=FRAMES[1:count], **options)
    picture = read_picture(data)
    assert picture.pixels.shape == (6, 9, 3)
    assert (picture.pixels == 10).all()
    assert len(picture.notices) == 1
    assert f"first of {count} frames" in picture.notices[0]


def test_the_first_frame_of_a_file_whose_second_is_a_still_of_another_size():
    data = saved(FRAMES[0], "TIFF", save_all=True, append_images=[Image.fromarray(noise(3, 3))])
    assert read_picture(data).pixels.shape == (6, 9, 3)


def raw_exif(*entries):
    """EXIF bytes by hand: entries of (tag, type, count, 4 bytes)."""
    body = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4) + b"abcdefgh" * 8


TURN = (ORIENTATION, 3, 1, b"\0\6\0\0")
DAMAGED_EXIF = {
    "no TIFF header": b"Exif\0\0this is no EXIF",
    "cut in its header": b"Exif\0\0MM\0*",
    "cut in its entries": raw_exif(TURN)[:20],
    "offset past the end": b"Exif\0\0MM\0*\x7f\xff\xff\xff" + bytes(20),
    "a resolution that is text": raw_exif(TURN, (X_RESOLUTION, 2, 4, b"abc\0")),
    "a resolution that is bytes": raw_exif(TURN, (X_RESOLUTION, 7, 4, b"abcd")),
    "a maker that is a fraction": raw_exif((MAKE, 5, 1, struct.pack(">I", 40)), TURN),
    "a maker that is a number": raw_exif((MAKE, 3, 1, b"\0\1\0\0"), TURN),
    "an orientation that is none": raw_exif((ORIENTATION, 3, 1, b"\0\x63\0\0")),
    "an orientation that is text": raw_exif((ORIENTATION, 2, 4, b"six\0")),
    "an orientation that is two": raw_exif((ORIENTATION, 3, 2, b"\0\6\0\6")),
}


@pytest.mark.parametrize("exif", DAMAGED_EXIF.values(), ids=DAMAGED_EXIF)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_stop_the_picture(exif, file_format):
    stored = np.repeat(np.repeat(noise(2, 3, 3), 8, axis=0), 8, axis=1)
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    options |= {"lossless": True} if file_format == "WEBP" else {}
    picture = read_picture(saved(Image.fromarray(stored), file_format, exif=exif, **options))
    wanted = [stored, UPRIGHT[6](stored)] if TURN[3] in exif else [stored]
    got = picture.pixels.astype(int)
    assert any(got.shape == want.shape and np.abs(got - want).max() <= 4 for want in wanted)
    encoded(picture, "JPEG")  # and whatever was kept of it can be written


def test_no_memory_is_not_damaged_exif(monkeypatch):
    """A picture that could not be turned must not go on lying on its side."""
    data = saved(Image.fromarray(RGB), "PNG", exif=exif_of(6))

    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr("convcli.images.reading.turned_upright", exhausted)
    with pytest.raises((MemoryError, PictureError)):
        read_picture(data)


WHOLE = {
    "png": saved(Image.fromarray(noise(24, 17, 3)), "PNG"),
    "jpeg": saved(Image.fromarray(noise(24, 17, 3)), "JPEG"),
    "progressive jpeg": saved(Image.fromarray(noise(24, 17, 3)), "JPEG", progressive=True),
    "webp": saved(Image.fromarray(noise(24, 17, 3)), "WEBP", lossless=True),
    "gif": saved(palette_image(index=noise(24, 17) % 4), "GIF"),
    "gif of two frames": saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:2]),
    "tiff": saved(Image.fromarray(noise(24, 17, 3)), "TIFF"),
    "deflated tiff": saved(Image.fromarray(noise(24, 17, 3)), "TIFF", compression="tiff_deflate"),
    "tiff of two pages": saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:2]),
    "bmp": saved(Image.fromarray(noise(24, 17, 3)), "BMP"),
    "ppm": saved(Image.fromarray(noise(24, 17, 3)), "PPM"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_cut_anywhere_it_is_an_error_or_the_whole_picture(name):
    data = WHOLE[name]
    whole = read_picture(data).pixels
    for length in range(len(data)):
        try:
            part = read_picture(data[:length]).pixels
        except PictureError:
            continue
        assert np.array_equal(part, whole), length


@pytest.mark.parametrize("name", WHOLE)
def test_cut_in_half_it_is_called_damaged_not_no_picture(name):
    data = WHOLE[name]
    with pytest.raises(PictureError, match=r"(?i)truncated|damaged|cut short"):
        read_picture(data[: len(data) // 3 if "of two" in name else len(data) // 2])


def test_damage_anywhere_is_nothing_but_a_picture_error():
    dice = np.random.default_rng(3)
    files = [*WHOLE.values(), saved(Image.fromarray(RGB), "JPEG", exif=exif_of(6, _271="maker", _282=72.0))]
    files += [saved(Image.fromarray(GREY16), "TIFF"), saved(Image.fromarray(BITS), "TIFF", compression="group4")]
    for turn in range(150):
        for place, whole in enumerate(files):
            data = bytearray(whole)
            for _ in range(dice.integers(1, 5)):
                data[dice.integers(min(len(data), dice.choice([64, 256, len(data)])))] = dice.integers(256)
            if dice.integers(4) == 0:
                del data[dice.integers(len(data)) :]
            try:
                read_picture(bytes(data), max_pixels=100_000)
            except PictureError:
                continue
            except Exception as error:
                raise AssertionError(f"file {place}, turn {turn}: {error!r}") from error


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw"])
def test_the_decoder_says_nothing_on_its_own(compression, capfd):
    data = bytearray(saved(Image.fromarray(noise(24, 17, 3)), "TIFF", compression=compression))
    for place in range(200, 900, 7):
        data[place] ^= 0xFF
    with pytest.raises(PictureError):
        read_picture(bytes(data))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".jpg", ".txt", ""])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "GIF", "BMP", "PPM"])
def test_a_wrong_suffix_does_not_matter(suffix, file_format, tmp_path):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(saved(Image.fromarray(GREY), file_format))
    assert np.array_equal(read_picture(path).gray().pixels[..., 0].round(), GREY)


NO_PICTURES = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"hello, this is a letter\n",
    "noise": bytes(noise(200)),
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="3" height="3"/>',
    "sound": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "begins as BMP": b"BMW is a car",
    "begins as PNM": b"P5 is a processor",
    "PNG's signature alone": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("data", NO_PICTURES.values(), ids=NO_PICTURES)
@pytest.mark.parametrize("suffix", [".png", ".eps"])
def test_not_a_picture(data, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(PictureError) as error:
            read_picture(source)
        assert len(str(error.value)) > 8
        assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(PictureError, match="no such file"):
        read_picture(tmp_path / "none.png")


def test_a_folder(tmp_path):
    with pytest.raises(PictureError, match="folder"):
        read_picture(tmp_path)


def huge_headers():
    """Files of a few bytes that claim 30000x20000 pixels, and hold next to none."""
    width, height = 30000, 20000
    yield "png", png_of(width, height, 8, 2, [b""])
    yield "png 16 bits", png_of(width, height, 16, 6, [b""])
    yield "ppm", b"P6 %d %d 255\n" % (width, height)
    yield "bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "gif", b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b",\0\0\0\0\1\0\1\0\0\2\0;"
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 9)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    yield "tiff", b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("data", [data for _, data in huge_headers()], ids=[name for name, _ in huge_headers()])
def test_the_header_is_believed_before_anything_is_decoded(data, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _self: pytest.fail("decoded"))
    with pytest.raises(PictureError) as error:
        read_picture(data)
    assert "20000x30000" in str(error.value)
    assert "200,000,000" in str(error.value)
    assert "--max-pixels" in str(error.value)


def test_the_69_bytes():
    data = png_of(30000, 30000, 8, 0, [])
    assert len(data) < 80
    with pytest.raises(PictureError, match="900,000,000"):
        read_picture(data)


def test_max_pixels_is_the_most_that_is_read():
    data = saved(Image.fromarray(RGB), "PNG")
    assert read_picture(data, max_pixels=35).size == (7, 5)
    with pytest.raises(PictureError, match=r"7x5.* 34"):
        read_picture(data, max_pixels=34)


def test_pillows_own_limit_is_replaced_and_put_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_picture(saved(Image.fromarray(RGB), "PNG")).size == (7, 5)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(PictureError):
        read_picture(b"")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_gray_is_luma_and_keeps_alpha():
    picture = Picture(RGBA, 255.0, alpha=True).gray()
    assert picture.pixels.shape == (7, 5, 2)
    want = 0.299 * RGBA[..., 0] + 0.587 * RGBA[..., 1] + 0.114 * RGBA[..., 2].astype(float)
    assert np.abs(picture.pixels[..., 0] - want).max() < 1e-4  # not rounded
    assert np.array_equal(picture.pixels[..., 1], RGBA[..., 3])
    assert Picture(GREY[..., None], 255.0).gray().pixels.dtype == np.uint8


def test_threads_leave_the_process_as_it_was(tmp_path):
    """Pillow's limit, the warning filters and stderr are of the whole process: the last reader gives them back."""
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).save(path, compression="tiff_lzw")
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), os.fstat(2)
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(lambda _: read_picture(path), range(100)):
            assert np.array_equal(one.pixels, RGB)
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters), os.fstat(2)) == before
