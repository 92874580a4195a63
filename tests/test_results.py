"""The memory of results: used again when nobody looks at it any more, and never before."""

import gc
import threading

import numpy as np
import pytest

import convcli
from convcli.engine import results
from convcli.engine.results import empty_result
from convcli.filtering import filter_picture
from convcli.images.picture import Picture
from convcli.pipeline import Pipeline
from convcli.recipe import Recipe

SHAPE = (1500, 1000)  # 6 MB of float32


@pytest.fixture(autouse=True)
def idle():
    """Begins with none."""
    gc.collect()
    results._idle.clear()
    yield results._idle
    results._idle.clear()


def place(array):
    return array.__array_interface__["data"][0]


def test_the_next_result_lies_where_the_last_one_lay():
    first = empty_result(SHAPE, np.float32)
    where = place(first)
    first = None
    second = empty_result((1000, 1400), np.float32)
    assert place(second) == where
    assert second.shape == (1000, 1400)
    assert all(second.flags[name] for name in ("WRITEABLE", "ALIGNED", "C_CONTIGUOUS"))


@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[::2], lambda a: a[3:4, 5], lambda a: a.view(np.uint8).T])
def test_what_somebody_looks_at_is_left_alone(idle, view):
    seen = view(empty_result(SHAPE, np.float32))
    seen[...] = 7
    assert not idle
    other = empty_result(SHAPE, np.float32)
    other[...] = 8
    assert not np.shares_memory(seen, other)
    assert (seen == 7).all()


def test_results_of_calls_stay_as_they_are():
    x = np.random.default_rng(0).random((1200, 1100), dtype=np.float32)
    kept = [convcli.filter2d(x, np.full((3, 3), number)) for number in (1.0, 2.0, 3.0)]
    copies = [one.copy() for one in kept]
    dropped = place(kept.pop(0))
    again = convcli.max_pool2d(x, 3, stride=1)
    assert place(again) == dropped
    for one, copy in zip(kept, copies[1:], strict=True):
        assert np.array_equal(one, copy)


@pytest.mark.parametrize("shape", [(1600, 1000), (100, 1100), (400, 1500, 2, 3)])
def test_memory_of_another_size_is_freed_not_kept(idle, shape):
    empty_result(SHAPE, np.float32)
    assert len(idle) == 1
    result = empty_result(shape, np.float32)
    if result.nbytes < results.LARGE_BYTES:
        assert len(idle) == 1
    else:
        assert not idle


def test_a_small_result_does_not_hold_the_memory_of_a_large_one(idle):
    idle.append(np.empty(12_000_000, np.uint8))
    assert results._left(5_999_999) is None
    assert not idle


def test_at_most_one_is_kept_and_none_beyond_the_limit(idle, monkeypatch):
    first, second = empty_result(SHAPE, np.float32), empty_result(SHAPE, np.float32)
    del first, second
    assert len(idle) == 1
    monkeypatch.setattr(results, "KEPT_BYTES", 6_000_000 - 1)
    empty_result(SHAPE, np.float32)
    assert not idle


def test_threads_never_share_a_result():
    wrong = []

    def work(number):
        for _ in range(200):
            array = empty_result(SHAPE, np.uint8 if number % 2 else np.float32)
            array[::300, ::300] = number
            if (array[::300, ::300] != number).any():
                wrong.append(number)
            del array

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_value_of_an_earlier_result_shows_through(monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.random((1, 2, 60, 70), dtype=np.float32)
    weight = rng.random((4, 2, 3, 5), dtype=np.float32)
    blur, picture = Pipeline.parse("blur"), Picture(rng.integers(0, 256, (40, 50, 3), np.uint8), 255.0, False)
    calls = [
        lambda: convcli.conv2d(x, weight, padding="full", stride=(3, 2)),
        lambda: convcli.conv2d(x, weight, padding=40, boundary=2.5),
        lambda: convcli.conv2d(x, weight * 0, padding="same"),
        lambda: convcli.filter2d(x[0, 0], "sobel", dtype="u1"),
        lambda: convcli.filter2d(x[0, 0], "gaussian:2", dtype="i2"),
        lambda: convcli.avg_pool2d(x, 3, stride=2, ceil_mode=True, padding=1),
        lambda: convcli.max_pool2d(x, 3, stride=2, ceil_mode=True, padding=1),
        lambda: blur.run(x[0]),
        lambda: filter_picture(picture, Recipe(layers=blur.layers))[0].pixels,
    ]
    wanted = [call() for call in calls]
    monkeypatch.setattr(results, "LARGE_BYTES", 0)
    for call, want in zip(calls, wanted, strict=True):
        empty_result(want.shape, want.dtype).view(np.uint8)[...] = 255  # NaN, in floats
        assert len(results._idle) == 1
        got = call()
        assert not results._idle
        assert np.array_equal(got, want)
        del got
