"""Row GEMM: each output row as one matrix product with the input rows under it, as they lie in memory.

One channel and few outputs: the matrix has a row for each kernel column, and the product is a response to each of
them; shifted by its place and summed over, they are the result. Nothing is copied and no product is in vain: a vertical
stride or dilation only tells BLAS to take other rows. Of a horizontal stride all columns are computed, and the sum
takes the ones wanted.

Otherwise each input row is first stacked with its ``kw`` shifted copies, channel after channel. ``kh`` stacks on end
are one matrix, so that a row of all outputs is one product. A 1x1 kernel needs no stack.

All rows of a stretch go to ``matmul`` at once: threads wait for each other between the calls, not within.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.costs import COSTS, copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 19  # values of a tile's input
STRETCH = 1 << 19  # values of responses or stacks at a time: they are used while in cache


def bind(problem: Problem, weight: Array) -> Runner:
    """Lay the weight out as a matrix once."""
    (sy, sx), (dy, dx) = problem.window.stride, problem.window.dilation
    outputs, channels, kh, kw = weight.shape

    # Views of the whole tile are made once and sliced for each stretch: as_strided takes longer than a row's product.

    def by_columns(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        _, line, _, value = block.strides
        width = ((columns - 1) * sx + 1) * pitch
        length = width + (kw - 1) * dx * pitch
        step = min(rows, stretch(problem, columns))
        windows = as_strided(block, (rows, kh, length), (sy * line, dy * line, value))
        product = scratch("product", (step, len(by_column), length), out.dtype)
        row, line, _ = product.strides
        responses = as_strided(
            product, (step, outputs, kw, width), (row, line, outputs * line + dx * pitch * value, value)
        )
        shape = rows, outputs, 1, columns * pitch
        results = as_strided(out, shape, (out.strides[1], out.strides[0], columns * pitch * value, value))
        sums = scratch("sums", (step, outputs, 1, width), out.dtype) if sx > 1 else results
        for top in range(0, rows, step):
            count = min(step, rows - top)
            target = sums[:count] if sx > 1 else results[top : top + count]
            np.matmul(by_column, windows[top : top + count], out=product[:count])
            np.matmul(ones, responses[:count], out=target)
            if sx > 1:
                wanted = target.reshape(count, outputs, -1, pitch)[:, :, ::sx]
                out[:, top : top + count] = wanted.swapaxes(0, 1)

    def by_stacks(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        plane, line, column, value = block.strides
        depth, length = channels * kw, columns * pitch
        results = as_strided(out, (rows, outputs, length), (out.strides[1], out.strides[0], value))
        if kh == kw == sx == 1:
            np.matmul(by_stack, as_strided(block, (rows, depth, length), (sy * line, plane, value)), out=results)
            return
        step = min(rows, stretch(problem, columns))
        tall = (step - 1) * sy + kh
        stacks = scratch("stacks", (tall, channels, kw, columns, pitch), out.dtype)
        shape = block.shape[1], channels, kw, columns, pitch
        shifted = as_strided(block, shape, (line, plane, dx * column, sx * column, value))
        row, line = stacks.strides[0], stacks.strides[2]
        windows = as_strided(stacks, (step, kh * depth, length), (sy * row, line, value))
        for top in range(0, rows, step):
            count = min(step, rows - top)
            tall = (count - 1) * sy + kh
            stacks[:tall] = shifted[top * sy : top * sy + tall]
            np.matmul(by_stack, windows[:count], out=results[top : top + count])

    if stacked(problem):
        by_stack = np.ascontiguousarray(weight.transpose(0, 2, 1, 3)).reshape(outputs, kh * channels * kw)
        return by_stacks
    lines = weight[:, 0].transpose(2, 0, 1).reshape(kw * outputs, kh)
    by_column = np.pad(lines, ((0, len(lines) % 4 == 3), (0, 0)))  # BLAS likes a fourth better than three left over
    ones = np.ones((1, kw), weight.dtype)  # BLAS adds rows up faster than np.add.reduce
    return by_columns


def stacked(problem: Problem) -> bool:
    """Whether stacks of shifted rows cost less than a sum of responses to each kernel column."""
    return problem.channels > 1 or (problem.outputs > 2 and not rows_apart(problem))


def rows_apart(problem: Problem) -> bool:
    """Whether the rows under an output do not lie one on the other."""
    return problem.window.dilation[0] > 1 and problem.window.kernel[0] > 1


def stretch(problem: Problem, columns: int) -> int:
    """Output rows at a time."""
    return max(1, STRETCH // (row_values(problem) * columns * problem.pitch))


def row_values(problem: Problem) -> int:
    """Values of the responses or stacks for each output pixel."""
    kw, (sy, sx) = problem.window.kernel[1], problem.window.stride
    return problem.channels * kw * sy if stacked(problem) else problem.outputs * kw * sx


def refuses(problem: Problem) -> str | None:
    """What BLAS can't multiply, and what would need a stack of its own for each output row."""
    if problem.channels > 1 and rows_apart(problem):
        return "can't dilate the rows of several channels"
    return refuses_integers(problem)


def tile(problem: Problem) -> Pair:
    """Rows as wide as the picture."""
    return fit_tile(problem, BLOCK)


def cost(problem: Problem) -> float:
    """A product for each row, and the passes over responses or stacks."""
    (kh, kw), sx, size = problem.window.kernel, problem.window.stride[1], problem.itemsize
    rows, columns, pitch = problem.planes * problem.window.output[0], problem.window.output[1], problem.pitch
    length = columns * pitch
    if not stacked(problem):
        sums = problem.values * kw * sx * size * COSTS["row_gemm.sum"]
        sums += rows * problem.outputs * COSTS["gemm.call"]
        picks = copy_cost(problem.values, columns, pitch, sx, size) if sx > 1 else 0
        return gemm_cost(rows, kw * problem.outputs, kh, length * sx, size) + sums + picks
    step, sy = stretch(problem, columns), problem.window.stride[0]
    again = ((step - 1) * sy + kh) / (step * sy)  # rows of stacks made anew for each stretch
    stacks = 0 if kh == kw == sx == 1 else rows * length * row_values(problem) * again
    products = gemm_cost(rows, problem.outputs, kh * kw * problem.channels, length, size)
    return products + copy_cost(stacks, columns, pitch, sx, size)


def calls(problem: Problem) -> float:
    """Two or three for each stretch."""
    rows, columns = tile(problem)
    return 3 * -(-rows // stretch(problem, columns))


def memory(problem: Problem) -> int:
    """The responses or stacks of a stretch."""
    rows, columns = tile(problem)
    count = min(rows, stretch(problem, columns)) + (problem.window.kernel[0] if stacked(problem) else 0)
    return row_values(problem) * columns * problem.pitch * count * problem.itemsize


METHOD = Method("row-gemm", bind, refuses, tile, cost, calls, memory)
