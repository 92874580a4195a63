"""FFT: overlapping tiles multiplied with the kernel's spectrum. Its time hardly depends on the kernel's size.

Each transform runs over a row of tiles at once. ``norm="ortho"`` is not for the norm's sake: NumPy then passes its
factor as a float of the array's kind, while the default passes the integer 1, which sends every float32 transform
through a casting buffer and makes it several times slower (NumPy 2.4, see docs/performance.md).
"""

from functools import lru_cache
from math import isqrt, log2, sqrt

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.costs import COSTS
from convcli.engine.problem import (
    Array,
    Method,
    Problem,
    Runner,
    count_tiles,
    refuses_rounding,
    rounded_dtype,
)
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair
from convcli.engine.suits import dark_in_part, line_energies

AT_ONCE = 1 << 21  # bytes transformed by one call
PASSES = 16  # steps of a line besides log2(n), see best_size
CACHED = 320  # a square of this side stays in cache, there and back
BLOCK_BYTES = 1 << 23  # of a tile, unless the kernel needs more
MOST_SPECTRA = 1 << 23  # complex numbers in the spectra of the weights of all groups, 64 MB in complex64
SIZES = sorted(
    two * odd for two in (2**n for n in range(1, 16)) for odd in (1, 3, 5, 9, 15) if 8 <= two * odd <= 1 << 15
)
LARGEST_SHARE = 1 / 20  # of the energy of a tile that one number may have


def bind(problem: Problem, weight: Array) -> Runner:
    """Transform the weight once; a runner transforms, multiplies, adds up channels and transforms back."""
    (sy, sx), (dy, dx), (ky, kx) = problem.window.stride, problem.window.dilation, problem.window.effective
    (height, width), inner = sizes(problem), weight.dtype.char.upper()  # the complex of the same size
    outputs, channels = weight.shape[:2]
    spread = np.zeros((outputs, channels, ky, kx), weight.dtype)
    spread[..., ::dy, ::dx] = weight
    spectra = np.empty((outputs, channels, height, width // 2 + 1), inner)
    transform_there(spread, width, spectra)
    np.conjugate(spectra, out=spectra)  # a correlation, not a convolution
    spectra *= sqrt(height * width)  # no scale of its own: those of a tile, there and back, make up the one due
    per_tile = outputs_of(problem)[1]

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        tiles, rest = divmod(out.shape[2], per_tile)
        for value in range(problem.pitch):
            if tiles:
                transform(block[..., value], out[:, :, : tiles * per_tile, value], tiles, scratch)
            if rest:
                last = tiles * per_tile
                transform(block[:, :, last * sx :, value], out[:, :, last:, value], 1, scratch)

    def transform(block: Array, out: Array, tiles: int, scratch: Scratch) -> None:
        """A row of tiles: ``(C, rows, columns)`` to ``(O, rows', columns')``."""
        rows, each = out.shape[1], out.shape[2] // tiles
        tall, wide = problem.window.under(0, rows), problem.window.under(1, each)
        plane, line, column = block.strides
        windows = as_strided(block, (channels, tiles, tall, wide), (plane, each * sx * column, line, column))
        cells = scratch("cells", (channels, tiles, height, width // 2 + 1), inner)
        transform_there(windows, width, cells)
        total = cells[0] if channels * outputs == 1 else scratch("total", cells.shape[1:], inner)
        results = scratch("results", (tiles, rows, width), block.dtype)
        for o in range(outputs):
            np.multiply(cells[0], spectra[o, 0], out=total)
            for c in range(1, channels):
                total += np.multiply(cells[c], spectra[o, c], out=scratch("term", total.shape, inner))
            np.fft.ifft(total, axis=-2, out=total, norm="ortho")
            np.fft.irfft(total[:, : (rows - 1) * sy + 1 : sy], width, out=results, norm="ortho")
            if problem.bound is not None:
                np.rint(results, out=results)
            across = results[..., : (each - 1) * sx + 1 : sx]
            out[o].reshape(rows, tiles, each)[...] = across.swapaxes(0, 1)

    return run


def transform_there(values: Array, width: int, spectra: Array) -> None:
    """The transform in two dimensions, ``width`` wide and as high as ``spectra``, of values in a corner of zeros."""
    tall = values.shape[-2]
    np.fft.rfft(values, width, out=spectra[..., :tall, :], norm="ortho")
    spectra[..., tall:, :] = 0
    np.fft.fft(spectra, axis=-2, out=spectra, norm="ortho")


def sizes(problem: Problem) -> Pair:
    """Height and width of a transform."""
    return best_size(problem, 0), best_size(problem, 1)


def outputs_of(problem: Problem) -> Pair:
    """Rows and columns of outputs that one transform gives."""
    height, width = sizes(problem)
    return problem.window.outputs_in(0, height), problem.window.outputs_in(1, width)


@lru_cache(maxsize=64)
def best_size(problem: Problem, axis: int) -> int:
    """The length with which all outputs cost least, no longer than one transform that gives them all.

    A line of n has log2(n) steps, and ``PASSES`` more for the way through memory, a number set by hand. The fitted
    :func:`cost` would prefer longer lines.
    """
    window = problem.window
    reach, outputs = window.effective[axis], window.output[axis]
    need = window.under(axis, outputs)
    enough = next((size for size in SIZES if size >= need), need + need % 2)
    room = isqrt(BLOCK_BYTES // (problem.channels * problem.pitch * rounded_dtype(problem).itemsize))
    longest = max(2 * reach, min(room, max(CACHED, 8 * reach)))
    lengths = [size for size in SIZES if reach <= size <= min(enough, longest)] or [enough]
    best: int = min(
        lengths, key=lambda size: -(-outputs // window.outputs_in(axis, size)) * size * (log2(size) + PASSES)
    )
    return best


def refuses(problem: Problem) -> str | None:
    """Weights whose spectra would fill the memory, and integers that rounding would not restore."""
    height, width = sizes(problem)
    if problem.weights * problem.outputs * problem.channels * height * (width // 2 + 1) > MOST_SPECTRA:
        return "would hold too many spectra"
    return refuses_rounding(problem)


def tile(problem: Problem) -> Pair:
    """A row of transforms."""
    (height, width), (rows, columns) = sizes(problem), outputs_of(problem)
    count = max(1, AT_ONCE // (problem.channels * height * width * rounded_dtype(problem).itemsize))
    return min(rows, problem.window.output[0]), min(columns * count, problem.window.output[1])


def cost(problem: Problem) -> float:
    """n log n for the transforms there and back, a start for each line, and the products."""
    (height, width), tiles = sizes(problem), count_tiles(problem, outputs_of(problem)) * problem.pitch
    values = height * width * rounded_dtype(problem).itemsize
    transform = values * log2(height * width) * COSTS["fft.step"] + (height + width // 2) * COSTS["fft.line"]
    pairs = problem.channels * problem.outputs
    there_and_back = tiles * (problem.channels + problem.outputs) * transform
    spectra = 2 * problem.weights * pairs * transform  # with their conjugates and scale
    return there_and_back + spectra + tiles * pairs * values * COSTS["fft.product"]


def calls(problem: Problem) -> float:
    """Transforms there and back, twice where a tile is left over, and two for each product."""
    return problem.pitch * (10 + problem.outputs * (6 + 4 * problem.channels))


def memory(problem: Problem) -> int:
    """Spectra of a row of tiles and what is made of them."""
    (height, width), spectra = sizes(problem), problem.channels + (2 if problem.outputs * problem.channels > 1 else 0)
    count = -(-tile(problem)[1] // outputs_of(problem)[1])
    return (spectra + 1) * count * height * width * rounded_dtype(problem).itemsize


def even(block: Array) -> bool:
    """Whether no large numbers would show with their rounding in sums that do not hold them: neither one beside its
    tile, nor an area beside a darker one, nodata of -9999 beside what there is; but for zeros beside it.
    """
    energies = line_energies(block)
    total, most = float(energies.sum()), energies.max()
    if not np.isfinite(total) or dark_in_part(block, total):
        return False
    limit = LARGEST_SHARE * total
    return bool(most <= limit or max(block.max(), -block.min()) ** 2 <= limit)


METHOD = Method(
    "fft", bind, refuses, tile, cost, calls, memory, suits=even, dtype=rounded_dtype, fixed=True, mixes=True
)
