"""PNGs decoded in bands are what Pillow makes of them in one go."""

import errno
import io
import mmap
import zlib
from contextlib import suppress
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from convcli.errors import PictureError
from convcli.images import bands, reading
from convcli.images.chunks import chunk, chunks
from convcli.images.picture import Picture
from pictures import encoded

isal_zlib = pytest.importorskip("isal.isal_zlib", reason="there is no ISA-L for this processor")


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Also small pictures, and a count of how many were decoded so."""
    monkeypatch.setattr(bands, "LEAST_PIXELS", 1)
    found = []

    def counted(file, image, threads):
        pixels = bands.decode_in_bands(file, image, threads)
        found.append(pixels is not None)
        return pixels

    monkeypatch.setattr(reading, "check_threads", lambda threads: threads or 2)
    monkeypatch.setattr(reading, "decode_in_bands", counted)
    return found


def noise(*shape):
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1]))[..., None]
    return (smooth + np.random.default_rng(5).integers(0, 30, shape)).astype(np.uint8)


def picture_of(pixels):
    return Picture(pixels, 255.0, pixels.shape[2] in (2, 4))


@pytest.mark.parametrize("packing", ["fast", "small", "0", "6"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("at_once", [100, 1 << 20])
def test_every_mode_and_filter(channels, packing, at_once, always, monkeypatch):
    monkeypatch.setattr(bands, "AT_ONCE", at_once)
    pixels = noise(83, 61, channels)
    picture = reading.read_picture(encoded(picture_of(pixels), "PNG", png=packing))
    assert np.array_equal(picture.pixels, pixels)
    assert always == [True]


def test_no_more_is_inflated_than_the_header_says(always, monkeypatch):
    """Of what does not end where it should: a few bytes of it could fill the memory."""
    monkeypatch.setattr(bands, "AT_ONCE", 1000)
    inflated = []

    class Counted:
        def __init__(self):
            self.inflater = make()

        def __getattr__(self, name):
            return getattr(self.inflater, name)

        def decompress(self, data, most):
            piece = self.inflater.decompress(data, most)
            inflated.append(len(piece))
            return piece

    make = isal_zlib.decompressobj
    monkeypatch.setattr(isal_zlib, "decompressobj", Counted)
    data = with_pixels(encoded(picture_of(noise(40, 30, 3)), "PNG"), lambda rows: rows + bytes(10**7))
    with suppress(PictureError):
        reading.read_picture(data)
    assert always == [False]
    assert sum(inflated) == 40 * 91 + 1


def test_bands_begin_where_no_row_above_is_needed(always):
    buffer = io.BytesIO()
    Image.fromarray(noise(200, 90, 3)).save(buffer, "PNG")
    assert np.array_equal(reading.read_picture(buffer.getvalue()).pixels, noise(200, 90, 3))
    data = encoded(picture_of(noise(200, 90, 3)), "PNG", png="0")
    assert np.array_equal(reading.read_picture(data).pixels, noise(200, 90, 3))
    assert any(always)


def test_what_stands_in_front_of_the_pixels_is_kept(always):
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[271], exif[274] = "maker", 6
    texts.add_text("Title", "a name")
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 30, 3)).save(buffer, "PNG", exif=exif, pnginfo=texts, dpi=(300, 150))
    picture = reading.read_picture(buffer.getvalue())
    assert picture.pixels.shape == (30, 40, 3)
    assert b"maker" in picture.metadata.exif
    assert [data for _, data in picture.metadata.chunks] == [b"Title\0a name"]
    assert picture.metadata.dpi == pytest.approx((150, 300), abs=0.1)


def with_pixels(data, change):
    """A PNG whose stream of pixels is changed, its checksums right."""
    file, parts = io.BytesIO(data), [data[:8]]
    for kind, place, length in chunks(file):
        body = data[place : place + length]
        parts += chunk(kind, zlib.compress(change(zlib.decompress(body))) if kind == b"IDAT" else body)
    return b"".join(parts)


def test_exif_behind_the_pixels_is_seen(always):
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(picture_of(noise(40, 30, 3)), "PNG")
    end = data.index(b"IEND") - 4
    moved = data[:end] + b"".join(chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))) + data[end:]
    assert reading.read_picture(moved).pixels.shape == (30, 40, 3)
    assert always == [False]


@pytest.mark.parametrize("name", [b"eXIf", b"tRNS"])
def test_what_stands_behind_an_empty_beginning_goes_the_usual_way(name, always):
    data = encoded(picture_of(noise(40, 30, 3)), "PNG")
    start = data.index(b"IDAT") - 4
    more = b"".join([*chunk(b"IDAT"), *chunk(name, bytes(6))])
    with suppress(PictureError):
        reading.read_picture(data[:start] + more + data[start:])
    assert True not in always


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: rows[: len(rows) // 2], lambda rows: rows * 9])
def test_another_number_of_rows_goes_the_usual_way(change, always):
    data = with_pixels(encoded(picture_of(noise(40, 30, 3)), "PNG"), change)
    with suppress(PictureError):
        reading.read_picture(data)
    assert always == [False]


def test_a_filter_that_is_none_is_an_error():
    data = with_pixels(encoded(picture_of(noise(40, 30, 3)), "PNG", png="0"), lambda rows: b"\x09" + rows[1:])
    with pytest.raises(PictureError):
        reading.read_picture(data)


def test_memory_is_found_where_the_kernel_has_no_huge_pages(always, monkeypatch):
    class Small(mmap.mmap):
        def madvise(self, *_):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Small)
    pixels = noise(83, 61, 3)
    assert np.array_equal(reading.read_picture(encoded(picture_of(pixels), "PNG")).pixels, pixels)
    assert always == [True]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_wrong_checksum_is_an_error(channels, always):
    data = bytearray(encoded(picture_of(noise(40, 30, channels)), "PNG"))
    (place,) = (place + length for kind, place, length in chunks(io.BytesIO(data)) if kind == b"IDAT")
    data[place] ^= 1  # of the chunk, which leaves the pixels alone
    with pytest.raises(PictureError, match="a checksum of its pixels is wrong"):
        reading.read_picture(bytes(data))
    with pytest.raises(PictureError, match="a checksum of its pixels is wrong"):
        reading.read_frames(bytes(data), threads=1)


def test_a_wrong_checksum_of_an_animation_is_an_error():
    frames = [Image.fromarray(noise(40, 30, 3) + number) for number in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    data = bytearray(buffer.getvalue())
    (place,) = (place + length for kind, place, length in chunks(io.BytesIO(data)) if kind == b"IDAT")
    data[place] ^= 1
    with pytest.raises(PictureError, match="a checksum of its pixels is wrong"):
        reading.read_frames(bytes(data))


@given(kinds=st.lists(st.integers(0, 4), min_size=1, max_size=40), least=st.integers(1, 9), data=st.data())
def test_bands_of_pieces_of_any_length(kinds, least, data):
    line = data.draw(st.integers(1, 5))
    rows = b"".join(bytes([kind, *[9] * (line - 1)]) for kind in kinds)
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=6))
    pieces = [memoryview(rows)[first:last] for first, last in pairwise([0, *sorted(cuts), len(rows)])]
    found = [(first, b"".join(parts)) for first, parts in bands._bands(pieces, line, least)]
    assert b"".join(band for _, band in found) == rows
    assert [first for first, _ in found] == [0, *accumulate(len(band) // line for _, band in found)][:-1]
    assert all(len(band) % line == 0 for _, band in found)
    assert all(band[0] <= 1 for _, band in found[1:])
    assert all(len(band) >= least * line for _, band in found[:-1])
    wanted, start = [0], 0
    for row, kind in enumerate(kinds):
        if kind <= 1 and row - start >= least:
            wanted.append(start := row)
    assert [first for first, _ in found] == wanted
