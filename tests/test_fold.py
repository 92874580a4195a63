"""Windows folded along an axis, against a plain loop, and the pools that are made of them."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcli
import oracle
from convcli.engine import pool
from convcli.engine.fold import fold, passes
from convcli.engine.scratch import Scratch

RNG = np.random.default_rng(5)
UFUNCS = [np.maximum, np.minimum, np.add, np.logical_or]

each_ufunc = pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda one: one.__name__)


class Poisoned(Scratch):
    """Memory that holds what would win every fold."""

    turn = 0

    def __call__(self, name, shape, dtype):
        memory = super().__call__(name, shape, dtype)
        self.turn += 1
        if memory.dtype.kind == "b":
            memory[...] = True
        else:
            memory[...] = 10**6 if self.turn % 2 else -(10**6)
        return memory


def plain(ufunc, cells, axis, size, outputs, stride, dilation):
    """Window by window, cell by cell."""
    lines = np.moveaxis(cells, axis, 0)
    windows = [[lines[o * stride + i * dilation] for i in range(size)] for o in range(outputs)]
    return np.moveaxis(np.stack([functools.reduce(ufunc, window) for window in windows]), 0, axis)


def cells_for(ufunc, shape, rng):
    return rng.random(shape) < 0.05 if ufunc is np.logical_or else rng.integers(-99, 100, shape)


@each_ufunc
@settings(max_examples=150)
@given(
    size=st.integers(1, 40),
    stride=st.integers(1, 7),
    dilation=st.integers(1, 4),
    axis=st.integers(0, 2),
    outputs=st.integers(1, 9),
    spare=st.integers(0, 3),
    given_out=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_folds_are_plain_loops(ufunc, size, stride, dilation, axis, outputs, spare, given_out, seed):
    rng = np.random.default_rng(seed)
    length = (outputs - 1) * stride + (size - 1) * dilation + 1 + spare
    shape = [3, 2, 4]
    shape[axis] = length
    cells = cells_for(ufunc, shape, rng)
    before, want = cells.copy(), plain(ufunc, cells, axis, size, outputs, stride, dilation)
    out = np.full(want.shape, -77).astype(cells.dtype) if given_out else None
    got = fold(ufunc, cells, axis, size, outputs, Poisoned(), stride=stride, dilation=dilation, out=out)
    assert got is out or not given_out
    assert got.dtype == cells.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(cells, before)


@each_ufunc
def test_every_size_of_a_window(ufunc):
    scratch, rng = Scratch(), np.random.default_rng(2)
    for size in range(1, 130):
        cells = cells_for(ufunc, (size + 20, 2), rng)
        got = fold(ufunc, cells, 0, size, 11, scratch, stride=2, dilation=1)
        np.testing.assert_array_equal(got, plain(ufunc, cells, 0, size, 11, 2, 1), err_msg=str(size))


def test_a_fold_into_a_slice_leaves_the_rest():
    cells, target = RNG.integers(0, 99, (20, 6)), np.full((9, 12), -1)
    got = fold(np.maximum, cells, 0, 14, 7, Scratch(), stride=1, dilation=1, out=target[1:8, ::2])
    np.testing.assert_array_equal(got, plain(np.maximum, cells, 0, 14, 7, 1, 1))
    assert (target[[0, 8]] == -1).all()
    assert (target[:, 1::2] == -1).all()


def test_folds_along_both_axes_do_not_mix_their_memory():
    scratch, cells = Scratch(), RNG.integers(0, 99, (40, 50))
    for kh, kw in ((13, 11), (8, 16), (31, 2), (1, 7)):
        down = fold(np.add, cells, 0, kh, 9, scratch, stride=1, dilation=1)
        both = fold(np.add, down, 1, kw, 34, scratch, stride=1, dilation=1)
        want = [[cells[y : y + kh, x : x + kw].sum() for x in range(34)] for y in range(9)]
        np.testing.assert_array_equal(both, want)


def test_a_nan_wins_in_its_windows_alone():
    cells = RNG.random((60, 1))
    cells[23] = np.nan
    for ufunc in (np.maximum, np.minimum, np.add):
        for size in (1, 2, 3, 7, 16, 21):
            got = fold(ufunc, cells, 0, size, 39, Scratch(), stride=1, dilation=1)[:, 0]
            holds = [first <= 23 < first + size for first in range(39)]
            np.testing.assert_array_equal(np.isnan(got), holds)


class Counted:
    """Counts the values that a ufunc writes."""

    def __init__(self, ufunc):
        self.ufunc, self.values = ufunc, 0

    def __call__(self, *arguments, out):
        self.values += out.size
        return self.ufunc(*arguments, out=out)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_large_windows_take_few_passes(stride):
    outputs, cells = 1000, RNG.random((1000 * stride + 200, 1))
    for size in (2, 5, 16, 31, 64, 127):
        counted = Counted(np.maximum)
        fold(counted, cells, 0, size, outputs, Scratch(), stride=stride, dilation=1)
        doublings = size.bit_length() - 1
        least = min(size - 1, (doublings + 1) * stride)
        assert counted.values <= outputs * least * 1.4 + 200 * doublings


@pytest.mark.parametrize(
    ("size", "stride", "row", "pixels"),  # passes in a row of numbers and one of pixels, over all cells in between
    [
        (2, 1, 2, 2),
        (3, 1, 3, 3),
        (7, 1, 5, 5),
        (2, 2, 6, 16),
        (3, 2, 8, 18),
        (3, 3, 9, 19),
        (4, 4, 10, 20),
        (1, 5, 3, 8),
    ],
)
def test_what_a_stride_costs(size, stride, row, pixels):
    assert passes(size, stride, True, 1) == row
    assert passes(size, stride, True, 3) == pixels
    assert passes(size, stride, False, 3) == min(size, passes(size, stride, False, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 6, 7), (65, 80, 64)])
def test_the_only_output_of_a_line(axis, shape):
    cells = RNG.integers(-99, 100, shape).astype(np.float32)
    cells[tuple(0 if one == axis else 1 for one in range(3))] = np.nan
    size, scratch = cells.shape[axis], Poisoned()
    for ufunc in (np.maximum, np.add):
        got = fold(ufunc, cells, axis, size, 1, scratch, stride=size, dilation=1)
        np.testing.assert_array_equal(got, ufunc.reduce(cells, axis=axis, keepdims=True))
        inner = fold(ufunc, cells, axis, 2, 1, scratch, stride=1, dilation=size - 1)
        np.testing.assert_array_equal(inner, ufunc.reduce(cells.take([0, -1], axis), axis=axis, keepdims=True))


# Pools


POOLS = [("max", {}), ("min", {}), ("avg", {}), ("avg", {"count_include_pad": False})]
each_pool = pytest.mark.parametrize(("how", "options"), POOLS, ids=["max", "min", "avg", "avg without pads"])


def assert_pool(x, size, stride, pads, how, options, ceil=False):
    got = getattr(convcli, f"{how}_pool2d")(x, size, stride=stride, padding=pads, ceil_mode=ceil, **options)
    counted = options.get("count_include_pad", True)
    stack = x.reshape(-1, *x.shape[-2:]).astype(float)
    want = np.stack([oracle.pool(one, size, stride, pads, how, (1, 1), ceil, counted) for one in stack])
    np.testing.assert_allclose(got, want.reshape(got.shape), rtol=1e-5, atol=1e-5)


@each_pool
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_large_windows_at_every_place(how, options, dtype):
    x = RNG.integers(0, 256, (14, 16)).astype(dtype)
    for size in ((14, 16), (13, 9), (7, 15), (1, 11), (8, 8)):
        pads = tuple((k // 2, (k - 1) // 3) for k in size)
        assert_pool(x, size, (1, 1), ((0, 0), (0, 0)), how, options)
        assert_pool(x, size, (1, 1), pads, how, options)


@each_pool
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ceil=st.booleans(),
    data=st.data(),
)
def test_pads_and_partial_windows(how, options, size, stride, ceil, data):
    pads = tuple(tuple(data.draw(st.integers(0, k // 2)) for _ in "ab") for k in size)
    assert_pool(RNG.standard_normal((2, 9, 10)), size, stride, pads, how, options, ceil)


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("threads", [False, True])
@each_pool
def test_many_small_planes_at_once(monkeypatch, how, options, count, threads):
    monkeypatch.setattr(pool, "BLOCK_BYTES", 1500)
    if threads:
        monkeypatch.setattr(pool, "WORTH_A_THREAD", 0)
    x = RNG.standard_normal((count, 5, 6)).astype(np.float32)
    call = functools.partial(getattr(convcli, f"{how}_pool2d"), size=3, stride=2, padding=1, **options)
    got = call(x)
    np.testing.assert_array_equal(got, np.stack([call(one) for one in x]))
    np.testing.assert_array_equal(got, call(x.reshape(1, 1, count, 5, 6))[0, 0])
    assert_pool(x[-3:], (3, 3), (2, 2), ((1, 1), (1, 1)), how, options)


@each_pool
def test_blocks_of_few_rows_leave_no_seams(monkeypatch, how, options):
    x = RNG.standard_normal((2, 40, 12)).astype(np.float32)
    call = functools.partial(getattr(convcli, f"{how}_pool2d"), x, (7, 3), stride=(2, 1), padding=(3, 1), **options)
    want = call()
    monkeypatch.setattr(pool, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(call(), want)
    assert_pool(x, (7, 3), (2, 1), ((3, 3), (1, 1)), how, options)


def test_what_counts_in_an_average():
    ones = np.ones((4, 4))
    with_pads = convcli.avg_pool2d(ones, 3, stride=1, padding=1)
    assert with_pads[0, 0] == pytest.approx(4 / 9)
    assert with_pads[0, 1] == pytest.approx(6 / 9)
    np.testing.assert_allclose(convcli.avg_pool2d(ones, 3, stride=1, padding=1, count_include_pad=False), 1)
    beyond = convcli.avg_pool2d(ones, 3, stride=2, padding=0, ceil_mode=True)
    np.testing.assert_allclose(beyond, 1)
