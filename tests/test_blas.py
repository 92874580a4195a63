"""Products in pieces: the same numbers as in one, whatever the shape."""

import platform

import numpy as np
import pytest
from numpy.lib.introspect import opt_func_info

import convcli
from convcli.engine import blas

RNG = np.random.default_rng(5)


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that NumPy is given from here on: rows, depth, columns of each single product."""
    shapes: list[tuple[int, ...]] = []
    matmul = np.matmul

    def spy(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        shapes.append((*left.shape[-2:], right.shape[-1]))
        matmul(left, right, out=out)

    monkeypatch.setattr(blas.np, "matmul", spy)
    return shapes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "depth", "width"),
    [
        (1, 1, 1),
        (21, 21, 2240),  # 64 columns times 35: no more fit
        (21, 21, 2241),
        (21, 21, 4000),
        (64, 192, 64),
        (64, 192, 65),
        (64, 192, 1000),
        (125, 125, 500),  # 64 columns are just small enough
        (125, 126, 500),  # not even 64
        (300, 300, 130),
    ],
)
def test_pieces_make_up_the_product(monkeypatch, rows, depth, width, dtype):
    monkeypatch.setattr(blas, "copies", lambda: False)
    matrix = RNG.integers(-9, 10, (rows, depth)).astype(dtype)
    picture = RNG.integers(-9, 10, (depth + 2, width + 7)).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(picture, depth, axis=0)[:, 3 : 3 + width].swapaxes(1, 2)
    frame = np.full((len(windows), rows + 1, width + 2), 77, dtype)
    want = np.matmul(matrix, windows)
    shapes = calls_of(monkeypatch)
    blas.multiply(matrix, windows, frame[:, :-1, 1:-1])
    np.testing.assert_array_equal(frame[:, :-1, 1:-1], want)
    assert (frame[:, -1] == 77).all()  # nothing beside it is written
    assert (frame[:, :, [0, -1]] == 77).all()
    small = rows * depth * 64 <= blas.SMALL_PRODUCT
    assert all(r * d * n <= blas.SMALL_PRODUCT for r, d, n in shapes) == small
    assert len(shapes) <= (2 if small else 1)
    if len(shapes) == 2:
        pieces = -(-width // shapes[0][2])
        assert (shapes[0][2] - 64) * pieces < width  # no piece could be shorter


def test_blas_that_copies_is_given_the_whole_product(monkeypatch):
    monkeypatch.setattr(blas, "copies", lambda: True)
    shapes = calls_of(monkeypatch)
    blas.multiply(np.ones((21, 21)), np.ones((3, 21, 4000)), np.ones((3, 21, 4000)))
    assert shapes == [(21, 21, 4000)]


@pytest.mark.parametrize(("rows", "copies", "products"), [(3, True, 3), (4, True, 1), (3, False, 1)])
def test_blas_that_copies_is_given_a_few_rows_as_vectors(monkeypatch, rows, copies, products):
    monkeypatch.setattr(blas, "copies", lambda: copies)
    matrices = RNG.integers(-9, 10, (5, rows, 9)).astype(np.float32)
    cells = RNG.integers(-9, 10, (5, 9, 200)).astype(np.float32)
    frame = np.full((5, rows + 1, 202), 77, np.float32)
    shapes = calls_of(monkeypatch)
    blas.multiply(matrices, cells, frame[:, :-1, 1:-1])
    assert shapes == [(rows // products, 9, 200)] * products
    np.testing.assert_array_equal(frame[:, :-1, 1:-1], np.einsum("nij,njk->nik", matrices, cells))
    assert (frame[:, -1] == 77).all()
    assert (frame[:, :, [0, -1]] == 77).all()


@pytest.mark.parametrize(
    ("vectors", "copies"),
    [("X86_V3", True), ("AVX2", True), ("NEON ASIMD", True), ("X86_V4", False), ("AVX512F AVX512_SKX", False)],
)
def test_the_vectors_that_numpy_has_tell_of_blas(monkeypatch, vectors, copies):
    told = {"maximum": {"fff": {"current": vectors, "available": "X86_V4 X86_V3 baseline(X86_V2)"}}}
    monkeypatch.setattr(np.lib.introspect, "opt_func_info", lambda **_: told)
    assert blas.copies.__wrapped__() == copies
    monkeypatch.setattr(np.lib.introspect, "opt_func_info", lambda **_: {})
    assert blas.copies.__wrapped__()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere there is no AVX-512")
def test_numpy_would_find_maxima_with_avx512():
    (target,) = opt_func_info(func_name="^maximum$", signature="float32")["maximum"].values()
    assert any(name in target["available"] for name in blas.AVX512)


def test_each_of_several_matrices_meets_its_own_cells():
    matrices = RNG.integers(-9, 10, (4, 32, 48)).astype(np.float32)
    cells = RNG.integers(-9, 10, (4, 48, 1500)).astype(np.float32)
    out = np.empty((4, 32, 1500), np.float32)
    blas.multiply(matrices, cells, out)
    np.testing.assert_array_equal(out, matrices @ cells)


def test_no_cells_at_all_are_no_products():
    blas.multiply(np.ones((21, 21)), np.ones((0, 21, 4000)), np.ones((0, 21, 4000)))
    blas.multiply(np.ones((0, 3)), np.ones((3, 100)), np.ones((0, 100)))
    row = RNG.integers(-9, 10, (3, 12_000)).astype(np.float32)  # an only row is a stretch without a pair of them
    kernel = RNG.integers(-9, 10, (2, 99)).astype(np.float32)
    got = convcli.filter2d(row, kernel, padding="valid", stride=(2, 5), method="row-gemm")
    np.testing.assert_array_equal(
        got, convcli.filter2d(row, kernel, padding="valid", stride=(2, 5), method="shift-add")
    )
