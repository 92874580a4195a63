"""Encoding, judged by Pillow and OpenCV reading it back, and writing that is whole or not there at all."""

import errno
import io
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from convcli.errors import ConvcliError, PictureError
from convcli.files import write_file
from convcli.images.formats import FORMATS, format_named, format_of
from convcli.images.picture import Metadata, Picture
from convcli.images.reading import read_picture
from convcli.images.writing import Encoding, encode
from pictures import chunks_of, encoded, encoded_and_said, noise

MAKE = 0x010F
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


def exif_bytes(maker="maker"):
    exif = Image.Exif()
    exif[MAKE] = maker
    return exif.tobytes().removeprefix(b"Exif\0\0")


def picture_of(pixels, metadata=None):
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    white = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    return Picture(pixels, white, pixels.shape[2] in (2, 4), metadata or Metadata())


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def read_back(data, channels, dtype):
    """The pixels as an independent decoder sees them: Pillow, or OpenCV where Pillow has no such mode."""
    if dtype == np.uint8 or channels == 1:
        return np.asarray(opened(data)).reshape(*opened(data).size[::-1], channels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    order = {2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # OpenCV has BGRA, also for grey with alpha
    return decoded[..., order]


def assert_whole_stream(data, height, line):
    """The pixel chunks are neighbours and one zlib stream, checksum and all, that holds each line once."""
    kinds = [kind for kind, _ in chunks_of(data)]
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert kinds[kinds.index(b"IDAT") :] == [b"IDAT"] * kinds.count(b"IDAT") + [b"IEND"]
    stream = zlib.decompressobj()
    raw = stream.decompress(b"".join(body for kind, body in chunks_of(data) if kind == b"IDAT"))
    assert stream.eof
    assert stream.unused_data == b""
    assert len(raw) == height * (1 + line)
    assert set(raw[:: 1 + line]) <= {0, 1, 2, 3, 4}


SIZES = [(1, 1), (1, 2), (1, 300), (300, 1), (2, 3), (15, 16), (16, 15), (17, 33), (64, 64), (3, 5000)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_png_read_back(size, dtype, channels):
    pixels = noise(*size, channels, dtype=dtype)
    data = encoded(picture_of(pixels), "PNG")
    assert np.array_equal(read_back(data, channels, dtype), pixels)
    assert_whole_stream(data, size[0], size[1] * channels * pixels.itemsize)
    header = struct.unpack(">IIBBBBB", chunks_of(data)[0][1])
    assert header == (size[1], size[0], 8 * pixels.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)


@pytest.mark.parametrize("threads", [1, 2, 5, None])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1100, 1000, 1), np.uint8),  # one strip of a MiB and some rows
        ((1024, 1024, 1), np.uint8),  # just more than a MiB, counted with the filter bytes
        ((1200, 1300, 3), np.uint8),
        ((700, 900, 4), np.uint16),
        ((3, 1 << 20, 1), np.uint8),  # a row is a strip
        ((2, (1 << 20) + 1, 1), np.uint8),  # a row is longer than one
    ],
    ids=str,
)
def test_png_of_several_strips(shape, dtype, threads):
    rows = np.arange(shape[0])[:, None, None] * 3 + np.arange(shape[1])[:, None] * 2 + np.arange(shape[2]) * 50
    pixels = (rows + noise(64, 1, 1)[np.arange(shape[0]) % 64] // 16).astype(dtype)
    data = encoded(picture_of(pixels), "PNG", threads=threads)
    assert np.array_equal(read_back(data, shape[2], dtype), pixels)
    assert_whole_stream(data, shape[0], shape[1] * shape[2] * pixels.itemsize)


@pytest.mark.parametrize("content", ["noise", "rows alike", "ramps from left"])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_several_strips_under_every_filter(content, channels):
    pixels = {
        "noise": noise(1100, 1300, channels),
        "rows alike": noise(1300, channels) + np.arange(1100, dtype=np.uint8)[:, None, None] // 9,
        "ramps from left": noise(1100, 1, channels) + np.arange(1300)[:, None],
    }[content].astype(np.uint8)
    data = encoded(picture_of(pixels), "PNG")
    assert np.array_equal(read_back(data, channels, np.uint8), pixels)
    assert_whole_stream(data, 1100, 1300 * channels)
    assert content == "noise" or len(data) < pixels.size / 20


def test_png_is_the_same_whatever_the_threads():
    picture = picture_of(noise(1200, 1300, 3))
    assert len({encoded(picture, "PNG", threads=threads) for threads in (1, 2, 3, None)}) == 1


RAMP = np.arange(400)
CONTENTS = {
    "one colour": np.full((400, 400), 77),
    "rows alike": np.tile(noise(400), (400, 1)),
    "columns alike": np.tile(noise(400)[:, None], (1, 400)),
    "ramps from left": noise(400)[:, None] + RAMP,
    "ramps from above": noise(400) + RAMP[:, None],
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_filters_make_it_small(content, dtype):
    pixels = CONTENTS[content].astype(dtype)
    data = encoded(picture_of(pixels), "PNG")
    assert np.array_equal(np.asarray(opened(data)), pixels)
    bits = 1.6 if dtype == np.uint16 and "ramps" in content else 0.4  # a byte: high and low bytes take turns there
    assert 8 * len(data) < bits * pixels.nbytes


@pytest.mark.parametrize(
    "pixels",
    [
        noise(40, 60, 3)[::-1, ::2],
        np.asfortranarray(noise(40, 60, 3)),
        np.broadcast_to(noise(60, 3), (40, 60, 3)),
        np.moveaxis(noise(3, 40, 60), 0, 2),
        noise(40, 60, 3, dtype=np.uint16).astype(">u2"),
    ],
    ids=["strided", "by columns", "broadcast", "planar", "big endian"],
)
def test_png_of_any_memory_layout(pixels):
    data = encoded(picture_of(pixels), "PNG")
    assert np.array_equal(read_back(data, 3, pixels.dtype.newbyteorder("=")), pixels)


def test_png_does_not_change_the_pixels_it_is_given():
    pixels = noise(40, 60, 3)
    before = pixels.copy()
    encoded(picture_of(pixels), "PNG")
    assert np.array_equal(pixels, before)


def test_png_carries_metadata():
    picture = picture_of(noise(9, 9, 3), Metadata(SRGB, exif_bytes(), (300.0, 96.0)))
    data = encoded(picture, "PNG")
    chunks = dict(chunks_of(data))
    assert [kind for kind, _ in chunks_of(data)][1:-2] == [b"iCCP", b"pHYs", b"eXIf"]
    name, _, packed = chunks[b"iCCP"].partition(b"\0")
    assert 1 <= len(name) <= 79
    assert packed[0] == 0
    assert zlib.decompress(packed[1:]) == SRGB
    assert chunks[b"pHYs"] == struct.pack(">IIB", 11811, 3780, 1)  # 300 and 96 dpi in pixels per metre
    assert chunks[b"eXIf"][:2] in (b"II", b"MM")  # the chunk has no "Exif" in front
    image = opened(data)
    assert image.info["icc_profile"] == SRGB
    assert image.info["dpi"] == pytest.approx((300, 96), abs=0.02)
    assert image.getexif()[MAKE] == "maker"
    assert np.array_equal(np.asarray(image), picture.pixels)


def test_png_without_metadata_has_none():
    assert [kind for kind, _ in chunks_of(encoded(picture_of(noise(9, 9)), "PNG"))] == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("prefix", [b"Exif\0\0", b""], ids=["as JPEG has EXIF", "as WebP has EXIF"])
def test_metadata_in_every_format(file_format, prefix):
    exif = prefix + exif_bytes().removeprefix(b"Exif\0\0")
    data = encoded(picture_of(noise(16, 24, 3), Metadata(SRGB, exif, (200.0, 100.0))), file_format)
    image = opened(data)
    assert image.info["icc_profile"] == SRGB
    if file_format != "WEBP":
        assert image.info["dpi"] == pytest.approx((200, 100), abs=0.02)
    if file_format != "TIFF":
        assert image.getexif()[MAKE] == "maker"


def test_exif_goes_from_webp_to_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(noise(16, 24, 3)).save(buffer, "WEBP", exif=exif_bytes().removeprefix(b"Exif\0\0"))
    data = encoded(read_picture(buffer.getvalue()), "JPEG")
    assert opened(data).getexif()[MAKE] == "maker"


def test_exif_too_long_for_jpeg_does_not_lose_the_picture():
    picture = picture_of(noise(16, 24, 3), Metadata(exif=exif_bytes("m" * 70_000)))
    assert opened(encoded(picture, "JPEG")).size == (24, 16)
    assert opened(encoded(picture, "PNG")).getexif()[MAKE] == "m" * 70_000


@pytest.mark.parametrize(
    ("shape", "icc", "kept"),
    [
        ((8, 8, 3), SRGB, True),
        ((8, 8, 4), SRGB, True),
        ((8, 8, 1), GRAY_PROFILE, True),
        ((8, 8, 2), GRAY_PROFILE, True),
        ((8, 8, 1), SRGB, False),
        ((8, 8, 2), SRGB, False),
        ((8, 8, 3), GRAY_PROFILE, False),
        ((8, 8, 3), b"short", False),
    ],
)
def test_a_profile_of_another_colour_space_is_dropped(shape, icc, kept):
    data = encoded(picture_of(noise(*shape), Metadata(icc=icc)), "PNG")
    assert opened(data).info.get("icc_profile") == (icc if kept else None)


LOSSLESS = [
    *((name, (9, 11, channels), np.uint8) for name in ("PNG", "TIFF") for channels in (1, 2, 3, 4)),
    *((name, (9, 11, channels), np.uint8) for name in ("BMP", "PPM") for channels in (1, 3)),
    ("GIF", (9, 11, 1), np.uint8),
    ("TIFF", (9, 11, 1), np.uint16),
    ("PNG", (9, 11, 1), np.uint16),
]


@pytest.mark.parametrize(("file_format", "shape", "dtype"), LOSSLESS, ids=str)
def test_lossless_formats(file_format, shape, dtype):
    picture = picture_of(noise(*shape, dtype=dtype))
    data, notices = encoded_and_said(picture, file_format)
    assert notices == []
    image = opened(data)
    assert image.format == file_format
    if file_format == "GIF":
        image = image.convert("L")
    assert np.array_equal(np.asarray(image).reshape(shape), picture.pixels)


@pytest.mark.parametrize(("file_format", "channels"), [("JPEG", 1), ("JPEG", 3), ("WEBP", 3), ("WEBP", 4)])
def test_lossy_formats_stay_close(file_format, channels):
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    pixels = np.dstack([ramp + 20] * channels)
    if channels == 4:
        pixels[..., 3] = ramp + 60
    image = opened(encoded(picture_of(pixels), file_format))
    assert image.format == file_format
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    assert np.abs(np.asarray(image).reshape(pixels.shape).astype(int) - pixels).max() <= 8


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG"])
@pytest.mark.parametrize("colors", [1, 3])
def test_a_cut_out_stays_one(file_format, colors):
    pixels = np.zeros((16, 16, colors + 1), np.uint8)
    pixels[:8, :, 0], pixels[:8, :, -1] = 200, 255
    pixels[8:, :, :-1] = 90  # hidden
    data, notices = encoded_and_said(picture_of(pixels), file_format)
    image = opened(data).convert("RGBA")
    shown = np.asarray(image).astype(int)
    if not notices:
        assert np.array_equal(shown[..., 3], pixels[..., -1])
    want = [200] * 3 if colors == 1 else [200, 0, 0]
    seen = shown[:4] if file_format == "WEBP" else shown[:8]  # lossy: its colours run at the edge
    assert np.abs(seen[..., :3] - want).max() <= (8 if file_format == "WEBP" else 0)


COVER = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51], [0, 0, 0, 128]]], np.uint8)


@pytest.mark.parametrize("file_format", ["JPEG", "BMP", "PPM"])
@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_is_laid_over_white(file_format, depth):
    codes = COVER.astype(np.uint16) * 257 if depth == 16 else COVER
    codes = np.repeat(np.repeat(codes, 16, axis=0), 16, axis=1)
    data, notices = encoded_and_said(picture_of(codes), file_format, quality=100 if file_format == "JPEG" else None)
    share = COVER[..., 3:] / 255
    want = COVER[..., :3] * share + 255 * (1 - share)
    shown = np.asarray(opened(data))[8, 8::16].astype(int)
    assert np.abs(shown - want[0]).max() <= (2 if file_format == "JPEG" else 0.5 + 1e-6)
    assert sum("white" in notice for notice in notices) == 1
    assert sum("16 bits" in notice for notice in notices) == (depth == 16)


def test_opaque_alpha_goes_without_a_word():
    pixels = noise(5, 6, 4)
    pixels[..., 3] = 255
    data, notices = encoded_and_said(picture_of(pixels), "BMP")
    assert notices == []
    assert np.array_equal(np.asarray(opened(data)), pixels[..., :3])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("file_format", "channels", "kept"),
    [
        ("PNG", 1, True),
        ("PNG", 2, True),
        ("PNG", 3, True),
        ("PNG", 4, True),
        ("TIFF", 1, True),
        ("TIFF", 3, True),
        ("JPEG", 1, False),
        ("JPEG", 3, False),
        ("WEBP", 3, False),
        ("BMP", 1, False),
        ("GIF", 1, False),
    ],
)
def test_16_bits_are_kept_or_brought_to_8_with_a_notice(file_format, channels, kept, order):
    codes = np.resize(np.arange(0, 65536, 7, dtype=np.uint16), (30, 41, channels)).astype(f"{order}u2")
    data, notices = encoded_and_said(picture_of(codes), file_format)
    again = read_picture(data)
    assert again.size == (30, 41)
    if kept:
        assert notices == []
        assert np.array_equal(again.pixels, codes)
        assert again.white == 65535
    else:
        assert len(notices) == 1
        assert "16 bits" in notices[0]
        assert again.white == 255
        if file_format in ("BMP", "GIF"):
            assert np.abs(again.gray().pixels - codes / 257).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_tiff(dtype):
    values = np.linspace(-2, 3, 63).reshape(7, 9).astype(dtype)
    image = opened(encoded(picture_of(values), "TIFF"))
    assert image.mode == "F"
    assert np.array_equal(np.asarray(image), values.astype(np.float32))


def test_what_a_format_cannot_hold_is_one_sentence():
    with pytest.raises(PictureError, match="5"):
        encoded(Picture(noise(4, 4, 5), 255.0), "PNG")
    with pytest.raises(PictureError, match="JPEG"):
        encoded(picture_of(np.zeros((1, 65_536), np.uint8)), "JPEG")
    with pytest.raises(PictureError, match=r"(?i)webp"):
        encoded(picture_of(np.zeros((1, 16_384, 3), np.uint8)), "WEBP")


@pytest.mark.parametrize(
    ("name", "asked", "want"),
    [
        ("a.png", None, "PNG"),
        ("a.PNG", None, "PNG"),
        ("a.jpg", None, "JPEG"),
        ("a.jpeg", None, "JPEG"),
        ("a.b.Tif", None, "TIFF"),
        ("a.tiff", None, "TIFF"),
        ("a.webp", None, "WEBP"),
        ("a.bmp", None, "BMP"),
        ("a.gif", None, "GIF"),
        ("a.npy", None, "NPY"),
        ("a.png", "jpeg", "JPEG"),
        ("a.png", "JPG", "JPEG"),
        ("a", "tif", "TIFF"),
        ("a.unknown", "png", "PNG"),
    ],
)
def test_format_of(name, asked, want):
    assert (format_named(asked) if asked else format_of(Path(name))).name == want


@pytest.mark.parametrize(("name", "asked"), [("a", None), ("a.", None), ("a.xcf", None), (".png", None), ("a.png", "")])
def test_unknown_formats(name, asked):
    with pytest.raises(ConvcliError, match="must be one of"):
        format_of(Path(name)) if asked is None else format_named(asked)


# ---- writing ----


def names_in(folder):
    return sorted(one.name for one in folder.iterdir())


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def in_process(code, *arguments, **options):
    script = f"import sys\nfrom pathlib import Path\nfrom convcli.files import write_file\n{code}"
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, **options)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 9999 + b"\r\n"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_new_file(tmp_path, data, overwrite):
    write_file(tmp_path / "new", data, overwrite=overwrite)
    assert (tmp_path / "new").read_bytes() == data
    assert names_in(tmp_path) == ["new"]


def test_nothing_is_overwritten_unless_asked(tmp_path):
    target = tmp_path / "old"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_file(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"
    write_file(target, b"new", overwrite=True)
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["old"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path, mask):
    before = os.umask(mask)
    try:
        for overwrite in (False, True):
            write_file(tmp_path / f"new-{overwrite}", b"x", overwrite=overwrite)
    finally:
        os.umask(before)
    assert {mode_of(one) for one in tmp_path.iterdir()} == {0o666 & ~mask}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_the_mode_of_a_replaced_file_is_kept(tmp_path, mode):
    target = tmp_path / "old"
    target.write_bytes(b"old")
    target.chmod(mode)
    write_file(target, b"new", overwrite=True)
    assert mode_of(target) == mode
    assert target.read_bytes() == b"new"


def test_a_private_file_is_never_readable_meanwhile(tmp_path):
    target = tmp_path / "old"
    target.write_bytes(b"old")
    target.chmod(0o600)
    seen = []

    def write(file):
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.write(b"secret")

    write_file(target, write, overwrite=True)
    assert seen
    assert not seen[0] & 0o077
    assert target.read_bytes() == b"secret"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "here" / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to("../there/real")
    with pytest.raises(FileExistsError):
        write_file(link, b"new", overwrite=False)
    assert real.read_bytes() == b"old"
    write_file(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert mode_of(real) == 0o640
    assert (names_in(tmp_path / "here"), names_in(tmp_path / "there")) == (["link"], ["real"])


def test_a_link_to_nothing(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("real")
    with pytest.raises(FileExistsError):
        write_file(link, b"new", overwrite=False)
    assert names_in(tmp_path) == ["link"]
    write_file(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_hard_link_elsewhere_keeps_the_old(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "other").hardlink_to(tmp_path / "old")
    write_file(tmp_path / "old", b"new", overwrite=True)
    assert (tmp_path / "other").read_bytes() == b"old"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("place", ["none/file", "file/below", "folder", "x" * 300])
def test_a_target_that_cannot_be(tmp_path, place, overwrite):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"\[Errno"):
        write_file(tmp_path / place, b"new", overwrite=overwrite)
    assert names_in(tmp_path) == ["file", "folder"]
    assert names_in(tmp_path / "folder") == []
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_long_name_is_no_longer_on_its_way(tmp_path):
    target = tmp_path / ("n" * 255)
    write_file(target, b"x", overwrite=False)
    write_file(target, b"y", overwrite=True)
    assert target.read_bytes() == b"y"


NO_SPACE = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_file(Path(sys.argv[1]), bytes(200_000), overwrite=sys.argv[2] == "True")
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_changes_nothing(tmp_path, overwrite, there):
    target = tmp_path / "target"
    if there:
        target.write_bytes(b"old")
    run = in_process(NO_SPACE, target, overwrite)
    assert run.returncode in ([errno.EFBIG, errno.EEXIST] if there and not overwrite else [errno.EFBIG])
    assert names_in(tmp_path) == ["target"] * there
    if there:
        assert target.read_bytes() == b"old"


KILLED = """
import os, signal
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = os.rename = os.link = die
write_file(Path(sys.argv[1]), bytes(200_000), overwrite=sys.argv[2] == "True")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_on_the_way_the_target_is_as_it_was(tmp_path, overwrite):
    target = tmp_path / "target.png"
    if overwrite:
        target.write_bytes(b"old")
    assert in_process(KILLED, target, overwrite).returncode == -signal.SIGKILL
    assert target.exists() == overwrite
    if overwrite:
        assert target.read_bytes() == b"old"
    leftovers = [name for name in names_in(tmp_path) if name != target.name]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(".convcli-")  # hidden, and no picture by its name: no later run takes it for one
    assert leftovers[0].endswith(".tmp")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(errno.EIO, "broken")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_on_the_way_nothing_is_left(tmp_path, monkeypatch, overwrite, error):
    target = tmp_path / "target"
    if overwrite:
        target.write_bytes(b"old")

    def fail(*_, **__):
        raise error

    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        write_file(target, b"new", overwrite=overwrite)
    assert names_in(tmp_path) == ["target"] * overwrite
    if overwrite:
        assert target.read_bytes() == b"old"


@pytest.mark.parametrize("why", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_file_system_without_hard_links(tmp_path, monkeypatch, why):
    def refuse(*_, **__):
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "target"
    write_file(target, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_file(target, b"second", overwrite=False)
    assert target.read_bytes() == b"first"
    assert names_in(tmp_path) == ["target"]
    write_file(tmp_path / "umask", b"", overwrite=True)
    assert mode_of(target) == mode_of(tmp_path / "umask")


def test_of_many_writers_one_wins(tmp_path):
    target, writers = tmp_path / "target", 8
    start, lost = threading.Barrier(writers), []

    def write(number):
        start.wait()
        try:
            write_file(target, bytes([number]) * 500_000, overwrite=False)
        except FileExistsError:
            lost.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = target.read_bytes()
    assert len(lost) == writers - 1
    assert data == data[:1] * 500_000
    assert data[0] not in lost
    assert names_in(tmp_path) == ["target"]


def test_readers_see_the_old_or_the_new_whole(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"a" * 300_000)
    done = threading.Event()

    def write():
        for turn in range(60):
            write_file(target, b"ab"[turn % 2 : turn % 2 + 1] * 300_000, overwrite=True)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        data = target.read_bytes()
        seen.add((len(data), data.count(data[:1])))
    writer.join()
    assert seen == {(300_000, 300_000)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    """``-o /dev/null -f`` as root must not turn the machine's /dev/null into a picture."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, b"data", overwrite=True)
    except OSError:
        pass
    else:
        assert os.read(reader, 10) == b"data"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_names_of_every_kind(tmp_path):
    for name in ["with space", "new\nline", "[bold]", "-dash", "ä", os.fsdecode(b"\xff\xfe"), "*", "{stem}"]:
        write_file(tmp_path / name, name.encode(errors="surrogateescape"), overwrite=False)
        assert (tmp_path / name).read_bytes() == name.encode(errors="surrogateescape")
    assert len(names_in(tmp_path)) == 8


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (500, 700)])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_jpeg_is_pillow_s_own(size, threads):
    """Its encoder is given four bytes a pixel."""
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    pieces, _ = encode(Picture(pixels, 255.0), FORMATS["JPEG"], Encoding(quality=90, threads=threads))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    assert b"".join(pieces) == buffer.getvalue()
