"""Each method of the registry: what it accepts and refuses, special weights, seams, spoilt cells, memory, threads."""

import contextlib
import functools
import gc
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import convcli
import oracle
from convcli.engine import blas, correlate, costs, pad, plan, pool, problem, scratch, shapes
from convcli.engine import threads as sharing
from convcli.engine.conv import picture_filter
from convcli.engine.correlate import Correlation
from convcli.engine.methods import METHODS, box_sum, fft, im2col, row_gemm, separable, shift_add, winograd
from convcli.engine.pad import Border
from convcli.engine.scratch import Scratch
from convcli.engine.store import Extent, Store
from convcli.errors import ConvcliError
from convcli.words import Boundary

RNG = np.random.default_rng(11)
SMOOTH = np.outer([1, 2, 1], [2, 3, 5])
DENSE = np.array([[1, -2, 3], [4, 0, 6], [-7, 8, 10]])
BOUNDARIES = ["zero", "edge", "reflect", "symmetric", "wrap", -2]
ALL = set(METHODS)
NO_BOX = ALL - {"box-sum"}
PLAIN = NO_BOX - {"separable"}
INTEGERS = {"shift-add", "box-sum"}

each_method = pytest.mark.parametrize("method", METHODS)


def takes(method, weight, stride=1, dilation=1, **_):
    """Whether a method takes kernels of these rows at all: one is for three of them."""
    down = np.ravel(stride)[0], np.ravel(dilation)[0]
    return method != "winograd" or (np.shape(weight)[-2], *down) == (3, 1, 1)


def attempt(call: Callable[..., np.ndarray], method: str) -> np.ndarray | None:
    """The result, or nothing where the method refuses with its sentence."""
    try:
        return call(method=method)
    except ConvcliError as error:
        if f"method {method!r} can't do this: it " not in str(error):
            raise
        return None


def assert_near(got, want, scale):
    """Finite values within float noise of ``scale``; NaN and Inf where they should be."""
    assert got.shape == want.shape
    noise = 100 * np.finfo(got.dtype).eps * max(scale, 1e-30)
    np.testing.assert_allclose(got, want.astype(got.dtype), rtol=0, atol=noise)


def test_noise_is_less_than_a_wrong_tap():
    with pytest.raises(AssertionError):
        assert_near(np.full((2, 2), 1.001, np.float32), np.ones((2, 2)), 4)


class Poisoned(Scratch):
    """Memory that holds what no result should."""

    def __call__(self, name, shape, dtype):
        memory = super().__call__(name, shape, dtype)
        kind = memory.dtype.kind
        memory[...] = np.nan if kind in "fcO" else True if kind == "b" else np.iinfo(memory.dtype).max - 3
        return memory


@pytest.fixture
def poisoned(monkeypatch):
    use_scratch(monkeypatch, Poisoned)


def use_scratch(monkeypatch, kind):
    """Memory of this kind for every thread."""
    monkeypatch.setattr(scratch, "Scratch", kind)
    monkeypatch.setattr(scratch, "_idle", [])


# What a method accepts


def accepted(x, weight, **options):
    methods = set()
    for method in METHODS:
        try:
            assert convcli.plan_conv(x, weight, **options, method=method).method == method
        except ConvcliError:
            continue
        methods.add(method)
    return methods


FLOATS, BYTES = RNG.standard_normal((3, 30, 40)).astype(np.float32), RNG.integers(0, 256, (3, 30, 40), np.uint8)
SIX = np.concatenate([FLOATS, -FLOATS])


@pytest.mark.parametrize(
    ("x", "weight", "options", "methods"),
    [
        (FLOATS, RNG.random((3, 3)), {}, NO_BOX),
        (FLOATS, RNG.random((1, 5)), {"stride": 3, "dilation": 2, "padding": "full"}, NO_BOX),
        (FLOATS, np.full((4, 5), 0.1), {}, ALL),
        (FLOATS, np.zeros((4, 5)), {}, ALL),
        (FLOATS, np.full((1, 1), 3.5), {"stride": (2, 5)}, ALL),
        (FLOATS.astype(np.float64), np.outer(RNG.random(7), RNG.random(9)), {}, NO_BOX),
        (FLOATS, np.diag(np.arange(1.0, 17)), {}, NO_BOX),
        (FLOATS, np.diag(np.arange(1.0, 18)), {}, PLAIN),
        (FLOATS[:2], RNG.random((2, 2, 3, 3)), {"padding": "same"}, NO_BOX),
        (FLOATS[:2], RNG.random((4, 2, 3, 3)), {}, PLAIN),
        (FLOATS[:2], np.ones((4, 2, 3, 3)) * RNG.random((4, 2, 1, 1)), {}, PLAIN | {"box-sum"}),
        (SIX, RNG.random((6, 3, 3, 3)), {"groups": 2, "stride": 2}, PLAIN),
        (SIX, RNG.random((6, 3, 3, 3)), {"groups": 2, "dilation": (2, 1)}, PLAIN),
        (SIX, RNG.random((6, 3, 3, 3)), {"groups": 2, "dilation": (1, 2)}, PLAIN),
        (SIX, RNG.random((6, 3, 1, 3)), {"groups": 2, "dilation": 3}, PLAIN),
        (FLOATS[0], RNG.random((6, 1, 3, 3)), {"dilation": 3}, PLAIN),
        (FLOATS, np.ones((1, 3, 3, 3)), {"dilation": (3, 1)}, ALL),
        (BYTES, DENSE, {}, PLAIN),
        (BYTES, SMOOTH, {"dilation": (2, 3)}, NO_BOX),
        (BYTES, np.full((5, 5), -3), {"stride": 2}, ALL),
        (BYTES, np.array([[2, 4], [3, 6]]), {}, NO_BOX),
        (BYTES, np.array([[2, 3], [3, 2]]), {}, PLAIN),
        (BYTES, np.array([[2, 3], [3, 2]]) / 10, {}, NO_BOX),
        (BYTES.astype(np.int32) << 20, SMOOTH, {}, NO_BOX),
        (np.full((4, 4), 2**40 - 1), np.ones((1, 1)), {}, ALL),
        (np.full((4, 4), 2**40), np.ones((1, 1)), {}, ALL - {"fft"}),
        (np.full((4, 4), 2**53), np.ones((1, 1)), {}, ALL),
    ],
)
def test_table_of_what_each_method_accepts(x, weight, options, methods):
    assert accepted(x, weight, **options) == {one for one in methods if takes(one, weight, **options)}


def test_gaussians_are_separable_and_boxes_are_boxes():
    assert "separable" in accepted(FLOATS, convcli.kernel("gaussian"))
    assert accepted(FLOATS, convcli.kernel("box")) == ALL


def test_fft_refuses_a_weight_whose_spectra_fill_the_memory():
    weight = np.zeros((256, 256, 3, 3), np.float32)
    x = np.zeros((256, 64, 64), np.float32)
    assert "fft" in accepted(x, weight[:4])
    with pytest.raises(ConvcliError, match="'fft' can't do this: it would hold too many spectra"):
        convcli.plan_conv(x, weight, method="fft")
    with pytest.raises(ConvcliError, match="would hold too many spectra"):  # of all groups, though few of each
        convcli.plan_conv(x, RNG.random((1024, 16, 3, 3)), groups=16, method="fft")
    convcli.plan_conv(x[:16], RNG.random((64, 16, 3, 3)), method="fft")


@pytest.mark.parametrize("value", [2**40, 2**62])  # sums within int64, and beyond it
@pytest.mark.parametrize(("kernel", "methods"), [(np.full((3, 3), 2**12), INTEGERS), (SMOOTH << 10, {"shift-add"})])
def test_sums_beyond_floats_are_left_to_the_methods_of_integers(value, kernel, methods):
    x = np.array([[value, -value, 5]] * 4)
    for method in METHODS:
        call = functools.partial(convcli.filter2d, x, kernel, dtype=np.int64, boundary="edge")
        if method not in methods:
            with pytest.raises(ConvcliError, match=f"'{method}' can't do this: it (needs|would|finds no)"):
                call(method=method)
            continue
        want = oracle.correlate(x.astype(object), kernel.astype(object), "same", "edge")
        want = [max(-(2**63), min(2**63 - 1, int(one))) for one in want.flat]
        assert call(method=method).ravel().tolist() == want


def test_parts_of_a_kernel_keep_more_digits_than_a_float():
    kernel = np.full((3, 3), 2**54 + 1)
    kernel[0, 0] = 5  # a box and a rest
    assert convcli.filter2d(np.ones((3, 3), np.int64), kernel, padding="valid", dtype=np.int64) == kernel.sum()


@pytest.mark.parametrize(
    ("method", "x", "weight", "options", "words"),
    [
        ("box-sum", FLOATS, DENSE, {}, "needs a kernel that is one number all over"),
        ("separable", BYTES, DENSE, {}, "finds no few columns and rows that make up the kernel exactly"),
        ("separable", FLOATS, np.eye(17), {}, "finds no few columns and rows that make up the kernel$"),
        ("fft", np.array([[2**50]]), [[1]], {}, "would not be exact for sums this large"),
        ("winograd", np.full((3, 3), 2**47), np.ones((3, 3)), {}, "would not be exact for sums this large"),
        ("winograd", FLOATS, np.ones((2, 3)), {}, "needs a kernel of three rows, without a stride or dilation down"),
        ("winograd", FLOATS, DENSE, {"stride": (2, 1)}, "needs a kernel of three rows, without a stride"),
    ],
)
def test_sentences_of_refusal(method, x, weight, options, words):
    for door in (convcli.conv2d, convcli.plan_conv):
        with pytest.raises(ConvcliError, match=f"method '{method}' can't do this: it {words}"):
            door(x, weight, **options, method=method)


@pytest.mark.parametrize("value", [2**24, 2**38 - 7])
def test_fft_is_exact_just_below_its_limit(value):
    x = RNG.integers(-value, value + 1, (70, 80))
    x[0, 0] = value
    want = x[:-1, :-1] - x[:-1, 1:] + x[1:, 1:]
    got = convcli.filter2d(x, [[1, -1], [0, 1]], padding="valid", method="fft", dtype=np.int64)
    np.testing.assert_array_equal(got, want)


@each_method
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("top", [2**15, 2**24, 2**31])
def test_whole_sums_are_exact_on_both_sides_of_a_limit(method, dtype, top):
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max, (20, 21), dtype, endpoint=True)
    x[3:9, 3:9], x[10:16, 10:16] = limits.max, limits.min
    for half in (top // (limits.max + 1) // 6 + offset for offset in (-1, 0, 1, 9)):
        kernel = np.full((3, 2) if method == "winograd" else (2, 3), max(1, half))
        got = attempt(functools.partial(convcli.filter2d, x, kernel, padding="valid", dtype=np.int64), method)
        assert got is not None
        np.testing.assert_array_equal(got, whole(x[..., None], kernel, padding="valid")[..., 0])


@pytest.mark.parametrize("method", sorted(NO_BOX - {"winograd"}))
def test_large_kernels_are_exact_up_to_the_limit_of_floats(method):
    x = RNG.integers(60000, 65536, (90, 80), np.uint16)
    kernel = np.ones((15, 17), int)
    want = whole(x[..., None], kernel, padding="valid")[..., 0]
    assert 2**24 * 0.9 < want.max() < 2**24
    np.testing.assert_array_equal(convcli.conv2d(x, kernel, method=method), want.astype(np.float32))


def cross(size, weight):
    kernel = np.zeros((size, size), int)
    kernel[0] = kernel[:, 0] = weight
    return kernel


def test_whole_terms_that_cancel_are_exact_too():
    x, kernel = RNG.integers(60000, 65536, (300, 300), np.uint16), cross(15, 7)
    with pytest.raises(ConvcliError, match=r"exactly$"):
        convcli.conv2d(x, kernel, method="separable")
    np.testing.assert_array_equal(convcli.conv2d(x, kernel), convcli.conv2d(x, kernel, method="shift-add"))


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_ties_of_binary_fractions_stay_ties(size):
    """A sum that ends in .5 is rounded to even, which it would not be if it came out a trifle above."""
    x, kernel = RNG.integers(0, 256, (300, 300), np.uint8), convcli.kernel(f"binomial:{size}")
    sums = convcli.filter2d(x.astype(float), kernel, padding="valid", method="im2col")
    assert (sums % 1 == 0.5).any()
    for method in ("separable", "auto"):
        got = convcli.filter2d(x, kernel, padding="valid", dtype=np.uint8, method=method)
        np.testing.assert_array_equal(got, np.rint(sums))


@each_method
@pytest.mark.parametrize("value", [3e38, -3e38, 1e30])
@pytest.mark.parametrize("share", [1, 1 / 25], ids=["sums overflow", "sums fit"])
def test_an_overflow_stays_in_its_windows(method, share, value):
    x = np.zeros((40, 40), np.float32)
    x[20:23, 20] = value
    kernel = share * (np.full((3, 3), 2.5) if method == "box-sum" else SMOOTH * 0.7)
    got = convcli.conv2d(x, kernel, method=method)
    want = oracle.correlate(x.astype(float), kernel)
    np.testing.assert_array_equal(got[:, :18], 0)
    np.testing.assert_array_equal(got[:, 21:], 0)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(got, want.astype(np.float32), rtol=1e-5)


@pytest.mark.parametrize("method", sorted(PLAIN - {"fft", "winograd"}))
def test_large_weights_of_many_channels_cancel(method):
    x, weight = np.full((64, 5, 6), 4e18, np.float32), np.full((1, 64, 3, 3), 1e18)
    x[1::2] *= -1
    assert (np.abs(convcli.conv2d(x, weight, method=method)) < 1e33).all()


@each_method
def test_an_overflow_of_a_large_weight_stays_in_its_windows(method):
    """Methods that add up parts of their own could overflow halfway, and say so."""
    x = np.zeros((20, 40), np.float32)
    x[10, 10] = 1e15
    if method in ("fft", "separable", "winograd"):
        with pytest.raises(ConvcliError, match="could overflow halfway under weights this large"):
            convcli.conv2d(x, SMOOTH * 1e30, method=method)
    elif method != "box-sum":
        got = convcli.conv2d(x, SMOOTH * 1e30, method=method)
        assert not np.isnan(got).any()
        assert np.isinf(got).sum() == 9


# Special weights over generated problems


def special(kind, shape, rng):
    """A weight ``(outputs, channels, kh, kw)`` of a kind that some method makes use of."""
    kh, kw = shape[2:]
    if kind == "uniform":
        return np.ones(shape) * rng.standard_normal((*shape[:2], 1, 1))
    if kind == "zero":
        return np.zeros(shape)
    if kind.startswith("rank"):
        return sum(
            rng.standard_normal((*shape[:2], kh, 1)) * rng.standard_normal((*shape[:2], 1, kw))
            for _ in range(int(kind[-1]))
        )
    if kind == "integers":
        return rng.integers(-9, 10, shape)
    if kind == "integer outer":
        return rng.integers(-4, 5, (*shape[:2], kh, 1)) * rng.integers(-4, 5, (*shape[:2], 1, kw))
    if kind == "few magnitudes":
        return rng.choice([-1.0, -0.25, 0.0, 0.25, 1.0], shape)
    return rng.standard_normal(shape)


KINDS = ["dense", "uniform", "rank 1", "rank 2", "integers", "integer outer", "few magnitudes", "zero"]
DTYPES = [np.float32, np.float64, np.uint8, np.int16]


def pixels(shape, dtype, rng):
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def reach_of(x, weight):
    """The greatest sum that noise can be measured by."""
    return np.abs(weight).astype(float).sum(axis=tuple(range(1, weight.ndim))).max() * np.abs(x.astype(float)).max()


walks = st.fixed_dictionaries(
    {
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "dilation": st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1), (3, 2)]),
        "padding": st.sampled_from(["same", "same-lower", "full", ((5, 4), (3, 6)), ((4, 8), (7, 6))]),
        "boundary": st.sampled_from(BOUNDARIES),
    }
)
sizes = st.tuples(st.integers(1, 8), st.integers(1, 9))
kernel_sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))
kinds, dtypes, seeds = st.sampled_from(KINDS), st.sampled_from(DTYPES), st.integers(0, 2**16)


def fits(size, kernel, walk):
    pads = walk["padding"] if isinstance(walk["padding"], tuple) else None
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, walk["dilation"], strict=True)]
    return pads is None or all(n + sum(p) >= k for n, p, k in zip(size, pads, reach, strict=True))


@settings(max_examples=80)
@given(
    kind=kinds,
    dtype=dtypes,
    channels=st.integers(1, 3),
    outputs=st.integers(1, 4),
    groups=st.integers(1, 2),
    size=sizes,
    kernel=kernel_sizes,
    walk=walks,
    seed=seeds,
)
def test_layers_of_special_weights(kind, dtype, channels, outputs, groups, size, kernel, walk, seed):
    if not fits(size, kernel, walk):
        return
    rng = np.random.default_rng(seed)
    x = pixels((channels * groups, *size), dtype, rng)
    weight = special(kind, (outputs * groups, channels, *kernel), rng)
    bias = rng.integers(-5, 6, len(weight))
    want = oracle.layer(x.astype(float), weight, bias, groups, **walk)
    whole = np.dtype(dtype).kind != "f" and weight.dtype.kind == "i"
    done = set()
    for method in METHODS:
        with trusted():
            got = attempt(functools.partial(convcli.conv2d, x, weight, bias, groups=groups, **walk), method)
        if got is None:
            continue
        done.add(method)
        assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
        if whole:
            np.testing.assert_array_equal(got, want.astype(np.float32))
        else:
            assert_near(got, want, reach_of(x, weight) + 5)
    assert {"shift-add", "im2col", "fft"} <= done


@settings(max_examples=80)
@given(
    kind=kinds,
    dtype=dtypes,
    target=st.sampled_from([np.float32, np.float64, np.uint8, np.int16, np.int32]),
    pitch=st.integers(1, 4),
    size=sizes,
    kernel=kernel_sizes,
    walk=walks,
    seed=seeds,
)
def test_pictures_under_special_kernels(kind, dtype, target, pitch, size, kernel, walk, seed):
    if not fits(size, kernel, walk):
        return
    rng = np.random.default_rng(seed)
    x = pixels((*size, pitch), dtype, rng)
    weight = special(kind, (1, 1, *kernel), rng)[0, 0]
    want = planes(x.astype(float), weight, **walk)
    whole = np.dtype(dtype).kind != "f" and weight.dtype.kind == "i" and target != np.float64
    stored = np.dtype(target).kind != "f"
    if stored:
        limits = np.iinfo(target)
        want = np.clip(np.rint(want), limits.min, limits.max)
    done = set()
    for method in METHODS:
        with trusted():
            got = attempt(functools.partial(convcli.filter2d, x, weight, dtype=target, **walk), method)
        if got is None:
            continue
        done.add(method)
        assert got.dtype == target
        if whole:
            np.testing.assert_array_equal(got, want.astype(target))
        elif stored:
            np.testing.assert_allclose(got, want, rtol=0, atol=1 + 1e-5 * reach_of(x, weight[None]))
        else:
            assert_near(got.astype(np.float32), want, reach_of(x, weight[None]))
    assert {"shift-add", "row-gemm", "im2col", "fft"} <= done


def planes(x, kernel, **options):
    """The plain loops over each value of the pixels ``(H, W, C)``."""
    return np.stack([oracle.correlate(x[..., one], kernel, **options) for one in range(x.shape[2])], axis=-1)


# Seams


@contextlib.contextmanager
def trusted():
    """Every method is given the blocks that it would leave to another, for fear of their rounding."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in METHODS.items():
            patch.setitem(METHODS, name, method._replace(suits=lambda _block: True))
        yield


TILES = {  # values of a tile, values of a stretch, bytes of a row of transforms
    "least": (1, 1, 1),
    "few": (2500, 600, 64 * 5 * 4),
}


@contextlib.contextmanager
def small_tiles(values=1, stretch=1, at_once=1):
    """Tiles as small as they go: 16 columns, few rows, transforms of 8 to 16."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (shift_add, box_sum, separable, im2col, winograd):
            patch.setattr(module, "VALUES", values)
        patch.setattr(separable, "ROWS", 1)
        for module in (row_gemm, winograd):
            patch.setattr(module, "BLOCK", values)
        patch.setattr(row_gemm, "STRETCH", stretch)
        patch.setattr(im2col, "SINGLE", stretch)
        patch.setattr(fft, "AT_ONCE", at_once)
        patch.setattr(fft, "BLOCK_BYTES", 2048)
        patch.setattr(problem, "MOST_VALUES", values)
        fft.best_size.cache_clear()
        yield
    fft.best_size.cache_clear()


@pytest.fixture(params=[False, True], ids=["in place", "copied"])
def either_blas(request, monkeypatch):
    """BLAS that multiplies matrices where they lie, and one that copies them: to each its own layout of the work."""
    for module in (blas, costs, separable):
        monkeypatch.setattr(module, "copies", lambda: request.param)
    for name, fitted in costs.FITTED.items():
        monkeypatch.setitem(costs.COSTS, name, fitted[request.param])
    remembered = plan._plan, plan.estimate, plan.cheapest_form, row_gemm.cheapest_layout
    for answer in remembered:
        answer.cache_clear()
    yield
    for answer in remembered:
        answer.cache_clear()


@pytest.fixture
def tiny():
    with small_tiles():
        yield


def filtered(x, kernel, method, threads=1, dtype=np.float32, **options):
    """A filter's result, written over NaN, and its problem."""
    options = {"padding": "same", "boundary": "reflect"} | options
    ask = picture_filter(x, kernel, dtype=np.dtype(dtype), **options)
    out = np.full(ask.shape, np.nan if np.dtype(dtype).kind == "f" else 99, dtype)
    correlate.correlate(ask, Store(out), method=method, threads=threads)
    return out[0, 0], ask.problem(np.dtype(dtype).kind in "iu")


def seams(method, asked):
    """How many cuts there are between tiles, down and across."""
    tile = METHODS[method].tile(asked)
    return tuple(-(-n // one) - 1 for n, one in zip(asked.window.output, tile, strict=True))


WIDE = RNG.integers(0, 256, (150, 70, 2), np.uint8)
WIDE_FLOATS = RNG.standard_normal((150, 70, 2)).astype(np.float32)
WALKS = [
    {"padding": "valid"},
    {"padding": "same", "dilation": (2, 1)},
    {"padding": "full", "stride": (1, 2), "boundary": "edge"},
    {"padding": ((7, 9), (80, 3)), "stride": (1, 3), "dilation": (1, 2), "boundary": 3},
]


@each_method
@pytest.mark.parametrize("walk", WALKS, ids=range(len(WALKS)))
@pytest.mark.parametrize("tiles", TILES)
def test_small_tiles_leave_no_seams(either_blas, tiles, method, walk):
    kernels = [np.full((3, 3), 2), np.full((4, 5), -1)]
    if method != "box-sum":
        kernels += [SMOOTH, SMOOTH[:, ::-1], np.array([[1, 0, 2], [0, 0, 0], [-1, 0, -2]])]
    if method not in ("box-sum", "separable"):
        kernels += [DENSE, RNG.integers(-9, 10, (9, 13))]
    codes, values = (WIDE, WIDE_FLOATS) if tiles == "few" else (WIDE[:50, :50], WIDE_FLOATS[:50, :50])
    for kernel in (one for one in kernels if takes(method, one, **walk)):
        want, noise = whole(codes, kernel, **walk), reach_of(values, kernel[None] / 7)
        with small_tiles(*TILES[tiles]), trusted():
            got, asked = filtered(codes, kernel, method, **walk)
            floats, _ = filtered(values, kernel / 7, method, **walk)
            cuts = seams(method, asked)
        assert cuts > (0, 0) if tiles == "few" else min(cuts) >= 1
        np.testing.assert_array_equal(got, want)
        assert_near(floats, whole(values, kernel / 7, **walk), noise)


@each_method
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("shared", [False, True], ids=["stacks", "columns"])
def test_a_runner_takes_any_part_of_a_tile(poisoned, either_blas, method, stride, shared):
    outputs, channels, pitch = (1, 1, 2) if shared else (3, 1 if method == "separable" else 2, 2)
    kernel = np.full((3, 2), 2) if method == "box-sum" else SMOOTH[:, :2]
    if not takes(method, kernel, stride):
        pytest.skip("takes no stride down the picture")
    weight = kernel * RNG.integers(1, 9, (outputs, channels, 1, 1))
    cells = RNG.integers(0, 99, (1, channels, 40, 45, pitch), np.uint8)
    window = shapes.conv_window((40, 45), (3, 2), stride=stride)
    asked = correlate.Correlation(cells, weight, window).problem()
    with small_tiles(*TILES["few"]):
        assert METHODS[method].refuses(asked) is None
        dtype = METHODS[method].dtype(asked)
        run = METHODS[method].bind(asked, weight.astype(dtype))
        tile, scratch = METHODS[method].tile(asked), Poisoned()
        for rows, columns in {tile, (1, 1), (2, 3), (min(7, tile[0]), 5), (tile[0], 1), (1, tile[1])}:
            if rows > tile[0] or columns > tile[1]:
                continue
            (_, down), (_, across) = window.input_range(0, 0, rows), window.input_range(1, 0, columns)
            block = cells[0, :, :down, :across].astype(dtype)
            wider = np.full((outputs, rows + 1, columns + 2, pitch), 77, dtype)
            want = defined(block, weight.astype(dtype), window, (rows, columns))
            run(block, wider[:, :rows, 1:-1], scratch)
            np.testing.assert_array_equal(wider[:, :rows, 1:-1], want)
            assert (wider[:, rows] == 77).all()
            assert (wider[:, :, [0, -1]] == 77).all()


def whole(x, kernel, padding="same", boundary="reflect", stride=1, dilation=1, **options):
    """The definition in float64 over the whole picture at once, tap by tap."""
    window = shapes.conv_window(x.shape[:2], kernel.shape, padding=padding, stride=stride, dilation=dilation, **options)
    padded = oracle.pad(x.astype(float), (*window.pads, (0, 0)), boundary)
    return defined(padded[None], kernel[None, None].astype(float), window, window.output)[0]


def defined(block, weight, window, size):
    """A padded block ``(C, rows, columns, P)`` under a weight, tap by tap."""
    out = np.zeros((len(weight), *size, block.shape[3]), block.dtype)
    (sy, sx), (dy, dx) = window.stride, window.dilation
    for o, c, i, j in np.ndindex(*weight.shape):
        taken = block[c, i * dy : i * dy + (size[0] - 1) * sy + 1 : sy, j * dx : j * dx + (size[1] - 1) * sx + 1 : sx]
        out[o] += taken * weight[o, c, i, j]
    return out


@pytest.mark.parametrize("kernel", [DENSE, np.ones((4, 3))], ids=["dense", "box"])
@pytest.mark.parametrize("walk", [*WALKS, {"padding": "full", "stride": (3, 2), "keep_size": True}])
def test_the_quick_definition_is_the_plain_loops(walk, kernel):
    x = WIDE[:20, :17, :1].astype(float)
    options = {"boundary": "reflect"} | {key: one for key, one in walk.items() if key != "keep_size"}
    for name in ("stride", "dilation"):
        options.setdefault(name, (1, 1))
    want = planes(x, kernel, **options, keep="keep_size" in walk)
    np.testing.assert_array_equal(whole(x, kernel, **walk), want)


@pytest.mark.parametrize("kernel", [DENSE, RNG.integers(-9, 10, (5, 4)), SMOOTH], ids=["dense", "wide", "rank 1"])
@pytest.mark.parametrize("walk", [*WALKS[1:], {"stride": (2, 3), "padding": "full", "keep_size": True}])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("spoilt", [False, True])
def test_sides_are_done_apart(either_blas, monkeypatch, kernel, walk, dtype, spoilt):
    """The same numbers as within a tile, spoilt ones in their windows alone, and a range that heeds them."""
    monkeypatch.setattr(correlate, "WORTH_SIDES", 0)
    monkeypatch.setattr(correlate, "SIDES", 1)
    monkeypatch.setattr(row_gemm, "BLOCK", 3000)
    kernel = kernel if dtype == np.uint8 else kernel / 7
    cells = WIDE_FLOATS.copy()
    if spoilt:
        cells[3::20, [0, 1, -1], 0] = np.nan
    ask = picture_filter(cells, kernel, **({"padding": "same", "boundary": "reflect"} | walk), bias=0.5)
    extent, out = Extent(), np.full(ask.shape, 99, dtype)
    run = correlate._Run(ask, Store(out, extent=extent), ask.problem(), row_gemm.METHOD)
    tiles = list(run.tiles(4))
    height, width = ask.window.output
    assert len({(rows.start, rows.stop) for one, _, _, rows, _ in tiles if one is not run}) >= 1
    assert sum((down.stop - down.start) * (right.stop - right.start) for *_, down, right in tiles) == height * width
    correlate._compute(iter(tiles))
    with np.errstate(invalid="ignore"):
        want = whole(cells, kernel, **walk) + 0.5
    if dtype == np.uint8:
        np.testing.assert_allclose(out[0, 0], np.clip(np.rint(np.nan_to_num(want)), 0, 255), atol=1)
    else:
        assert_near(out[0, 0], want, reach_of(WIDE_FLOATS, kernel[None]))
    plain = np.full(ask.shape, 99, dtype)  # written to without a detour
    run = correlate._Run(ask, Store(plain), ask.problem(), row_gemm.METHOD)
    correlate._compute(run.tiles(4))
    np.testing.assert_array_equal(plain, out)
    assert extent.count == out.size
    assert extent.minimum == pytest.approx(np.nanmin(want), rel=1e-4)
    assert extent.maximum == pytest.approx(np.nanmax(want), rel=1e-4)


@each_method
def test_items_on_end_before_which_there_is_a_tall_border(method):
    x, weight = RNG.random((5, 1, 1, 2)), RNG.random((1, 1, 2, 1))
    walk = {"stride": (4, 6), "padding": ((4, 0), (0, 4))}
    got = attempt(functools.partial(convcli.conv2d, x, weight, **walk), method)
    if got is not None:
        np.testing.assert_allclose(got, np.stack([oracle.layer(one, weight, **walk) for one in x]), atol=1e-12)


@each_method
@pytest.mark.parametrize("boundary", ["reflect", "wrap", -2])
def test_tiles_that_lie_wholly_in_the_border(tiny, method, boundary):
    x, kernel = WIDE[:, :40], SMOOTH if method != "box-sum" else np.full((3, 3), 2)
    walk = {"padding": "full", "stride": (9, 6), "keep_size": True, "boundary": boundary}
    if not takes(method, kernel, **walk):
        pytest.skip("takes no stride down the picture")
    got, asked = filtered(x, kernel, method, **walk)
    for axis, cells in enumerate(METHODS[method].tile(asked)):
        pads, count = asked.window.pads[axis], asked.window.output[axis]
        assert asked.window.input_range(axis, 0, cells)[1] <= pads[0]
        last = (count - 1) // cells * cells
        assert asked.window.input_range(axis, last, count)[0] >= pads[0] + asked.window.size[axis]
    np.testing.assert_array_equal(got, whole(x, kernel, **walk))


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    pads=st.tuples(*[st.tuples(st.integers(0, 20), st.integers(0, 20))] * 2),
    boundary=st.sampled_from(BOUNDARIES),
    dtype=st.sampled_from([np.uint8, np.float32]),
    data=st.data(),
)
def test_any_part_of_a_padded_picture(size, pads, boundary, dtype, data):
    cells = RNG.integers(0, 99, (2, *size, 3)).astype(dtype)
    border = Border(size, pads, boundary if boundary == -2 else Boundary(boundary))
    want = np.stack([oracle.pad(plane.astype(float), (*pads, (0, 0)), boundary) for plane in cells])
    spans = []
    for length in want.shape[1:3]:
        first = data.draw(st.integers(0, length - 1))
        spans.append((first, data.draw(st.integers(first + 1, length))))
    got = border.tile(cells, *spans, np.dtype(np.float32), Poisoned())
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want[:, slice(*spans[0]), slice(*spans[1])])


@each_method
def test_small_tiles_of_layers(tiny, either_blas, method):
    outputs, channels = (2, 2) if method == "separable" else (4, 3)
    x = RNG.integers(-99, 100, (2 * channels, 70, 40)).astype(np.int16)
    factors = RNG.integers(-9, 10, (outputs, channels, 1, 1))
    shared = {"box-sum": np.ones((3, 2), int), "separable": SMOOTH[:, :2]}
    weight = factors * shared[method] if method in shared else RNG.integers(-9, 10, (outputs, channels, 3, 2))
    for groups, stride in ((2, (1, 1)), (2, (2, 3)), (1, (1, 2))):
        if not takes(method, weight, stride):
            continue
        layer = functools.partial(convcli.conv2d, groups=groups, stride=stride, padding="same")
        cells, weights = (x, weight) if groups == 2 else (x[:channels], weight[:1])
        got = layer(cells, weights, method=method)
        want = oracle.layer(cells[:, :20].astype(float), weights, None, groups, stride=stride, padding="same")
        np.testing.assert_array_equal(got[:, :5], want[:, :5].astype(np.float32))
        np.testing.assert_array_equal(got, layer(cells, weights, method="im2col"))


def test_transforms_of_a_length_that_no_table_has(monkeypatch):
    monkeypatch.setattr(fft, "SIZES", [8])
    x, kernel = RNG.integers(0, 99, (31, 34)), RNG.integers(-9, 10, (11, 12))
    want = oracle.correlate(x.astype(float), kernel)
    np.testing.assert_array_equal(convcli.conv2d(x, kernel, method="fft"), want.astype(np.float32))


@given(
    size=st.integers(1, 3000),
    kernel=st.integers(1, 1200),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 9),
    room=st.sampled_from([1, 2**10, 2**23]),
    table=st.sampled_from([[8], [8, 16, 20], fft.SIZES]),
)
def test_transforms_cover_the_kernel_and_are_even(size, kernel, stride, dilation, room, table):
    reach = dilation * (kernel - 1) + 1
    window = shapes.conv_window(
        (size, 1), (kernel, 1), padding=((reach, 0), (0, 0)), stride=stride, dilation=(dilation, 1)
    )
    asked = problem.Problem(1, 1, 1, 1, window, "float32", kernel, 1, False, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fft, "BLOCK_BYTES", room)
        patch.setattr(fft, "SIZES", table)
        length = fft.best_size(asked, 0)
    need = window.input_range(0, 0, window.output[0])[1]
    assert length >= reach
    assert length % 2 == 0
    assert length <= max(2 * need, need + 1, 8)


# NaN and Inf

SPOILT = np.full((1, 1, 1, 1), np.nan)  # some methods take it as it is

spots = st.tuples(
    st.integers(0, 1), st.integers(-8, 7), st.integers(-19, 18), st.sampled_from([np.nan, np.nan, np.inf, -np.inf])
)


@settings(max_examples=80)
@given(
    kind=kinds,
    spoils=st.lists(spots | st.tuples(st.just(1), st.just(-1), st.just(-1), st.just(np.nan)), min_size=1, max_size=4),
    holes=st.booleans(),
    outputs=st.integers(1, 2),
    kernel=kernel_sizes,
    walk=walks,
    seed=seeds,
)
def test_spoilt_cells_reach_their_windows_alone(kind, spoils, holes, outputs, kernel, walk, seed):
    rng = np.random.default_rng(seed)
    weight = special(kind, (outputs, 2, *kernel), rng)
    if holes:
        weight[:, 0, -1] = weight[:, 1, :, 0] = 0
    clean = rng.standard_normal((2, 8, 19)).astype(np.float32)
    spoilt = clean.copy()
    for *place, value in spoils:
        spoilt[tuple(place)] = value
    held = (~np.isfinite(spoilt)).astype(float)
    inner = walk if isinstance(walk["boundary"], str) else walk | {"boundary": "zero"}
    with np.errstate(invalid="ignore"):
        want = oracle.layer(spoilt.astype(float), weight, **walk)
    free = oracle.layer(held, np.ones(weight.shape), **inner) == 0
    assert np.isfinite(want[free]).all()
    for method in METHODS:
        call = functools.partial(convcli.conv2d, weight=weight, method=method, **walk)
        with small_tiles():
            got = attempt(lambda call=call, **_: call(spoilt), method)
            if got is None:
                continue
            plain = call(clean)
        assert_near(got, want, reach_of(clean, weight))
        if METHODS[method].suits(SPOILT):
            np.testing.assert_array_equal(got[free], plain[free])


@settings(max_examples=150)
@given(
    number=st.integers(0, 40),
    channels=st.integers(1, 2),
    outputs=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    walk=walks,
    stretch=st.sampled_from([1, 900, 1 << 20]),
    place=st.tuples(st.just(-1), st.integers(0, 13), st.integers(0, 18)),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    seed=seeds,
)
def test_every_layout_of_a_kernel_is_the_kernel(number, channels, outputs, kernel, walk, stretch, place, value, seed):
    """Also under a stride, over several rows at once, and where the zeros in between meet a NaN."""
    rng = np.random.default_rng(seed)
    clean, weight = rng.standard_normal((channels, 14, 19)), rng.standard_normal((outputs, channels, *kernel))
    spoilt, held = clean.copy(), np.zeros(clean.shape)
    spoilt[place], held[place] = value, 1
    inner = walk if isinstance(walk["boundary"], str) else walk | {"boundary": "zero"}
    free = oracle.layer(held, np.ones(weight.shape), **inner) == 0

    def forced(problem):
        layouts = row_gemm.layouts(problem)
        return layouts[number % len(layouts)]

    with pytest.MonkeyPatch.context() as patch:
        use_scratch(patch, Poisoned)
        patch.setattr(row_gemm, "cheapest_layout", forced)
        patch.setattr(row_gemm, "STRETCH", stretch)
        plain, got = (convcli.conv2d(x, weight, method="row-gemm", **walk) for x in (clean, spoilt))
    assert_near(plain, oracle.layer(clean, weight, **walk), reach_of(clean, weight))
    with np.errstate(invalid="ignore"):
        want = oracle.layer(spoilt, weight, **walk)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(got[free], plain[free])  # no other one is rounded anew


@pytest.mark.parametrize(("kernel", "stride"), [((5, 5), (2, 2)), ((2, 7), (1, 3)), ((7, 7), (4, 4)), ((3, 8), (2, 3))])
@pytest.mark.parametrize("pitch", [1, 3])
def test_under_a_stride_a_nan_beside_the_kernel_stays_out(poisoned, monkeypatch, kernel, stride, pitch):
    clean, weight = RNG.standard_normal((20, 42, pitch)).astype(np.float32), RNG.standard_normal(kernel)
    spoilt = clean.copy()
    spoilt[7, 5::11, 0] = np.nan
    monkeypatch.setattr(row_gemm, "STRETCH", 500)
    call = functools.partial(convcli.filter2d, kernel=weight, stride=stride, padding="valid", method="row-gemm")
    plain, got = call(clean, threads=1), call(spoilt, threads=1)
    planes = np.moveaxis(spoilt, 2, 0)
    want = np.stack([oracle.correlate(plane, weight, stride=stride) for plane in planes], axis=2)
    assert_near(got, want, reach_of(clean, weight))
    np.testing.assert_array_equal(got, np.where(np.isnan(want), want, plain))  # no other one is rounded anew


SPREAD = RNG.standard_normal((16, 40, 30)).astype(np.float32)


def test_winograd_errs_little_more_than_plain_sums():
    weight = RNG.standard_normal((8, 16, 3, 3)).astype(np.float32)
    exact = convcli.conv2d(SPREAD.astype(float), weight, method="im2col")
    errors = {
        method: float(np.square(convcli.conv2d(SPREAD, weight, method=method) - exact).mean())
        for method in ("winograd", "im2col")
    }
    assert 0 < errors["winograd"] < 1.6**2 * errors["im2col"]


@pytest.mark.parametrize(
    ("place", "value"),
    [(np.s_[:, 13], 1e6), (np.s_[:, 13:16, 10:13], -9999), (np.s_[3, 13, 10], 1e10)],
    ids=["row", "block", "pixel"],
)
def test_rows_out_of_reach_have_no_say(place, value):
    """Not even with their rounding: which windows hold them, a method's sums of rows do not know."""
    weight = RNG.standard_normal((4, 16, 3, 3)).astype(np.float32)
    spoilt, held = SPREAD.copy(), np.zeros(SPREAD.shape)
    spoilt[place], held[place] = value, 1
    free = oracle.layer(held, np.ones(weight.shape)) == 0
    got, clean = (convcli.conv2d(x, weight, method="winograd") for x in (spoilt, SPREAD))
    assert np.abs(got - clean)[free].max() < 1e-4


@pytest.mark.parametrize("fill", [-9999, 1e6, 1e15])
def test_areas_out_of_reach_have_no_say_in_rows_that_are_as_large(fill):
    """Slanting ones, so that no row is without."""
    x, weight = RNG.standard_normal((16, 80, 90)).astype(np.float32), RNG.standard_normal((4, 16, 3, 3))
    i, j = np.indices(x.shape[1:])
    held = (i + j) % 50 < 20
    free = convcli.filter2d(held.astype(np.uint8), np.ones((3, 3), int)) == 0
    got, want = (convcli.conv2d(np.where(held, fill, x), weight, method=one) for one in ("winograd", "im2col"))
    np.testing.assert_allclose(got[:, free[1:-1, 1:-1]], want[:, free[1:-1, 1:-1]], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_large_integers_out_of_reach_have_no_say(dtype):
    x, weight = RNG.integers(0, 4, (64, 40, 30)).astype(dtype), RNG.standard_normal((4, 64, 3, 3))
    spoilt = x.copy()
    spoilt[:, 20] = -32768
    got, clean = (convcli.conv2d(one, weight, method="winograd", padding=1) for one in (spoilt, x))
    np.testing.assert_allclose(np.delete(got, range(19, 22), 1), np.delete(clean, range(19, 22), 1), atol=1e-3)


def test_numbers_too_large_for_exact_fractions_have_their_rank():
    """All float32 from 128 are multiples of 2**-16, which says nothing of where they come from."""
    kernel = np.outer(100 * RNG.random(9) + 20, 100 * RNG.random(9) + 20).astype(np.float32)
    for factor in (1, 100, 1e6):
        assert separable.rank(kernel * np.float32(factor), False) == 1


def test_tiles_are_even_but_for_zeros():
    rng = np.random.default_rng(0)
    block = rng.random((2, 64, 64, 1)).astype(np.float32) + 1
    block[:, :40] = 0
    assert fft.even(block)
    for dark, even in ((1 / 50, True), (1e-3, False), (1e-30, False)):
        for area in (np.s_[:, :40], np.s_[:, 10:26, 30:46]):
            uneven = block + 1
            uneven[area] = dark
            assert fft.even(uneven) == even
    for alone in (np.s_[:, 48, 48], np.s_[:, 48, 40:57], np.s_[:, 40:57, 48], np.s_[0]):
        sparse = block.copy()
        sparse[alone] *= 1e-20
        assert fft.even(sparse)
    for _ in range(20):
        assert fft.even(np.maximum(rng.standard_normal((1, 300, 300, 1)), 0))
    mixed = np.where(rng.random((1, 90, 90, 1)) < 0.8, 0, 1e-6)
    mixed[:, :40] = 1e3 * (rng.random((1, 40, 90, 1)) < 0.2)
    assert not fft.even(mixed)
    assert fft.even(np.full((1, 8, 8, 1), 1e153))
    assert fft.even(np.ones((1, 30, 1, 1)))


@pytest.mark.parametrize(
    ("dtype", "fill"), [("f4", -9999), ("f4", 1e8), ("f4", 1e10), ("f4", 1e16), ("f8", 1e20), ("f8", -3.4e38)]
)
@pytest.mark.parametrize("area", [np.s_[50:100, 50:130], np.s_[:, 40:], np.s_[:180]], ids=["some", "most", "rows"])
def test_fill_values_have_no_say_out_of_reach(dtype, fill, area):
    """Neither a patch of them nor one of other numbers among them."""
    x = np.random.default_rng(0).random((220, 220)).astype(dtype)
    clean, spoilt = convcli.filter2d(x, "disk:9", method="fft"), x.copy()
    spoilt[area] = fill
    held = np.zeros(x.shape)
    held[area] = 1
    free = convcli.filter2d(held, np.ones((19, 19)), method="box-sum") == 0
    assert free.any()
    np.testing.assert_allclose(convcli.filter2d(spoilt, "disk:9", method="fft")[free], clean[free], rtol=1e-4)


def test_rows_are_comparable_but_for_zeros():
    block = np.ones((2, 9, 5, 1), np.float32)
    block[:, :2] = 0  # pads
    assert winograd.comparable(block)
    assert winograd.comparable(np.zeros_like(block))
    for factor, comparable in ((29, True), (31, False), (1e20, False), (np.nan, False)):
        unlike = block.copy()
        unlike[:, 4] *= np.float32(factor)
        with np.errstate(over="ignore"):
            assert winograd.comparable(unlike) == comparable


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("value", "enormous"), [(9e15, False), (1.2e16, True), (1e30, True)])
def test_enormous_is_what_an_outputs_weights_may_come_to(sign, value, enormous):
    window = shapes.conv_window((20, 30), (9, 10))
    weight = np.full((1, 1, 9, 10), sign * value)
    weight[0, 0, 0, 0] = 0
    ask = Correlation(np.zeros((1, 1, 20, 30, 1), np.float32), weight, window)
    assert ask.problem().enormous == enormous


def test_products_of_enormous_weights_overflow_in_their_windows():
    x = np.full((40, 40), 1e3, np.float32)
    x[:10] = 1e15
    weight = np.full((3, 3), 1e25)
    for method in METHODS:
        got = attempt(functools.partial(convcli.filter2d, x, weight, padding="valid"), method)
        assert got is None or np.isfinite(got[10:]).all()


@pytest.mark.parametrize("layout", [row_gemm.Layout(1, 2), row_gemm.Layout(3, 2)])
@pytest.mark.parametrize(("row", "products"), [(None, [4, 4]), (18, [4, 4, 4, 8]), (9, [4, 4, 4, 8, 4, 8])])
def test_only_what_is_spoilt_is_multiplied_again(poisoned, monkeypatch, layout, row, products):
    """The stretches that hold a NaN: without it, and a row at a time. They are of even height."""
    counts, multiply = [], row_gemm.multiply
    monkeypatch.setattr(row_gemm, "multiply", lambda m, x, out: counts.append(len(x)) or multiply(m, x, out))
    monkeypatch.setattr(row_gemm, "cheapest_layout", lambda _problem: layout)
    monkeypatch.setattr(row_gemm, "stretch", lambda _problem, one, _columns: 10)
    x = np.full((16 + 4, 42), 0.5, np.float32)
    if row is not None:
        x[row, 7] = np.nan
    convcli.filter2d(x, RNG.random((5, 5)), padding="valid", method="row-gemm", threads=1)
    assert counts == products


@each_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", [SMOOTH / 9, np.full((3, 3), 0.1), DENSE / 9, np.zeros((3, 3))], ids=list("sbdz"))
def test_spoilt_cells_in_every_tile(tiny, either_blas, method, kernel, value):
    clean = WIDE_FLOATS[:33, :40]
    spoilt = clean.copy()
    places = np.s_[5::13, 3::9, 0]
    spoilt[places] = value
    try:
        got, _ = filtered(spoilt, kernel, method, boundary="wrap")
    except ConvcliError:
        return
    plain, _ = filtered(clean, kernel, method, boundary="wrap")
    with np.errstate(invalid="ignore"):
        want = whole(spoilt, kernel, boundary="wrap")
    assert_near(got, want, 20)
    held = np.zeros(spoilt.shape)
    held[places] = 1
    free = whole(held, np.ones((3, 3)), boundary="wrap") == 0
    np.testing.assert_allclose(got[free], plain[free], rtol=0, atol=0 if METHODS[method].suits(SPOILT) else 1e-4)
    codes, _ = filtered(spoilt, kernel, method, dtype=np.uint8, boundary="wrap")
    limits = np.clip(np.rint(np.nan_to_num(want, nan=0)), 0, 255)
    np.testing.assert_allclose(codes, limits, atol=1)
    assert (codes[np.isnan(want)] == 0).all()
    assert (codes[want == np.inf] == 255).all()
    wide, _ = filtered(spoilt, kernel, method, dtype=np.int32, boundary="wrap")
    assert (wide[np.isnan(want)] == 0).all()
    assert (wide[want == -np.inf] == np.iinfo(np.int32).min).all()


@each_method
@pytest.mark.parametrize("name", ["sobel", "kirsch"])
def test_spoilt_cells_under_gradients(method, name):
    spoilt = FLOATS[0].copy()
    spoilt[[0, 20], [39, 7]] = np.nan, np.inf
    got = attempt(functools.partial(convcli.filter2d, spoilt, name), method)
    if got is None:
        return
    assert np.isnan(got[0:2, 38:40]).all()
    assert not np.isfinite(got[19:22, 6:9]).any()
    plain = convcli.filter2d(FLOATS[0], name, method="im2col")
    near = np.isfinite(got)
    assert near.sum() == near.size - 4 - 9
    np.testing.assert_allclose(got[near], plain[near], rtol=1e-4, atol=1e-3)


# Memory


@each_method
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("kernel", [SMOOTH, np.full((4, 7), 2), DENSE, np.zeros((2, 2), int), np.array([[3]])])
@pytest.mark.parametrize("walk", [{"stride": (2, 3)}, WALKS[3]], ids=["strides", "pads"])
def test_no_memory_is_read_before_it_is_written(poisoned, method, small, kernel, walk):
    x = WIDE[:40, :35]
    with trusted(), small_tiles() if small else contextlib.nullcontext():
        for cells, weight in ((x, kernel), (x.astype(np.float64), kernel), (x.astype(np.float64), kernel / 7)):
            try:
                got, _ = filtered(cells, weight, method, dtype=np.float64, **walk)
            except ConvcliError:
                continue
            assert_near(got, whole(cells, weight, **walk), reach_of(cells, weight[None]))


@each_method
@pytest.mark.parametrize("kind", KINDS)
def test_no_memory_of_a_layer_is_read_before_it_is_written(poisoned, method, kind):
    x, weight = RNG.standard_normal((4, 9, 11)), special(kind, (4, 2, 3, 2), RNG)
    x[3, 4, 5] = np.inf
    weight[2] = 0
    for stride in ((1, 1), (2, 2)):
        call = functools.partial(convcli.conv2d, x, weight, groups=2, stride=stride, padding="same")
        got = attempt(call, method)
        if got is not None:
            with np.errstate(invalid="ignore"):
                want = oracle.layer(x, weight, None, 2, stride=stride, padding="same")
            assert_near(got, want, reach_of(RNG.standard_normal(9), weight))


def test_no_memory_of_exact_sums_is_read_before_it_is_written(poisoned):
    for top in (2**20, 2**40, 2**62):
        x = RNG.integers(-top, top, (7, 9), np.int64)
        got = convcli.filter2d(x, SMOOTH, boundary="edge", dtype=np.int64)
        want = oracle.correlate(x.astype(object), SMOOTH.astype(object), "same", "edge")
        np.testing.assert_array_equal(got, [[max(-(2**63), min(2**63 - 1, int(one))) for one in row] for row in want])


@pytest.mark.parametrize("how", ["max", "min", "avg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_no_memory_of_pools_is_read_before_it_is_written(poisoned, how, dtype):
    x = (
        pixels((3, 20, 17), dtype, RNG)
        if np.dtype(dtype).kind == "f"
        else RNG.integers(0, 99, (3, 20, 17)).astype(dtype)
    )
    for size, stride, pads in (((2, 2), (2, 2), 0), ((7, 5), (1, 1), 2), ((6, 9), (2, 3), ((1, 3), (4, 0)))):
        pairs = ((pads,) * 2,) * 2 if isinstance(pads, int) else pads
        for ceil in (False, True):
            got = getattr(convcli, f"{how}_pool2d")(x, size, stride=stride, padding=pads, ceil_mode=ceil)
            want = np.stack([oracle.pool(one.astype(float), size, stride, pairs, how, ceil=ceil) for one in x])
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.fixture
def together(monkeypatch):
    """The forms of problems that ran, planes in one block wherever they may be."""
    forms = []

    def most(method, problem, shares=1):
        forms.append(method.forms(problem)[-1])
        return forms[-1]

    monkeypatch.setattr(correlate, "cheapest_form", most)
    return forms


class Measured(Scratch):
    """Memory whose size is known."""

    made: ClassVar[list["Measured"]] = []

    def __init__(self):
        super().__init__()
        self.made.append(self)


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("stride", [1, (4, 2), 3])
@pytest.mark.parametrize("dilation", [1, (1, 2), 2])
@pytest.mark.parametrize("size", [(13, 13), (3, 13)])
def test_a_thread_works_in_the_memory_that_its_plan_names(monkeypatch, either_blas, spoilt, stride, dilation, size):
    x = RNG.standard_normal((2, 200, 220)).astype(np.float32)
    if spoilt:
        x[1, 100, 100] = np.nan
    weight = np.ones((1, 2, *size))
    walk = {"stride": stride, "dilation": dilation, "padding": "full"}
    for method in METHODS:
        monkeypatch.setattr(Measured, "made", [])
        use_scratch(monkeypatch, Measured)
        asked = functools.partial(convcli.plan_conv, x, weight, **walk)
        call = functools.partial(convcli.conv2d, x, weight, **walk, threads=1)
        if attempt(call, method) is None:
            continue
        named = next(one.memory for one in asked().candidates if one.method == method)
        (used,) = Measured.made
        assert 0 < used.nbytes <= named + (spoilt and 6 << 20)  # what a spoilt tile is left to has memory of its own


@pytest.mark.parametrize(("items", "groups"), [(20, 1), (1, 20), (7, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_planes_have_the_memory_that_their_plan_names(monkeypatch, together, items, groups, stride):
    x, weight = RNG.random((items, 2 * groups, 30, 41)) + 1, RNG.standard_normal((3 * groups, 2, 3, 3))
    call = functools.partial(convcli.conv2d, x, weight, padding="same", groups=groups, stride=stride, threads=1)
    for method in METHODS:
        monkeypatch.setattr(Measured, "made", [])
        use_scratch(monkeypatch, Measured)
        if attempt(call, method) is not None:
            asked = Correlation(
                x[..., None], weight, shapes.conv_window((30, 41), (3, 3), padding="same", stride=stride), groups=groups
            )
            monkeypatch.setattr(plan, "cheapest_form", lambda one, problem: one.forms(problem)[-1])
            assert 0 < Measured.made[0].nbytes <= plan.working_memory(METHODS[method], asked.problem())


@pytest.mark.parametrize("size", [(9, 9), (9, 29)])
def test_pictures_have_the_memory_that_their_plan_names(monkeypatch, either_blas, size):
    ask = picture_filter(RNG.random((300, 320, 3), np.float32), np.ones(size), padding="same", boundary="edge")
    for method in METHODS:
        monkeypatch.setattr(Measured, "made", [])
        use_scratch(monkeypatch, Measured)
        made = plan.make_plan(ask.problem())
        if (named := next(one for one in made.candidates if one.method == method)).refused:
            continue
        correlate.correlate(ask, Store(np.empty(ask.shape, np.uint8)), method=method, threads=1)
        (used,) = Measured.made
        assert 0 < used.nbytes <= named.memory


def test_values_that_are_taken_apart_have_their_price():
    planar = separable.METHOD._replace(planar=lambda _problem: True)
    ask = picture_filter(np.zeros((300, 320, 3), np.uint8), SMOOTH, padding="same", boundary="edge")
    pixels = ask.problem()
    copies = pixels.values * 2 * 4 * costs.COSTS["copy.strided"]  # of what goes in and, about as much, what comes out
    assert plan.estimate(planar, pixels) - plan.estimate(planar, pixels.apart()) == pytest.approx(copies, rel=0.2)
    assert plan.working_memory(planar, pixels) == plan.working_memory(planar, pixels.apart())


def test_several_pictures_of_several_values(either_blas):
    """There are none yet, but the inner form has room for them."""
    cells, weight = RNG.standard_normal((2, 1, 20, 40, 3)).astype(np.float32), RNG.standard_normal((1, 1, 5, 27))
    ask = Correlation(cells, weight, shapes.conv_window((20, 40), (5, 27)))
    results = [np.full(ask.shape, np.nan, np.float32) for _ in "ab"]
    for method, out in zip(("separable", "row-gemm"), results, strict=True):
        correlate.correlate(ask, Store(out), method=method)
    assert_near(*results, 50)


# Small planes together


@each_method
@pytest.mark.parametrize("boundary", ["zero", "reflect", "wrap", 2.5])
@pytest.mark.parametrize(
    ("items", "size", "weight", "options"),
    [
        (5, (7, 9), (1, 1, 3, 3), {"padding": "same"}),
        (3, (6, 8), (4, 2, 3, 2), {"padding": ((1, 0), (2, 1))}),
        (4, (11, 5), (2, 1, 3, 1), {"stride": (3, 2), "padding": "same"}),
        (3, (9, 9), (1, 2, 2, 3), {"dilation": (2, 3), "padding": "full"}),
        (2, (13, 8), (3, 3, 3, 3), {"stride": 2, "dilation": 2, "padding": "same-lower"}),
    ],
)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "uniform", "integers"])
def test_small_planes_are_done_together(
    poisoned, together, method, boundary, items, size, weight, options, groups, kind
):
    """Each with its own border and kernel, and with a NaN and an Inf in its own windows alone."""
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((groups * weight[0], *weight[1:]))
    weights = {"dense": weights, "uniform": 0 * weights + weights[:, :, :1, :1], "integers": np.rint(3 * weights)}[kind]
    x = rng.integers(0, 256, (items, groups * weight[1], *size)).astype(np.uint8 if kind == "integers" else np.float32)
    if kind == "dense":
        x[1, 0, 2, 3], x[0, -1, -1, -1] = np.nan, np.inf
    bias = rng.standard_normal(len(weights))
    call = functools.partial(convcli.conv2d, x, weights, bias, groups=groups, boundary=boundary, **options)
    if (got := attempt(call, method)) is None:
        return
    assert together[-1].stack == (1 if method == "fft" else items)
    assert together[-1].groups == (groups if method == "im2col" else 1)
    pairs = {name: (value, value) for name, value in options.items() if name != "padding" and np.ndim(value) == 0}
    with np.errstate(invalid="ignore"):
        want = [oracle.layer(one, weights, bias, groups, boundary=boundary, **(options | pairs)) for one in x * 1.0]
    assert_near(got, np.stack(want), 256 * np.abs(weights).sum())


@each_method
@pytest.mark.parametrize("scale", [1e3, 1e12])
def test_planes_together_do_not_reach_each_other(together, method, scale):
    """Not even by the rounding of large numbers, and with the kernels of all groups alike, too."""
    x = RNG.standard_normal((4, 6, 20, 23)).astype(np.float32)
    weight = np.tile(RNG.standard_normal((2, 2, 3, 3)).astype(np.float32), (3, 1, 1, 1))
    call = functools.partial(convcli.conv2d, weight=weight, groups=3, padding="same")
    if (plain := attempt(functools.partial(call, x), method)) is None:
        return
    x[1] *= scale
    got = call(x, method=method)
    np.testing.assert_allclose(got[[0, 2, 3]], plain[[0, 2, 3]], rtol=0, atol=1e-4)
    np.testing.assert_allclose(got[1] / scale, plain[1], rtol=0, atol=1e-4)
    assert_near(plain[0], oracle.layer(x[0] * 1.0, weight, groups=3, padding="same"), 20)


def test_enough_stacks_are_left_for_threads(monkeypatch):
    x, weight = np.zeros((101, 3, 16, 16), np.float32), RNG.standard_normal((64, 3, 3, 3))
    asked = Correlation(x[..., None], weight, shapes.conv_window((16, 16), (3, 3))).problem()
    assert row_gemm.METHOD.forms(asked)[-1].stack == 101
    shared = []
    monkeypatch.setattr(correlate, "WORTH_THREADS", 0)
    monkeypatch.setattr(correlate, "share", lambda _work, tiles, threads: shared.append((tiles, threads)))
    convcli.conv2d(x, weight, threads=2, method="row-gemm")
    ((tiles, threads),) = shared
    assert (tiles[0][0].problem.stack, len(tiles), threads) == (21, 5, 2)


def test_groups_that_are_alike_reach_a_result_whose_channels_are_apart():
    x, memory = RNG.random((2, 4, 20, 30), np.float32), np.zeros((2, 8, 18, 28, 1), np.float32)
    weight = np.broadcast_to(DENSE, (4, 1, 3, 3))
    ask = Correlation(x[..., None], weight, shapes.conv_window((20, 30), (3, 3)), groups=4)
    correlate.correlate(ask, Store(memory[:, :4]))
    np.testing.assert_allclose(memory[:, :4, ..., 0], convcli.conv2d(x, weight, groups=4), rtol=1e-5)
    np.testing.assert_array_equal(memory[:, 4:], 0)


@pytest.mark.parametrize(
    ("weight", "bias", "stack"),
    [
        (DENSE, None, 4),
        (DENSE, 2.5, 4),
        (DENSE, [1, 1, 1, 1], 4),
        (DENSE, [1, 2, 3, 4], 1),
        (np.stack([[DENSE]] * 4), None, 4),
        (np.stack([[DENSE]] * 3 + [[DENSE.T]]), None, 1),
    ],
)
def test_channels_under_one_kernel_are_done_together(together, weight, bias, stack):
    x = RNG.integers(0, 256, (4, 9, 11)).astype(np.uint8)
    groups = 1 if weight is DENSE else 4
    got = convcli.conv2d(x, weight, bias, groups=groups, padding="same", method="row-gemm")
    assert together[-1].stack == stack
    two = np.stack([x, x + 1])
    spread = np.repeat(two, 2, axis=0)[::2]  # where items and channels are no one axis without a copy
    for cells, items in ((two, 8), (spread, 2)):
        both = convcli.conv2d(cells, weight, bias, groups=groups, padding="same", method="row-gemm")
        np.testing.assert_array_equal(both[0], got)
        assert together[-1].items * together[-1].stack == (items if stack == 4 else 2)
    kernels = [weight] * 4 if weight is DENSE else weight[:, 0]
    want = [oracle.correlate(one * 1.0, kernel, "same") for one, kernel in zip(x, kernels, strict=True)]
    np.testing.assert_array_equal(
        got, np.stack(want) + np.reshape([bias or 0] if np.ndim(bias) == 0 else bias, (-1, 1, 1))
    )
    assert convcli.plan_conv(x, weight, bias, groups=groups).problem.items == (4 if stack == 4 else 1)


@each_method
def test_planes_of_pixels_are_done_together(poisoned, together, method, either_blas):
    pixels = RNG.integers(0, 256, (9, 11, 3), np.uint8)
    kernel = np.outer([1, 2, 1], [1, 3, 1]) / 20
    call = functools.partial(convcli.filter2d, pixels, kernel, boundary="edge", dtype=np.uint8)
    got = attempt(call, method)
    if got is not None:
        want = np.stack([oracle.correlate(one, kernel, "same", "edge") for one in np.moveaxis(pixels, 2, 0)], 2)
        np.testing.assert_allclose(got, want, atol=0.5 + 1e-4)
        apart = method == "separable" and blas.copies()
        assert (together[-1].pitch, together[-1].stack) == ((1, 3) if apart else (3, 1))


@pytest.mark.parametrize(
    ("method", "items", "groups", "size", "tiles", "expected"),
    [
        (im2col, 1, 64, 10, 1, (1, 64)),
        (im2col, 1, 64, 10, 4, (1, 16)),
        (im2col, 1, 64, 60, 1, (1, 16)),  # of the 21 for which there is room
        (im2col, 5, 6, 10, 1, (5, 6)),
        (im2col, 5, 6, 10, 15, (2, 1)),
        (im2col, 5, 6, 60, 1, (5, 3)),
        (im2col, 40, 6, 60, 1, (20, 1)),
        (row_gemm, 5, 6, 30, 1, (5, 1)),
        (row_gemm, 40, 1, 30, 1, (40, 1)),
        (row_gemm, 40, 1, 30, 4, (10, 1)),
        (row_gemm, 40, 1, 30, 41, (1, 1)),
        (row_gemm, 2, 1, 2000, 1, (1, 1)),  # there is room for one
        (row_gemm, 0, 1, 30, 1, (1, 1)),
    ],
)
def test_how_many_planes_are_together(method, items, groups, size, tiles, expected):
    window = shapes.conv_window((size, size), (5, 5), padding="same")
    asked = problem.Problem(items * groups, 1, 1, 1, window, "float32", 25, 0, False, None, items)
    form = method.METHOD.forms(asked, tiles)[-1]
    assert (form.stack, form.groups) == expected
    if form.stack * form.groups > 1:
        tiles = problem.count_tiles(form, method.METHOD.tile(form))
        assert tiles == -(-items // form.stack) * -(-groups // form.groups)
        assert method.METHOD.memory(form) <= {im2col: 1.1, row_gemm: 5}[method] * 2**20


@pytest.mark.parametrize(("height", "width", "stack"), [(51, 2000, 1), (51, 4, 9)])
def test_planes_are_together_where_little_is_in_vain(height, width, stack):
    """Two rows of output, and 49 in vain to the next plane's: worth it where a plane's are soon made."""
    window = shapes.conv_window((height, width), (50, 3))
    asked = problem.Problem(9, 1, 1, 1, window, "float32", 150, 0, False, None, 9)
    assert plan.cheapest_form(row_gemm.METHOD, asked).stack == stack


def test_planes_are_together_where_that_is_estimated_to_cost_less():
    """Two of 16 rows are one of 34, of which winograd, which does four at once, has two left over; two of 5 are 12."""

    def form(size, items):
        window = shapes.conv_window((size, size), (3, 3), padding="same")
        asked = problem.Problem(items, 512, 512, 1, window, "float32", 9, 0, False, None, items)
        return plan.cheapest_form(winograd.METHOD, asked, items // 2)

    assert form(16, 4).stack == 1
    assert form(5, 4).stack == 2


def test_few_rows_cost_what_they_take_one_by_one(either_blas):
    few, one = (costs.gemm_cost(5, rows, 27, 1000, 4) for rows in (3, 1))
    assert (few == pytest.approx(3 * one)) == blas.copies()


@pytest.mark.parametrize(
    ("shape", "weight"),
    [
        ((16, 30_000, 64), (16, 16, 5, 5)),
        ((8, 60_000, 40), (8, 8, 3, 3)),
        ((200_000, 60), (3, 3)),
        ((80_000, 700), (5, 41)),
    ],
)
def test_the_sides_of_a_tower_have_the_memory_of_a_tile(monkeypatch, either_blas, shape, weight):
    monkeypatch.setattr(correlate, "WORTH_SIDES", 0)
    monkeypatch.setattr(correlate, "SIDES", 1)
    monkeypatch.setattr(Measured, "made", [])
    use_scratch(monkeypatch, Measured)
    x, kernels = np.zeros(shape, np.float32), RNG.standard_normal(weight).astype(np.float32)
    convcli.conv2d(x, kernels, padding="same", boundary="reflect", threads=1, method="row-gemm")
    candidates = convcli.plan_conv(x, kernels, padding="same", boundary="reflect").candidates
    (used,) = Measured.made
    assert 0 < used.nbytes <= 1.1 * next(one.memory for one in candidates if one.method == "row-gemm")


@pytest.mark.parametrize(("kept", "made"), [(1 << 26, 1), (0, 3)])
def test_memory_is_laid_by_for_the_next_call(monkeypatch, kept, made):
    use_scratch(monkeypatch, Measured)
    monkeypatch.setattr(Measured, "made", [])
    monkeypatch.setattr(scratch, "KEPT_BYTES", kept)
    for _ in range(3):
        convcli.filter2d(WIDE_FLOATS, DENSE, threads=1)
    assert len(Measured.made) == made


def test_a_row_that_is_left_over_has_its_memory(monkeypatch):
    x, weight = np.zeros((1500, 3, 100), np.float32), np.ones((4, 1500, 3, 3)) * RNG.random((4, 1500, 1, 1))
    use_scratch(monkeypatch, Measured)
    monkeypatch.setattr(Measured, "made", [])
    convcli.conv2d(x, weight, padding="same", threads=1, method="winograd")
    named = next(
        one.memory for one in convcli.plan_conv(x, weight, padding="same").candidates if one.method == "winograd"
    )
    (used,) = Measured.made
    assert 0 < used.nbytes <= named


LAYOUTS = {
    "read-only": lambda x: x.copy(),
    "negative strides": lambda x: x[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "negative channels": lambda x: x[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "transposed": lambda x: x.transpose(0, 2, 1).copy().transpose(0, 2, 1),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "sliced columns": lambda x: np.repeat(x, 3, axis=2)[:, :, ::3],
    "inside a larger picture": lambda x: np.pad(x, 3)[3:-3, 3:-3, 3:-3],
    "not aligned": lambda x: np.frombuffer(b"?" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "channels last": lambda x: x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
}


@each_method
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_layouts_of_the_input_give_one_result(method, layout, dtype):
    x = RNG.integers(0, 256, (2, 12, 15)).astype(dtype)
    other = LAYOUTS[layout](x)
    other.flags.writeable = False
    np.testing.assert_array_equal(other, x)
    weights = [np.full((1, 2, 3, 2), 2), np.ones((2, 2, 1, 1), int)]
    if method != "box-sum":
        weights += [np.stack([SMOOTH, -SMOOTH])[None]]
    for weight in (one for one in weights if takes(method, one)):
        for padding in ("valid", "same"):
            got = convcli.conv2d(other, weight, padding=padding, method=method)
            np.testing.assert_array_equal(got, convcli.conv2d(x, weight, padding=padding, method=method))
            assert_near(got, convcli.conv2d(x, weight, padding=padding, method="im2col"), reach_of(x, weight))
    np.testing.assert_array_equal(other, x)


@each_method
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_broadcast_inputs(method, axes):
    shape = [1 if axis in axes else n for axis, n in enumerate((3, 8, 9))]
    x = np.broadcast_to(RNG.integers(0, 256, shape).astype(np.float32), (3, 8, 9))
    for weight in (np.full((2, 3, 2, 3), 3), np.full((2, 3, 3, 2), 3), np.full((2, 3, 1, 1), 2)):
        if not takes(method, weight):
            continue
        if method == "separable":
            weight = weight[:1]
        got = convcli.conv2d(x, weight, method=method)
        assert_near(got, oracle.layer(x.astype(float), weight), 255 * 54)


@each_method
def test_the_input_stays_as_it_was(method):
    for x in (WIDE.copy(), WIDE_FLOATS.copy(), np.where(WIDE < 9, np.nan, WIDE_FLOATS)):
        before, kernel = x.copy(), np.full((3, 3), 0.5)
        kept = kernel.copy()
        for dtype in (np.float32, np.uint8):
            convcli.filter2d(x, kernel, method=method, dtype=dtype, bias=2)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(kernel, kept)


@each_method
def test_smallest_inputs(method):
    for size in ((1, 1), (4, 3), (3, 4)):
        if takes(method, np.ones(size)):
            got = convcli.conv2d([[5.0]], np.full(size, 2.0), padding="full", method=method)
            assert_near(got, np.full(size, 10.0), 120)
    empty = convcli.conv2d(np.zeros((0, 1, 5, 6)), np.ones((1, 1, 3, 3)), method=method)
    assert empty.shape == (0, 1, 3, 4)
    high = 3 if method == "winograd" else 6
    x = RNG.random((high, 7))
    for kernel in (np.full((high, 7), 0.5), np.full((high, 1), 0.5), np.full((1, 7), 0.5)):
        if not takes(method, kernel):
            continue
        assert_near(convcli.conv2d(x, kernel, method=method), oracle.correlate(x, kernel), 21)
    if method != "box-sum":
        kernel = np.outer(RNG.random(high), RNG.random(7))
        assert_near(convcli.conv2d(x, kernel, method=method), oracle.correlate(x, kernel), 42)


# Terms of separable kernels


def sum_of(terms, shape):
    return sum((np.outer(column, row) for column, row in terms), np.zeros(shape))


@given(rank=st.integers(1, 8), size=st.tuples(st.integers(8, 30), st.integers(8, 30)), dtype=dtypes, seed=seeds)
def test_terms_add_up_to_the_kernel(rank, size, dtype, seed):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        kernel = (rng.standard_normal((size[0], rank)) @ rng.standard_normal((rank, size[1]))).astype(dtype)
    else:
        kernel = (rng.integers(-9, 10, (size[0], rank)) @ rng.integers(-9, 10, (rank, size[1]))).astype(np.float64)
    terms = separable.terms(kernel)
    assert len(terms) <= rank
    assert len(terms) == np.linalg.matrix_rank(kernel)
    assert separable.rank(kernel, False) == max(1, len(terms))
    off = np.abs(sum_of(terms, size) - kernel).max()
    assert off <= 8 * np.finfo(kernel.dtype).eps * np.abs(kernel).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5, 4, 11, 40])
def test_gaussians_have_one_term_however_they_are_rounded(dtype, sigma):
    places = np.arange(-int(3 * sigma) - 1, int(3 * sigma) + 2)
    bell = np.exp(-(places**2) / (2 * sigma**2))
    for kernel in (np.outer(bell, bell), np.outer(bell, bell[1:]) / bell.sum() ** 2):
        assert separable.rank(kernel.astype(dtype), False) == 1
    difference = np.outer(bell, bell) - 0.5 * np.outer(bell**2, bell**2)
    assert separable.rank(difference.astype(dtype), False) == 2


def test_a_small_second_term_is_no_rounding():
    kernel = np.ones((9, 9), np.float32)
    kernel[4, 4] += 1e-4
    assert separable.rank(kernel, False) == 2
    kernel = kernel.astype(np.float64)
    kernel[4, 4] = 1 + 1e-12
    assert separable.rank(kernel, False) == 2


@given(
    column=st.lists(st.integers(-60, 60), min_size=1, max_size=9),
    row=st.lists(st.integers(-60, 60), min_size=1, max_size=9),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_products_of_whole_numbers_have_whole_terms(column, row, dtype):
    kernel = np.outer(column, row)
    terms = separable.terms(kernel.astype(dtype))
    assert len(terms) == bool(kernel.any())
    np.testing.assert_array_equal(sum_of(terms, kernel.shape), kernel)
    assert all((part == np.rint(part)).all() for term in terms for part in term)
    assert separable.rank(kernel.astype(dtype), True) == 1


def test_ranks():
    assert separable.terms(np.zeros((3, 4))) == []
    assert separable.rank(np.zeros((3, 4)), True) == 1
    assert separable.rank(np.array([[2.0, 3], [3, 2]]), True) == 0
    assert separable.rank(np.array([[2.0, 3], [3, 2]]), False) == 2
    assert separable.rank(np.eye(16), False) == 16
    assert separable.rank(np.eye(2), True) == 0
    assert separable.rank(np.eye(17), False) == 0
    assert separable.terms(np.eye(5), most=4) is None
    assert separable.rank(np.array([[1e12, 1], [1, 1e-12]]), False) == 1


# Threads


@pytest.fixture
def eager(monkeypatch):
    """Threads however little there is to do."""
    monkeypatch.setattr(correlate, "WORTH_THREADS", 0)
    monkeypatch.setattr(pool, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(pool, "BLOCK_BYTES", 2000)


@pytest.fixture
def placed(monkeypatch):
    """Who told which thread where to work, in the order of that."""
    if not hasattr(os, "sched_getaffinity") or sharing.cores() < 2:
        pytest.skip("the system has one processor, or lets no thread choose")
    calls, place = [], os.sched_setaffinity

    def note(thread, where):
        calls.append((threading.get_native_id(), thread, where))
        place(thread, where)

    monkeypatch.setattr(os, "sched_setaffinity", note)
    monkeypatch.setattr(sharing, "KEPT_APART", 60)  # longer than a busy machine takes to start a thread
    return calls


def test_threads_start_apart_and_go_where_they_like_afterwards(placed):
    """Helpers are sent off before they are called, the caller stays; all are let go, also after a failure."""
    allowed, main, seen = os.sched_getaffinity(0), threading.get_native_id(), {}

    def work(tasks):
        for barrier in tasks:
            barrier.wait(5)  # each has one
            seen[threading.get_native_id()] = os.sched_getaffinity(0)
            barrier.wait(5)

    def fail(tasks):
        work(tasks)
        raise ZeroDivisionError

    for job in (work, work, fail):
        seen.clear()
        placed.clear()
        barrier = threading.Barrier(2)
        with contextlib.suppress(ZeroDivisionError):
            sharing.share(job, [barrier, barrier], 2)
        assert {one: os.sched_getaffinity(one) for one in seen} == dict.fromkeys(seen, allowed)
        mine = seen.pop(main)
        assert len(mine) == 1
    ((helper, theirs),) = seen.items()
    assert theirs == allowed - mine
    assert placed.index((main, helper, allowed - mine)) < placed.index((main, 0, mine))


def test_helpers_are_let_go_that_had_nothing_to_do(placed):
    """Here since another job keeps them busy, all the while that this one lasts."""
    allowed, count, done = os.sched_getaffinity(0), sharing._most_helpers(), threading.Event()
    (helpers, ids), busy = sharing._helpers(), threading.Barrier(count + 1)

    def wait(tasks):
        busy.wait(10)
        done.wait(10)

    keeping = [helpers.submit(wait, ()) for _ in range(count)]
    busy.wait(10)
    sharing.share(deque, range(4), 2)
    assert {one: os.sched_getaffinity(one) for one in ids} == dict.fromkeys(ids, allowed)
    done.set()
    for one in keeping:
        one.result(10)


def test_long_work_is_not_held_where_it_began(placed, monkeypatch):
    monkeypatch.setattr(sharing, "KEPT_APART", 0)
    allowed, seen, barrier = os.sched_getaffinity(0), [], threading.Barrier(2)

    def work(tasks):
        for barrier in tasks:
            barrier.wait(5)  # each has one
            seen.append(os.sched_getaffinity(0))

    sharing.share(work, [barrier, barrier], 2)
    assert seen == [allowed] * 2


def test_only_one_job_at_a_time_is_told_where_to_work(placed):
    allowed, inner = os.sched_getaffinity(0), []

    def other():
        sharing.share(lambda tasks: inner.extend(os.sched_getaffinity(0) for _ in tasks), range(2), 2)
        inner.append(threading.get_native_id() not in {caller for caller, _, _ in placed})

    def outer(tasks):
        for task in tasks:
            if not task:
                thread = threading.Thread(target=other)
                os.sched_setaffinity(0, allowed)
                thread.start()
                thread.join(10)

    sharing.share(outer, range(2), 2)
    assert inner.pop()
    sharing.share(outer, range(2), 2)
    assert not sharing._job.locked()


@each_method
@pytest.mark.parametrize("x", [WIDE, WIDE_FLOATS, np.repeat(WIDE_FLOATS, 4, axis=0)], ids=["bytes", "floats", "tall"])
def test_threads_change_nothing(tiny, eager, method, x):
    kernel = np.full((3, 3), 0.7)
    one, _ = filtered(x, kernel, method, threads=1)
    for threads in (2, 5):
        other, _ = filtered(x, kernel, method, threads=threads)
        np.testing.assert_array_equal(one, other)


@each_method
@pytest.mark.parametrize("height", [31, 60, 99])
def test_threads_change_no_layer(eager, method, height):
    x = RNG.standard_normal((32, height, 70)).astype(np.float32)
    weight = RNG.standard_normal((16, 32, 3, 3))
    layer = functools.partial(convcli.conv2d, x, weight, padding="same")
    one = attempt(functools.partial(layer, threads=1), method)
    for threads in (2, 3, 5):
        other = attempt(functools.partial(layer, threads=threads), method)
        np.testing.assert_array_equal(one, other)


def test_threads_change_no_pool(eager):
    x = RNG.random((5, 40, 50))
    window = shapes.pool_window((40, 50), 3, stride=2)
    ask = pool.Pooling(x[None, ..., None], window, pool.Reduce.MAX)
    results = []
    for threads in (1, 2, 5):
        results.append(np.full(ask.shape, np.nan))
        pool.pool(ask, Store(results[-1]), threads=threads)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[0][0, ..., 0], convcli.max_pool2d(x, 3, stride=2))
    _, indices = convcli.max_pool2d(x, 3, stride=2, return_indices=True)
    np.testing.assert_array_equal(indices, [oracle.winners(one, (3, 3), (2, 2), ((0, 0), (0, 0))) for one in x])


@pytest.mark.parametrize("where", ["main", "others", "all"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_exception_of_any_thread_reaches_the_caller(tiny, eager, monkeypatch, where, threads):
    filtered(WIDE, SMOOTH, "shift-add", threads=threads)  # from here on there are helpers
    compute, caller = correlate._Run.compute, threading.current_thread()
    met = {"main": threading.Event(), "others": threading.Event(), "all": threading.Event()}

    def broken(self, *tile):
        here = "main" if threading.current_thread() is caller else "others"
        met[here].set()
        met["all"].set()
        if where in (here, "all"):
            raise MemoryError(f"in {here}")
        assert met[where].wait(5)
        return compute(self, *tile)

    monkeypatch.setattr(correlate._Run, "compute", broken)
    before = set(threading.enumerate())
    if where == "others" and threads == 1:
        met["others"].set()
        filtered(WIDE, SMOOTH, "shift-add", threads=threads)
    else:
        with pytest.raises(MemoryError, match="in "):
            filtered(WIDE, SMOOTH, "shift-add", threads=threads)
    assert set(threading.enumerate()) <= before
    monkeypatch.undo()
    with small_tiles():
        got, _ = filtered(WIDE, SMOOTH, "shift-add", threads=threads)
    np.testing.assert_array_equal(got, whole(WIDE, SMOOTH))


# The planner


shapes_of_problems = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
        "kernel": st.tuples(st.integers(1, 200), st.integers(1, 200)),
        "stride": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "dilation": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "padding": st.sampled_from(["same", "full"]),
    }
)


@pytest.mark.parametrize(("outputs", "groups"), [(1, 1), (2, 4), (8, 1), (3, 3), (9, 1)])
def test_what_is_priced_is_what_is_added_up(monkeypatch, outputs, groups):
    """Kernels of up to eight outputs are taken apart, of all groups together, by price and method alike."""
    grouped, taps = shift_add.grouped, []
    monkeypatch.setattr(shift_add, "grouped", lambda part: taps.append(np.count_nonzero(part)) or grouped(part))
    weight = np.ones((outputs * groups, 1, 3, 3), int)
    weight[:, 0, 1, 1] = np.arange(2, 2 + outputs * groups)
    x = np.ones((groups, 20, 30), np.uint8)
    convcli.conv2d(x, weight, groups=groups, method="shift-add", threads=1)
    few = outputs * groups <= 8
    assert sum(taps) == outputs * groups * (7 if few else 9)
    window = shapes.conv_window((20, 30), (3, 3))
    ask = correlate.Correlation(x[None, ..., None], weight, window, groups=groups)
    assert ask.problem().additions * groups == sum(taps)


@given(
    walk=shapes_of_problems,
    items=st.integers(1, 60),
    groups=st.integers(1, 5),
    channels=st.integers(1, 600),
    outputs=st.integers(1, 600),
    pitch=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float64"]),
    additions=st.integers(0, 10**6),
    rank=st.integers(0, 16),
    uniform=st.booleans(),
    bound=st.sampled_from([None, 0, 100, 2**20, 2**39, 2**45]),
)
def test_every_method_is_priced_or_refused(
    walk, items, groups, channels, outputs, pitch, dtype, additions, rank, uniform, bound
):
    window = shapes.conv_window(**walk)
    planes = items * groups
    asked = problem.Problem(planes, channels, outputs, pitch, window, dtype, additions, rank, uniform, bound, items)
    made = plan.make_plan(asked)
    assert [one.method for one in made.candidates] == list(METHODS)
    for one in made.candidates:
        assert (one.refused is None) == np.isfinite(one.seconds)
        if one.refused is None:
            assert one.seconds > 0
            assert one.memory > 0
            rows, columns = METHODS[one.method].tile(asked)
            assert 1 <= rows <= window.output[0]
            assert 1 <= columns <= window.output[1]
    assert min(one.seconds for one in made.candidates) == next(
        one.seconds for one in made.candidates if one.method == made.method
    )
    plan._plan.cache_clear()
    assert plan.make_plan(asked) == made
    assert all(f" {name} " in str(made) for name in METHODS)


@each_method
def test_a_method_asked_for_is_the_one_that_runs(monkeypatch, method):
    ran = []
    bind = METHODS[method].bind
    spied = METHODS[method]._replace(bind=lambda *arguments: ran.append(method) or bind(*arguments))
    monkeypatch.setitem(METHODS, method, spied)
    plan._plan.cache_clear()
    assert_near(convcli.conv2d(FLOATS, np.ones((1, 3, 3, 2)), method=method)[0], six(FLOATS), 18 * 5)
    assert ran == [method]
    made = convcli.plan_conv(FLOATS, np.ones((1, 3, 3, 2)), method=method)
    assert (made.method, made.why) == (method, "asked for")
    assert f"* {method}" in str(made)


def six(x):
    x = x.sum(axis=0, dtype=float)
    pairs = x[:, :-1] + x[:, 1:]
    return pairs[:-2] + pairs[1:-1] + pairs[2:]


def test_the_plan_of_one_problem_is_one_plan():
    made = convcli.plan_conv(FLOATS, DENSE)
    assert convcli.plan_conv(FLOATS * 2, DENSE) == made
    assert convcli.plan_conv(FLOATS, DENSE, method=made.method).candidates == made.candidates
    assert f"least estimated cost of {len(METHODS) - 1} methods" in str(made)
    alone = plan.make_plan(made.problem._replace(dtype="object", bound=2**70))
    assert str(alone).startswith("shift-add: the only method that can do it\n")
    assert str(convcli.plan_conv(BYTES, DENSE)).count("needs a kernel that is one number all over") == 1


def test_a_large_box_costs_hardly_more_than_a_small_one():
    x = np.zeros((600, 800), np.float32)

    def seconds(size, method):
        candidates = convcli.plan_conv(x, np.ones((size, size)), padding="same").candidates
        return next(one.seconds for one in candidates if one.method == method)

    assert seconds(60, "shift-add") > 50 * seconds(5, "shift-add")
    for method in ("box-sum", "fft"):
        assert seconds(60, method) < 10 * seconds(5, method)
    assert convcli.plan_conv(x, np.ones((60, 60)), padding="same").method in ("box-sum", "separable", "fft")


@pytest.fixture
def blas_threads(monkeypatch):
    """Of how many threads BLAS makes use, if nobody limits it: of two."""
    for name in sharing._BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def counts():
        return {one["num_threads"] for one in threadpool_info() if one["internal_api"] == "openblas"}

    with threadpool_limits(2, user_api="blas"):
        yield counts


def test_blas_is_held_to_one_thread_beside_ours(blas_threads):
    before = blas_threads()
    with sharing.single_blas, sharing.single_blas:
        assert blas_threads() <= {1}
    assert blas_threads() == before


def test_blas_is_held_to_one_thread_by_whoever_comes(blas_threads):
    """Also by another thread than the first one that held it, and let go by another than took it."""
    before = blas_threads()
    with sharing.single_blas:
        pass

    def limited():
        with sharing.single_blas:
            return blas_threads()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert one.submit(limited).result() <= {1}
        assert other.submit(limited).result() <= {1}
        assert blas_threads() == before
        one.submit(sharing.single_blas.__enter__).result()
        other.submit(sharing.single_blas.__enter__).result()
        one.submit(sharing.single_blas.__exit__).result()
        assert blas_threads() <= {1}
        other.submit(sharing.single_blas.__exit__).result()
        assert blas_threads() == before


def test_blas_is_held_to_one_thread_beside_others_who_limit_it(blas_threads):
    """The program's own threads may have set a limit before, and may set one after."""

    def limited():
        with sharing.single_blas:
            return blas_threads()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert other.submit(limited).result() <= {1}  # though this thread is in charge
        limiter = one.submit(threadpool_limits, 2, user_api="blas").result()  # which holds on to it
        with sharing.single_blas:
            assert blas_threads() <= {1}
        assert blas_threads() <= {2}
        last = other.submit(threadpool_limits, 1, user_api="blas").result()
        assert blas_threads() <= {1}
        other.submit(last.restore_original_limits).result()
        one.submit(limiter.restore_original_limits).result()


def test_threads_that_share_work_may_share_it_further():
    done = []

    def outer(tasks):
        for task in tasks:
            sharing.share(lambda parts, task=task: done.extend((task, part) for part in parts), range(3), 4)

    sharing.share(outer, range(6), 4)
    assert sorted(done) == [(task, part) for task in range(6) for part in range(3)]


@pytest.mark.parametrize("here", [True, False])
def test_a_failure_is_raised_when_every_thread_has_stopped(here):
    met, running, caller = threading.Barrier(2), [], threading.get_ident()

    def work(tasks):
        next(tasks)
        running.append(1)
        met.wait(10)
        if (threading.get_ident() == caller) == here:
            running.pop()
            raise ZeroDivisionError
        time.sleep(0.05)
        running.pop()

    with pytest.raises(ZeroDivisionError):
        sharing.share(work, range(2), 2)
    assert running == []


def test_a_helper_that_is_busy_keeps_nothing_of_those_who_did_not_wait_for_it():
    class Work:
        def __call__(self, tasks):
            deque(tasks, maxlen=0)

    busy, free = threading.Event(), threading.Event()

    def hold(tasks):
        next(tasks)
        if threading.get_ident() == caller:
            busy.set()
        free.wait(10)

    def begin():
        nonlocal caller
        caller = threading.get_ident()
        sharing.share(hold, range(cores), cores)

    caller, cores = 0, sharing._most_helpers() + 1
    holder = threading.Thread(target=begin)
    holder.start()
    try:
        busy.wait(10)
        time.sleep(0.05)  # until the helpers hold, too
        works = [Work() for _ in range(5)]
        for work in works:
            sharing.share(work, range(2), 2)
        left = [weakref.ref(work) for work in works]
        del work, works
        gc.collect()
        assert [one() for one in left] == [None] * 5
    finally:
        free.set()
        holder.join()


@pytest.mark.parametrize(
    ("kernel", "in_place", "copied"),
    [((3, 3), (3, 2), (3, 1)), ((31, 3), (1, 4), (1, 4))],
)
def test_layouts_for_either_blas(either_blas, kernel, in_place, copied):
    window = shapes.conv_window((3000, 4000), kernel, padding="same")
    layout = row_gemm.cheapest_layout(problem.Problem(1, 1, 1, 1, window, "float32", 9, 0, False, None))
    assert layout == (copied if blas.copies() else in_place)


def layout_problem(size, kernel, channels=1, **walk):
    window = shapes.conv_window(size, kernel, **walk)
    return problem.Problem(1, channels, 1, 1, window, "float32", 9, 0, False, None)


@pytest.mark.parametrize(
    ("size", "dilation", "rows"), [((9, 90), 1, 4), ((3, 90), 1, 2), ((40, 90), 2, 2), ((40, 90), 5, 1)]
)
def test_no_product_has_more_rows_than_a_class_of_a_tile(size, dilation, rows):
    asked = layout_problem(size, (3, 7), padding="same", dilation=(dilation, 1))
    assert max(one.rows for one in row_gemm.layouts(asked)) == rows


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_tiles_are_whole_products(monkeypatch, rows):
    monkeypatch.setattr(row_gemm, "cheapest_layout", lambda _problem: row_gemm.Layout(1, rows))
    asked = layout_problem((1001, 5003), (7, 7), padding="same")
    height, _ = row_gemm.tile(asked)
    assert height < 1001
    assert height % rows == 0


def test_rows_of_many_channels_under_a_flat_kernel_are_not_copied():
    asked = layout_problem((50, 90), (1, 7), channels=3)
    assert row_gemm.copied(asked, row_gemm.Layout(1, 1)) == 0
    assert row_gemm.copied(asked, row_gemm.Layout(1, 2)) == 3
    assert row_gemm.copied(layout_problem((50, 90), (2, 7), channels=3), row_gemm.Layout(1, 1)) == 3


def test_a_fourth_row_is_spared_where_it_is_faster(either_blas):
    heights = [len(row_gemm.lay_out(np.ones((1, 1, 2, kw)), row_gemm.Layout(1, 1), 1)) for kw in (2, 3, 4, 5, 11)]
    assert heights == [2, 3 if blas.copies() else 4, 4, 5, 12]
    assert len(row_gemm.lay_out(np.ones((3, 1, 2, 2)), row_gemm.Layout(2, 1), 1)) == 3  # a result has no room for it


@pytest.mark.parametrize(("size", "kernel"), [((4000, 301), (3, 301)), ((20_000, 301), (9, 301))])
def test_responses_far_wider_than_the_result_have_their_price(size, kernel):
    asked = layout_problem(size, kernel)
    assert plan.working_memory(row_gemm.METHOD, asked) < 24 * 2**20
    assert plan.estimate(row_gemm.METHOD, asked) > asked.macs * 1e-11


def test_values_side_by_side_are_apart_where_blas_copies(either_blas):
    window = shapes.conv_window((150, 70), (5, 5))
    pixels = Correlation(np.zeros((1, 1, 150, 70, 3), np.float32), np.ones((1, 1, 5, 5)), window).problem()
    assert separable.block_columns(pixels) == 5
    assert separable.METHOD.forms(pixels)[0] == (pixels.apart() if blas.copies() else pixels)
    assert row_gemm.METHOD.forms(pixels) == [pixels]


@pytest.mark.parametrize(
    ("size", "stride", "whole", "apart"),
    [
        ((60, 700), 1, None, True),
        ((60, 700), 4, None, True),
        ((15, 700), 1, None, False),
        ((15, 700), 1, (60, 700), True),
        ((900, 45), 1, None, False),
    ],
)
def test_sides_are_apart_in_large_pictures_alone(monkeypatch, size, stride, whole, apart):
    """By the cells that a tile would copy, of the whole picture where this is a strip, and if the sides are few."""
    monkeypatch.setattr(correlate, "WORTH_SIDES", 15_000)
    windows = [one and shapes.conv_window(one, (7, 7), padding="same", stride=stride) for one in (size, whole)]
    weight = RNG.standard_normal((1, 1, 7, 7)).astype(np.float32)
    ask = Correlation(np.zeros((1, 1, *size, 1), np.float32), weight, windows[0], whole=windows[1])
    run = correlate._Run(ask, Store(np.zeros(ask.shape, np.float32)), ask.problem(), row_gemm.METHOD)
    assert any(one is not run for one, *_ in run.tiles(1)) == apart


@pytest.mark.parametrize("method", [winograd, im2col, row_gemm])
def test_tiles_are_cut_for_threads_by_twos_or_fours(method):
    x, weight = np.zeros((1, 64, 54, 56, 1), np.float32), np.ones((64, 64, 3, 3), np.float32)
    ask = Correlation(x, weight, shapes.conv_window((54, 56), (3, 3)))
    run = correlate._Run(ask, Store(np.empty(ask.shape, np.float32)), ask.problem(), method.METHOD)
    heights = [rows.stop - rows.start for *_, rows, _ in run.tiles(9)]
    assert len(heights) >= 6
    together = {winograd: 4, row_gemm: 2, im2col: 1}[method]
    assert all(height % together == 0 for height in heights[:-1])


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("count", [1, 2, 7, 16, 100, 1001])
def test_tasks_are_taken_in_ever_shorter_runs(count, threads):
    runs = sharing._runs(range(count), threads)
    assert [task for run in runs for task in run] == list(range(count))
    lengths = [len(run) for run in runs]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == max(1, count // (4 * threads))
    assert set(lengths[-4 * threads :]) == {1}


def test_work_is_done_where_no_thread_can_be_started(monkeypatch):
    class Full:
        def submit(self, *_):
            raise RuntimeError("can't start new thread")

    done = []
    monkeypatch.setattr(sharing, "_helpers", lambda: (Full(), []))
    sharing.share(done.extend, range(9), 3)
    assert done == list(range(9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_forks_leaves_its_threads_behind():
    def answer():
        ran = set()

        def work(tasks):
            next(tasks)
            ran.add(threading.get_ident())
            met.wait(10)

        met = threading.Barrier(2)
        sharing.share(work, range(2), 2)
        return len(ran)

    assert answer() == 2
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = answer()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_amid_work_leaves_no_holder_and_no_lock():
    held, done = threading.Event(), threading.Event()

    def work(tasks):
        held.set()
        done.wait(10)

    other = threading.Thread(target=sharing.share, args=(work, range(1), 1))
    other.start()
    held.wait(10)
    with sharing.single_blas._lock:
        child = os.fork()
    if child == 0:
        status = 1
        try:
            got = sharing.single_blas._holders, sharing.single_blas._lock.acquire(timeout=2)
            status = 3 if got == (0, True) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    done.set()
    other.join()


def test_what_is_shared_is_given_back_once_when_it_is_reset():
    log = []
    state = sharing.Shared(lambda: log.append("take") or len(log), lambda before: log.append(before))
    with state:
        with state:
            state.reset()
            assert log == ["take", 1]
        with state:
            assert log == ["take", 1, "take"]
    assert log == ["take", 1, "take", 3]
    state.reset()
    assert log == ["take", 1, "take", 3]


def test_a_small_weight_is_looked_at_once_and_a_large_one_is_not_kept():
    seen = []

    @problem.remembered
    def look(weight, more=0):
        seen.append(weight.shape)
        return float(weight[0, -1]) + more

    small, large = np.arange(6.0).reshape(2, 3), np.ones((300, 300))
    assert [look(small), look(small.copy()), look(small, 1), look(small.T), look(small.astype(int))] == [2, 2, 3, 3, 2]
    assert seen == [(2, 3), (2, 3), (3, 2), (2, 3)]
    assert look(large) == look(large) == 1
    assert look(small.astype(object)) == 2
    assert seen[4:] == [(300, 300), (300, 300), (2, 3)]


@each_method
def test_more_values_side_by_side_than_a_vector_holds(method):
    kernel = np.ones((3, 5)) if method == "box-sum" else np.outer([1.5, 2, -1], [2, 3, 5, 1, 0.5])
    if not takes(method, kernel):
        pytest.skip("takes no such kernel")
    image = RNG.random((9, 11, 20), dtype=np.float32)
    made = picture_filter(image, kernel, padding="same", boundary="reflect")
    store = Store(np.empty(made.shape, np.float32))
    correlate.correlate(made, store, method=method)
    for channel in range(20):
        alone = convcli.filter2d(image[..., channel], kernel)
        np.testing.assert_allclose(store.array[0, 0, ..., channel], alone, atol=1e-4)


def test_the_indices_of_a_long_border_are_not_kept():
    pad._known_index.cache_clear()
    assert pad.source_index(5, 1, 1, Boundary.REFLECT).tolist() == [1, 0, 1, 2, 3, 4, 3]
    assert pad.source_index(1 << 16, 1, 1, Boundary.REFLECT)[:2].tolist() == [1, 0]
    assert pad._known_index.cache_info().currsize == 1


@pytest.mark.parametrize(
    "size", [(1, 1), (3000, 4000), (2999, 2733), (129, 4000), (7, 100_000), (900, 2731), (64, 2733)]
)
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_tiles_share_a_picture_evenly(size, channels):
    window = shapes.conv_window(size, (3, 3), padding="same")
    ask = problem.Problem(1, channels, 16, 1, window, "float32", 9, 0, False, None)
    for rows, columns in (problem.fit_tile(ask, 1 << 19, 32), winograd.tile(ask)):
        assert 1 <= columns <= size[1]
        wide = -(-size[1] // columns)
        assert size[1] - (wide - 1) * columns > columns - wide - 1  # the last one is hardly narrower
        assert 1 <= rows <= size[0]
    rows, _ = problem.fit_tile(ask, 1 << 19, 32)
    assert rows >= min(size[0], 32)
    tall = -(-size[0] // rows)
    assert tall in (1, *range(2, 20, 2)) or tall > 20 or rows == 32  # of many, one more or less does not matter


def test_im2col_takes_no_large_block_for_few_columns():
    window = shapes.conv_window((4000, 4000), (1, 1), stride=4)
    asked = problem.Problem(1, 8, 4, 1, window, "float32", 8, 0, False, None)
    assert problem.block_values(asked, im2col.tile(asked)) <= 1.1 * im2col.VALUES


def test_a_view_of_the_picture_costs_nothing_to_lay(monkeypatch):
    asked = layout_problem((1078, 529), (1, 1), channels=39)
    padded = layout_problem((1078, 529), (1, 1), channels=39, padding=1)
    before = [plan.price(row_gemm.METHOD, one, one) for one in (asked, padded)]
    monkeypatch.setitem(costs.COSTS, "tile.cell", 1.0)
    after = [plan.price(row_gemm.METHOD, one, one) for one in (asked, padded)]
    assert after[0] == before[0]
    assert after[1] > before[1] + 1


def test_sides_are_done_last(monkeypatch):
    """They are short: so threads end together."""
    monkeypatch.setattr(correlate, "WORTH_SIDES", 0)
    window = shapes.conv_window((60, 700), (7, 7), padding="same")
    ask = Correlation(np.zeros((1, 1, 60, 700, 1), np.float32), RNG.standard_normal((1, 1, 7, 7)), window)
    run = correlate._Run(ask, Store(np.zeros(ask.shape, np.float32)), ask.problem(), row_gemm.METHOD)
    inner = [one is run for one, *_ in run.tiles(4)]
    assert inner == sorted(inner, reverse=True)
    assert 0 < sum(inner) < len(inner)
