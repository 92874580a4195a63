"""How far pictures are apart, and the sheet of all filters."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from convcli.compare import compare, ssim
from convcli.errors import ShapeError
from convcli.images.picture import Picture
from convcli.kernels.named import NAMED

RNG = np.random.default_rng(5)


def picture(pixels, alpha=False):
    white = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    return Picture(pixels, white, alpha)


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_differences_are_those_of_fractions():
    one, other = noise(20, 30, 3), noise(20, 30, 3)
    found, shown = compare(picture(one), picture(other))
    errors = np.abs(one / 255 - other / 255)
    place = np.unravel_index(errors.argmax(), errors.shape)
    assert (found.greatest, found.place) == (pytest.approx(errors.max()), place)
    assert found.mean == pytest.approx(errors.mean())
    assert found.rms**2 == pytest.approx((errors**2).mean())
    assert found.psnr == pytest.approx(-10 * np.log10((errors**2).mean()))
    assert found.differing == (errors.max(axis=2) > 0).mean()
    np.testing.assert_allclose(shown.pixels, 255 * errors / errors.max(), atol=0.51)


def test_depths_may_differ():
    codes = noise(12, 13, 1)
    found, _ = compare(picture(codes), picture(codes.astype(np.uint16) * 257))
    assert (found.greatest, found.psnr, found.ssim, found.differing) == (0, np.inf, 1, 0)
    found, _ = compare(picture(codes), picture(codes.astype(np.float64) / 255))
    assert found.greatest == 0


def test_ssim_is_that_of_its_paper():
    """With a window of 11x11 and sigma 1.5, over all places where it lies inside."""
    one = RNG.random((40, 50, 1))
    other = np.clip(one + RNG.normal(0, 0.1, one.shape), 0, 1)

    def mean(values):
        return ndimage.gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    x, y = one[..., 0], other[..., 0]
    m, n = mean(x), mean(y)
    v, w, c = mean(x * x) - m * m, mean(y * y) - n * n, mean(x * y) - m * n
    want = ((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (v + w + 9e-4))).mean()
    assert ssim(one, other) == pytest.approx(want, abs=1e-9)
    assert ssim(one, one) == pytest.approx(1)
    assert ssim(one[:10], other[:10]) is None


@pytest.mark.parametrize(("channels", "alpha", "shown"), [(1, False, 1), (2, True, 1), (3, False, 3), (4, True, 3)])
def test_the_picture_of_differences_is_of_colours(channels, alpha, shown):
    found, difference = compare(picture(noise(8, 9, channels), alpha), picture(noise(8, 9, channels), alpha))
    assert (difference.pixels.shape, difference.alpha) == ((8, 9, shown), False)
    assert found.ssim is None


def test_sizes_and_channels_must_agree():
    with pytest.raises(ShapeError, match="8x9x3 and 9x8x3"):
        compare(picture(noise(8, 9, 3)), picture(noise(9, 8, 3)))


@pytest.fixture
def photos(tmp_path):
    pixels = noise(20, 30, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pixels[3, 4, 1] ^= 128
    Image.fromarray(pixels).save(tmp_path / "b.png")
    return tmp_path


def test_compare_prints_numbers(invoke, photos):
    done = invoke("compare", "a.png", "b.png", "-o", "d.png")
    assert (done.status, done.stderr) == (0, b"")
    assert b"greatest difference  0.501961 at row 3, column 4, channel 1" in done.stdout
    assert b"PSNR                 38.54 dB" in done.stdout  # 10 log10(1800 / (128/255)^2)
    shown = np.asarray(Image.open(photos / "d.png"))
    assert (shown[3, 4, 1], shown.sum()) == (255, 255)
    assert invoke("compare", "a.png", "a.png") == (0, b"equal\n", b"")


def test_compare_as_json(invoke, photos):
    found = json.loads(invoke("compare", "a.png", "b.png", "--json").stdout)
    assert (found["place"], found["greatest"]) == ([3, 4, 1], pytest.approx(128 / 255))
    assert set(found) == {"greatest", "place", "mean", "rms", "psnr", "ssim", "differing"}
    assert json.loads(invoke("compare", "a.png", "a.png", "--json").stdout)["psnr"] is None


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("a.png", "no.png"), 1, "no.png: "),
        (("a.png", "c.png"), 1, "20x30x3 and 5x5x1"),
        (("a.png", "b.png", "-o", "a.png", "-f"), 2, "-o: a.png is the input itself"),
        (("a.png", "b.png", "-o", "c.png"), 2, "-o: c.png exists"),
        (("a.png", "b.png", "-o", "x.docx"), 2, "-o: x.docx"),
        (("a.png",), 2, "B: "),
    ],
)
def test_what_cannot_be_compared(invoke, photos, args, status, says):
    Image.fromarray(noise(5, 5)).save(photos / "c.png")
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    done = invoke("compare", *args)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
    assert done.stderr.startswith(b"convcli: ")
    assert says in done.stderr.decode()
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


def test_a_gallery_shows_every_filter(invoke, samples, tmp_path):
    """The first tiles are the picture and ``identity``, so they are the same; others are not."""
    done = invoke("gallery", samples / "chelsea.png", "-o", "g.png")
    assert (done.status, done.stdout) == (0, b"g.png\n")
    sheet = np.asarray(Image.open(tmp_path / "g.png"))
    paper = (sheet == (28, 34, 48)).all(axis=2)
    rows, columns = ~paper.all(axis=1), ~paper.all(axis=0)
    tiles = np.flatnonzero(np.diff(columns.astype(int)) == 1)
    assert len(tiles) >= 4
    assert len(NAMED) + 1 <= len(tiles) * len(np.flatnonzero(np.diff(rows.astype(int)) == 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (700, 3)])
def test_a_gallery_of_any_size(invoke, tmp_path, size):
    Image.fromarray(noise(*size)).save(tmp_path / "a.png")
    assert invoke("gallery", "a.png") == (0, b"a.gallery.png\n", b"")
    assert invoke("gallery", "a.png").status == 2
    assert invoke("gallery", "no.png").status == 1
