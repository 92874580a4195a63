"""Animations, pages, transparency and ranges through the program, against pictures that were composed, filtered and
laid over one another here, by the formulas of the formats' specifications."""

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, features
from scipy import ndimage

from pictures import chunk, chunks_of, files, noise

MEMORY = 3 << 30  # bytes
HALF = 0.5 + 2e-3  # of a step: a stored code lies this near to the exact value, float32's own error counted in
LEVELS = {"8": 255, "16": 65535, "float": 1}
BLUR = np.ones((3, 3)) / 9
EDGE = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
KERNELS = {"blur": BLUR, "edge": EDGE, "sharpen": SHARPEN, "sobel-x": SOBEL_X}


def cut_out(height, width, seed=11):
    """RGBA of every kind of alpha, with colours hidden where that is 0."""
    pixels = noise(height, width, 4, seed=seed)
    pixels[..., 3] = np.random.default_rng(seed).choice([0, 0, 60, 130, 255], (height, width))
    return pixels


def response(values, kernel):
    """What a kernel gives for each channel with a reflected border, in float64."""
    planes = [ndimage.correlate(one, kernel, float, mode="mirror") for one in np.moveaxis(values.astype(float), 2, 0)]
    return np.stack(planes, 2)


def save(path, pixels):
    """A picture of uint8, uint16 or float32 without loss: alpha is the last of two or four channels."""
    pixels = np.asarray(pixels)
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path)
        return
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    colored = pixels.ndim == 3 and pixels.shape[2] > 2
    veiled = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    tifffile.imwrite(
        path,
        flat,
        photometric="rgb" if colored else "minisblack",
        extrasamples=["unassalpha"] if veiled else None,
        planarconfig="contig" if pixels.ndim == 3 and pixels.shape[2] > 1 else None,
    )


def load(path):
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


def at_depth(fractions, depth):
    """Fractions of white as the codes of a depth, and the suffix of a file that holds them."""
    if depth == "float":
        return fractions.astype(np.float32), ".tif"
    codes = np.rint(np.asarray(fractions) * LEVELS[depth]).astype({"8": np.uint8, "16": np.uint16}[depth])
    return codes, ".png" if depth == "8" else ".tif"


def frames_of(path):
    """Every frame as RGBA, read by Pillow."""
    found = []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(np.asarray(image.convert("RGBA")).astype(float))
    return found


def delays_of(path):
    found = []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            found.append(image.info.get("duration"))
    return found


def seen(rgba):
    """What shows: colour as strong as its alpha, and the alpha."""
    rgba = np.asarray(rgba, float)
    return np.concatenate([rgba[..., :3] * rgba[..., 3:] / 255, rgba[..., 3:]], axis=2)


def opaque(rgb):
    return np.dstack([rgb, np.full(rgb.shape[:2], 255)])


# Animations by hand. A GIF frame is (indices, (y, x), disposal, transparent index or None, hundredths of a second);
# an APNG's is (pixels, (y, x), disposal, blending, (numerator, denominator))

PALETTE = np.array([[9, 8, 7], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [250, 250, 250]], np.uint8)


def lzw(indices):
    """LZW data whose codes never grow beyond nine bits: it begins anew every 250 codes."""
    codes = [code for place, one in enumerate(indices) for code in ([256] * (place % 250 == 0) + [int(one)])]
    bits = sum(code << 9 * place for place, code in enumerate([*codes, 257]))
    data = bits.to_bytes((9 * (len(codes) + 1) + 7) // 8, "little")
    return b"".join(bytes([len(part)]) + part for part in (data[i : i + 255] for i in range(0, len(data), 255))) + b"\0"


def gif_of(size, frames):
    data = b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], 0xF7, 0, 0) + PALETTE.tobytes().ljust(768, b"\0")
    for indices, (y, x), disposal, key, delay in frames:
        data += b"!\xf9\x04" + struct.pack("<BHB", disposal << 2 | (key is not None), delay, key or 0) + b"\0"
        data += b"," + struct.pack("<HHHHB", x, y, indices.shape[1], indices.shape[0], 0)
        data += b"\x08" + lzw(indices.ravel())
    return data + b";"


def gif_as_seen(size, frames):
    """GIF89a, section 23: 2 clears the frame's place, which is to be seen through, 3 brings back what was there."""
    canvas, shown = np.zeros((*size, 4)), []
    for indices, (y, x), disposal, key, _ in frames:
        before, place = canvas.copy(), (slice(y, y + indices.shape[0]), slice(x, x + indices.shape[1]))
        drawn = indices != (-1 if key is None else key)
        canvas[place][drawn] = opaque(PALETTE[indices])[drawn]
        shown.append(canvas.copy())
        if disposal == 2:
            canvas[place] = 0
        elif disposal == 3:
            canvas = before
    return shown


def apng_of(size, frames, plays=0, default=None):
    channels, depth = frames[0][0].shape[2], 8 * frames[0][0].itemsize
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0))
    data += chunk(b"acTL", struct.pack(">II", len(frames), plays))
    pictures = [(default, None)] if default is not None else []
    pictures += [(pixels, (y, x, *delay, disposal, blend)) for pixels, (y, x), disposal, blend, delay in frames]
    number = 0
    for place, (pixels, control) in enumerate(pictures):
        if control:
            y, x, *more = control
            head = struct.pack(">IIIIIHHBB", number, pixels.shape[1], pixels.shape[0], x, y, *more)
            data, number = data + chunk(b"fcTL", head), number + 1
        big_endian = pixels.astype(pixels.dtype.newbyteorder(">"))
        packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in big_endian))
        if place == 0:
            data += chunk(b"IDAT", packed)
        else:
            data, number = data + chunk(b"fdAT", struct.pack(">I", number) + packed), number + 1
    return data + chunk(b"IEND", b"")


def apng_as_seen(size, frames):
    """PNG, third edition, sections 11.3.6 and 13.16: blending 1 lays a frame over, disposal 1 clears, 2 reverts."""
    canvas, shown = np.zeros((*size, 4)), []
    for number, (pixels, (y, x), disposal, blend, _) in enumerate(frames):
        before, place = canvas.copy(), (slice(y, y + pixels.shape[0]), slice(x, x + pixels.shape[1]))
        new = (pixels if pixels.shape[2] == 4 else opaque(pixels)).astype(float)
        if blend:
            over, under = new[..., 3:] / 255, canvas[place][..., 3:] / 255 * (1 - new[..., 3:] / 255)
            light = new[..., :3] * over + canvas[place][..., :3] * under
            colors = np.divide(light, over + under, out=np.zeros_like(light), where=over + under > 0)
            new = np.concatenate([colors, 255 * (over + under)], axis=2)
        canvas[place] = new
        shown.append(canvas.copy())
        if disposal == 1 or (disposal == 2 and number == 0):
            canvas[place] = 0
        elif disposal == 2:
            canvas = before
    return shown


def piece(height, width, y, x, least=1):
    """A part of a GIF's canvas and its place: any of the colours from ``least`` on."""
    return np.random.default_rng(height + y).integers(least, len(PALETTE), (height, width)), (y, x)


SIZE = 12, 16
FULL, PART, CORNER, STAMP = piece(12, 16, 0, 0), piece(5, 6, 2, 3), piece(4, 4, 6, 9), piece(4, 4, 1, 9)
HOLED, HOLED_PART, HOLED_CORNER = piece(12, 16, 0, 0, 0), piece(5, 6, 2, 3, 0), piece(4, 4, 6, 9, 0)
NO = None
GIFS = {
    "what has changed": [(*FULL, 1, NO, 5), (*PART, 1, NO, 5), (*CORNER, 1, NO, 5)],
    "what has changed, with holes": [(*FULL, 1, 0, 5), (*HOLED_PART, 1, 0, 5), (*HOLED_CORNER, 1, 0, 5)],
    "cleared": [(*HOLED, 2, 0, 5), (*HOLED_PART, 2, 0, 5), (*HOLED_CORNER, 1, 0, 5)],
    "brought back": [(*FULL, 1, NO, 5), (*PART, 3, NO, 5), (*CORNER, 1, NO, 5)],
    "brought back, with holes": [(*FULL, 1, 0, 5), (*HOLED_PART, 3, 0, 5), (*HOLED_CORNER, 3, 0, 5), (*STAMP, 1, 0, 5)],
    "a small first frame with holes": [(*HOLED_PART, 1, 0, 5), (*HOLED_CORNER, 1, 0, 5)],
    "cleared without a hole anywhere": [(*FULL, 1, NO, 5), (*PART, 2, NO, 5), (*CORNER, 1, NO, 5)],
    "another colour is the hole in each": [(*FULL, 1, NO, 5), (*PART, 2, 3, 5), (*CORNER, 1, 5, 5)],
    "cleared, then left": [(*FULL, 1, 0, 5), (*HOLED_PART, 2, 0, 5), (*HOLED_CORNER, 0, 0, 5), (*STAMP, 1, 0, 5)],
    "brought back, then left": [(*FULL, 1, 0, 5), (*HOLED_PART, 3, 0, 5), (*HOLED_CORNER, 0, 0, 5), (*STAMP, 1, 0, 5)],
}


@pytest.mark.parametrize("frames", GIFS.values(), ids=GIFS)
def test_frames_of_a_gif_are_taken_as_they_are_seen(frames, invoke, tmp_path):
    (tmp_path / "a.gif").write_bytes(gif_of(SIZE, frames))
    assert invoke("identity", "a.gif", "-o", "{frame}.png", "-q").status == 0
    for number, want in enumerate(gif_as_seen(SIZE, frames)):
        assert np.array_equal(seen(frames_of(tmp_path / f"{number}.png")[0]), seen(want)), number


WHOLE, VEIL = noise(12, 16, 3), cut_out(12, 16)
SOLID = opaque(WHOLE).astype(np.uint8)
BASE, SOLID_BASE, VEIL_BASE = (WHOLE, (0, 0)), (SOLID, (0, 0)), (VEIL, (0, 0))
PATCH, OTHER = (noise(5, 6, 3, seed=2), (2, 3)), (noise(8, 8, 3, seed=3), (4, 5))
VEILED_PATCH, VEILED_OTHER, LAST = (cut_out(5, 6, 2), (2, 3)), (cut_out(8, 8, 3), (4, 5)), (cut_out(3, 3, 4), (0, 0))
T = (1, 10)
APNGS = {
    "what has changed": [(*BASE, 0, 0, T), (*PATCH, 0, 0, T), (*OTHER, 0, 1, T)],
    "replaced": [(*VEIL_BASE, 0, 0, T), (*VEILED_PATCH, 0, 0, T), (*VEILED_OTHER, 0, 0, T)],
    "cleared": [(*VEIL_BASE, 0, 0, T), (*VEILED_PATCH, 1, 0, T), (*VEILED_OTHER, 0, 0, T)],
    "brought back": [(*VEIL_BASE, 0, 0, T), (*VEILED_PATCH, 2, 0, T), (*VEILED_OTHER, 2, 0, T), (*LAST, 0, 0, T)],
    "laid over what is opaque": [(*SOLID_BASE, 0, 0, T), (*VEILED_PATCH, 0, 1, T)],
    "laid over what is not": [(*VEIL_BASE, 0, 0, T), (*VEILED_PATCH, 0, 1, T), (*VEILED_OTHER, 0, 1, T)],
    "laid over and cleared": [(*VEIL_BASE, 0, 0, T), (*VEILED_PATCH, 1, 1, T), (*VEILED_OTHER, 0, 1, T)],
    "laid over and brought back": [(*BASE, 0, 0, T), (*PATCH, 2, 1, T), (*OTHER, 2, 1, T), (*PATCH, 0, 1, T)],
    "RGB that is cleared": [(*BASE, 0, 0, T), (*PATCH, 1, 0, T), (*OTHER, 0, 0, T)],
}


@pytest.mark.parametrize("frames", APNGS.values(), ids=APNGS)
def test_frames_of_an_apng_are_taken_as_they_are_seen(frames, invoke, tmp_path):
    (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames))
    assert invoke("identity", "a.png", "-o", "{frame}.tif", "-q").status == 0
    for number, want in enumerate(apng_as_seen(SIZE, frames)):
        assert np.abs(seen(frames_of(tmp_path / f"{number}.tif")[0]) - seen(want)).max() <= 1.5, number


def test_the_composer_of_apngs_agrees_with_opencv(tmp_path):
    for frames in (APNGS["laid over what is not"], APNGS["laid over and brought back"]):
        (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames))
        found_frames = cv2.imreadanimation(tmp_path / "a.png")[1].frames
        for found, want in zip(found_frames, apng_as_seen(SIZE, frames), strict=True):
            rgba = cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGBA)
            assert np.abs(seen(rgba) - seen(want)).max() <= 2


def test_a_frame_of_an_apng_is_not_laid_over_the_picture_for_those_that_show_no_animation(invoke, tmp_path):
    frames = [(*PATCH, 0, 0, T), (*OTHER, 0, 0, T)]
    (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames, default=WHOLE))
    assert invoke("identity", "a.png", "-o", "{frame}.tif", "-q").status == 0
    assert np.array_equal(frames_of(tmp_path / "0.tif")[0][..., :3], WHOLE)
    for number, want in enumerate(apng_as_seen(SIZE, frames), 1):
        assert np.abs(seen(frames_of(tmp_path / f"{number}.tif")[0]) - seen(want)).max() <= 1, number


MAGICK = shutil.which("magick") or shutil.which("convert-im6.q16")


@pytest.fixture
def magick(tmp_path):
    if not MAGICK:
        pytest.skip("ImageMagick is not installed")
    return lambda *args: subprocess.run([MAGICK, *args], cwd=tmp_path, check=True, timeout=60)


DRAWN = {
    "whole frames with holes": ("none", "-dispose", "background"),
    "what has changed": ("tan", "-layers", "optimize"),
    "what has changed, cleared": ("none", "-dispose", "background", "-layers", "optimize-transparency"),
}


@pytest.mark.parametrize(("canvas", "options"), [(one[0], one[1:]) for one in DRAWN.values()], ids=DRAWN)
def test_a_gif_of_imagemagick_is_seen_as_imagemagick_sees_it(canvas, options, magick, invoke, tmp_path):
    boxes = [f"rectangle {3 + 4 * x},{4 + x} {8 + 4 * x},{12 + x}" for x in range(4)]
    dots = [word for box in boxes for word in ("(", f"xc:{canvas}", "-fill", "red", "-draw", box, ")")]
    magick("-size", "24x18", "-delay", "7", *dots, *options, "-loop", "0", "a.gif")
    magick("a.gif", "-coalesce", "seen-%d.png")
    assert invoke("identity", "a.gif", "-o", "b.gif", "-q").status == 0
    magick("b.gif", "-coalesce", "made-%d.png")
    assert invoke("identity", "a.gif", "-o", "c{frame}.png", "-q").status == 0
    for number in range(4):
        want = seen(frames_of(tmp_path / f"seen-{number}.png")[0])
        assert want[..., 3].min() == (0 if canvas == "none" else 255)
        assert len(np.unique(want.reshape(-1, 4), axis=0)) == 2
        assert np.array_equal(seen(frames_of(tmp_path / f"made-{number}.png")[0]), want)
        assert np.array_equal(seen(frames_of(tmp_path / f"c{number}.png")[0]), want)
    assert delays_of(tmp_path / "b.gif") == [70] * 4


def test_every_frame_is_filtered_after_it_was_composed(invoke, tmp_path):
    frames = GIFS["what has changed"]
    (tmp_path / "a.gif").write_bytes(gif_of(SIZE, frames))
    assert invoke("blur", "a.gif", "-o", "b.png", "-q").status == 0
    for found, want in zip(frames_of(tmp_path / "b.png"), gif_as_seen(SIZE, frames), strict=True):
        assert np.array_equal(found[..., :3], np.rint(response(want[..., :3], BLUR)))


# Delays, repetitions, conversions

DISC = [opaque(np.full((10, 24, 3), 30)).astype(np.uint8) for _ in range(4)]
for place, one in enumerate(DISC):
    one[2:6, 6 * place + 2 : 6 * place + 6, :3] = 40 * place, 200, 90
HOLE = [one.copy() for one in DISC]
for one in HOLE:
    one[(one[..., :3] == 30).all(axis=2)] = 0
DELAYS = [50, 100, 150, 700]
EXACT = {"gif": {}, "webp": {"lossless": True}, "png": {}}  # without loss
LOSSY = ["webp", *(["avif"] if features.check("avif") else [])]
MOVING = ["gif", "png", *LOSSY]


def animation(path, frames, delays=None, **options):
    first, *others = [Image.fromarray(one) for one in frames]
    options |= EXACT.get(path.suffix[1:], {}) | ({"disposal": 2} if path.suffix == ".gif" else {})
    first.save(path, save_all=True, append_images=others, duration=delays or DELAYS, **options)
    return path


def best(target):
    return ("--quality", "100") if target in LOSSY else ()


@pytest.mark.parametrize("target", MOVING)
@pytest.mark.parametrize("source", EXACT)
def test_frames_and_delays_go_from_each_format_to_each(source, target, invoke, tmp_path):
    animation(tmp_path / f"a.{source}", DISC)
    done = invoke("identity", f"a.{source}", "-o", f"b.{target}", "-q", *best(target))
    assert done == (0, f"b.{target}\n".encode(), b"")
    assert delays_of(tmp_path / f"b.{target}") == DELAYS
    for number, found in enumerate(frames_of(tmp_path / f"b.{target}")):
        assert (found[..., 3] == 255).all()
        differences = [np.abs(found - one).mean() for one in DISC]
        assert np.argmin(differences) == number
        assert differences[number] <= (6 if target in LOSSY else 0)


@pytest.mark.parametrize("target", MOVING)
@pytest.mark.parametrize("source", ["gif", "png"])
def test_what_can_be_seen_through_stays_so_in_every_frame(source, target, invoke, tmp_path):
    animation(tmp_path / f"a.{source}", HOLE)
    assert invoke("identity", f"a.{source}", "-o", f"b.{target}", "-q", *best(target)).status == 0
    for found, want in zip(frames_of(tmp_path / f"b.{target}"), HOLE, strict=True):
        assert np.array_equal(found[..., 3], want[..., 3])


def times_shown(path):
    """How often an animation is shown, 0 for ever. In a GIF the number is that of repetitions, as browsers take it."""
    with Image.open(path) as image:
        found = image.info.get("loop")
    if path.suffix != ".gif":
        return found
    return 1 if found is None else found and found + 1


@pytest.mark.parametrize("source", EXACT)
@pytest.mark.parametrize("target", EXACT)
@pytest.mark.parametrize("loop", [0, 1, 5])
def test_an_animation_is_shown_as_often_as_before(source, target, loop, invoke, tmp_path):
    animation(tmp_path / f"a.{source}", DISC, loop=loop)
    assert invoke("identity", f"a.{source}", "-o", f"b.{target}", "-q").status == 0
    assert times_shown(tmp_path / f"b.{target}") == times_shown(tmp_path / f"a.{source}")


@pytest.mark.parametrize("target", EXACT)
def test_a_gif_that_says_nothing_of_repetitions_is_shown_once(target, invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)
    assert invoke("identity", "a.gif", "-o", f"b.{target}", "-q").status == 0
    assert times_shown(tmp_path / f"b.{target}") == 1


@pytest.mark.skipif(not features.check("avif"), reason="Pillow is built without AVIF")
@pytest.mark.parametrize("target", EXACT)
def test_an_avif_that_says_nothing_of_repetitions_goes_on_for_ever(target, invoke, tmp_path):
    """Which is what Pillow's encoder writes: libavif's repetitionCount is infinite unless told otherwise."""
    animation(tmp_path / "a.avif", DISC)
    assert invoke("identity", "a.avif", "-o", f"b.{target}", "-q").status == 0
    assert times_shown(tmp_path / f"b.{target}") == 0


def test_delays_of_a_gif_are_the_nearest_hundredths(invoke, tmp_path):
    animation(tmp_path / "a.webp", DISC, [17, 16, 39, 1003])
    assert invoke("identity", "a.webp", "-o", "b.gif", "-q").status == 0
    assert delays_of(tmp_path / "b.gif") == [20, 20, 40, 1000]


SHARES = {(1, 3): 333, (7, 0): 70, (0, 0): 0, (0, 9): 0, (65535, 1000): 65535, (90, 1): 90000}


@pytest.mark.parametrize(("share", "milliseconds"), SHARES.items())
def test_delays_of_an_apng_are_shares_of_a_second(share, milliseconds, invoke, tmp_path):
    frames = [(*BASE, 0, 0, share), (*PATCH, 0, 0, T)]
    (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames))
    assert invoke("identity", "a.png", "-o", "b.png", "-q").status == 0
    assert delays_of(tmp_path / "b.png") == pytest.approx([milliseconds, 100], abs=10 if milliseconds > 65535 else 1)


def test_frames_that_become_alike_are_shown_as_long_together(invoke, tmp_path):
    animation(tmp_path / "a.png", DISC)
    for target in EXACT:
        assert invoke("filter", "-k", "0", "a.png", "-o", f"b.{target}", "-q").status == 0
        found = delays_of(tmp_path / f"b.{target}")
        assert sum(one or 0 for one in found) == sum(DELAYS) or len(found) == 1
        assert all((one[..., :3] == 0).all() for one in frames_of(tmp_path / f"b.{target}"))


def test_the_picture_for_those_that_show_no_animation_stays_that(invoke, tmp_path):
    frames = [(noise(*SIZE, 3, seed=one), (0, 0), 0, 0, T) for one in (1, 2, 3)]
    (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames, plays=4, default=WHOLE))
    assert invoke("blur", "a.png", "-o", "b.png", "-q").status == 0
    found = chunks_of((tmp_path / "b.png").read_bytes())
    kinds = [kind for kind, _ in found if kind in (b"acTL", b"fcTL", b"IDAT", b"fdAT")]
    assert kinds[:3] == [b"acTL", b"IDAT", b"fcTL"]
    assert kinds.count(b"fcTL") == 3
    assert dict(found)[b"acTL"] == struct.pack(">II", 3, 4)
    shown = cv2.imreadanimation(tmp_path / "b.png")[1].frames
    for one, (pixels, *_) in zip(shown[-3:], frames, strict=True):
        assert np.array_equal(one[..., 2::-1], np.rint(response(pixels, BLUR)))
    assert np.array_equal(cv2.imread(tmp_path / "b.png")[..., ::-1], np.rint(response(WHOLE, BLUR)))


@pytest.mark.parametrize("target", ["gif", "webp"])
def test_where_there_is_no_such_picture_it_is_not_shown_either(target, invoke, tmp_path):
    frames = [(np.full((*SIZE, 3), one, np.uint8), (0, 0), 0, 0, T) for one in (20, 120, 220)]
    (tmp_path / "a.png").write_bytes(apng_of(SIZE, frames, default=np.full((*SIZE, 3), 250, np.uint8)))
    assert invoke("identity", "a.png", "-o", f"b.{target}", "-q").status == 0
    assert [round(one[..., :3].mean() / 20) for one in frames_of(tmp_path / f"b.{target}")] == [1, 6, 11]
    assert delays_of(tmp_path / f"b.{target}") == [100] * 3


@pytest.mark.skipif(not shutil.which("pngcheck"), reason="pngcheck is not installed")
@pytest.mark.parametrize("frames", [DISC, HOLE], ids=["opaque", "with holes"])
def test_pngcheck_finds_nothing_wrong_with_an_animation(frames, invoke, tmp_path):
    animation(tmp_path / "a.gif", frames)
    assert invoke("blur", "a.gif", "-o", "b.png", "-q").status == 0
    done = subprocess.run(["pngcheck", "-v", "b.png"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert b"acTL" in done.stdout


# Pages


def test_pages_keep_their_size_and_their_mode(invoke, tmp_path):
    shapes = (6, 7, 3), (4, 9), (5, 5, 4), (3, 4, 2)
    first, *others = pages = [Image.fromarray(noise(*shape)) for shape in shapes]
    first.save(tmp_path / "a.tif", save_all=True, append_images=[*others, pages[1].convert("1")])
    assert invoke("identity", "a.tif", "-o", "b.tif", "-q").status == 0
    with Image.open(tmp_path / "a.tif") as source, Image.open(tmp_path / "b.tif") as made:
        assert made.n_frames == 5
        for number, mode in enumerate(["RGB", "L", "RGBA", "LA", "L"]):
            source.seek(number)
            made.seek(number)
            assert made.mode == mode
            assert np.array_equal(np.asarray(made), np.asarray(source.convert(mode)))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pages_of_16_bits_and_floats_are_filtered_each_by_itself(channels, dtype, invoke, tmp_path):
    white = 1 if dtype == np.float32 else 65535
    pages = [(noise(9, 8, channels, seed=one) / 255 * white).astype(dtype) for one in range(3)]
    for page in pages:
        page[..., 3:] = white
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            shape = {"photometric": "rgb"} if channels > 1 else {"photometric": "minisblack"}
            alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
            writer.write(page if channels > 1 else page[..., 0], **shape, **alpha, metadata=None)
    assert invoke("edge", "a.tif", "-o", "b.tif", "-q", "--range", "signed").status == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        found = [one.asarray().reshape(9, 8, channels) for one in file.pages]
    assert [one.dtype for one in found] == [dtype] * 3
    for one, page in zip(found, pages, strict=True):
        want = np.clip(white / 2 + response(page, EDGE) / 2, 0, white)
        want[..., 3:] = white
        assert np.abs(one - want).max() <= (1e-5 if white == 1 else HALF)


@pytest.mark.parametrize("order", [("8", "16", "float"), ("float", "16", "8"), ("16", "8", "float")], ids="-".join)
def test_pages_of_different_depths_in_one_file_keep_what_they_show(order, invoke, tmp_path):
    fractions = [noise(5, 6, seed=one) / 255 for one in range(3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for depth, one in zip(order, fractions, strict=True):
            writer.write(at_depth(one, depth)[0], metadata=None)
    assert invoke("identity", "a.tif", "-o", "b.tif", "-q").status == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for page, want in zip(file.pages, fractions, strict=True):
            codes = page.asarray()
            white = 1 if codes.dtype.kind == "f" else np.iinfo(codes.dtype).max
            assert np.abs(codes / white - want).max() <= 0.5 / 255


def test_pages_of_different_size_go_into_one_array_only_apart(invoke, tmp_path):
    Image.fromarray(noise(6, 7)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(noise(4, 9))])
    done = invoke("identity", "a.tif", "-o", "b.npy")
    assert (done.status, done.stdout) == (1, b"")
    assert b"convcli: a.tif: " in done.stderr
    assert b"different sizes" in done.stderr
    assert invoke("identity", "a.tif", "-o", "b{frame}.npy", "-q").stdout == b"b0.npy\nb1.npy\n"
    assert [np.load(tmp_path / f"b{one}.npy").shape for one in (0, 1)] == [(6, 7), (4, 9)]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_frames_become_pages(name, invoke, tmp_path):
    animation(tmp_path / name, DISC)
    assert invoke("blur", name, "-o", "b.tif", "-q").status == 0
    for found, want in zip(frames_of(tmp_path / "b.tif"), DISC, strict=True):
        assert np.array_equal(found[..., :3], np.rint(response(want[..., :3], BLUR)))


def test_frames_become_an_array_of_fractions(invoke, tmp_path):
    animation(tmp_path / "a.png", DISC)
    assert invoke("edge", "a.png", "-o", "b.npy", "-q", "--alpha", "drop").status == 0
    found = np.load(tmp_path / "b.npy")
    assert found.shape == (4, 3, 10, 24)
    for one, frame in zip(found, DISC, strict=True):
        assert np.abs(np.moveaxis(one, 0, 2) - response(frame[..., :3] / 255, EDGE)).max() < 1e-5


# What has no room for an animation; one frame; a file for each


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "ppm"])
def test_a_still_format_takes_the_first_frame_and_says_so(suffix, invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)
    done = invoke("identity", "a.gif", "-o", f"b.{suffix}")
    assert done.stdout == f"b.{suffix}\n".encode()
    assert done.stderr.count(b"first of its frames") == 1
    assert b"--frame" in done.stderr
    (found,) = frames_of(tmp_path / f"b.{suffix}")
    assert np.argmin([np.abs(found - one).mean() for one in DISC]) == 0


def test_what_holds_for_many_inputs_is_said_once(invoke, tmp_path):
    names = [animation(tmp_path / f"{one}.gif", HOLE).name for one in range(6)]
    done = invoke("blur", *names, "-o", "out/", "--format", "jpg")
    assert (done.status, done.stdout.count(b"\n")) == (0, 6)
    assert done.stderr.count(b"first of its frames") == 1
    assert done.stderr.count(b"no transparency") == 1


@pytest.mark.parametrize("frame", [0, 1, 3])
@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif"])
def test_one_frame(name, frame, invoke, tmp_path):
    if name == "a.tif":
        first, *others = map(Image.fromarray, DISC)
        first.save(tmp_path / name, save_all=True, append_images=others)
    else:
        animation(tmp_path / name, DISC)
    done = invoke("blur", name, "-o", "b.png", "--frame", str(frame))
    assert (done.status, done.stdout) == (0, b"b.png\n")
    assert b"convcli:" not in done.stderr
    (found,) = frames_of(tmp_path / "b.png")
    assert np.array_equal(found[..., :3], np.rint(response(DISC[frame][..., :3], BLUR)))


@pytest.mark.parametrize(
    ("frame", "status"), [("4", 1), ("99999999999999999999", 1), ("-1", 2), ("1.5", 2), ("last", 2), ("", 2)]
)
def test_frames_that_are_not_there(frame, status, invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)
    done = invoke("blur", "a.gif", "-o", "b.png", f"--frame={frame}")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
    assert done.stderr.startswith(b"convcli: a.gif: " if status == 1 else b"convcli: --frame: ")
    assert not (tmp_path / "b.png").exists()
    assert status == 2 or b"0 to 3" in done.stderr


def test_the_only_frame_of_a_still(invoke, tmp_path):
    save(tmp_path / "a.png", WHOLE)
    assert invoke("identity", "a.png", "-o", "b.png", "--frame", "0", "-q").status == 0
    assert np.array_equal(load(tmp_path / "b.png"), WHOLE)
    done = invoke("identity", "a.png", "-o", "c.png", "--frame", "1")
    assert (done.status, done.stderr.count(b"\n")) == (1, 1)


@pytest.mark.parametrize("name", ["a.npy", "[1 2; 3 4]"])
def test_arrays_have_no_frames(name, invoke, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5)))
    done = invoke("identity", name, "--frame", "0", "-o", "b.npy")
    assert (done.status, done.stderr.count(b"\n")) == (2, 1)
    assert b"--frame" in done.stderr


TEMPLATES = [
    ("b-{frame}.png", (), [f"b-{one}.png" for one in range(4)]),
    ("{frame}/{stem}{ext}", (), [f"{one}/a.gif" for one in range(4)]),
    ("b{frame}{frame}.png", (), [f"b{one}{one}.png" for one in range(4)]),
    ("b{frame}-{channel}.png", (), [f"b{one}-{channel}.png" for one in range(4) for channel in range(3)]),
    ("{channel}/{frame}.png", (), [f"{channel}/{one}.png" for one in range(4) for channel in range(3)]),
    ("b{channel}.gif", (), [f"b{channel}.gif" for channel in range(3)]),
    ("b{frame}-{channel}.png", ("--gray",), [f"b{one}-0.png" for one in range(4)]),
    ("b{frame}.png", ("--frame", "2"), ["b2.png"]),
    ("b{frame}-{channel}.png", ("--frame", "3"), [f"b3-{channel}.png" for channel in range(3)]),
]


@pytest.mark.parametrize(("template", "options", "paths"), TEMPLATES, ids=lambda one: str(one)[:30])
def test_a_file_for_each_frame(template, options, paths, invoke, tmp_path):
    (tmp_path / "a.gif").write_bytes(gif_of(SIZE, GIFS["what has changed"][:1] + [GIFS["what has changed"][1]] * 3))
    want = "".join(f"{one}\n" for one in paths).encode()
    assert invoke("blur", "a.gif", "-o", template, *options, "-q", "-n") == (0, want, b"")
    assert [one.name for one in tmp_path.iterdir()] == ["a.gif"]
    assert invoke("blur", "a.gif", "-o", template, *options, "-q") == (0, want, b"")
    found = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()}
    assert found == {"a.gif", *paths}


def test_the_files_of_frames_and_channels_hold_those(invoke, tmp_path):
    frames = GIFS["what has changed"]
    (tmp_path / "a.gif").write_bytes(gif_of(SIZE, frames))
    assert invoke("blur", "a.gif", "-o", "{frame}-{channel}.png", "-q").status == 0
    assert invoke("blur", "a.gif", "-o", "c{channel}.png", "-q").status == 0
    for number, want in enumerate(gif_as_seen(SIZE, frames)):
        for channel in range(3):
            plane = np.rint(response(want[..., :3], BLUR))[..., channel]
            assert np.array_equal(load(tmp_path / f"{number}-{channel}.png"), plane)
            assert np.array_equal(frames_of(tmp_path / f"c{channel}.png")[number][..., 0], plane)


def test_a_still_through_a_template_of_frames(invoke, tmp_path):
    save(tmp_path / "a.png", WHOLE)
    for more in (("-n",), ()):
        assert invoke("blur", "a.png", "-o", "b{frame}.png", "-q", *more) == (0, b"b0.png\n", b"")


@pytest.mark.parametrize(
    ("name", "template"), [("2.gif", "{frame}.gif"), ("2.gif", "./{frame}{ext}"), ("0-2.gif", "{channel}-{frame}.gif")]
)
def test_a_frame_never_overwrites_an_input(name, template, invoke, tmp_path):
    before = animation(tmp_path / name, DISC).read_bytes()
    done = invoke("blur", name, "-o", template, "-f")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"is an input" in done.stderr
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [before]


def test_frames_of_two_inputs_in_one_place_are_refused_before_any_work(invoke, tmp_path):
    """Frame 10 of a.gif and frame 0 of a1.gif would both be a10.png."""
    frames = [np.full((4, 4, 3), 20 * one, np.uint8) for one in range(12)]
    for name in ("a.gif", "a1.gif"):
        animation(tmp_path / name, frames, 50)
    done = invoke("blur", "a.gif", "a1.gif", "-o", "out/{stem}{frame}.png", "-f")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert not (tmp_path / "out").exists()


def test_a_frame_and_a_channel_in_one_place_are_not_lost_in_silence(invoke, tmp_path):
    """Frame 1, channel 10 and frame 11, channel 0 would both be 110.png."""
    animation(tmp_path / "a.gif", [np.full((4, 4), 20 * one, np.uint8) for one in range(12)], 50)
    done = invoke("run", "conv 1x1 out=11 init=random", "a.gif", "-o", "{frame}{channel}.png", "-f", "-q")
    assert done.status != 0 or len(set(done.stdout.split())) == 12 * 11


def test_frames_that_exist(invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)
    (tmp_path / "b1.png").write_bytes(b"mine")
    for more in (("-n",), ()):
        done = invoke("blur", "a.gif", "-o", "b{frame}.png", *more)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
        assert b"b1.png exists" in done.stderr
        assert not (tmp_path / "b0.png").exists()
    paths = b"b0.png\nb1-1.png\nb2.png\nb3.png\n"
    for more in (("-n",), ()):
        assert invoke("blur", "a.gif", "-o", "b{frame}.png", "--existing", "rename", "-q", *more).stdout == paths
    assert (tmp_path / "b1.png").read_bytes() == b"mine"


@pytest.mark.parametrize("there", [0, 1, 3])
def test_existing_frames_are_skipped_and_the_others_written(there, invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)
    (tmp_path / f"b{there}.png").write_bytes(b"mine")
    assert invoke("blur", "a.gif", "-o", "b{frame}.png", "--existing", "skip").status == 0
    assert (tmp_path / f"b{there}.png").read_bytes() == b"mine"
    assert sorted(one.name for one in tmp_path.glob("b*.png")) == ["b0.png", "b1.png", "b2.png", "b3.png"]


def test_an_animation_in_place_keeps_all_its_frames(invoke, tmp_path):
    for name in ("a.gif", "a.png", "a.webp"):
        animation(tmp_path / name, DISC, loop=3)
        times = times_shown(tmp_path / name)
        assert invoke("filter", "-k", "1", name, "--in-place", "-q").status == 0
        assert delays_of(tmp_path / name) == DELAYS
        assert times_shown(tmp_path / name) == times


def test_an_animation_under_the_name_of_a_still_is_not_cut_in_place(invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC).rename(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    done = invoke("blur", "a.jpg", "--in-place")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"4 frames" in done.stderr
    assert (tmp_path / "a.jpg").read_bytes() == before


def test_an_animation_on_standard_output_is_the_file(invoke, tmp_path):
    animation(tmp_path / "a.gif", HOLE)
    for name in ("png", "gif", "webp", "tiff"):
        assert invoke("blur", "a.gif", "-o", f"b.{name}", "-q").status == 0
        done = invoke("blur", "a.gif", "-o", "-", "--format", name, "-q")
        assert (done.status, done.stdout) == (0, (tmp_path / f"b.{name}").read_bytes())
    assert invoke("blur", "a.gif", "-o", "-", "-q").stdout == (tmp_path / "b.png").read_bytes()


# Too much, too little, damaged


def test_max_pixels_counts_all_frames(invoke, tmp_path):
    animation(tmp_path / "a.gif", DISC)  # four of 10x24
    done = invoke("blur", "a.gif", "-o", "b.gif", "--max-pixels", "959")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"4 frames of 10x24" in done.stderr
    assert b"--max-pixels" in done.stderr
    for more in (("--max-pixels", "960"), ("--max-pixels", "240", "--frame", "3")):
        assert invoke("blur", "a.gif", "-o", "b.gif", "-q", "-f", *more).status == 0
    done = invoke("blur", "a.gif", "-o", "b.gif", "-q", "-f", "--max-pixels", "239", "--frame", "3")
    assert done.status == 1


def test_max_pixels_counts_one_frame_where_no_more_have_room(invoke, tmp_path):
    """Whether the animation is the first input or the second."""
    for name in ("a.gif", "b.gif"):
        animation(tmp_path / name, DISC)
    done = invoke("blur", "a.gif", "b.gif", "-o", "out/", "--format", "bmp", "-q", "--max-pixels", "240")
    assert done == (0, b"out/a.bmp\nout/b.bmp\n", b"")


def test_max_pixels_counts_all_pages(invoke, tmp_path):
    Image.fromarray(noise(6, 7)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(noise(4, 9))])
    assert invoke("blur", "a.tif", "-o", "b.tif", "-q", "--max-pixels", "77").status == 1
    assert invoke("blur", "a.tif", "-o", "b.tif", "-q", "--max-pixels", "78").status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_a_frame_larger_than_its_gif_is_not_decoded(tmp_path):
    """The header says 12x16, the second frame 60000x60000: to decode that would take gigabytes."""
    whole = gif_of(SIZE, [(*FULL, 1, NO, 5), (*FULL, 1, NO, 5)])
    place = whole.rindex(b"," + struct.pack("<HHHH", 0, 0, 16, 12)) + 1
    (tmp_path / "a.gif").write_bytes(whole[:place] + struct.pack("<HHHH", 0, 0, 60000, 60000) + whole[place + 8 :])
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}));"
    code = f"{limited} import sys; from convcli.cli.app import main; sys.exit(main(['blur', 'a.gif', '-o', 'b.gif']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"larger than the picture" in done.stderr


def still(file_format, **options):
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(noise(8, 9, 3, seed=one)) for one in range(3))
    first.save(buffer, file_format, save_all=True, append_images=others, **options)
    return buffer.getvalue()


def pages_of(dtype):
    buffer = io.BytesIO()
    white = 1 if dtype == np.float32 else 65535
    pages = np.stack([noise(8, 9, 3, seed=one) for one in range(3)]) / 255 * white
    tifffile.imwrite(buffer, pages.astype(dtype), photometric="rgb")
    return buffer.getvalue()


MANY = {
    "gif": still("GIF"),
    "png": still("PNG"),
    "webp": still("WEBP", lossless=True),
    "tif": still("TIFF"),
    "16.tif": pages_of(np.uint16),
    "float.tif": pages_of(np.float32),
}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_files_that_were_cut_off_fail_alone_and_each_in_one_line(share, invoke, tmp_path):
    names = [f"{number}.{suffix}" for number, suffix in enumerate(MANY)]
    for name, data in zip(names, MANY.values(), strict=True):
        (tmp_path / name).write_bytes(data[: int(share * len(data))])
    save(tmp_path / "good.png", WHOLE)
    done = invoke("blur", *names, "good.png", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (1, b"out/good.png\n")
    said = done.stderr.decode().splitlines()
    for name, line in zip(names, said, strict=True):
        assert re.match(rf"convcli: {re.escape(name)}: (damaged|truncated) picture", line)
    assert files(tmp_path / "out") == ["good.png"]


TWO = apng_of(SIZE, [(*BASE, 0, 0, T), (*PATCH, 0, 0, T)])
COUNT = chunk(b"acTL", struct.pack(">II", 2, 0))
NOT_FRAMES = {
    "a frame of no size.gif": gif_of(SIZE, [(*FULL, 1, NO, 5), (*piece(0, 0, 0, 0), 1, NO, 5)]),
    "nothing in it.gif": b"GIF89a" + struct.pack("<HHBBB", 6, 6, 0, 0, 0) + b";",
    "a frame outside.png": apng_of(SIZE, [(*BASE, 0, 0, T), (PATCH[0], (11, 11), 0, 0, T)]),
    "a frame of no size.png": apng_of(SIZE, [(*BASE, 0, 0, T), (WHOLE[:0, :0], (0, 0), 0, 0, T)]),
    "more frames promised.png": TWO.replace(COUNT, chunk(b"acTL", struct.pack(">II", 5, 0))),
    "billions of frames.png": TWO.replace(COUNT, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
}


@pytest.mark.parametrize("name", NOT_FRAMES)
def test_frames_that_can_not_be(name, invoke, tmp_path):
    (tmp_path / name).write_bytes(NOT_FRAMES[name])
    done = invoke("blur", name, "-o", "b.png")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(f"convcli: {name}: ".encode())
    assert not (tmp_path / "b.png").exists()


def test_a_thousand_frames(invoke, tmp_path):
    frames = [(np.full((3, 4), one % 5 + 1), (0, 0), 1, NO, one % 7 + 2) for one in range(1000)]
    (tmp_path / "a.gif").write_bytes(gif_of((3, 4), frames))
    assert invoke("blur", "a.gif", "-o", "b.png", "-q").status == 0
    found = frames_of(tmp_path / "b.png")
    assert len(found) == 1000
    assert all(np.array_equal(one[0, 0, :3], PALETTE[place % 5 + 1]) for place, one in enumerate(found))
    assert delays_of(tmp_path / "b.png")[:8] == [20, 30, 40, 50, 60, 70, 80, 20]


# All frames together


def test_minmax_stretches_all_frames_alike(invoke, tmp_path):
    levels = [(20, 60), (60, 100), (40, 220)]
    frames = [np.repeat(np.array([[pair]], np.uint8), 6, 1).reshape(1, 12).repeat(5, 0) for pair in levels]
    animation(tmp_path / "a.png", frames, 50)
    done = invoke("identity", "a.png", "-o", "b.png", "-q", "--json", "--range", "minmax")
    for found, frame in zip(frames_of(tmp_path / "b.png"), frames, strict=True):
        assert np.abs(found[..., 0] - 255 * (frame - 20.0) / 200).max() <= HALF
    spread = json.loads(done.stdout)["range"]
    assert (spread["min"], spread["max"]) == pytest.approx((20 / 255, 220 / 255))
    assert invoke("identity", "a.png", "-o", "b{frame}.png", "-q", "--range", "minmax").status == 0
    for number, frame in enumerate(frames):  # in files of their own they still are one animation
        assert np.abs(load(tmp_path / f"b{number}.png") - 255 * (frame - 20.0) / 200).max() <= HALF


def test_minmax_of_one_frame_is_its_own(invoke, tmp_path):
    animation(tmp_path / "a.png", [np.full((4, 4), 9, np.uint8), np.arange(50, 66, dtype=np.uint8).reshape(4, 4)], 50)
    assert invoke("identity", "a.png", "-o", "b.png", "-q", "--range", "minmax", "--frame", "1").status == 0
    assert np.abs(load(tmp_path / "b.png") - np.arange(16).reshape(4, 4) * 17).max() <= HALF


def test_the_range_that_is_told_is_that_of_all_frames(invoke, tmp_path):
    frames = [np.full((4, 5), 100, np.uint8), noise(4, 5), np.arange(0, 200, 10, dtype=np.uint8).reshape(4, 5)]
    animation(tmp_path / "a.png", frames, 50)
    done = invoke("edge", "a.png", "-o", "b.png", "--json", "-q")
    values = np.stack([response(one[..., None] / 255, EDGE) for one in frames])
    want = {"min": values.min(), "max": values.max()}
    want |= {"below": (values < -1e-9).mean(), "above": (values > 1 + 1e-9).mean()}
    assert json.loads(done.stdout)["range"] == pytest.approx(want, abs=1e-6)


MAPS = "conv [[[[1]]],[[[-1]]],[[[0.5]]],[[[2]]],[[[0]]]]"  # of one channel: five multiples of it
FACTORS = [1, -1, 0.5, 2, 0]


def test_feature_maps_of_an_animation(invoke, tmp_path):
    frames = [noise(5, 6, seed=one) for one in range(3)]
    animation(tmp_path / "a.png", frames, DELAYS[:3])
    want = np.stack([np.stack([factor * (one / 255) for factor in FACTORS]) for one in frames])
    for name in ("maps.npy", "maps.tif", "maps.png", "{frame}-{channel}.png", "{frame}.npy", "c{channel}.npy"):
        assert invoke("run", MAPS, "a.png", "-o", name, "-q").status == 0
    assert np.abs(np.load(tmp_path / "maps.npy") - want).max() < 1e-6
    with tifffile.TiffFile(tmp_path / "maps.tif") as file:
        assert np.abs(np.stack([one.asarray() for one in file.pages]).reshape(want.shape) - want).max() < 1e-6
    assert len(frames_of(tmp_path / "maps.png")) == 3
    assert delays_of(tmp_path / "maps.png") == DELAYS[:3]
    for frame, channel in product(range(3), range(5)):
        found = load(tmp_path / f"{frame}-{channel}.png")
        assert np.abs(found - 255 * np.clip(want[frame, channel], 0, 1)).max() <= HALF
    assert np.abs(np.stack([np.load(tmp_path / f"{one}.npy") for one in range(3)]) - want).max() < 1e-6
    assert np.load(tmp_path / "c2.npy").shape[0] == 3
    assert np.abs(np.load(tmp_path / "c2.npy").squeeze() - want[:, 2]).max() < 1e-6


# Alpha


def veiled(fractions, kernel, how):
    """The contract's table: colours of a cut-out, and its alpha, both as fractions."""
    colors, alpha = fractions[..., :-1], fractions[..., -1:]
    if how == "drop":
        return response(colors, kernel), None
    if how == "filter":
        return response(colors, kernel), response(alpha, kernel)
    new = response(alpha, kernel) if how == "premultiply" else alpha
    light = response(colors * alpha, kernel)
    return np.divide(light, new, out=np.zeros_like(light), where=new > 1e-6), new


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "how", "meant"),
    [
        ("blur", "auto", "premultiply"),
        ("edge", "auto", "keep"),
        ("sharpen", "auto", "keep"),
        ("blur", "keep", "keep"),
        ("blur", "premultiply", "premultiply"),
        ("blur", "filter", "filter"),
        ("edge", "filter", "filter"),
        ("edge", "drop", "drop"),
        ("blur", "drop", "drop"),
    ],
)
def test_alpha(kernel, how, meant, colors, depth, invoke, tmp_path):
    fractions = cut_out(10, 11)[..., 3 - colors :] / 255
    codes, suffix = at_depth(fractions, depth)
    fractions = codes / LEVELS[depth]
    save(tmp_path / f"a{suffix}", codes)
    assert invoke(kernel, f"a{suffix}", "-o", f"b{suffix}", "-q", "--alpha", how, "--range", "clip").status == 0
    color, alpha = veiled(fractions, KERNELS[kernel], meant)
    found = load(tmp_path / f"b{suffix}")
    assert found.dtype == codes.dtype
    found = found.reshape(10, 11, -1) / LEVELS[depth]
    step = HALF / LEVELS[depth] if depth != "float" else 1e-4
    if alpha is None:
        assert found.shape[2] == colors
    else:
        assert np.abs(found[..., -1:] - np.clip(alpha, 0, 1)).max() <= step
    there = np.ones((10, 11), bool) if alpha is None or meant == "filter" else alpha[..., 0] > 1e-6
    step = 1e-4 if depth == "float" else 1.02 * step
    assert np.abs(found[..., :colors] - np.clip(color, 0, 1))[there].max() <= step


@pytest.mark.parametrize("depth", LEVELS)
def test_light_is_what_is_weighted_by_alpha(depth, invoke, tmp_path):
    codes, suffix = at_depth(cut_out(10, 11) / 255, depth)
    save(tmp_path / f"a{suffix}", codes)
    assert invoke("blur", f"a{suffix}", "-o", f"b{suffix}", "-q", "--linear").status == 0
    fractions = codes / LEVELS[depth]
    light, alpha = veiled(np.dstack([to_light(fractions[..., :3]), fractions[..., 3]]), BLUR, "premultiply")
    found = load(tmp_path / f"b{suffix}") / LEVELS[depth]
    step = 1e-5 if depth == "float" else 1.05 * HALF / LEVELS[depth]
    assert np.abs(found - np.dstack([to_codes(light), alpha]))[alpha[..., 0] > 1e-6].max() <= step


FILTERS = ["edge", "sharpen", "emboss", "blur", "gaussian:2", "sobel", "sobel-x", "unsharp:1", "log:1", "kirsch"]


@pytest.mark.parametrize("kernel", FILTERS)
def test_an_opaque_picture_stays_opaque_and_has_the_colours_of_rgb(kernel, invoke, tmp_path):
    save(tmp_path / "rgb.png", WHOLE)
    save(tmp_path / "rgba.png", SOLID)
    for name in ("rgb.png", "rgba.png"):
        assert invoke(kernel, name, "-o", f"out-{name}", "-q").status == 0
    found = load(tmp_path / "out-rgba.png")
    assert found.shape[2] == 4
    assert (found[..., 3] == 255).all()
    assert np.array_equal(found[..., :3], load(tmp_path / "out-rgb.png"))


HIDDEN_WAYS = [
    ("edge",),
    ("sharpen",),
    ("blur",),
    ("blur", "-s", "2"),
    ("gaussian:2", "-b", "zero"),
    ("gaussian:2", "--linear"),
    ("edge", "--gray"),
    ("unsharp:2", "--mix", "50%"),
    ("blur", "--mix", "30%"),
    ("sobel",),
    ("sobel", "--range", "minmax"),
    ("emboss", "--bias", "50%"),
    ("edge", "-s", "3", "--range", "signed"),
    ("blur", "--pool", "max:2"),
    ("edge", "--alpha", "premultiply"),
    ("blur", "--alpha", "keep"),
    ("pool", "--max", "2"),
    ("pool", "--min", "2"),
    ("pool", "--avg", "2"),
    ("pool", "--max", "2", "--linear"),
    ("pool", "--avg", "3", "-s", "2", "-p", "1"),
    ("run", "blur | sharpen | maxpool 2"),
    ("run", "gray | sobel | threshold 30%"),
    ("run", "conv [1 2; 3 4] padding=same"),
]


@pytest.mark.parametrize("way", HIDDEN_WAYS, ids=" ".join)
def test_hidden_colour_never_bleeds(way, invoke, tmp_path):
    """Two cut-outs that look the same, the hidden colours apart, give results that look the same."""
    pictures = cut_out(13, 14), cut_out(13, 14)
    hidden = pictures[0][..., 3] == 0
    assert 20 < hidden.sum() < 150
    pictures[0][hidden, :3], pictures[1][hidden, :3] = (0, 255, 0), (255, 0, 255)
    for name, pixels in zip("ab", pictures, strict=True):
        save(tmp_path / f"{name}.png", pixels)
        verb, more = (way[:2], way[2:]) if way[0] == "run" else (way[:1], way[1:])
        assert invoke(*verb, f"{name}.png", *more, "-o", f"out-{name}.png", "-q").status == 0
    one, other = (frames_of(tmp_path / f"out-{name}.png")[0] for name in "ab")
    assert one[..., 3].any()
    assert np.array_equal(seen(one), seen(other))


@pytest.mark.parametrize("kernel", ["blur", "gaussian:2", "disk", "motion:size=5,angle=30", "binomial:5"])
@pytest.mark.parametrize("depth", LEVELS)
def test_a_blurred_cut_out_has_no_fringe(kernel, depth, invoke, tmp_path):
    """A red square on hidden green: what shows of it is red, as bright at the rim as inside."""
    fractions = np.zeros((20, 20, 4))
    fractions[..., 1] = 1
    fractions[6:14, 6:14] = 0.9, 0, 0, 1
    codes, suffix = at_depth(fractions, depth)
    save(tmp_path / f"a{suffix}", codes)
    assert invoke(kernel, f"a{suffix}", "-o", f"b{suffix}", "-q").status == 0
    found = load(tmp_path / f"b{suffix}") / LEVELS[depth]
    shows = found[..., 3] > 1e-4
    assert shows.sum() > 64
    assert np.abs(found[shows][:, :3] - codes[8, 8, :3] / LEVELS[depth]).max() <= 2e-3


def test_a_blurred_cut_out_in_a_gif_does_not_swell(invoke, tmp_path):
    """A GIF has no half transparency: what shows is what was at least half there, and that is said."""
    pixels = np.zeros((30, 30, 4), np.uint8)
    pixels[10:20, 10:20] = 200, 30, 30, 255
    save(tmp_path / "a.png", pixels)
    done = invoke("gaussian:3", "a.png", "-o", "b.gif")
    assert done.status == 0
    alpha = response(pixels[..., 3:] / 255, gaussian(3))[..., 0]
    shown = frames_of(tmp_path / "b.gif")[0][..., 3] > 0
    assert not shown[alpha < 0.45].any()
    assert shown[alpha > 0.55].all()
    assert re.search(r"convcli: a\.png: .*GIF", done.stderr.decode())


def gaussian(sigma):
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return np.outer(weights, weights) / weights.sum() ** 2


# Laid over a background

COLORS = {"white": (255, 255, 255), "red": (255, 0, 0), "#ff8000": (255, 128, 0), "#08F": (0, 136, 255)}


@pytest.mark.parametrize("background", [None, *COLORS])
@pytest.mark.parametrize("suffix", ["jpg", "bmp", "ppm"])
def test_a_cut_out_is_laid_over_a_background(suffix, background, invoke, tmp_path):
    block = np.repeat(np.repeat(np.array([[[200, 100, 50], [10, 220, 90]]]), 16, 1), 16, 0)
    alpha = np.repeat([[255, 0, 51, 128]], 8, 1).repeat(16, 0)
    pixels = np.dstack([block, alpha]).astype(np.uint8)
    save(tmp_path / "a.png", pixels)
    given = ("--background", background) if background else ()
    done = invoke("identity", "a.png", "-o", f"b.{suffix}", *given)
    assert done.status == 0
    assert done.stderr.count(b"no transparency") == 1
    behind = np.array(COLORS[background or "white"])
    want = block * (alpha[..., None] / 255) + behind * (1 - alpha[..., None] / 255)
    found = np.asarray(Image.open(tmp_path / f"b.{suffix}")).astype(float)
    assert np.abs(found - want).max() <= HALF if suffix != "jpg" else np.abs(found - want).mean() <= 6


@pytest.mark.parametrize("background", ["", "#12", "no colour", "255,255,255", "rgb(300,-5,0)", "transparent", "-1"])
def test_rubbish_is_no_background(background, invoke, tmp_path):
    save(tmp_path / "a.png", VEIL)
    done = invoke("blur", "a.png", "-o", "b.jpg", f"--background={background}")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(b"convcli: --background: ")
    assert not (tmp_path / "b.jpg").exists()


def test_grey_over_a_grey_stays_grey_and_over_a_colour_becomes_one(invoke, tmp_path):
    save(tmp_path / "a.png", VEIL[..., 2:])
    for background, mode in (("gray", "L"), ("red", "RGB")):
        assert invoke("blur", "a.png", "-o", "b.bmp", "--background", background, "-q", "-f").status == 0
        with Image.open(tmp_path / "b.bmp") as image:
            assert image.mode == mode


def test_frames_are_laid_over_the_background_each(invoke, tmp_path):
    animation(tmp_path / "a.png", HOLE)
    assert invoke("identity", "a.png", "-o", "b{frame}.bmp", "--background", "#102030", "-q").status == 0
    for number, frame in enumerate(HOLE):
        want = np.where(frame[..., 3:] == 255, frame[..., :3], [16, 32, 48])
        assert np.array_equal(load(tmp_path / f"b{number}.bmp"), want)


def test_what_hides_nothing_is_laid_over_nothing(invoke, tmp_path):
    save(tmp_path / "a.png", SOLID)
    assert b"transparency" not in invoke("blur", "a.png", "-o", "b.jpg").stderr


def test_minmax_stretches_what_can_be_seen(invoke, tmp_path):
    """Values of 90 to 150 that show, among some that do not."""
    pixels = np.dstack([np.linspace(90, 150, 64).reshape(8, 8).astype(np.uint8), np.full((8, 8), 255, np.uint8)])
    pixels[2:4] = 0
    save(tmp_path / "a.png", pixels)
    assert invoke("identity", "a.png", "-o", "b.png", "-q", "--range", "minmax").status == 0
    shows = pixels[..., 1] > 0
    assert np.abs(load(tmp_path / "b.png")[shows, 0] - 255 * (pixels[shows, 0] - 90.0) / 60).max() <= HALF


# Light, grey, range


def to_light(codes):
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def to_codes(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("colors", [1, 3])
def test_linear_is_the_curve_of_srgb_both_ways(colors, depth, invoke, tmp_path):
    codes, suffix = at_depth(noise(12, 13, colors) / 255, depth)
    save(tmp_path / f"a{suffix}", codes if colors > 1 else codes[..., 0])
    assert invoke("blur", f"a{suffix}", "-o", f"b{suffix}", "-q", "--linear").status == 0
    want = to_codes(response(to_light(codes / LEVELS[depth]), BLUR))
    found = load(tmp_path / f"b{suffix}").reshape(want.shape) / LEVELS[depth]
    assert np.abs(found - want).max() <= (1e-5 if depth == "float" else 1.05 * HALF / LEVELS[depth])
    assert np.abs(want - response(codes / LEVELS[depth], BLUR)).max() > 0.02


def test_linear_gives_every_code_of_16_bits_back(invoke, tmp_path):
    save(tmp_path / "a.tif", np.arange(65536, dtype=np.uint16).reshape(256, 256))
    assert invoke("identity", "a.tif", "-o", "b.tif", "-q", "--linear").status == 0
    assert np.array_equal(load(tmp_path / "b.tif").ravel(), np.arange(65536))


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("how", ["auto", "keep", "filter"])
def test_linear_is_never_for_alpha(how, depth, invoke, tmp_path):
    codes, suffix = at_depth(cut_out(9, 10) / 255, depth)
    save(tmp_path / f"a{suffix}", codes)
    for more in ((), ("--linear",)):
        assert invoke("blur", f"a{suffix}", "-o", f"b{len(more)}{suffix}", "-q", "--alpha", how, *more).status == 0
    plain, light = load(tmp_path / f"b0{suffix}"), load(tmp_path / f"b1{suffix}")
    assert np.abs(plain[..., 3].astype(float) - light[..., 3]).max() <= (1e-6 if depth == "float" else 0)
    assert not np.array_equal(plain[..., :3], light[..., :3])


@pytest.mark.parametrize("name", ["[1 2; 3 4]", "a.npy", "a.csv"])
@pytest.mark.parametrize("option", ["--linear", "--gray"])
def test_data_has_neither_light_nor_colours(option, name, invoke, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5)))
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    done = invoke("blur", name, option)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert option.encode() in done.stderr


@pytest.mark.parametrize("depth", LEVELS)
def test_gray(depth, invoke, tmp_path):
    codes, suffix = at_depth(noise(9, 10, 4) / 255, depth)
    codes[..., 3] = LEVELS[depth]
    save(tmp_path / f"a{suffix}", codes)
    assert invoke("blur", f"a{suffix}", "-o", f"b{suffix}", "-q", "--gray").status == 0
    luma = (codes[..., :3] / LEVELS[depth] * [0.299, 0.587, 0.114]).sum(axis=2, keepdims=True)
    found = load(tmp_path / f"b{suffix}").reshape(9, 10, 2) / LEVELS[depth]
    step = 1e-5 if depth == "float" else 1.01 * HALF / LEVELS[depth]
    assert np.abs(found[..., :1] - response(luma, BLUR)).max() <= step
    assert (found[..., 1] == 1).all()


RANGES = {
    "clip": lambda v: np.clip(v, 0, 1),
    "abs": lambda v: np.clip(np.abs(v), 0, 1),
    "signed": lambda v: np.clip(0.5 + v / 2, 0, 1),
    "minmax": lambda v: (v - v.min()) / (v.max() - v.min()),
}


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("kernel", ["edge", "sobel-x"])
@pytest.mark.parametrize("choice", RANGES)
def test_ranges_are_the_same_at_every_depth(choice, kernel, depth, invoke, tmp_path):
    codes, suffix = at_depth(noise(12, 13, 3) / 255, depth)
    save(tmp_path / f"a{suffix}", codes)
    assert invoke(kernel, f"a{suffix}", "-o", f"b{suffix}", "-q", "--range", choice).status == 0
    want = RANGES[choice](response(codes / LEVELS[depth], KERNELS[kernel]))
    assert want.min() < 1e-6
    assert want.max() == 1
    found = load(tmp_path / f"b{suffix}") / LEVELS[depth]
    assert np.abs(found - want).max() <= (1e-5 if depth == "float" else HALF / LEVELS[depth])


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("target", ["b.npy", "b.tif"])
def test_no_range_keeps_every_float(target, depth, invoke, tmp_path):
    codes, suffix = at_depth(noise(12, 13, 3) / 255, depth)
    save(tmp_path / f"a{suffix}", codes)
    assert invoke("edge", f"a{suffix}", "-o", target, "-q", "--range", "none").status == 0
    want = response(codes / LEVELS[depth], EDGE)
    found = np.moveaxis(np.load(tmp_path / target), 0, 2) if target == "b.npy" else load(tmp_path / target)
    assert found.dtype == np.float32
    assert np.abs(found - want).max() < 1e-5
    assert found.min() < -1
    assert found.max() > 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_no_range_where_no_floats_can_be_kept(suffix, invoke, tmp_path):
    save(tmp_path / "a.png", WHOLE)
    done = invoke("edge", "a.png", "-o", f"b.{suffix}", "--range", "none")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(b"convcli: --range: ")


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("choice", ["clip", "abs", "signed"])
def test_the_range_before_clipping_and_what_was_lost(choice, depth, invoke, tmp_path):
    codes, suffix = at_depth(noise(12, 13, 3) / 255, depth)
    save(tmp_path / f"a{suffix}", codes)
    values = response(codes / LEVELS[depth], EDGE)
    done = invoke("edge", f"a{suffix}", "-o", f"b{suffix}", "--json", "--report", "r.json", "--range", choice)
    found = json.loads(done.stdout)["range"]
    assert (found["min"], found["max"]) == pytest.approx((values.min(), values.max()), abs=1e-5)
    assert found["above"] == pytest.approx((values > 1).mean(), abs=1e-9)
    assert found["below"] == pytest.approx((values < 0).mean(), abs=1e-9)
    assert json.loads((tmp_path / "r.json").read_text())[0]["range"] == found
    told = re.search(
        r"range (\S+) to (\S+) before clipping: ([\d.]+) % below \S+, ([\d.]+) % above 1", str(done.stderr)
    )
    below = (values < (0 if choice == "clip" else -1)).mean()
    assert (float(told[1]), float(told[2])) == pytest.approx((values.min(), values.max()), rel=1e-3)
    assert (float(told[3]), float(told[4])) == pytest.approx((100 * below, 100 * (values > 1).mean()), abs=0.06)


def test_the_negative_half_of_edge_is_never_lost_in_silence(invoke, tmp_path):
    save(tmp_path / "a.png", WHOLE)
    done = invoke("edge", "a.png", "-o", "b.png")
    (line,) = (one for one in done.stderr.decode().splitlines() if "--range" in one)
    assert "signed" in line
    assert "minmax" in line
    for choice in ("minmax", "none"):
        target = "c.tif" if choice == "none" else "c.png"
        assert b"--range" not in invoke("edge", "a.png", "-o", target, "-f", "--range", choice).stderr


def test_even_a_little_that_edge_loses_is_told(invoke, tmp_path):
    """One dot in a large flat picture: eight values in ten thousand are negative."""
    pixels = np.full((100, 100), 50, np.uint8)
    pixels[50, 50] = 80
    save(tmp_path / "a.png", pixels)
    told = invoke("edge", "a.png", "-o", "b.png").stderr.decode()
    assert "before clipping: 0.1 % below 0" in told


@pytest.mark.parametrize("depth", LEVELS)
@pytest.mark.parametrize("kernel", ["blur", "gaussian:2", "gaussian:10", "motion"])
@pytest.mark.parametrize("veil", [False, True], ids=["white", "white in a hole"])
def test_a_mean_of_white_loses_nothing(veil, kernel, depth, invoke, tmp_path):
    """Whatever the sums of floats come to, nothing was clipped that one could see: no share, and no hint."""
    fractions = np.ones((20, 24, 4 if veil else 3))
    if veil:
        fractions[:, :, 3] = (np.indices((20, 24)).sum(axis=0) > 20) & (np.indices((20, 24))[0] > 4)
    codes, suffix = at_depth(fractions, depth)
    save(tmp_path / f"a{suffix}", codes)
    done = invoke(kernel, f"a{suffix}", "-o", f"b{suffix}", "--json")
    found = json.loads(done.stdout)["range"]
    assert (found["below"], found["above"]) == (0, 0)
    assert b"--range" not in done.stderr
