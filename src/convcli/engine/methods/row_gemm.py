"""Row GEMM: output rows as matrix products with the input rows under them.

Small kernels, strides and many channels: each input row is stacked with its ``kw`` shifted copies, channel after
channel. Stacks on end are one matrix, so that a row of all outputs is one product. Of a single output it is two rows,
the kernel laid out twice, since BLAS is slow with a matrix of one; but where it copies matrices, a single row spares it
that, and stacks are good for more taps. Where rows already lie as a stack would, nothing is copied.

A wide kernel of one channel: the matrix has a row for each kernel column, and the product is a response to each of
them, to rows as they lie; shifted by its place and summed over, they are the result. Nothing is copied and no product
is in vain. Under a stride the phases of a row, every ``sx``-th column from the first, the second and so on, are first
laid one under the other, and a row of the matrix is as many columns of the kernel.

All rows of a stretch go to ``matmul`` at once: threads wait for each other between the calls, not within. Dilated rows
are done in classes, every ``dy``-th row at a time, and are then not dilated.
"""

from math import gcd, isfinite, prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import copies, multiply
from convcli.engine.costs import copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 20  # values of a tile's input
STRETCH = 1 << 20  # values of responses or stacks at a time: they are used while in cache
STACKED_COLUMNS = 3  # of a kernel, up to which stacks are faster than responses to its columns
STACKED_STRIDES = 1.5  # the same under a stride, as a multiple of it
STACKED_TAPS = 48  # of a single output up to which they are, too, where BLAS copies


def bind(problem: Problem, weight: Array) -> Runner:
    """Lay the weight out as a matrix once, and do one class of dilated rows after the other."""
    sy, dy = problem.window.stride[0], problem.window.dilation[0]
    classes = dy // gcd(sy, dy)
    part = (bind_stacks if stacked(problem) else bind_columns)(problem, weight)

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        for first in range(min(classes, out.shape[1])):
            part(block[:, first * sy :: dy], out[:, first::classes], scratch)

    return run


# Views of a whole tile are made once and sliced for each stretch: as_strided takes longer than a row's product.


def bind_columns(problem: Problem, weight: Array) -> Runner:
    """Responses to the columns of a kernel, or to one of each phase together, summed over."""
    down, dx, phases, taps = row_step(problem), problem.window.dilation[1], problem.window.stride[1], responses(problem)
    outputs, _, kh, kw = weight.shape
    whole, before_last = kw - (taps - 1) * phases, (taps - 1) * outputs  # phases and rows of the last response
    lines = np.zeros((outputs, kh, taps * phases), weight.dtype)
    lines[..., :kw] = weight[:, 0]
    spare = taps * outputs % 4 == 3  # BLAS likes a fourth row better than three left over
    matrix = np.zeros((taps * outputs + spare, kh * phases), weight.dtype)
    taps_first = lines.reshape(outputs, kh, taps, phases).transpose(2, 0, 1, 3)
    matrix[: taps * outputs] = taps_first.reshape(taps * outputs, -1)
    ones = np.ones((1, taps), weight.dtype)  # BLAS adds rows up faster than np.add.reduce

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        width, apart, step = columns * pitch, dx * pitch, min(rows, stretch(problem, columns))
        length = width + (taps - 1) * apart
        cells = block.swapaxes(0, 1)
        if phases > 1:
            line, column, value = block.strides[1:]
            phased = phases, length // pitch, pitch
            split = as_strided(block, (block.shape[1], *phased), (line, column, phases * column, value))
            cells = scratch("phases", ((step - 1) * down + kh, *phased), out.dtype)
            cells[:, whole:, -1] = 0
        line, value = cells.strides[0], cells.itemsize
        shape, strides = ((len(cells) - kh) // down + 1, kh * phases, length), (down * line, line // phases, value)
        windows = as_strided(cells, shape, strides)
        product = scratch("product", (step, len(matrix), length), out.dtype)
        row, line, _ = product.strides
        shifted = as_strided(product, (step, outputs, taps, width), (row, line, outputs * line + apart * value, value))
        results = as_strided(out, (rows, outputs, 1, width), (out.strides[1], out.strides[0], width * value, value))

        def lay(top: int, count: int, used: int) -> None:
            """The first phases under some rows of the result, and 0 in place of the others."""
            side = split[top * down : (top + count - 1) * down + kh]
            cells[: len(side), :used, :-1] = side[:, :used, :-1]
            cells[: len(side), :whole, -1] = side[:, :whole, -1]
            cells[: len(side), used:] = 0

        for top in range(0, rows, step):
            count = min(step, rows - top)
            if phases > 1:
                lay(top, count, phases)
            under = windows[:count] if phases > 1 else windows[top : top + count]
            done = results[top : top + count]
            multiply(matrix, under, product[:count])
            np.matmul(ones, shifted[:count], out=done)
            if whole < phases and not isfinite(float(np.vecdot(done, done).sum())):
                kept = product[:count, :before_last].copy()
                lay(top, count, whole)  # in the last response a NaN may have met the 0 of a phase that it lacks
                multiply(matrix, under, product[:count])
                product[:count, :before_last] = kept
                np.matmul(ones, shifted[:count], out=done)

    return run


def bind_stacks(problem: Problem, weight: Array) -> Runner:
    """Stacks of shifted rows times the kernels."""
    down, sx, dx, tall = row_step(problem), problem.window.stride[1], problem.window.dilation[1], rows_at_once(problem)
    outputs, channels, kh, kw = weight.shape
    depth, plain = channels * kw, copied(problem) == 0
    kernels = weight.transpose(0, 2, 1, 3).reshape(outputs, kh * depth)
    matrix = np.zeros((tall * outputs, ((tall - 1) * down + kh) * depth), weight.dtype)
    for number in range(tall):
        shift = number * down * depth
        matrix[number * outputs : (number + 1) * outputs, shift : shift + kh * depth] = kernels

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        if not multiply_stacks(block, out, scratch, matrix, tall):
            # Of two rows each met what the other sees, times 0, which is NaN for a NaN or an Inf.
            multiply_stacks(block, out, scratch, kernels, 1)

    def multiply_stacks(block: Array, out: Array, scratch: Scratch, matrix: Array, tall: int) -> bool:
        """The products; whether all are finite, as far as several rows are one."""
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        shape, length = (channels, kw, columns, pitch), columns * pitch
        step = rows if plain else min(rows, stretch(problem, columns))
        shifted = as_strided(block, (block.shape[1], *shape), (line, plane, dx * column, sx * column, value))
        stacks = shifted if plain else scratch("stacks", ((step - 1) * down + kh, *shape), out.dtype)
        row, line = stacks.strides[0], stacks.strides[0 if depth == 1 else 1 if kw == 1 else 2]
        windows = as_strided(stacks, (step // tall, matrix.shape[1], length), (tall * down * row, line, value))
        plane, line, _, _ = out.strides
        strides = tall * line, line if tall > 1 else plane, value
        results = as_strided(out, (rows // tall, tall * outputs, length), strides)
        energy = 0.0
        for top in range(0, rows, step):
            count = min(step, rows - top)
            deep = (count - 1) * down + kh
            if not plain:
                stacks[:deep] = shifted[top * down : top * down + deep]
            done = results[top // tall : (top + count) // tall]
            multiply(matrix, windows[: len(done)], done)
            if tall > 1:
                energy += float(np.vecdot(done, done).sum())
        if rows % tall:  # one is left over
            np.matmul(kernels, stacks[deep - kh : deep].reshape(-1, length), out=out[0, -1].reshape(1, length))
        return isfinite(energy)

    return run


def row_step(problem: Problem) -> int:
    """The vertical stride among rows of one class, which are not dilated."""
    return problem.window.stride[0] // gcd(problem.window.stride[0], problem.window.dilation[0])


def stacked(problem: Problem) -> bool:
    """Whether stacks of shifted rows cost less than a sum of responses to each kernel column."""
    (_, sx), (_, dx) = problem.window.stride, problem.window.dilation
    many = problem.channels > 1 or problem.outputs > 2
    if sx == 1 or many:
        as_vector = copies() and problem.outputs == 1 and prod(problem.window.kernel) <= STACKED_TAPS
        return many or as_vector or problem.window.kernel[1] <= STACKED_COLUMNS
    return dx > 1 or problem.window.kernel[1] <= (STACKED_STRIDES * sx if problem.pitch == 1 else sx)


def responses(problem: Problem) -> int:
    """How many are summed over for an output, if there are no stacks."""
    return -(-problem.window.kernel[1] // problem.window.stride[1])


def copied(problem: Problem) -> int:
    """Values laid anew for each output pixel, of a stack or of phases; of rows as they lie none."""
    (kh, kw), (_, sx) = problem.window.kernel, problem.window.stride
    if stacked(problem):
        as_they_lie = sx == kw == 1 and (problem.channels == 1 or kh == 1)
        return 0 if as_they_lie else problem.channels * kw * row_step(problem)
    return sx * row_step(problem) if sx > 1 else 0


def rows_at_once(problem: Problem) -> int:
    """Output rows of a product with stacks: two of a single output, unless BLAS copies all but a matrix of one row."""
    return 2 if problem.outputs == 1 and problem.window.kernel[0] > row_step(problem) and not copies() else 1


def stretch(problem: Problem, columns: int) -> int:
    """Output rows at a time."""
    tall = rows_at_once(problem)
    return max(1, STRETCH // (max(1, row_values(problem)) * columns * problem.pitch * tall)) * tall


def row_values(problem: Problem) -> int:
    """Values of the stacks, or the responses and phases, for each output pixel."""
    return copied(problem) + (0 if stacked(problem) else problem.outputs * responses(problem))


def tile(problem: Problem) -> Pair:
    """Rows as wide as the picture."""
    return fit_tile(problem, BLOCK)


def cost(problem: Problem) -> float:
    """A product for each row, the passes over responses or stacks, and of many channels the weight as a matrix."""
    (kh, kw), sx, size = problem.window.kernel, problem.window.stride[1], problem.itemsize
    rows, columns, pitch = problem.planes * problem.window.output[0], problem.window.output[1], problem.pitch
    length = columns * pitch
    if not stacked(problem):
        taps = responses(problem)
        sums = gemm_cost(rows * problem.outputs, 1, taps, length, size)
        phases = copy_cost(rows * length * copied(problem), columns, pitch, sx, size)
        return gemm_cost(rows, taps * problem.outputs, kh * sx, length, size) + sums + phases
    down, step, tall = row_step(problem), stretch(problem, columns), rows_at_once(problem)
    again = ((step - 1) * down + kh) / (step * down)  # rows of stacks made anew for each stretch
    stacks = rows * length * copied(problem) * again
    depth = ((tall - 1) * down + kh) * kw * problem.channels
    products = gemm_cost(rows / tall, tall * problem.outputs, depth, length, size)
    laid_out = copy_cost(problem.outputs * problem.channels * kh * kw, kw, 1, 1, size)
    return products + laid_out + copy_cost(stacks, columns, pitch, sx, size)


def calls(problem: Problem) -> float:
    """Three for each stretch, seven with phases, and a dozen views of the tile, for each class of rows."""
    rows, columns = tile(problem)
    sy, dy = problem.window.stride[0], problem.window.dilation[0]
    classes = min(rows, dy // gcd(sy, dy))
    each = 3 if stacked(problem) or not copied(problem) else 7
    return 12 * classes + each * max(-(-rows // stretch(problem, columns)), classes)


def memory(problem: Problem) -> int:
    """The stacks, or the responses and phases, of a stretch."""
    rows, columns = tile(problem)
    across = columns + (0 if stacked(problem) else (responses(problem) - 1) * problem.window.dilation[1])
    count = min(rows, stretch(problem, columns)) + (problem.window.kernel[0] if copied(problem) else 0)
    return row_values(problem) * across * problem.pitch * count * problem.itemsize


METHOD = Method("row-gemm", bind, refuses_integers, tile, cost, calls, memory, views=True)
