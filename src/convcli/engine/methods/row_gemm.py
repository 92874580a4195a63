"""Row GEMM: output rows as matrix products with the input rows under them.

Small kernels, strides and many channels: each input row is stacked with its ``kw`` shifted copies, channel after
channel. Stacks on end are one matrix, so that a row of all outputs is one product. Of a single output it is two rows,
the kernel laid out twice, since BLAS is slow with a matrix of one. Where rows already lie as a stack would, nothing is
copied.

A wide kernel of one channel: the matrix has a row for each kernel column, and the product is a response to each of
them, to rows as they lie; shifted by its place and summed over, they are the result. Nothing is copied and no product
is in vain.

All rows of a stretch go to ``matmul`` at once: threads wait for each other between the calls, not within. Dilated rows
are done in classes, every ``dy``-th row at a time, and are then not dilated.
"""

from math import gcd, isfinite

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convcli.engine.blas import multiply
from convcli.engine.costs import copy_cost, gemm_cost
from convcli.engine.problem import Array, Method, Problem, Runner, fit_tile, refuses_integers
from convcli.engine.scratch import Scratch
from convcli.engine.shapes import Pair

BLOCK = 1 << 20  # values of a tile's input
STRETCH = 1 << 20  # values of responses or stacks at a time: they are used while in cache
STACKED_COLUMNS = 3  # of a kernel, up to which stacks are faster than responses to its columns


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
    """Responses to the columns of a kernel, summed over."""
    down, dx = row_step(problem), problem.window.dilation[1]
    outputs, _, kh, kw = weight.shape
    lines = weight[:, 0].transpose(2, 0, 1).reshape(kw * outputs, kh)
    matrix = np.pad(lines, ((0, len(lines) % 4 == 3), (0, 0)))  # BLAS likes a fourth better than three left over
    ones = np.ones((1, kw), weight.dtype)  # BLAS adds rows up faster than np.add.reduce

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        _, rows, columns, pitch = out.shape
        _, line, _, value = block.strides
        width, apart, step = columns * pitch, dx * pitch, min(rows, stretch(problem, columns))
        length = width + (kw - 1) * apart
        windows = as_strided(block, (rows, kh, length), (down * line, line, value))
        product = scratch("product", (step, len(matrix), length), out.dtype)
        row, line, _ = product.strides
        responses = as_strided(product, (step, outputs, kw, width), (row, line, outputs * line + apart * value, value))
        results = as_strided(out, (rows, outputs, 1, width), (out.strides[1], out.strides[0], width * value, value))
        for top in range(0, rows, step):
            count = min(step, rows - top)
            multiply(matrix, windows[top : top + count], product[:count])
            np.matmul(ones, responses[:count], out=results[top : top + count])

    return run


def bind_stacks(problem: Problem, weight: Array) -> Runner:
    """Stacks of shifted rows times the kernels."""
    down, sx, dx, tall = row_step(problem), problem.window.stride[1], problem.window.dilation[1], rows_at_once(problem)
    outputs, channels, kh, kw = weight.shape
    depth, plain = channels * kw, sx == kw == 1 and (channels == 1 or kh == 1)
    kernels = weight.transpose(0, 2, 1, 3).reshape(outputs, kh * depth)
    matrix = np.zeros((tall * outputs, ((tall - 1) * down + kh) * depth), weight.dtype)
    for number in range(tall):
        shift = number * down * depth
        matrix[number * outputs : (number + 1) * outputs, shift : shift + kh * depth] = kernels

    def run(block: Array, out: Array, scratch: Scratch) -> None:
        if not finite(block, out, scratch, matrix, tall):  # each row met a 0 times a NaN under the other
            finite(block, out, scratch, kernels, 1)

    def finite(block: Array, out: Array, scratch: Scratch, matrix: Array, tall: int) -> bool:
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
    many = problem.channels > 1 or problem.outputs > 2
    return many or problem.window.stride[1] > 1 or problem.window.kernel[1] <= STACKED_COLUMNS


def rows_at_once(problem: Problem) -> int:
    """Output rows of a product with stacks."""
    return 2 if problem.outputs == 1 and problem.window.kernel[0] > row_step(problem) else 1


def stretch(problem: Problem, columns: int) -> int:
    """Output rows at a time."""
    tall = rows_at_once(problem)
    return max(1, STRETCH // (row_values(problem) * columns * problem.pitch * tall)) * tall


def row_values(problem: Problem) -> int:
    """Values of the responses or stacks for each output pixel."""
    kw = problem.window.kernel[1]
    return problem.channels * kw * row_step(problem) if stacked(problem) else problem.outputs * kw


def tile(problem: Problem) -> Pair:
    """Rows as wide as the picture."""
    return fit_tile(problem, BLOCK)


def cost(problem: Problem) -> float:
    """A product for each row, and the passes over responses or stacks."""
    (kh, kw), sx, size = problem.window.kernel, problem.window.stride[1], problem.itemsize
    rows, columns, pitch = problem.planes * problem.window.output[0], problem.window.output[1], problem.pitch
    length = columns * pitch
    if not stacked(problem):
        sums = gemm_cost(rows * problem.outputs, 1, kw, length, size)
        return gemm_cost(rows, kw * problem.outputs, kh, length, size) + sums
    down, step, tall = row_step(problem), stretch(problem, columns), rows_at_once(problem)
    again = ((step - 1) * down + kh) / (step * down)  # rows of stacks made anew for each stretch
    stacks = 0 if kh == kw == sx == 1 else rows * length * row_values(problem) * again
    depth = ((tall - 1) * down + kh) * kw * problem.channels
    products = gemm_cost(rows / tall, tall * problem.outputs, depth, length, size)
    return products + copy_cost(stacks, columns, pitch, sx, size)


def calls(problem: Problem) -> float:
    """Three for each stretch and a dozen to begin with, views of the tile, for each class of rows."""
    rows, columns = tile(problem)
    sy, dy = problem.window.stride[0], problem.window.dilation[0]
    classes = min(rows, dy // gcd(sy, dy))
    return 12 * classes + 3 * max(-(-rows // stretch(problem, columns)), classes)


def memory(problem: Problem) -> int:
    """The responses or stacks of a stretch."""
    rows, columns = tile(problem)
    count = min(rows, stretch(problem, columns)) + (problem.window.kernel[0] if stacked(problem) else 0)
    return row_values(problem) * columns * problem.pitch * count * problem.itemsize


METHOD = Method("row-gemm", bind, refuses_integers, tile, cost, calls, memory, views=True)
