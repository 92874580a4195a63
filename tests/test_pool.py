"""Pooling against the plain loops, and the numbers of the text and of PyTorch."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convcli
import oracle
from convcli.engine import pool
from convcli.errors import ConvcliError

RNG = np.random.default_rng(3)
NINE = np.arange(9).reshape(3, 3)
SIXTEEN = np.arange(1, 17).reshape(4, 4)
WALKS = {
    "size": st.tuples(st.integers(1, 12), st.integers(1, 12)),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "stride": st.tuples(st.integers(1, 5), st.integers(1, 5)),
}


def test_pools_of_the_text():
    assert convcli.max_pool2d(NINE, 2, stride=1).tolist() == [[4, 5], [7, 8]]
    assert convcli.avg_pool2d(NINE, 2, stride=1).tolist() == [[2, 3], [5, 6]]
    assert convcli.max_pool2d(NINE, 3, padding=1, stride=2).tolist() == [[4, 5], [7, 8]]


def test_averages_at_borders_are_pytorchs():
    # pytorch/pytorch#183528: AvgPool2d(3, 2, padding=1, ceil_mode=True) on 1..16
    got = convcli.avg_pool2d(SIXTEEN, 3, stride=2, padding=1, ceil_mode=True)
    want = [[14 / 9, 10 / 3, 2], [19 / 3, 11, 6], [4.5, 7.5, 4]]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    # microsoft/onnxscript#754: AvgPool k=3 s=2 ceil on 1..16
    assert convcli.avg_pool2d(SIXTEEN, 3, stride=2, ceil_mode=True).tolist() == [[6, 7.5], [12, 13.5]]


def test_pads_of_a_maximum_never_win():
    assert convcli.max_pool2d(-NINE - 1.0, 2, padding=1).max() == -1
    assert convcli.min_pool2d(NINE + 1.0, 2, padding=1).min() == 1
    assert convcli.max_pool2d(np.full((2, 2), -5, np.int8), 2, padding=1).tolist() == [[-5, -5], [-5, -5]]


@given(
    **WALKS,
    dilation=st.integers(1, 2),
    ceil=st.booleans(),
    count_pads=st.booleans(),
    how=st.sampled_from(["max", "min", "avg"]),
    data=st.data(),
)
def test_against_plain_loops(size, kernel, stride, dilation, ceil, count_pads, how, data):
    dilation = 1 if how == "avg" else dilation
    reach = [dilation * (k - 1) + 1 for k in kernel]
    pads = tuple(tuple(data.draw(st.integers(0, (k - 1) // 2)) for _ in range(2)) for k in reach)
    rooms = [n + sum(p) - k for n, p, k in zip(size, pads, reach, strict=True)]
    if any(room <= -s if ceil else room < 0 for room, s in zip(rooms, stride, strict=True)):
        return
    x = RNG.standard_normal((2, *size))
    options = {"stride": stride, "padding": pads, "ceil_mode": ceil}
    if how == "avg":
        got = convcli.avg_pool2d(x, kernel, **options, count_include_pad=count_pads)
    else:
        got = getattr(convcli, f"{how}_pool2d")(x, kernel, **options, dilation=dilation)
    want = [oracle.pool(one, kernel, stride, pads, how, (dilation,) * 2, ceil, count_pads) for one in x]
    np.testing.assert_allclose(got, np.stack(want), rtol=1e-12)


@given(
    **WALKS,
    dilation=st.integers(1, 3),
    ceil=st.booleans(),
    dtype=st.sampled_from([">i2", np.uint8, np.float32]),
    spoiled=st.sampled_from([0, 0.1, 0.9]),
    data=st.data(),
)
def test_indices_against_plain_loops(size, kernel, stride, dilation, ceil, dtype, spoiled, data):
    reach = [dilation * (k - 1) + 1 for k in kernel]
    pads = tuple(tuple(data.draw(st.integers(0, k - 1)) for _ in range(2)) for k in reach)
    x = RNG.integers(0, 4, (2, *size)).astype(dtype)  # few numbers, so that many are equal
    if x.dtype.kind == "f":
        x[RNG.random(x.shape) < 0.2] = -np.inf
        x[RNG.random(x.shape) < spoiled] = np.nan
    options = {"stride": stride, "padding": pads, "dilation": dilation, "ceil_mode": ceil}
    try:
        want = convcli.max_pool2d(x, kernel, **options)
    except ConvcliError:
        return
    values, places = convcli.max_pool2d(x, kernel, **options, return_indices=True)
    np.testing.assert_array_equal(values, want)
    np.testing.assert_array_equal(
        places, [oracle.winners(one, kernel, stride, pads, (dilation,) * 2, ceil) for one in x]
    )


def test_indices_are_flat_and_the_first_of_equals():
    values, places = convcli.max_pool2d([[1, 3, 3, 0], [3, 2, 0, 9]], 2, return_indices=True)
    assert (values.tolist(), places.tolist()) == ([[3, 9]], [[1, 7]])
    values, places = convcli.max_pool2d(np.full((3, 3), -np.inf), 3, padding=1, stride=2, return_indices=True)
    assert places.tolist() == [[0, 1], [3, 4]]
    x = RNG.standard_normal((2, 9, 11))
    values, places = convcli.max_pool2d(x, 3, stride=2, padding=1, dilation=2, return_indices=True)
    np.testing.assert_array_equal(values, convcli.max_pool2d(x, 3, stride=2, padding=1, dilation=2))
    np.testing.assert_array_equal(
        values, np.take_along_axis(x.reshape(2, -1), places.reshape(2, -1), 1).reshape(values.shape)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64, ">i4", bool])
def test_dtypes(dtype):
    x = (RNG.random((4, 4)) * 2).astype(dtype)
    kept = np.dtype(dtype).newbyteorder("=")
    assert convcli.max_pool2d(x, 2).dtype == kept
    assert [one.dtype for one in convcli.max_pool2d(x, 2, return_indices=True)] == [kept, np.int64]
    assert convcli.avg_pool2d(x, 2).dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_nan_wins_and_stays_in_its_window():
    x = np.ones((4, 6))
    x[1, 1] = np.nan
    for name in ("max", "min", "avg"):
        got = getattr(convcli, f"{name}_pool2d")(x, 2)
        assert np.isnan(got[0, 0])
        assert np.isfinite(np.delete(got.ravel(), 0)).all()


def test_large_integers_are_averaged_exactly():
    assert convcli.avg_pool2d(np.full((64, 64), 255, np.uint8), 64).item() == 255
    assert convcli.avg_pool2d(np.array([[2**24 + 1, 2**24 + 1]]), (1, 2)).item() == np.float32(2**24 + 1)


def test_other_pools():
    np.testing.assert_allclose(convcli.lp_pool2d(SIXTEEN, 2), np.sqrt([[66, 138], [546, 746]]), rtol=1e-6)
    np.testing.assert_allclose(convcli.lp_pool2d(-SIXTEEN, 2, 1), [[14, 22], [46, 54]], rtol=1e-6)
    assert convcli.global_avg_pool2d(SIXTEEN).tolist() == [[8.5]]
    assert convcli.global_max_pool2d(np.zeros((2, 3, 4, 5))).shape == (2, 3, 1, 1)
    assert convcli.max_pool2d(np.zeros((0, 3, 4, 4)), 2).shape == (0, 3, 2, 2)


def test_large_pictures_are_pooled_in_blocks_without_seams():
    x = RNG.integers(0, 255, (700, 3001), np.uint8)
    want = x[: 700 // 3 * 3, :3000].reshape(233, 3, 1000, 3)
    np.testing.assert_array_equal(convcli.max_pool2d(x, 3), want.max(axis=(1, 3)))
    np.testing.assert_allclose(convcli.avg_pool2d(x, 3), want.mean(axis=(1, 3)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.5, 2, 3, 7.5])
def test_norms_are_of_every_block(monkeypatch, dtype, p):
    monkeypatch.setattr(pool, "BLOCK_BYTES", 2000)
    x = RNG.integers(-128, 128, (2, 3, 40, 31)).astype(dtype)
    x[0, 0, 0, 0] = np.array(-128).astype(dtype)  # its magnitude is no int8
    got = convcli.lp_pool2d(x, (3, 2), p, stride=2, padding=((1, 0), (0, 1)))
    powers = np.abs(x.reshape(6, 40, 31).astype(float)) ** p
    means = [oracle.pool(one, (3, 2), (2, 2), ((1, 0), (0, 1)), "avg") for one in powers]
    np.testing.assert_allclose(got, (np.reshape(means, got.shape) * 6) ** (1 / p), rtol=1e-6)
    copy = x.copy()
    convcli.lp_pool2d(x, 2, p)
    np.testing.assert_array_equal(x, copy)


def test_powers_may_be_beyond_float32():
    np.testing.assert_allclose(
        convcli.lp_pool2d(np.full((2, 2), 1e15, np.float32), 2, 3), [[4 ** (1 / 3) * 1e15]], rtol=1e-6
    )


def test_taps_far_behind_the_picture_win_nothing():
    _, places = convcli.max_pool2d(
        [[1.0, 3, 2]], (1, 3), dilation=4, stride=1, padding=((0, 0), (0, 8)), return_indices=True
    )
    assert places.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: convcli.max_pool2d(NINE, 0), ["pool size", "1", "0"]),
        (lambda: convcli.max_pool2d(NINE, 2, padding=2), ["smaller than its window"]),
        (lambda: convcli.avg_pool2d(NINE, 4), ["4 does not fit height 3"]),
        (lambda: convcli.lp_pool2d(NINE, 2, 0), ["p must be", "0"]),
        (lambda: convcli.lp_pool2d(NINE, 2, np.inf), ["p must be", "inf"]),
        (lambda: convcli.lp_pool2d(NINE, 2, np.nan), ["p must be", "nan"]),
        (lambda: convcli.lp_pool2d(NINE, 2, 10**400), ["p must be", "1000"]),
        (lambda: convcli.lp_pool2d(NINE, 2, np.ones(2)), ["p must be", "array"]),
        (lambda: convcli.lp_pool2d(NINE, 2, np.array("x")), ["p must be", "x"]),
        (lambda: convcli.lp_pool2d(NINE, 2, np.complex128(2)), ["p must be", "2"]),
        (lambda: convcli.max_pool2d(NINE, b"22"), ["whole number or two", "b'22'"]),
        (lambda: convcli.filter2d(NINE, NINE, boundary=10**400), ["boundary must be a finite number", "1000"]),
        (lambda: convcli.max_pool2d([1, 2], 1), ["x must have"]),
        (lambda: convcli.global_max_pool2d([1, 2]), ["2 axes"]),
    ],
)
def test_wrong_arguments_get_one_sentence(call, words):
    with pytest.raises(ConvcliError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


def test_global_pools_know_no_largest_window():
    assert convcli.global_max_pool2d(np.arange(70_000)[None]).item() == 69_999


def test_dtypes_of_a_norm():
    assert convcli.lp_pool2d(SIXTEEN, 2).dtype == np.float32
    assert convcli.lp_pool2d(SIXTEEN.astype(float), 2).dtype == np.float64


def test_nan_wins_with_its_place_too():
    x = np.array([[5.0, np.nan, 1, 2], [np.nan, 0, 3, 4]])
    values, places = convcli.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(values[0, 0])
    assert places.tolist() == [[4, 7]]  # the last NaN, as PyTorch finds it


@pytest.mark.parametrize(("size", "stride"), [(3, 2), ((1, 5), 2), (4, 3), (7, 4), ((2, 3), (1, 2))])
def test_long_rows_are_added_up_as_short_ones(size, stride):
    """Pairs are added up first; a NaN or an Inf spoils the windows that hold it, and no other."""
    x = np.random.default_rng(5).standard_normal((2, 3, 20, 513)).astype(np.float32)
    x[0, 1, 7, 100], x[1, 2, 8, 200] = np.nan, np.inf
    got = convcli.avg_pool2d(x, size, stride=stride)
    np.testing.assert_allclose(got, convcli.avg_pool2d(x.astype(np.float64), size, stride=stride), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        got[..., :10], convcli.avg_pool2d(x[..., :50], size, stride=stride)[..., :10], rtol=1e-5, atol=1e-6
    )


class Counted:
    """Not an array yet: says how often it was made one."""

    def __init__(self) -> None:
        self.times = 0

    def __array__(self, dtype=None, copy=None):
        self.times += 1
        return np.ones((1, 1, 6, 8), np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: convcli.max_pool2d(x, 2, return_indices=True),
        lambda x: convcli.min_pool2d(x, 2),
        lambda x: convcli.avg_pool2d(x, 2),
        lambda x: convcli.lp_pool2d(x, 2),
        convcli.global_max_pool2d,
        convcli.global_avg_pool2d,
        lambda x: convcli.conv2d(x, [[1, 2]]),
    ],
)
def test_an_argument_is_made_an_array_once(call):
    x = Counted()
    call(x)
    assert x.times == 1


def test_means_of_large_integers_do_not_lose_their_last_digits():
    assert convcli.avg_pool2d(np.array([[2**24 + 1, -(2**24)]], np.int32), (1, 2)).item() == 0.5
    assert convcli.avg_pool2d(np.array([[2**24 + 1], [-(2**24)]], np.int32), (2, 1)).item() == 0.5


@pytest.mark.parametrize("stride", [1, 400])
@pytest.mark.parametrize("size", [(300, 3), (3, 300)])
def test_means_of_long_windows_are_near(size, stride):
    x = np.full((705, 702), 0.1, np.float32)
    np.testing.assert_allclose(convcli.avg_pool2d(x, size, stride=stride), x[0, 0], rtol=2e-6)


def test_means_of_long_rows_are_near_however_they_are_folded():
    x = np.full((4, 30_002), 0.1, np.float32)
    np.testing.assert_allclose(convcli.avg_pool2d(x, (2, 15_000), stride=(2, 15_001)), x[0, 0], rtol=2e-6)


@pytest.mark.parametrize("shape", [(300_000, 2), (5, 70_000), (700, 900)])
def test_means_of_many_cells_are_as_near_as_those_of_few(shape):
    x = np.full(shape, 0.1, np.float32)
    assert convcli.global_avg_pool2d(x).item() == pytest.approx(x[0, 0], rel=2e-6)
    ramp = np.linspace(0, 1, x.size, dtype=np.float32).reshape(shape)
    assert convcli.avg_pool2d(ramp, shape).item() == pytest.approx(ramp.mean(dtype=float), rel=2e-6)


@pytest.mark.parametrize(
    "options",
    [{"stride": 1}, {"stride": 2, "padding": 3}, {"stride": (3, 2), "ceil_mode": True}],
)
def test_tall_windows_are_folded_piece_by_piece(monkeypatch, options):
    x = np.random.default_rng(6).standard_normal((2, 31, 23)).astype(np.float32)
    calls = {
        "max": lambda: convcli.max_pool2d(x, (11, 8), dilation=(2, 1), **options),
        "min": lambda: convcli.min_pool2d(x, (11, 8), dilation=(2, 1), **options),
        "avg": lambda: convcli.avg_pool2d(x, (11, 8), **options),
        "lp": lambda: convcli.lp_pool2d(x, (11, 8), 3, **{k: v for k, v in options.items() if k != "ceil_mode"}),
    }
    want = {name: call() for name, call in calls.items()}
    monkeypatch.setattr(pool, "TALL_BYTES", 1)
    for rows in (1, 4, 11):
        monkeypatch.setattr(pool, "TALL", rows)
        for name, call in calls.items():
            np.testing.assert_allclose(call(), want[name], rtol=1e-5, atol=1e-6)


def test_a_window_as_large_as_the_picture_takes_little_memory():
    x = np.full((2, 3000, 4000), 7, np.uint8)
    convcli.global_avg_pool2d(x)
    tracemalloc.start()
    try:
        assert convcli.global_avg_pool2d(x).tolist() == [[[7]], [[7]]]
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()
