"""Matrix products, in pieces of a size that BLAS is fastest with."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMALL_PRODUCT = 1_000_000  # multiply-adds up to which OpenBLAS with AVX-512 reads matrices where they lie
AVX512 = ("AVX512", "X86_V4")  # in NumPy's names of what a function is built for
PIECE = 64  # columns of a step of its: it is slower with other than multiples of them
FEW = 3  # rows of a matrix that take less time one by one than the copy of what they multiply


@lru_cache(maxsize=1)
def copies() -> bool:
    """Whether BLAS copies small matrices, too, before it multiplies them, all but a vector times a matrix.

    A guess, since BLAS can't be asked: OpenBLAS on x86 spares itself the copy in its AVX-512 kernels alone, and where
    there is AVX-512, NumPy's own ``maximum`` uses it.
    """
    from numpy.lib.introspect import opt_func_info

    targets = opt_func_info(func_name="^maximum$", signature="float32").get("maximum", {}).values()
    return not any(name in target["current"] for target in targets for name in AVX512)


def as_vectors(rows: int) -> bool:
    """Whether a matrix of so many rows is multiplied row by row."""
    return rows == 1 or (rows <= FEW and copies())


def multiply(matrix: Array, cells: Array, out: Array) -> None:
    """``matrix`` ``(..., M, K)`` times ``cells`` ``(..., K, N)`` into ``out`` ``(..., M, N)``.

    A row of cells or of out is contiguous. BLAS that copies gets few rows one by one, other BLAS many columns in
    pieces. The bound of these is OpenBLAS's own, of its float32 kernels in
    kernel/x86_64/sgemm_small_kernel_permit_skylakex.c; where even a few columns are beyond it, nothing is cut.
    """
    rows, depth = matrix.shape[-2:]
    if rows > 1 and as_vectors(rows):
        for row in range(rows):
            np.matmul(matrix[..., row : row + 1, :], cells, out=out[..., row : row + 1, :])
        return
    width, most = cells.shape[-1], SMALL_PRODUCT // max(1, rows * depth) // PIECE * PIECE
    if copies() or not 0 < most < width:
        np.matmul(matrix, cells, out=out)
        return
    count = -(-width // most)
    size = -(-width // (count * PIECE)) * PIECE  # as equal as can be, lest the rest be a sliver
    whole = width // size * size
    np.matmul(matrix[..., None, :, :], _pieces(cells[..., :whole], size), out=_pieces(out[..., :whole], size))
    if whole < width:
        np.matmul(matrix, cells[..., whole:], out=out[..., whole:])


def _pieces(matrices: Array, size: int) -> Array:
    """``(..., K, N)`` as a view ``(..., N / size, K, size)``."""
    return matrices.reshape(*matrices.shape[:-1], matrices.shape[-1] // size, size).swapaxes(-2, -3)
