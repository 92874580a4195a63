"""Convolution: every method of the registry against the plain loops, its algebra, and the numbers of the text."""

import functools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import convcli
import oracle
from convcli.engine.methods import METHODS
from convcli.errors import ConvcliError, ShapeError

BOUNDARIES = ["zero", "edge", "reflect", "symmetric", "wrap", "mirror", 0.5]
PADDINGS = ["valid", "same", "same-lower", "full", ((2, 0), (1, 3))]
RNG = np.random.default_rng(7)

each_method = pytest.mark.parametrize("method", METHODS)


def unless_refused(test):
    """A method may refuse a problem, with the sentence that a user gets; what it must accept is tested below."""

    @functools.wraps(test)
    def tolerant(**arguments):
        try:
            test(**arguments)
        except ConvcliError as error:
            if f"method {arguments['method']!r} can't do this: it " not in str(error):
                raise

    return tolerant


def assert_close(got, want, dtype=np.float32):
    assert got.dtype == dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1, np.abs(want).max(initial=0)))


def test_the_judge_can_fail():
    right = oracle.correlate(np.eye(4), np.ones((2, 2)))
    with pytest.raises(AssertionError):
        assert_close((right + 0.01).astype(np.float32), right)


@each_method
@unless_refused
def test_corr2d_of_the_text(method):
    got = convcli.conv2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]], method=method)
    assert got.tolist() == [[19, 25], [37, 43]]


@each_method
@unless_refused
def test_edge_example_of_the_text(method):
    picture = np.ones((6, 8))
    picture[:, 2:6] = 0
    got = convcli.conv2d(picture, [[-1, 1]], method=method)
    np.testing.assert_allclose(got, [[0, -1, 0, 0, 0, 1, 0]] * 6, atol=1e-15)


@each_method
@unless_refused
def test_channels_of_the_text(method):
    x = np.stack([np.arange(9).reshape(3, 3), np.arange(1, 10).reshape(3, 3)])
    k = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
    got = convcli.conv2d(x, np.stack([k, k + 1, k + 2]), method=method)
    assert got.tolist() == [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]


@each_method
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("padding", PADDINGS)
@unless_refused
def test_every_padding_and_boundary(method, padding, boundary):
    x = RNG.random((7, 9))
    for size in [(3, 3), (2, 2), (4, 3), (1, 5), (5, 2)]:
        kernel = RNG.standard_normal(size)
        got = convcli.filter2d(x, kernel, padding=padding, boundary=boundary, method=method)
        assert_close(got, oracle.correlate(x, kernel, padding, boundary), np.float64)


@each_method
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (1, 4), (5, 7)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("keep", [False, True])
@unless_refused
def test_every_stride_and_dilation(method, stride, dilation, keep):
    x = RNG.random((13, 15, 3)).astype(np.float32)
    kernel = RNG.standard_normal((3, 2))
    options = {"padding": "same", "boundary": "reflect", "stride": stride, "dilation": dilation}
    got = convcli.filter2d(x, kernel, **options, keep_size=keep, method=method)
    want = [oracle.correlate(x[..., c].astype(float), kernel, **options, keep=keep) for c in range(3)]
    assert_close(got, np.stack(want, axis=-1))


@each_method
@pytest.mark.parametrize("boundary", BOUNDARIES)
@unless_refused
def test_border_wider_than_the_picture(method, boundary):
    x = RNG.random((3, 2))
    kernel = RNG.standard_normal((9, 11))
    got = convcli.filter2d(x, kernel, boundary=boundary, method=method)
    assert_close(got, oracle.correlate(x, kernel, "same", boundary), np.float64)


problems = st.fixed_dictionaries(
    {
        "channels": st.integers(1, 3),
        "outputs": st.integers(1, 3),
        "groups": st.integers(1, 3),
        "size": st.tuples(st.integers(1, 16), st.integers(1, 16)),
        "kernel": st.tuples(st.integers(1, 7), st.integers(1, 7)),
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.sampled_from(["same", "same-lower", "full", ((3, 1), (0, 2)), "valid"]),
        "boundary": st.sampled_from(BOUNDARIES),
        "seed": st.integers(0, 2**16),
    }
)


@each_method
@given(problem=problems)
@example(
    problem={
        "channels": 1,
        "outputs": 2,
        "groups": 3,
        "size": (1, 1),
        "kernel": (7, 7),
        "stride": (4, 4),
        "dilation": (3, 3),
        "padding": "same",
        "boundary": "reflect",
        "seed": 0,
    }
)
@unless_refused
def test_layers_against_plain_loops(method, problem):
    rng = np.random.default_rng(problem["seed"])
    groups = problem["groups"]
    x = rng.standard_normal((problem["channels"] * groups, *problem["size"]))
    weight = rng.standard_normal((problem["outputs"] * groups, problem["channels"], *problem["kernel"]))
    bias = rng.standard_normal(len(weight))
    options = {key: problem[key] for key in ("padding", "boundary", "stride", "dilation")}
    try:
        got = convcli.conv2d(x, weight, bias, groups=groups, **options, method=method)
    except ShapeError:
        reach = [d * (k - 1) + 1 for k, d in zip(problem["kernel"], problem["dilation"], strict=True)]
        pads = (0, 0) if problem["padding"] == "valid" else (4, 2)
        assert any(n + p < k for n, p, k in zip(problem["size"], pads, reach, strict=True))
        return
    assert_close(got, oracle.layer(x, weight, bias, groups, **options), np.float64)


@each_method
@unless_refused
def test_linearity_shift_and_flip(method):
    x, y = RNG.random((2, 20, 24))
    kernel = RNG.standard_normal((5, 4))

    def full(a, k=kernel, **options):
        return convcli.conv2d(a, k, padding="full", method=method, **options)

    np.testing.assert_allclose(full(2 * x - 3 * y), 2 * full(x) - 3 * full(y), atol=1e-9)
    moved = np.zeros((23, 29))
    moved[3:, 5:] = x
    np.testing.assert_allclose(full(moved)[3:, 5:], full(x), atol=1e-9)
    np.testing.assert_allclose(full(x, flip=True), full(x, kernel[::-1, ::-1]), atol=1e-12)
    np.testing.assert_allclose(full(x)[::-1, ::-1], full(x[::-1, ::-1], kernel[::-1, ::-1]), atol=1e-9)


@each_method
@unless_refused
def test_flip_moves_no_pad(method):
    spot = np.zeros((5, 5))
    spot[2, 2] = 1
    kernel = np.arange(1.0, 5).reshape(2, 2)
    plain = convcli.filter2d(spot, kernel, boundary="zero", method=method)
    flipped = convcli.filter2d(spot, kernel, boundary="zero", flip=True, method=method)
    np.testing.assert_allclose(plain[1:3, 1:3], [[4, 3], [2, 1]], atol=1e-14)
    np.testing.assert_allclose(flipped[1:3, 1:3], [[1, 2], [3, 4]], atol=1e-14)


@each_method
@pytest.mark.parametrize("kernel", [np.ones((3, 3)), np.arange(12).reshape(3, 4) - 6, np.ones((1, 1)) * 3])
@unless_refused
def test_tiles_and_threads_make_no_seams(method, kernel):
    x = RNG.integers(0, 256, (300, 5000, 3), np.uint8)
    one = convcli.filter2d(x, kernel, method=method, threads=1)
    two = convcli.filter2d(x, kernel, method=method, threads=3)
    np.testing.assert_array_equal(one, two)
    part = convcli.filter2d(x[100:160, 1000:1100], kernel, padding="valid", method=method)
    whole = convcli.filter2d(x, kernel, padding="valid", method=method)
    np.testing.assert_array_equal(part, whole[100 : 100 + len(part), 1000 : 1000 + part.shape[1]])


@each_method
@unless_refused
def test_nan_and_inf_stay_in_their_windows(method):
    x = RNG.random((40, 50)).astype(np.float32)
    kernel = RNG.standard_normal((3, 5))
    kernel[0, 0] = kernel[2, 3] = 0
    clean = convcli.filter2d(x, kernel, method=method)
    for value in (np.nan, np.inf, -np.inf):
        spoilt = x.copy()
        spoilt[20, 30] = value
        got = convcli.filter2d(spoilt, kernel, method=method)
        window = np.zeros(x.shape, bool)
        window[19:22, 28:33] = True
        assert not np.isfinite(got[window]).any()
        if np.isnan(value):
            assert np.isnan(got[window]).all()
        np.testing.assert_allclose(got[~window], clean[~window], atol=0 if method in ("row-gemm", "im2col") else 1e-5)


@each_method
@unless_refused
def test_integers_are_exact(method):
    x = RNG.integers(0, 256, (30, 40, 3), np.uint8)
    kernel = RNG.integers(-9, 10, (4, 5))
    want = np.stack([oracle.correlate(x[..., c].astype(float), kernel, "same", "reflect") for c in range(3)], axis=-1)
    np.testing.assert_array_equal(convcli.filter2d(x, kernel, method=method), want)
    codes = convcli.filter2d(x, kernel, method=method, dtype=np.uint8)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, np.clip(want, 0, 255))
    wide = convcli.filter2d(x, kernel, method=method, dtype=np.int16)
    np.testing.assert_array_equal(wide, want)


@functools.cache
def under_a_cross():
    """Great codes, a kernel whose terms would cancel, and what the plain loops make of them."""
    x = np.random.default_rng(8).integers(60000, 65536, (60, 60)).astype(np.uint16)
    cross = np.zeros((21, 21), int)
    cross[10], cross[:, 10], cross[10, 10] = 2, 2, 4
    return x, cross, oracle.correlate(x.astype(float), cross, "same", "reflect")


@each_method
@unless_refused
def test_integers_are_exact_where_terms_would_cancel(method):
    x, cross, want = under_a_cross()
    np.testing.assert_array_equal(convcli.filter2d(x, cross, method=method, dtype=np.int32), want)


@pytest.mark.parametrize("filters", [("scharr", "scharr-x", "scharr-y"), ("sobel", "sobel-x", "sobel-y")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_a_magnitude_of_integers_is_rounded_once(filters, dtype):
    x = RNG.integers(0, 200 if dtype == np.uint8 else 60000, (40, 50)).astype(dtype)
    magnitude, gx, gy = (convcli.filter2d(x, name, dtype=np.int64).astype(float) for name in filters)
    np.testing.assert_array_equal(magnitude, np.rint(np.hypot(gx, gy)))


@each_method
@unless_refused
def test_faint_wide_parts_of_a_kernel_count(method):
    x = RNG.random((40, 40)).astype(np.float32)
    glare = np.full((31, 31), 1e-7)
    glare[15, 15] = 1
    want = convcli.filter2d(x.astype(float), glare, method="im2col")
    np.testing.assert_allclose(convcli.filter2d(x, glare, method=method), want, atol=1e-6)


@each_method
@unless_refused
@pytest.mark.parametrize("value", [3e38, 1e8, -9999])
def test_one_large_pixel_changes_its_windows_only(method, value):
    x = RNG.random((60, 60)).astype(np.float32)
    kernel = RNG.standard_normal((9, 9))
    spoilt = x.copy()
    spoilt[30, 30] = value
    outside = np.ones(x.shape, bool)
    outside[26:35, 26:35] = False
    changed = convcli.filter2d(spoilt, kernel, method=method) - convcli.filter2d(x, kernel, method=method)
    assert np.abs(changed[outside]).max() < 1e-4


@pytest.mark.parametrize("place", [np.s_[100:110, 100:110], np.s_[60:, 60:120], np.s_[:, 100:]])
def test_an_area_of_large_pixels_changes_its_windows_only(place):
    x, kernel = RNG.random((200, 200)).astype(np.float32), RNG.standard_normal((25, 25))
    spoilt, held = x.copy(), np.zeros(x.shape)
    spoilt[place], held[place] = -9999, 1
    free = convcli.filter2d(held, np.ones((25, 25)), boundary="zero", method="im2col") == 0
    got, clean = (convcli.filter2d(one, kernel, boundary="zero", method="fft") for one in (spoilt, x))
    assert free.any()
    assert np.abs(got - clean)[free].max() < 1e-4


@pytest.mark.parametrize(
    ("dtype", "weight"),
    [(np.float32, 1e39), (np.float64, np.longdouble("1e4000")), (np.float32, -1e300)],
)
def test_weights_beyond_the_dtype_of_the_sums_are_refused(dtype, weight):
    x = np.ones((3, 3), dtype)
    with pytest.raises(ConvcliError, match=r"^weight must be from -\S+ to \S+, since sums are in float"):
        convcli.filter2d(x, np.array([[weight]]))
    for call in (convcli.conv2d, convcli.plan_conv):
        with pytest.raises(ConvcliError, match=r"^bias must be from -\S+ to \S+, since sums are in float"):
            call(x, [[1.0]], bias=weight)


def test_weights_that_overflow_together_do_so_in_silence():
    assert np.isinf(convcli.conv2d(np.ones((1, 2), np.uint8), [[1.7e308, 1.7e308]]))
    for x in (np.ones((1, 2)), np.ones((1, 2), np.int64), np.ones((1, 2), np.uint8)):
        got = convcli.filter2d(x, [[1.7e308, 1.7e308, 0]], boundary="zero", dtype=float)
        assert got.tolist() == [[1.7e308, np.inf]]


@pytest.mark.parametrize("kernel", [RNG.standard_normal((25, 25)), np.outer(np.hanning(9), np.hanning(9))])
def test_a_large_border_changes_its_windows_only(kernel):
    x, far = RNG.integers(0, 256, (200, 200), np.uint8), slice(12, 213 - len(kernel))
    for number in (1e9, 1e38):
        got, clean = (convcli.filter2d(x, kernel, boundary=one, padding=12) for one in (number, 0))
        np.testing.assert_allclose(got[far, far], clean[far, far], rtol=0, atol=0.1)


@pytest.mark.parametrize(("value", "number"), [(np.array(1.5), 1.5), (np.array(True), 1), (np.float32(2), 2)])
def test_numbers_of_numpy_are_a_border(value, number):
    want = convcli.filter2d(np.ones((3, 3)), np.ones((3, 3)), boundary=number)
    np.testing.assert_array_equal(convcli.filter2d(np.ones((3, 3)), np.ones((3, 3)), boundary=value), want)


def test_a_border_of_whole_numbers_is_exact():
    x, left = np.zeros((1, 1), np.int64), ((0, 0), (1, 0))
    assert convcli.filter2d(x, [[1, 0]], boundary=2**53 + 1, padding=left, dtype=np.int64) == 2**53 + 1


def test_python_integers_meet_no_float_in_the_border():
    x = np.full((3, 3), 2**62 + 1)
    got = convcli.filter2d(x, [[0, 1, 0, 1, -1]], boundary="zero", dtype=np.int64)
    assert got[0].tolist() == [0, 2**63 - 1, 2**62 + 1]


@pytest.mark.parametrize("top", [2**20, 2**31 - 1, 2**50, 2**62])
def test_large_integers_are_exact_with_an_integer_dtype(top):
    x = RNG.integers(-top, top, (6, 7), np.int64)
    kernel = np.array([[1, -2, 1], [3, 0, -1]])
    want = oracle.correlate(x.astype(object), kernel.astype(object), "same", "edge")
    limits = np.iinfo(np.int64)
    want = np.array([min(max(int(one), limits.min), limits.max) for one in want.flat]).reshape(want.shape)
    got = convcli.filter2d(x, kernel, boundary="edge", dtype=np.int64)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("value", "code"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-20, 0), (300, 255), (255.4, 255), (np.nan, 0)]
)
def test_one_rounding_half_to_even_then_clip(value, code):
    assert convcli.filter2d([[value]], [[1]], dtype=np.uint8).item() == code


def test_top_of_wide_integers_does_not_wrap():
    for dtype in (np.int32, np.int64, np.uint32, np.uint64):
        got = convcli.filter2d(np.array([[1e30, -1e30]]), [[1]], dtype=dtype)
        assert got.tolist() == [[np.iinfo(dtype).max, np.iinfo(dtype).min]]


@each_method
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64, bool, ">f4", ">u2"])
@unless_refused
def test_dtypes(method, dtype):
    x = (RNG.random((8, 9)) * 100).astype(dtype)
    kernel = RNG.standard_normal((3, 3))
    got = convcli.filter2d(x, kernel, method=method)
    wide = np.float64 if dtype == np.float64 else np.float32
    assert_close(got, oracle.correlate(x.astype(float), kernel, "same", "reflect"), wide)


@each_method
@unless_refused
def test_layout_of_the_input_does_not_matter(method):
    x = RNG.random((3, 20, 30)).astype(np.float32)
    kernel = RNG.standard_normal((3, 3))
    want = convcli.conv2d(x, kernel, method=method)
    read_only = x.copy()
    read_only.flags.writeable = False
    strided = np.zeros((3, 40, 60), np.float32)[:, ::2, ::2]
    strided[...] = x
    for other in (read_only, strided, np.asfortranarray(x), x[:, ::-1, ::-1][:, ::-1, ::-1]):
        np.testing.assert_array_equal(convcli.conv2d(other, kernel, method=method), want)


def test_shapes_that_come_out():
    kernel, weight = np.ones((3, 3)), np.ones((4, 1, 3, 3))
    assert convcli.conv2d(np.ones((5, 6)), kernel).shape == (3, 4)
    assert convcli.conv2d(np.ones((5, 6)), weight).shape == (4, 3, 4)
    assert convcli.conv2d(np.ones((2, 5, 6)), kernel).shape == (2, 3, 4)
    assert convcli.conv2d(np.ones((7, 1, 5, 6)), weight).shape == (7, 4, 3, 4)
    assert convcli.conv2d(np.ones((0, 1, 5, 6)), weight).shape == (0, 4, 3, 4)
    assert convcli.filter2d(np.ones((5, 6, 2)), kernel).shape == (5, 6, 2)
    assert convcli.filter2d(np.ones((1, 1)), kernel).tolist() == [[9]]


def test_bias_is_one_number_or_one_for_each_output():
    x, weight = np.zeros((1, 3, 3)), np.ones((2, 1, 3, 3))
    assert convcli.conv2d(x, weight, 5).ravel().tolist() == [5, 5]
    assert convcli.conv2d(x, weight, [1, 2]).ravel().tolist() == [1, 2]
    assert convcli.filter2d(np.zeros((1, 1)), "box", bias=0.25).item() == 0.25


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: convcli.conv2d(np.ones((2, 5, 5)), np.ones((1, 3, 2, 2))),
            ["1x3x2x2", "3 input channels", "2 came in"],
        ),
        (
            lambda: convcli.conv2d(np.ones((4, 5, 5)), np.ones((3, 2, 2, 2)), groups=2),
            ["3 output channels", "2 groups"],
        ),
        (lambda: convcli.conv2d(np.ones((5, 5)), np.ones((1, 1, 2, 2)), [1, 2]), ["bias", "(2,)"]),
        (lambda: convcli.conv2d(np.ones(5), [[1]]), ["x must have 2 or 3 or 4 axes", "(5,)"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), [1, 2]), ["weight", "(2,)"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), np.ones((0, 3))), ["weight is empty"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), [[np.nan]]), ["finite", "nan"]),
        (lambda: convcli.conv2d(np.ones((5, 5), complex), [[1]]), ["real", "complex128"]),
        (lambda: convcli.conv2d([[1, 2], [3]], [[1]]), ["regular"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], boundary="nearest"), ["boundary", "reflect", "'nearest'"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], boundary=np.inf), ["boundary", "finite"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], method="ftt"), ["method", "did you mean 'fft'", "'ftt'"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], threads=0), ["threads", "0"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], dtype=complex), ["dtype", "complex128"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), np.ones((1, 1, 2, 2))), ["conv2d"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), "gausian"), ["'gausian'", "did you mean 'gaussian'"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), [[1]], groups=2), ["groups"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), [[1]], groups=(2, 2)), ["groups", "(2, 2)"]),
        (lambda: convcli.conv2d(np.ones((0, 5, 5)), [[1]]), ["no channels", "(0, 5, 5)"]),
        (lambda: convcli.global_avg_pool2d([[1], [2, 3]]), ["regular"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], stride=np.ones((2, 2))), ["stride", "whole number"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], bias=2**70), ["bias", "64 bits"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], dtype="foo"), ["dtype", "'foo'"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], bias="x"), ["bias", "'x'"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], bias=None), ["bias", "None"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], method=3), ["method", "3"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1, 2], [3]]), ["regular"]),
        (lambda: convcli.filter2d(np.ones((0, 5)), [[1]]), ["no pixels", "(0, 5)"]),
        (lambda: convcli.filter2d(np.ones((5, 5, 0)), [[1]]), ["no pixels", "(5, 5, 0)"]),
        (lambda: convcli.filter2d(np.ones((5, 5)), [[1]], threads=np.array([1, 2])), ["threads", "array([1, 2])"]),
        (lambda: convcli.conv2d(np.ones((5, 5)), [[1]], groups=np.array([2, 2])), ["groups", "array([2, 2])"]),
        (lambda: convcli.conv2d(np.ones((2, 5, 5)), np.ones((2, 1, 1, 1)), groups=np.array([2, 2])), ["groups"]),
        (lambda: convcli.filter2d(np.ones((5, 5), "f4"), [[1]], padding=1, boundary=1e39), ["boundary", "3.4e+38"]),
        (lambda: convcli.filter2d(np.array([[1, 2**70]], object), [[1]]), ["64 bits"]),
        (lambda: convcli.filter2d(np.array([[2**63 + 1, -1]], object), [[1]]), ["64 bits"]),
        (lambda: convcli.filter2d(np.ones((0, 5, 3)), [[1]]), ["no pixels", "(0, 5, 3)"]),
        (lambda: convcli.filter2d(np.ones((0, 5, 3), object), [[1]]), ["no pixels", "(0, 5, 3)"]),
        (lambda: convcli.filter2d(np.array([[1, "2"]], object), [[1]]), ["real numbers", "object"]),
        (lambda: convcli.kernel("[[1" + "0" * 400 + "]]"), ["finite"]),
    ],
)
def test_wrong_arguments_get_one_sentence(call, words):
    with pytest.raises(ConvcliError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_gradient_filters_are_the_magnitude_of_their_kernels():
    x = RNG.random((10, 12))
    gx, gy = (convcli.filter2d(x, f"sobel-{axis}") for axis in "xy")
    np.testing.assert_allclose(convcli.filter2d(x, "sobel"), np.hypot(gx, gy), atol=1e-12)
    kirsch = np.array([[5, 5, 5], [-3, 0, -3], [-3, -3, -3]])
    assert (convcli.filter2d(x, "kirsch") >= convcli.filter2d(x, kirsch) - 1e-12).all()
    with pytest.raises(ConvcliError, match="is a filter, not a kernel"):
        convcli.kernel("sobel")


def test_plan_prints_the_choice_and_the_others():
    plan = convcli.plan_conv(np.zeros((3, 400, 500), np.float32), np.ones((5, 5)))
    assert plan.method in METHODS
    assert all(name in str(plan) for name in METHODS)
    assert plan == convcli.plan_conv(np.ones((3, 400, 500), np.float32), np.ones((5, 5)))
    forced = convcli.plan_conv(np.zeros((9, 9)), np.ones((3, 3)), method="shift-add")
    assert (forced.method, forced.why) == ("shift-add", "asked for")
    big = np.full((4, 4), 2**60)
    with pytest.raises(ConvcliError, match=r"row-gemm.*needs floats"):
        convcli.filter2d(big, [[1, 1]], dtype=np.int64, method="row-gemm")


def test_a_bias_is_exact_too():
    assert convcli.filter2d(np.array([[2**63]], np.uint64), [[1]], bias=1, dtype="uint64").item() == 2**63 + 1
    assert convcli.filter2d([[5]], [[1]], bias=2**60 + 1, dtype=np.int64).item() == 2**60 + 6


def test_numbers_of_numpy_are_numbers():
    x = np.ones((2, 6, 6))
    want = convcli.conv2d(x, np.ones((2, 1, 2, 2)), groups=2, stride=(2, 1))
    got = convcli.conv2d(x, np.ones((2, 1, 2, 2)), groups=np.int64(2), stride=np.array([2, 1]), threads=np.int32(1))
    np.testing.assert_array_equal(got, want)


def test_objects_that_are_whole_numbers_are_numbers():
    assert convcli.conv2d(np.array([[1, 2], [3, 4]], object), [[1]]).tolist() == [[1, 2], [3, 4]]
    assert convcli.filter2d(np.array([[2**63]], object), [[1]], dtype="uint64").item() == 2**63


@pytest.mark.parametrize("boundary", [40_000, 65_535.0, 1e6, 1e30])
def test_kernels_of_zeros_make_zeros_under_any_border(boundary):
    for dtype in (None, np.uint8, np.int64):
        got = convcli.filter2d(np.ones((5, 5), np.uint8), np.zeros((3, 3)), padding=1, boundary=boundary, dtype=dtype)
        np.testing.assert_array_equal(got, np.zeros((5, 5)))


def test_a_border_is_as_good_as_none_where_there_is_none():
    x = RNG.integers(0, 256, (30, 40), np.uint8)
    for boundary in (1e39, 0.5):
        got = convcli.filter2d(x, [[1, 2]], padding="valid", boundary=boundary, dtype=np.float64)
        np.testing.assert_array_equal(got, x[:, :-1] + 2.0 * x[:, 1:])
    assert convcli.filter2d(x, [[0.5]], padding="valid", boundary=1e39).dtype == np.float32


def test_a_border_beyond_the_dtype_is_clipped_with_it():
    got = convcli.filter2d(np.zeros((3, 3), np.uint8), [[1, 0, 0]], padding="same", boundary=300, dtype=np.uint8)
    assert got.tolist() == [[255, 0, 0]] * 3


def test_sums_of_integers_are_exact_in_float64_too():
    x, kernel = RNG.integers(0, 256, (90, 80), np.uint8), RNG.integers(0, 2, (31, 31))
    got = convcli.filter2d(x, kernel, padding="valid", dtype=np.float64)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, convcli.filter2d(x, kernel, padding="valid", dtype=np.int64))
    fractions = convcli.filter2d(x, kernel / 3, padding="valid", dtype=np.float64)
    np.testing.assert_allclose(fractions, got / 3, rtol=1e-13)
    sobel = convcli.filter2d(x, "sobel", dtype=np.float64)
    parts = [convcli.filter2d(x, f"sobel-{axis}", dtype=np.float64) for axis in "xy"]
    np.testing.assert_allclose(sobel, np.hypot(*parts), rtol=1e-15)
