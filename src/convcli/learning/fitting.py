"""Weights from moments: least squares, with what is known of the weights, and gradient descent."""

from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcli.engine.shapes import Pair
from convcli.errors import PictureError
from convcli.learning.moments import Moments, Tell, nobody

Array = NDArray[Any]

CERTAIN = 1e-10  # of the largest eigenvalue: below it the pictures do not tell what a combination of weights is
TOLD = 1000  # steps of descent between words about it


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is known of the weights: each makes the fit surer."""

    bias: bool = False
    non_negative: bool = False
    symmetric: bool = False
    sum_to_one: bool = False

    def equations(self, channels: int, kernel: Pair) -> tuple[Array, Array]:
        """Rows ``(m, n+1)`` that times the weights give ``(m,)``. Symmetric: the same when turned by 180 degrees."""
        n = channels * prod(kernel)
        rows: list[Array] = []
        unit = np.eye(n + 1)
        if not self.bias:
            rows.append(unit[n])
        if self.symmetric:
            turned = np.arange(n).reshape(channels, *kernel)[:, ::-1, ::-1].ravel()
            rows += [unit[one] - unit[other] for one, other in enumerate(turned) if one < other]
        if self.sum_to_one:
            rows.append(np.append(np.ones(n), 0.0))
        values = np.zeros(len(rows))
        if self.sum_to_one:
            values[-1] = 1
        return np.array(rows).reshape(-1, n + 1), values


class Solution(NamedTuple):
    """Weights ``(n+1,)``, the bias last; the condition number; how far each weight is not told by the pictures."""

    weights: Array
    condition: float
    unsure: Array


def least_squares(moments: Moments, rows: Array, values: Array) -> Solution:
    """The weights of least norm among those of least error that fulfil ``rows @ weights == values``."""
    size = len(moments.cross)
    start, free = np.zeros(size), np.eye(size)
    if len(rows):
        _, spread, basis = np.linalg.svd(rows)
        start = np.linalg.lstsq(rows, values, rcond=None)[0]
        free = basis[int((spread > 1e-9).sum()) :].T
    inner = free.T @ moments.gram @ free
    found, vectors = np.linalg.eigh((inner + inner.T) / 2)
    known = found > CERTAIN * found.max(initial=0.0)
    wanted = vectors.T @ (free.T @ (moments.cross - moments.gram @ start))
    weights = start + free @ (vectors[:, known] @ (wanted[known] / found[known]))
    unsure = np.square(free @ vectors[:, ~known]).sum(axis=1)
    least, most = found.min(initial=np.inf), found.max(initial=0.0)
    return Solution(weights, float(max(1.0, most / least)) if least > 0 else np.inf, unsure)


def quick_fit(moments: Moments, bias: bool) -> Array:
    """About the weights of least error, to compare sizes and places by."""
    n = len(moments.cross) if bias else len(moments.cross) - 1
    ridge = np.eye(n) * (1e-12 * float(np.trace(moments.gram)) + 1e-300)
    return np.append(np.linalg.solve(moments.gram[:n, :n] + ridge, moments.cross[:n]), [0.0] * (not bias))


def solve(moments: Moments, channels: int, kernel: Pair, wish: Wish) -> Solution:
    """Least squares under a wish. Not negative: weights that want to be are held at 0 until their error wants them back
    (block principal pivoting; Portugal, Judice and Vicente, Mathematics of Computation 63, 1994)."""
    rows, values = wish.equations(channels, kernel)
    solution = least_squares(moments, rows, values)
    if not wish.non_negative:
        return solution
    n = len(solution.weights) - 1
    held = np.zeros(n, bool)
    unit = np.eye(n + 1)[:n]
    for attempt in range(10 * n):
        solution = least_squares(moments, np.vstack([rows, unit[held]]), np.append(values, np.zeros(held.sum())))
        gradient = (moments.gram @ solution.weights - moments.cross)[:n]
        if wish.sum_to_one and not held.all():
            gradient = gradient - gradient[~held].mean()  # the multiplier of the sum
        scale = 1e-9 * max(1.0, float(np.abs(moments.cross).max()))
        wrong = np.where(held, gradient < -scale, solution.weights[:n] < -1e-12)
        if not wrong.any():
            break
        if attempt < n:
            held ^= wrong
        else:  # one at a time never goes in circles
            last = int(np.flatnonzero(wrong)[-1])
            held[last] = not held[last]
    return solution


def descend(
    moments: Moments, start: Array, steps: int, rate: float | None, bias: bool, tell: Tell = nobody
) -> tuple[Array, list[float], float]:
    """Gradient descent on the summed squared error: the weights, the loss before each step, the step's size.

    The gradient of the loss is ``2 (gram w - cross)``; a step must be smaller than 1/lambda for the greatest eigenvalue
    lambda of the gram, and is half of that unless given. Raises PictureError for one that would diverge.
    """
    free = slice(None) if bias else slice(0, -1)
    gram, cross = moments.gram[free, free], moments.cross[free]
    limit = 1 / float(np.linalg.eigvalsh(gram)[-1])
    rate = limit / 2 if rate is None else rate
    if not 0 < rate < limit:
        raise PictureError(f"a step of {rate:g} would diverge; --lr must be above 0 and below {limit:.4g} here")
    weights, losses = start.astype(np.float64), []
    with suppress(KeyboardInterrupt):  # what is there is worth keeping
        for step in range(steps):
            if step % TOLD == TOLD - 1:
                tell(step / steps)
            losses.append(moments.loss(weights))
            weights[free] -= rate * 2 * (gram @ weights[free] - cross)
    return weights, losses, rate
