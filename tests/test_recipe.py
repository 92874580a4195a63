"""Pictures through layers: alpha, range, rounding, light and grey, each with pictures that would show the mistake."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from convcli.engine.methods import METHODS
from convcli.errors import PictureError, ShapeError
from convcli.filtering import filter_array, filter_picture, store_picture
from convcli.images.picture import Metadata, Picture
from convcli.kernels.reading import Kernel, read_kernel
from convcli.layers import Conv, Filter, Pool
from convcli.recipe import Recipe
from convcli.words import Alpha, Range, Reduce

HALF = 0.5 + 2e-3  # a stored code lies this near to the exact value: half a step, and float32's own error
MODES = {"reflect": "mirror", "edge": "nearest", "symmetric": "reflect", "wrap": "wrap", "zero": "constant"}
DTYPES = [np.uint8, np.uint16, np.float32]
SMOOTH = ["blur", "gaussian:2", "box:5", "disk:2", "motion:size=5,angle=30", "binomial:5", "identity"]
SIGNED = ["edge", "sharpen", "emboss", "laplacian", "sobel-x", "unsharp:1", "sobel", "kirsch"]


def white_of(dtype):
    return 1.0 if np.dtype(dtype).kind == "f" else float(np.iinfo(dtype).max)


def noise(*shape, dtype=np.uint8, seed=11):
    codes = np.random.default_rng(seed).random(shape) * white_of(dtype)
    return codes.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(codes).astype(dtype)


def picture_of(pixels):
    """Two and four channels mean alpha; the pixels may not be written to."""
    pixels = (pixels if pixels.ndim == 3 else pixels[..., None]).copy()
    pixels.flags.writeable = False
    return Picture(pixels, white_of(pixels.dtype), pixels.shape[2] in (2, 4))


def layer(kernel, **options):
    return Filter(kernel=read_kernel(kernel) if isinstance(kernel, str) else Kernel("kernel", kernel), **options)


FLOATS = {True: {"dtype": np.float32, "usual": Range.NONE}, False: {}}


def applied(pixels, *layers, keep_floats=False, **options):
    """The pixels and the outcome of layers, or of kernels by name, over an array of pixels."""
    chain = tuple(layer(one) if isinstance(one, str) else one for one in layers)
    picture, outcome = filter_picture(picture_of(pixels), Recipe(chain, **options), **FLOATS[keep_floats])
    return picture.pixels, outcome


def response(values, kernel, boundary="reflect", constant=0.0):
    """What a kernel by name gives, channel by channel, unrounded: SciPy's."""
    kernels = read_kernel(kernel).weights if isinstance(kernel, str) else kernel
    stack = np.atleast_3d(values.astype(float))
    each = [
        np.dstack(
            [ndimage.correlate(plane, one, mode=MODES[boundary], cval=constant) for plane in np.moveaxis(stack, 2, 0)]
        )
        for one in kernels.reshape(-1, *kernels.shape[-2:])
    ]
    if len(each) == 1:
        return each[0]
    return np.sqrt(sum(one**2 for one in each)) if len(each) == 2 else np.max(each, axis=0)


def assert_stored(got, exact, within=HALF):
    """Codes that are the exact values clipped and rounded."""
    assert got.shape == exact.shape
    assert np.isfinite(got).all()
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6)
    else:
        assert np.abs(got - np.clip(exact, 0, white_of(got.dtype))).max(initial=0) <= within


def test_the_judge_can_fail():
    with pytest.raises(AssertionError):
        assert_stored(np.array([[3]], np.uint8), np.array([[3.51]]))
    with pytest.raises(AssertionError):
        assert_stored(np.array([[0]], np.uint8), np.array([[300.0]]))
    x = noise(4, 5).astype(float)
    assert response(x, "sobel-x")[1, 2, 0] == (x[:3, 3] - x[:3, 1]) @ [1, 2, 1]


# ---- rounding and clipping ----


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "fft"])  # its noise decides a tie
def test_half_goes_to_even(dtype, method):
    got, _ = applied(np.arange(256, dtype=dtype)[None], point("0.5", method), method=method)
    assert got[0, [1, 3, 5, 7], 0].tolist() == [0, 2, 2, 4]
    assert np.array_equal(got[0, :, 0], np.rint(np.arange(256) / 2))


def point(number, method):
    """A kernel of one number, for a method of three rows with zeros around it."""
    return f"0; {number}; 0" if method == "winograd" else number


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kernel", ["-1", "3", "-1000", "1000", "1e6", "-1e6"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_wraps(dtype, kernel, method):
    codes = np.array([[0, 1, 20, 100, 128, 200, 254, 255]], dtype)
    got, _ = applied(codes, point(kernel, method), method=method)
    want = np.clip(codes[0].astype(float) * float(kernel), 0, np.iinfo(dtype).max)
    assert np.array_equal(got[0, :, 0], want)


@pytest.mark.parametrize("choice", [one for one in Range if one is not Range.NONE])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_wraps_in_any_range(choice, alpha, dtype):
    pixels = noise(6, 7, 4 if alpha else 3, dtype=dtype)
    for sign in (-1, 1):
        values = sign * 40.0 * pixels[..., :3]
        got, _ = applied(pixels, f"{sign * 40}", range=choice)
        want = {
            Range.CLIP: values,
            Range.ABS: np.abs(values),
            Range.SIGNED: white_of(dtype) / 2 + values / 2,
            Range.MINMAX: (values - values.min()) / (values.max() - values.min()) * white_of(dtype),
        }[choice]
        assert np.abs(got[..., :3] - np.clip(want, 0, white_of(dtype))).max() <= HALF + 0.01 * (dtype == np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kernel", ["edge", "sharpen", "emboss", "sobel-x", "laplacian", "scharr-y"])
@pytest.mark.parametrize(("boundary", "border"), [("reflect", 4), ("edge", 1), ("symmetric", 2), ("zero", 0)])
def test_integer_kernels_are_opencvs(dtype, kernel, boundary, border):
    pixels = noise(37, 41, 3, dtype=dtype)
    want = cv2.filter2D(pixels, -1, read_kernel(kernel).weights, borderType=border)
    got, _ = applied(pixels, layer(kernel, boundary=boundary))
    assert got.dtype == dtype
    assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [*SMOOTH, *SIGNED])
def test_every_depth_is_scipys(dtype, kernel):
    pixels = noise(19, 23, 3, dtype=dtype)
    got, _ = applied(pixels, kernel)
    assert got.dtype == dtype
    want = np.clip(response(pixels, kernel), 0, white_of(dtype))
    assert_stored(got, want, within=HALF if dtype == np.uint8 else 0.55)


def test_16_bit_grey_keeps_every_code():
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(applied(codes, "identity")[0][..., 0], codes)
    assert np.array_equal(applied(codes, layer("0 0 1"), linear=True)[0][:, :-1, 0], codes[:, 1:])
    halves, _ = applied(codes, "0.5 0.5 0")
    assert np.array_equal(halves[:, 1:, 0], np.rint((codes[:, 1:].astype(float) + codes[:, :-1]) / 2))
    assert applied(codes, "identity")[0].dtype == np.uint16


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    pixels = noise(900, 700, 3)
    for kernel in ("edge", "gaussian:1"):
        assert np.array_equal(applied(pixels, kernel, threads=threads)[0], applied(pixels, kernel, threads=1)[0])


# ---- range ----

VALUES = np.array([-0.9, -0.5, -0.25, 0.0, 0.125, 0.5, 0.75, 1.0])


def values_of(dtype):
    """A picture, and a layer under which it becomes (about) 4 * VALUES, the exact values coming back too."""
    white = white_of(dtype)
    codes = ((VALUES + 1) / 2 * white).astype(dtype)[None]
    return codes, layer("8", bias=-4.0), 8 * codes[0].astype(float) / white - 4


RANGES = {
    Range.CLIP: lambda v: np.clip(v, 0, 1),
    Range.ABS: np.abs,
    Range.SIGNED: lambda v: np.clip(0.5 + v / 2, 0, 1),
    Range.MINMAX: lambda v: (v - v.min()) / (v.max() - v.min()),
    Range.NONE: lambda v: v,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("choice", Range)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_range(dtype, choice, channels):
    codes, times, values = values_of(dtype)
    pixels = np.dstack([codes] * channels)
    if channels == 4:
        pixels[..., 3] = white_of(dtype)
    if dtype != np.float32 and choice is Range.NONE:
        return  # integers can't keep floats
    got, outcome = applied(pixels, times, range=choice)
    want = RANGES[choice](values)
    for channel in range(min(channels, 3)):
        if got.dtype.kind == "f":
            # whether ABS clips above 1 where floats are kept is not said anywhere
            seen = want <= 1 if choice is Range.ABS else np.ones_like(want, bool)
            np.testing.assert_allclose(got[0, seen, channel], want[seen], atol=3e-6)
        else:
            assert np.abs(got[0, :, channel] - np.clip(want, 0, 1) * white_of(dtype)).max() <= HALF
    if channels == 4:
        assert (got[..., 3] == white_of(dtype)).all()
    assert outcome.spread()["min"] == pytest.approx(values.min(), abs=1e-5)
    assert outcome.spread()["max"] == pytest.approx(values.max(), abs=1e-5)


@pytest.mark.parametrize(("dtype", "middle"), [(np.uint8, 128), (np.uint16, 32768)])
def test_signed_zero_is_the_even_middle(dtype, middle):
    got, _ = applied(np.full((5, 6, 3), 99, dtype), "edge", range=Range.SIGNED)
    assert (got == middle).all()


def test_the_default_is_clip_for_codes_and_none_for_kept_floats():
    pixels = noise(9, 9, 3)
    exact = response(pixels, "edge") / 255
    assert np.array_equal(applied(pixels, "edge")[0], applied(pixels, "edge", range=Range.CLIP)[0])
    floats, _ = applied(pixels, "edge", keep_floats=True)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, exact, atol=2e-6)
    assert floats.min() < 0
    assert floats.max() > 1
    clipped, _ = applied(pixels, "edge", keep_floats=True, range=Range.CLIP)
    np.testing.assert_allclose(clipped, np.clip(exact, 0, 1), atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_floats_are_fractions_of_white(dtype):
    pixels = noise(9, 9, 4, dtype=dtype)
    picture, _ = filter_picture(picture_of(pixels), Recipe((layer("identity"),)), **FLOATS[True])
    assert picture.white == 1
    assert picture.pixels.dtype == np.float32
    assert picture.alpha
    np.testing.assert_allclose(picture.pixels[..., 3], pixels[..., 3] / white_of(dtype), atol=1e-6)
    np.testing.assert_allclose(picture.pixels[..., :3], pixels[..., :3] / white_of(dtype), atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minmax_is_over_all_colours_together(dtype):
    white = white_of(dtype)
    pixels = np.zeros((1, 2, 3), dtype)
    pixels[0, :, 0] = np.array([0.2, 0.3]) * white
    pixels[0, :, 1] = np.array([0.4, 0.5]) * white
    pixels[0, :, 2] = np.array([0.3, 0.6]) * white
    got, _ = applied(pixels, "identity", range=Range.MINMAX)
    exact = pixels.astype(float)
    exact = (exact - exact.min()) / (exact.max() - exact.min())
    assert np.abs(got / white - exact).max() <= (HALF / white if white > 1 else 1e-6)
    assert got.min() == 0
    assert got.max() == pytest.approx(white, rel=1e-6)


def test_minmax_leaves_alpha_alone():
    pixels = noise(8, 8, 4)
    pixels[..., :3] = 100 + pixels[..., :3] // 10
    pixels[..., 3] = 90 + pixels[..., 3] // 10
    got, _ = applied(pixels, "edge", range=Range.MINMAX)
    assert np.array_equal(got[..., 3], pixels[..., 3])
    assert (got[..., :3].min(), got[..., :3].max()) == (0, 255)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["edge", "blur", "log:2", "log:5", "dog:1,2", "sobel"])
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_minmax_of_one_colour_is_a_picture(dtype, kernel, share):
    got, _ = applied(np.full((60, 70, 3), share * white_of(dtype)).astype(dtype), kernel, range=Range.MINMAX)
    assert np.isfinite(got).all()
    assert len(np.unique(got)) == 1


@pytest.mark.parametrize("least", [0.25, -1.0])
def test_minmax_takes_roundings_for_one_colour(least):
    """As a sum may leave them, that is added up otherwise here than there; a picture's least step is none."""
    rounded = np.full((4, 4, 1), least, np.float32)
    rounded[1, 2] += 2 * np.spacing(rounded[1, 2])
    assert len(np.unique(applied(rounded, "identity", range=Range.MINMAX)[0])) == 1
    rounded[1, 2] += np.float32(2**-16)
    assert len(np.unique(applied(rounded, "identity", range=Range.MINMAX)[0])) == 2


def test_minmax_stretches_what_small_weights_leave():
    pixels = noise(9, 9, 1, dtype=np.float32)
    got, _ = applied(pixels, "1e-9 -1e-9", range=Range.MINMAX)
    want, _ = applied(pixels, "1 -1", range=Range.MINMAX)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_not_a_number_is_stored_as_black():
    floats = noise(9, 9, dtype=np.float32)
    floats[4, 4] = np.nan
    picture, outcome = filter_picture(picture_of(floats), Recipe((layer("box"),)))
    assert np.isnan(picture.pixels[3:6, 3:6]).all()
    assert np.isnan(picture.pixels).sum() == 9
    codes, _ = store_picture(picture, Range.CLIP, np.uint8)
    assert (codes.pixels[3:6, 3:6] == 0).all()
    assert 0 < outcome.spread()["min"] < outcome.spread()["max"] < 1


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_floats_to_codes(dtype, white):
    floats = np.array([[0, 0.5, 1, 1.5, -0.5, 2.5 / white, 3.5 / white, 0.499]], np.float64)
    picture, extent = store_picture(Picture(floats[..., None], 1.0), Range.CLIP, dtype)
    want = [0, (white + 1) // 2, white, white, 0, 2, 4, round(0.499 * white)]
    assert picture.pixels[0, :, 0].tolist() == want
    assert picture.white == white
    assert (extent.minimum, extent.maximum, extent.below, extent.above, extent.count) == (-0.5, 1.5, 1, 1, 8)


# ---- the range that is reported ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["edge", "sharpen", "blur", "sobel"])
@pytest.mark.parametrize("choice", [Range.CLIP, Range.ABS, Range.SIGNED, Range.MINMAX])
def test_extent_is_that_before_clipping(dtype, kernel, choice):
    pixels = noise(21, 17, 3, dtype=dtype)
    exact = response(pixels, kernel) / white_of(dtype)
    got = applied(pixels, kernel, range=choice)[1].spread()
    assert got["min"] == pytest.approx(exact.min(), abs=1e-5)
    assert got["max"] == pytest.approx(exact.max(), abs=1e-5)
    assert got["below"] == (exact < -1e-9).mean()
    assert got["above"] == (exact > 1 + 1e-9).mean()


def test_extent_of_a_large_picture_counts_each_value_once():
    pixels = noise(1300, 1100, 3)
    exact = response(pixels, "sharpen")
    for threads in (1, 2):
        got = applied(pixels, "sharpen", threads=threads)[1]
        assert got.extent.count == pixels.size
        assert got.spread() == {
            "min": exact.min() / 255,
            "max": exact.max() / 255,
            "below": (exact < 0).mean(),
            "above": (exact > 255).mean(),
        }


def test_extent_counts_nothing_that_lies_on_the_limits():
    got = applied(np.array([[0, 255]], np.uint8), "identity")[1].spread()
    assert got == {"min": 0, "max": 1, "below": 0, "above": 0}


def test_extent_is_of_the_last_layer_and_of_colours_alone():
    pixels = noise(12, 14, 4)
    pixels[..., :3] = 100 + pixels[..., :3] % 8
    pixels[..., 3] = noise(12, 14, seed=3)
    chain = layer("-1"), Pool(reduce=Reduce.MAX, size=2)
    opaque = pixels.copy()
    opaque[..., 3] = 255
    pooled = -opaque[..., :3].astype(float).reshape(6, 2, 7, 2, 3).min(axis=(1, 3)) / 255
    got = applied(opaque, *chain)[1].spread()
    assert got["min"] == pytest.approx(pooled.min(), abs=1e-6)
    assert got["max"] == pytest.approx(pooled.max(), abs=1e-6)
    assert (got["below"], got["above"]) == (1, 0)
    seen = applied(pixels, "identity")[1].spread()
    visible = pixels[..., :3][pixels[..., 3] > 0] / 255
    assert seen["max"] == pytest.approx(visible.max(), abs=1e-5)
    assert (seen["below"], seen["above"]) == (0, 0)


# ---- grey ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_grey_weights(dtype):
    white = white_of(dtype)
    primaries = (np.eye(3) * white).astype(dtype)[None]
    got, _ = applied(primaries, "identity", gray=True)
    assert got.shape == (1, 3, 1)
    exact = np.array([0.299, 0.587, 0.114]) * white
    assert_stored(got[..., 0], exact[None])
    if dtype == np.uint8:
        assert got[0, :, 0].tolist() == [76, 150, 29]


def test_grey_is_that_of_the_peers_within_a_step():
    pixels = noise(40, 50, 3)
    got, _ = applied(pixels, "identity", gray=True)
    assert np.abs(got[..., 0].astype(int) - np.asarray(Image.fromarray(pixels).convert("L"))).max() <= 1
    assert np.abs(got[..., 0].astype(int) - cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_is_not_rounded_before_the_filter(dtype):
    pixels = noise(9, 9, 3, dtype=dtype) // 4
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    got, _ = applied(pixels, "9", gray=True)
    assert np.abs(got[..., 0] - np.minimum(9 * luma, white_of(dtype))).max() <= 0.55
    assert np.abs(9 * np.rint(luma) - 9 * luma).max() > 3


def test_grey_keeps_alpha_and_what_is_grey():
    pixels = noise(9, 9, 4)
    got, _ = applied(pixels, "identity", gray=True)
    assert got.shape == (9, 9, 2)
    assert np.array_equal(got[..., 1], pixels[..., 3])
    seen = pixels[..., 3] > 0
    luma = pixels[..., :3].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(got[..., 0] - luma)[seen].max() <= HALF
    grey = noise(9, 9)
    assert np.array_equal(applied(grey, "edge", gray=True)[0], applied(grey, "edge")[0])


# ---- linear light ----


def to_light(code):
    """IEC 61966-2-1, written out."""
    return np.where(code <= 0.04045, code / 12.92, ((np.maximum(code, 0.04045) + 0.055) / 1.055) ** 2.4)


def to_code(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def test_black_and_white_mix_to_188_not_to_128():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 255
    half = "0.5 0.5"
    assert (applied(stripes, layer(half, padding="valid"))[0] == 128).all()
    assert (applied(stripes, layer(half, padding="valid"), linear=True)[0] == 188).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["blur", "gaussian:2", "sharpen", "0.25"])
def test_linear_is_the_srgb_formula(dtype, kernel):
    white = white_of(dtype)
    pixels = noise(17, 19, 3, dtype=dtype)
    pixels[:8] //= pixels.dtype.type(16) if white > 1 else 1  # where the curve is a line, too
    light = response(to_light(pixels / white), kernel)
    exact = to_code(np.clip(light, 0, 1)) * white
    got, _ = applied(pixels, kernel, linear=True)
    assert_stored(got, np.clip(exact, 0, white), within=HALF if dtype != np.uint16 else 0.6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_linear_gives_every_code_back(dtype):
    codes = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 256)
    assert np.array_equal(applied(codes, "identity", linear=True)[0][..., 0], codes)


@pytest.mark.parametrize("alpha", [one for one in Alpha if one is not Alpha.DROP])
@pytest.mark.parametrize("channels", [2, 4])
def test_linear_is_never_for_alpha(alpha, channels):
    pixels = noise(9, 9, channels)
    pixels[..., :-1] = 200
    got, _ = applied(pixels, "identity", linear=True, alpha=alpha)
    assert np.array_equal(got[..., -1], pixels[..., -1])
    blurred, _ = applied(pixels, "blur", linear=True, alpha=alpha)
    want = pixels[..., -1:] if alpha is Alpha.KEEP else response(pixels[..., -1], "blur")
    assert np.abs(blurred[..., -1:] - want).max() <= HALF


def test_linear_is_never_for_alpha_that_went_through_a_weight():
    pixels = noise(9, 9, 4)
    same = Kernel("same", np.eye(4)[:, :, None, None])
    assert np.array_equal(applied(pixels, Conv(kernel=same), linear=True, alpha=Alpha.FILTER)[0], pixels)


def test_linear_knows_what_lies_below_black():
    pixels = noise(9, 9, 3)
    got, outcome = applied(pixels, "edge", linear=True)
    assert_stored(got, 255 * to_code(np.clip(response(to_light(pixels / 255), "edge"), 0, 1)))
    assert outcome.spread()["min"] < 0
    signed, _ = applied(pixels, "edge", linear=True, range=Range.SIGNED)
    assert len(np.unique(signed)) > 40


# ---- mix ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("kernel", ["blur", "gaussian:2"])
def test_mix_blends_and_rounds_once(dtype, share, kernel):
    pixels = noise(17, 19, 3, dtype=dtype)
    exact = share * response(pixels, kernel) + (1 - share) * pixels.astype(float)
    assert_stored(applied(pixels, kernel, mix=share)[0], exact, within=HALF if dtype == np.uint8 else 0.55)
    if share == 0:
        assert np.array_equal(applied(pixels, "edge", mix=share)[0], pixels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("choice", [Range.CLIP, Range.SIGNED, Range.MINMAX])
def test_what_is_mixed_is_the_result_in_its_range(dtype, choice):
    white = white_of(dtype)
    pixels = noise(11, 13, dtype=dtype)[..., None]
    values = response(pixels, "edge") / white
    exact = (0.25 * RANGES[choice](values) + 0.75 * pixels / white) * white
    got, _ = applied(pixels, "edge", range=choice, mix=0.25)
    assert_stored(got, exact, within=HALF if dtype != np.uint16 else 0.6)


def test_mix_of_kept_floats_is_of_fractions():
    pixels = noise(11, 13, 3)
    got, _ = applied(pixels, "blur", mix=0.4, keep_floats=True)
    np.testing.assert_allclose(got, (0.4 * response(pixels, "blur") + 0.6 * pixels) / 255, atol=2e-6)


@pytest.mark.parametrize("options", [{"padding": "valid"}, {"stride": 2}, {"padding": "full"}])
def test_mix_needs_equal_sizes(options):
    with pytest.raises(ShapeError, match="--mix needs equal sizes"):
        applied(noise(9, 9, 3), layer("blur", **options), mix=0.5)


def test_mix_with_grey_is_with_the_grey_input():
    pixels = noise(11, 13, 3)
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    got, _ = applied(pixels, "blur", mix=0.5, gray=True)
    assert_stored(got, 0.5 * response(luma, "blur") + 0.5 * luma[..., None])


@pytest.mark.parametrize("kernel", ["blur", "edge"])
def test_mix_blends_what_is_seen(kernel):
    """Laid over black, the mix is the blend of the two pictures laid over black: alpha weighs colours here as well."""
    pixels = noise(15, 15, 4)
    pixels[:, :5, 3] = 0
    share = 0.4
    over_black = [
        one[..., :3].astype(float) * one[..., 3:] / 255
        for one in (applied(pixels, kernel, mix=share)[0], applied(pixels, kernel)[0], pixels)
    ]
    assert np.abs(over_black[0] - (share * over_black[1] + (1 - share) * over_black[2])).max() <= 2


def test_mix_takes_alpha_between_none_and_full():
    """Where the filtered alpha lies below 0 or above white, it is none or full before it is blended."""
    pixels = np.full((3, 9, 4), 100, np.uint8)
    pixels[:, :4, 3], pixels[:, 4:, 3] = 255, 64
    result, _ = applied(pixels, "edge", alpha=Alpha.PREMULTIPLY)
    assert result[1, 3:5, 3].tolist() == [255, 0]
    got, _ = applied(pixels, "edge", alpha=Alpha.PREMULTIPLY, mix=0.5)
    assert got[1, :, 3].tolist() == [128, 128, 128, 255, 32, 32, 32, 32, 32]
    assert (got[..., :3] == 100).all()


# ---- units of what users give ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", ["blur", "edge"])
def test_bias_is_a_fraction_of_white(dtype, channels, kernel):
    white = white_of(dtype)
    pixels = noise(11, 13, channels, dtype=dtype)
    if channels in (2, 4):
        pixels[..., -1] = white
    colors = channels - (channels in (2, 4))
    got, _ = applied(pixels, layer(kernel, bias=0.25))
    exact = np.clip(response(pixels[..., :colors], kernel) + 0.25 * white, 0, white)
    assert_stored(got[..., :colors], exact, within=HALF if dtype == np.uint8 else 0.55)
    if channels in (2, 4):
        assert (got[..., -1] == white).all()


def test_bias_is_added_to_the_colour_that_is_seen():
    pixels = noise(11, 13, 4)
    pixels[..., 3] = 40 + pixels[..., 3] // 2
    veil = pixels[..., 3:] / 255
    for mode, share in ((Alpha.KEEP, veil), (Alpha.PREMULTIPLY, response(veil, "blur"))):
        got, _ = applied(pixels, layer("blur", bias=0.1), alpha=mode)
        exact = response(pixels[..., :3] * veil, "blur") / share + 25.5
        assert_stored(got[..., :3], np.clip(exact, 0, 255))
    four, _ = applied(pixels, layer("blur", bias=0.1), alpha=Alpha.FILTER)
    assert_stored(four, np.clip(response(pixels, "blur") + 25.5, 0, 255))


def test_a_bias_is_added_to_the_kernels_own():
    own = replace(read_kernel("identity"), bias=0.2)
    pixels = np.full((3, 3), 100, np.uint8)
    assert (applied(pixels, Filter(kernel=own))[0] == 151).all()
    assert (applied(pixels, Filter(kernel=own, bias=0.4))[0] == 253).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("constant", [0.0, 0.25, 0.5, 1.0])
def test_a_constant_boundary_is_a_fraction_of_white(dtype, channels, constant):
    pixels = noise(5, 6, channels, dtype=dtype)
    got, _ = applied(pixels, layer("1 0 0", boundary=constant))
    assert_stored(got[:, 0], np.full((5, channels), constant * white_of(dtype)))
    assert np.array_equal(got[:, 1:], pixels[:, :-1])


@pytest.mark.parametrize(("boundary", "seen"), [("edge", 0), ("reflect", 1), ("symmetric", 0), ("wrap", -1)])
def test_boundaries_by_name(boundary, seen):
    pixels = noise(5, 6, 3)
    got, _ = applied(pixels, layer("1 0 0", boundary=boundary))
    assert np.array_equal(got[:, 0], pixels[:, seen])


# ---- layers in order ----


def test_pool_comes_after_the_filter_and_before_the_range():
    pixels = np.array([[100, 0, 0, 0, 30, 0]] * 2, np.uint8)
    values = response(pixels, "-1 0 1")[..., 0]
    pool = Pool(reduce=Reduce.MAX, size=2)
    most = values.reshape(1, 2, 3, 2).max(axis=(1, 3))
    assert most.tolist() == [[0, 30, 0]]
    assert applied(pixels, layer("-1 0 1"), pool)[0][..., 0].tolist() == [[0, 30, 0]]
    assert applied(pixels, layer("-1 0 1"), pool, range=Range.ABS)[0][..., 0].tolist() == [[0, 30, 0]]
    least = Pool(reduce=Reduce.MIN, size=2)
    assert applied(pixels, layer("-1 0 1"), least, range=Range.ABS)[0][..., 0].tolist() == [[100, 0, 0]]
    mean = Pool(reduce=Reduce.AVG, size=2)
    assert applied(pixels, layer("-1 0 1"), mean, range=Range.ABS)[0][..., 0].tolist() == [[50, 15, 0]]


def test_bias_comes_before_the_pool():
    pool = Pool(reduce=Reduce.AVG, size=3, stride=1, padding=1)
    got, _ = applied(np.zeros((3, 3), np.uint8), layer("identity", bias=0.9), pool)
    assert got[..., 0].tolist() == [[102, 153, 102], [153, 230, 153], [102, 153, 102]]  # 229.5 goes to even


def test_floats_between_layers():
    pixels = np.full((4, 4), 101, np.uint8)
    assert (applied(pixels, layer("-0.25"), layer("-4"))[0] == 101).all()
    got, outcome = applied(pixels, layer("4"), layer("0.25"), Pool(reduce=Reduce.MAX, size=2))
    assert (got == 101).all()
    assert [row.layer for row in outcome.rows] == ["kernel", "kernel", "maxpool"]
    assert [row.output for row in outcome.rows] == [(1, 4, 4), (1, 4, 4), (1, 2, 2)]
    assert all(row.method for row in outcome.rows)
    assert len(outcome.plans) == 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduce", Reduce)
def test_a_pool_alone(dtype, reduce):
    pixels = noise(8, 6, 3, dtype=dtype)
    fold = {Reduce.MAX: np.max, Reduce.MIN: np.min, Reduce.AVG: np.mean}[reduce]
    exact = fold(pixels.astype(float).reshape(4, 2, 3, 2, 3), axis=(1, 3))
    got, _ = applied(pixels, Pool(reduce=reduce, size=2))
    assert got.dtype == dtype
    assert_stored(got, exact)


def test_the_output_may_be_too_large():
    wide = layer("identity", padding=((50, 50), (50, 50)), boundary="zero")
    with pytest.raises(PictureError, match=r"110x112.*12,320 pixels.*12,319"):
        applied(noise(10, 12), wide, max_pixels=12_319)
    assert applied(noise(10, 12), wide, max_pixels=12_320)[0].shape == (110, 112, 1)


def test_what_the_file_said_stays():
    metadata = Metadata(b"profile", b"exif", (300.0, 300.0))
    picture = replace(picture_of(noise(5, 5, 4)), metadata=metadata, notices=("read so",))
    for mode in Alpha:
        result, _ = filter_picture(picture, Recipe((layer("blur"),), alpha=mode, gray=True, linear=True, mix=0.5))
        assert result.metadata == metadata
        assert result.notices == ("read so",)


# ---- alpha ----


def opaque(colors):
    return np.dstack([colors, np.full(colors.shape[:2], white_of(colors.dtype), colors.dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [*SMOOTH, *SIGNED])
@pytest.mark.parametrize("boundary", ["reflect", "edge", "symmetric", "wrap"])
def test_an_opaque_picture_stays_so_and_has_the_colours_of_rgb(dtype, kernel, boundary):
    colors = noise(12, 13, 3, dtype=dtype)
    plain, _ = applied(colors, layer(kernel, boundary=boundary))
    for mode in (Alpha.AUTO, Alpha.KEEP):
        got, _ = applied(opaque(colors), layer(kernel, boundary=boundary), alpha=mode)
        assert (got[..., 3] == white_of(dtype)).all()
        assert np.array_equal(got[..., :3], plain)


@pytest.mark.parametrize("options", [{"range": Range.ABS}, {"range": Range.SIGNED}, {"range": Range.MINMAX}])
@pytest.mark.parametrize("more", [{}, {"linear": True}, {"mix": 0.4}, {"gray": True}])
@pytest.mark.parametrize("kernel", ["edge", "blur", "sobel"])
def test_an_opaque_picture_has_the_colours_of_rgb_whatever_is_asked(options, more, kernel):
    colors = noise(12, 13, 3)
    got, _ = applied(opaque(colors), kernel, **options, **more)
    assert (got[..., -1] == 255).all()
    assert np.array_equal(got[..., :-1], applied(colors, kernel, **options, **more)[0])


@pytest.mark.parametrize("kernel", ["edge", "sharpen", "sobel"])
@pytest.mark.parametrize("boundary", ["zero", 0.5])
def test_an_edge_kernel_leaves_an_opaque_rim_whatever_lies_outside(kernel, boundary):
    colors = noise(12, 13, 3)
    got, _ = applied(opaque(colors), layer(kernel, boundary=boundary))
    assert (got[..., 3] == 255).all()
    assert np.array_equal(got[..., :3], applied(colors, layer(kernel, boundary=boundary))[0])


@pytest.mark.parametrize("kernel", ["blur", "gaussian:1"])
def test_a_blur_into_nothing_fades_but_does_not_darken(kernel):
    colors = np.full((12, 13, 3), (200, 100, 50), np.uint8)
    got, _ = applied(opaque(colors), layer(kernel, boundary="zero"))
    assert_stored(got[..., 3:], response(np.full((12, 13), 255), kernel, "zero"))
    assert (got[..., :3] == (200, 100, 50)).all()
    dark, _ = applied(colors, layer(kernel, boundary="zero"))
    assert dark[0, 0, 0] < 130


def cut_out(hidden, dtype=np.uint8):
    """A disc of one colour; outside it nothing is seen, and ``hidden`` is the colour there."""
    y, x = np.mgrid[:31, :31] - 15
    inside = (y**2 + x**2 <= 81)[..., None]
    color, hidden = np.array([200, 40, 90]), np.asarray(hidden)
    pixels = np.concatenate([np.where(inside, color, hidden), 255 * inside], axis=2)
    return (pixels * (white_of(dtype) / 255)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (0, 255, 0), (255, 255, 255)], ids=["black", "green", "white"])
@pytest.mark.parametrize("kernel", SMOOTH)
@pytest.mark.parametrize("linear", [False, True])
def test_a_blurred_cut_out_has_no_fringe(dtype, hidden, kernel, linear):
    pixels = cut_out(hidden, dtype)
    got, _ = applied(pixels, kernel, linear=linear)
    seen = got[..., 3] > 0
    assert (got[seen][:, :3] == pixels[15, 15, :3]).all()
    assert np.abs(got[..., 3:] - response(pixels[..., 3], kernel)).max() <= 0.55
    assert (got[~seen][:, :3] <= pixels[15, 15, :3]).all()
    if kernel != "identity":
        partly = seen & (got[..., 3] < white_of(dtype))
        assert partly.sum() > 30  # there is an edge to have a fringe


HIDDEN = [(0, 0, 0), (0, 255, 0), (255, 0, 255)]
WAYS = {
    "plainly": {},
    "grey": {"gray": True},
    "linear": {"linear": True},
    "mixed": {"mix": 0.3},
    "mixed, linear": {"mix": 0.3, "linear": True},
    "abs": {"range": Range.ABS},
    "signed": {"range": Range.SIGNED},
    "minmax": {"range": Range.MINMAX},
    "premultiplied": {"alpha": Alpha.PREMULTIPLY},
    "kept": {"alpha": Alpha.KEEP},
    "floats": {"keep_floats": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", ["blur", "gaussian:2", "edge", "sharpen", "emboss", "sobel", "kirsch", "identity"])
def test_hidden_colour_never_bleeds(way, kernel):
    """What is seen does not depend on colours where alpha is 0."""
    results = [applied(cut_out(hidden), kernel, **WAYS[way])[0] for hidden in HIDDEN]
    alpha = results[0][..., -1]
    for other in results[1:]:
        assert np.array_equal(other[..., -1], alpha)
        assert np.array_equal(other[alpha > 0], results[0][alpha > 0])


@pytest.mark.parametrize(
    "chain",
    [
        (Pool(reduce=Reduce.MAX, size=3, stride=1, padding=1),),
        (Pool(reduce=Reduce.MIN, size=2),),
        (Pool(reduce=Reduce.AVG, size=3, stride=2, padding=1),),
        (layer("blur"), Pool(reduce=Reduce.AVG, size=2)),
        (layer("blur"), layer("edge")),
        (layer("edge"), layer("blur", stride=2)),
        (layer("gaussian:1", padding="valid"), layer("sharpen", stride=3)),
        (layer("0.25 0.25; 0.25 0.25"), layer("1 -1", padding="full")),
    ],
    ids=range(8),
)
def test_hidden_colour_never_bleeds_through_layers(chain):
    results = [applied(cut_out(hidden), *chain)[0] for hidden in HIDDEN]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_shrunk_cut_out_has_no_fringe(size):
    pixels = cut_out((0, 255, 0))
    got, _ = applied(pixels, Pool(reduce=Reduce.AVG, size=size))
    rows = 31 // size * size
    share = pixels[:rows, :rows, 3].astype(float).reshape(rows // size, size, rows // size, size).mean(axis=(1, 3))
    assert_stored(got[..., 3], share)
    assert (got[got[..., 3] > 0][:, :3] == (200, 40, 90)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kernel", ["blur", "edge", "sharpen", "gaussian:1", "sobel-x", "sobel"])
def test_keep(dtype, channels, kernel):
    white = white_of(dtype)
    pixels = noise(13, 14, channels, dtype=dtype)
    pixels[:4, :, -1] = 0
    pixels[4:8, :, -1] = white
    veil = pixels[..., -1:] / white
    got, _ = applied(pixels, kernel, alpha=Alpha.KEEP)
    exact = np.divide(
        response(pixels[..., :-1] * veil, kernel), veil, out=np.zeros(pixels[..., :-1].shape), where=veil > 0
    )
    assert np.array_equal(got[..., -1], pixels[..., -1])
    if white > 1:
        assert_stored(got[..., :-1], np.clip(exact, 0, white), within=HALF if white == 255 else 1)
    else:
        np.testing.assert_allclose(got[..., :-1], np.clip(exact, 0, 1), atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kernel", ["blur", "gaussian:1", "disk:2", "0.5 0 0.5"])
@pytest.mark.parametrize("boundary", ["reflect", "zero", "wrap"])
def test_premultiply(dtype, channels, kernel, boundary):
    white = white_of(dtype)
    pixels = noise(13, 14, channels, dtype=dtype)
    pixels[:6, :, -1] = 0
    veil = pixels[..., -1:] / white
    shade = response(veil, kernel, boundary)
    exact = np.divide(
        response(pixels[..., :-1] * veil, kernel, boundary),
        shade,
        out=np.zeros(pixels[..., :-1].shape),
        where=shade > 1e-9,
    )
    for mode in (Alpha.PREMULTIPLY, Alpha.AUTO):
        got, _ = applied(pixels, layer(kernel, boundary=boundary), alpha=mode)
        assert_stored(got[..., -1:], shade * white, within=HALF if white == 255 else 0.55)
        assert_stored(got[..., :-1], exact, within=HALF if white == 255 else 0.6)


def test_premultiply_asked_for_with_a_signed_kernel():
    pixels = noise(13, 14, 4)
    pixels[..., 3] = 128 + pixels[..., 3] // 16
    veil = pixels[..., 3:] / 255
    shade = response(veil, "sharpen")
    exact = response(pixels[..., :3] * veil, "sharpen") / shade
    got, _ = applied(pixels, "sharpen", alpha=Alpha.PREMULTIPLY)
    assert_stored(got[..., 3:], np.clip(shade * 255, 0, 255))
    assert_stored(got[..., :3], np.clip(exact, 0, 255))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kernel", ["blur", "edge", "sharpen"])
def test_filter_is_plain_channels(dtype, channels, kernel):
    pixels = noise(13, 14, channels, dtype=dtype)
    picture, _ = filter_picture(picture_of(pixels), Recipe((layer(kernel),), alpha=Alpha.FILTER))
    assert picture.alpha
    exact = np.clip(response(pixels, kernel), 0, white_of(dtype))
    assert_stored(picture.pixels, exact, within=HALF if dtype == np.uint8 else 0.55)


def test_filter_makes_an_opaque_inside_transparent():
    got, _ = applied(np.full((7, 7, 4), 255, np.uint8), "edge", alpha=Alpha.FILTER)
    assert not got.any()


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kernel", ["blur", "edge"])
def test_drop_forgets_alpha(channels, kernel):
    pixels = noise(13, 14, channels)
    picture, _ = filter_picture(picture_of(pixels), Recipe((layer(kernel),), alpha=Alpha.DROP))
    assert not picture.alpha
    assert np.array_equal(picture.pixels, applied(pixels[..., :-1], kernel)[0])


@pytest.mark.parametrize(
    ("kernel", "chosen"),
    [
        ("blur", Alpha.PREMULTIPLY),
        ("gaussian:2", Alpha.PREMULTIPLY),
        ("motion:size=5,angle=45", Alpha.PREMULTIPLY),
        ("0 0 1", Alpha.PREMULTIPLY),
        ("0.3333 0.3333 0.3333", Alpha.PREMULTIPLY),
        ("0.4 0.2 0.3992", Alpha.PREMULTIPLY),
        ("0.4 0.2 0.4008", Alpha.PREMULTIPLY),
        ("0.4 0.2 0.398", Alpha.KEEP),
        ("0.4 0.2 0.402", Alpha.KEEP),
        ("1 1 1", Alpha.KEEP),
        ("0.5", Alpha.KEEP),
        ("sharpen", Alpha.KEEP),
        ("unsharp:1", Alpha.KEEP),
        ("emboss", Alpha.KEEP),
        ("edge", Alpha.KEEP),
        ("sobel-x", Alpha.KEEP),
        ("log", Alpha.KEEP),
        ("sobel", Alpha.KEEP),
        ("kirsch", Alpha.KEEP),
        ("-0.001 1.001", Alpha.KEEP),
    ],
)
def test_auto_chooses_by_the_kernel(kernel, chosen):
    pixels = noise(13, 14, 4)
    results = {mode: applied(pixels, kernel, alpha=mode)[0] for mode in (Alpha.AUTO, Alpha.KEEP, Alpha.PREMULTIPLY)}
    assert not np.array_equal(results[Alpha.KEEP], results[Alpha.PREMULTIPLY])
    assert np.array_equal(results[Alpha.AUTO], results[chosen])


@pytest.mark.parametrize(
    ("options", "kernel", "rows", "columns"),
    [
        ({"padding": "valid"}, "edge", slice(1, 11), slice(1, 12)),
        ({"stride": 2}, "edge", slice(1, None, 2), slice(0, None, 2)),  # TensorFlow's "same": pads 0, 1 and 1, 1
        ({"stride": 2, "padding": "same-lower"}, "edge", slice(0, None, 2), slice(0, None, 2)),
        ({"stride": (1, 3)}, "edge", slice(None), slice(0, None, 3)),
        ({}, "-1 1", slice(None), slice(None)),
        ({"padding": "same-lower"}, "-1 1", slice(None), slice(None)),
        ({"padding": "same-lower"}, "1 -2; -1 2", slice(None), slice(None)),
        ({"dilation": 2}, "edge", slice(None), slice(None)),
        ({"dilation": 2, "padding": "valid"}, "edge", slice(2, 10), slice(2, 11)),
        ({"padding": "valid"}, "1 -2 1 -1 1", slice(None), slice(2, 11)),
    ],
    ids=str,
)
def test_kept_alpha_is_that_of_the_pixel_in_the_middle(options, kernel, rows, columns):
    pixels = noise(12, 13, 4)
    pixels[..., 3] = 60 + pixels[..., 3] % 190
    got, outcome = applied(pixels, layer(kernel, **options))
    assert np.array_equal(got[..., 3], pixels[rows, columns, 3])
    flat = np.full((12, 13, 4), 100, np.uint8)
    flat[..., 3] = pixels[..., 3]
    same, _ = applied(flat, layer("identity"))
    assert np.array_equal(same, flat)
    assert outcome.rows[0].output == (3, *got.shape[:2])


@pytest.mark.parametrize("padding", ["same", "same-lower"])
def test_kept_alpha_of_a_pool_stays_in_its_place(padding):
    pixels = noise(6, 7, 4)
    pool = Pool(reduce=Reduce.MAX, size=2, stride=1, padding=padding)
    assert np.array_equal(applied(pixels, pool, alpha=Alpha.KEEP)[0][..., 3], pixels[..., 3])


def test_a_weight_gives_alpha_no_new_meaning():
    """Two outputs and the alpha are not an RGB picture."""
    two = Conv(kernel=Kernel("two", np.ones((2, 3, 1, 1)) / 3))
    picture, _ = filter_picture(picture_of(noise(5, 5, 4)), Recipe((two,)))
    assert (picture.alpha, picture.pixels.shape[2]) == (False, 2)
    assert any("alpha" in one for one in picture.notices)
    with pytest.raises(ShapeError, match="--alpha drop"):
        filter_picture(picture_of(noise(5, 5, 4)), Recipe((two,), alpha=Alpha.KEEP))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_weight_sums_the_colours_and_keeps_alpha(outputs):
    weights = np.random.default_rng(2).random((outputs, 3, 1, 1)) / 3
    pixels = opaque(noise(5, 6, 3))
    pixels[2:, :, 3] = 128
    picture, _ = filter_picture(picture_of(pixels), Recipe((Conv(kernel=Kernel("mix", weights)),)))
    assert picture.alpha
    assert np.array_equal(picture.pixels[..., -1], pixels[..., 3])
    assert_stored(picture.pixels[..., :-1], pixels[..., :3].astype(float) @ weights[:, :, 0, 0].T)


# ---- plain numbers ----


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (4, 5, 6), (2, 3, 5, 6), (1, 3, 5, 6), (1, 1, 5, 6)])
def test_arrays_are_plain_numbers(shape):
    array = np.random.default_rng(4).normal(0, 1000, shape)
    got, outcome = filter_array(array, Recipe((layer("edge", bias=0.5, boundary=7.0),)))
    planes = array.reshape(-1, 5, 6)
    want = (
        np.stack([ndimage.correlate(one, read_kernel("edge").weights, mode="constant", cval=7) for one in planes]) + 0.5
    )
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want.reshape(shape), rtol=1e-12, atol=1e-9)
    assert outcome.spread() == {
        "min": pytest.approx(want.min()),
        "max": pytest.approx(want.max()),
        "below": 0,
        "above": 0,
    }


def test_integers_in_arrays_are_not_codes():
    got, _ = filter_array(np.array([[0, 128, 255]], np.uint8), Recipe((layer("2", bias=1.0),)))
    assert got.tolist() == [[1, 257, 511]]
