"""Learning a kernel from pairs of pictures: what is asked, what is found, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log10, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcli.engine.conv import as_cells
from convcli.engine.shapes import PaddingLike, Pair, PairLike, as_pair
from convcli.engine.threads import single_blas
from convcli.errors import ConvcliError, PictureError, ShapeError
from convcli.learning.fitting import Wish, descend, solve
from convcli.learning.likeness import Likeness, closest
from convcli.learning.moments import MOST_PRODUCTS, Example, Gathered, Geometry, Tell, gather, nobody
from convcli.learning.search import LARGEST, find_shift, geometry_of, largest_size, plus, smallest_size
from convcli.words import AUTO, STEPS, Learning

Array = NDArray[Any]

UNSURE = 0.05  # the share of a weight that may lie in combinations which the pictures do not tell
EXPLAINED = 0.9  # of the variance on rows held out: below it no kernel explains a pair
MOST_WEIGHTS = 2_500  # of a kernel: their products take 50 MB
DUST = 1e-9  # of the greatest weight: below it lies rounding
NOTHING_KNOWN = Wish()


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found: ``kernel`` ``(kh, kw)``, or a weight ``(c_out, c_in, kh, kw)`` with a ``bias`` for each output.

    ``loss`` is the summed squared error before each step of gradient descent, or the final one, and ``exact`` what
    least squares leaves of it. ``r2`` is the share of the variance explained on rows held out, ``held_error`` the mean
    squared error there, and ``rounding`` the least that can be expected of stored codes. ``psnr`` is of all rows, in
    dB, ``condition`` that of the normal equations. ``unsure`` marks weights that the pictures do not tell. ``patches``
    of ``windows`` were heeded; ``clipped`` is the share of cells left out as clipped. ``shift`` is how many rows lower
    and columns to the right the second picture lies.
    """

    kernel: Array
    bias: Any
    loss: tuple[float, ...]
    r2: float
    psnr: float
    condition: float
    unsure: NDArray[np.bool_]
    patches: int
    windows: int
    clipped: float
    shift: Pair
    method: Learning
    closest: Likeness | None = None
    rate: float | None = None
    held_error: float = np.inf
    rounding: float = 0.0
    exact: float | None = None
    steps: int = 1
    interrupted: bool = False
    identical: bool = False
    with_bias: bool = False

    @property
    def explains(self) -> bool:
        """Whether a kernel of this size explains the pair."""
        return self.r2 >= EXPLAINED or self.held_error < self.rounding

    @property
    def identity(self) -> bool:
        """Whether this kernel leaves everything as it is."""
        likeness = self.closest
        return bool(
            likeness
            and likeness.name == "identity"
            and likeness.correlation > 0.9999
            and abs(likeness.scale - 1) < 1e-3
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """How to learn. ``size`` None: the smallest that explains the pair; ``padding`` None: what the sizes say.

    One kernel for all channels, or one for each with ``per_channel``, or with ``layer`` a weight that sums them.
    """

    size: Pair | None
    method: Learning = Learning.LEAST_SQUARES
    wish: Wish = NOTHING_KNOWN
    padding: PaddingLike | None = None
    stride: PairLike = 1
    per_channel: bool = False
    layer: bool = False
    steps: int = STEPS
    rate: float | None = None
    start: Array | None = None
    seed: int = 0
    threads: int | None = None
    tell: Tell = nobody

    def check(self) -> None:
        """Raise ConvcliError for what can't be asked for, whatever the pictures."""
        if self.layer and self.per_channel:
            raise ConvcliError("a kernel per channel and a whole layer exclude each other")
        wish = self.wish
        if self.method is Learning.DESCENT and (wish.non_negative or wish.symmetric or wish.sum_to_one):
            raise ConvcliError("gradient descent knows no constraints; use the method lstsq")
        if self.steps < 1:
            raise ConvcliError(f"steps must be from 1, not {self.steps}")
        if self.size is None and as_pair(self.stride, "stride") != (1, 1):
            raise ConvcliError("the size can't be found with a stride; give it")
        if self.size is not None and prod(self.size) > MOST_WEIGHTS:
            raise ConvcliError(f"at most {MOST_WEIGHTS:,} weights are learned at once, not {prod(self.size):,}")
        if self.rate is not None and self.method is not Learning.DESCENT:
            raise ConvcliError("--lr is for gradient descent, the method gd")
        if self.rate is not None and not 0 < self.rate < np.inf:
            raise ConvcliError(f"--lr, the step of gradient descent, must be above 0, not {self.rate:g}")
        if self.start is None:
            return
        if self.method is not Learning.DESCENT or self.size is None:
            raise ConvcliError(
                "a start is for gradient descent, the method gd, and a kernel of a size that is not auto"
            )
        if not self.layer and self.start.size != prod(self.size):
            raise ShapeError(f"the start has {self.start.size} numbers, but the kernel {prod(self.size)}")


def learn_kernel(
    before: ArrayLike,
    after: ArrayLike,
    size: PairLike | str,
    *,
    method: str = "lstsq",
    bias: bool = False,
    steps: int = STEPS,
    lr: float | None = None,
    init: ArrayLike | None = None,
    seed: int = 0,
    padding: PaddingLike | None = None,
    stride: PairLike = 1,
    per_channel: bool = False,
    layer: bool = False,
    non_negative: bool = False,
    symmetric: bool = False,
    sum_to_one: bool = False,
    threads: int | None = None,
) -> Fit:
    """The kernel that turns ``before`` into ``after``, arrays ``(H, W)`` or ``(C, H, W)``, by correlation.

    ``size`` is a number, ``(kh, kw)`` or ``"auto"``. Raises ConvcliError for arguments that can't be and pairs that
    tell nothing, ShapeError for sizes that don't fit.

    >>> learn_kernel([[0, 0, 1, 1, 0, 0, 1, 0]], [[0, 1, 0, -1, 0, 1, -1]], (1, 2)).kernel.round(3) + 0
    array([[-1.,  1.]])
    """
    first, second = (as_cells(one, name, (2, 3)) for one, name in ((before, "before"), (after, "after")))
    example = Example(first.reshape(-1, *first.shape[-2:]), second.reshape(-1, *second.shape[-2:]))
    if method not in list(Learning):
        raise ConvcliError(f"method must be {' or '.join(Learning)}, not {method!r}")
    task = Task(
        size=None if size == AUTO else as_pair(size, "size"),  # type: ignore[arg-type]
        method=Learning(method),
        wish=Wish(bias=bias, non_negative=non_negative, symmetric=symmetric, sum_to_one=sum_to_one),
        padding=padding,
        stride=stride,
        per_channel=per_channel,
        layer=layer,
        steps=steps,
        rate=lr,
        start=None if init is None else np.asarray(init, np.float64),
        seed=seed,
        threads=threads,
    )
    return learn([example], task)


def learn(examples: Sequence[Example], task: Task) -> Fit:
    """The kernel that explains all the examples best. Raises ConvcliError."""
    with single_blas:  # many small systems: threads would cost more than they save
        return _learn(examples, task)


def _learn(examples: Sequence[Example], task: Task) -> Fit:
    task.check()
    _check(examples, task)
    asked = task.steps
    single = not (task.layer or task.per_channel)
    size = task.size or largest_size(examples[0])
    if prod(size) * (len(examples[0].before) if task.layer else 1) > MOST_WEIGHTS:
        words = f"a kernel of {size[0]}x{size[1]} is too much: at most {MOST_WEIGHTS:,} weights are learned at once"
        raise ShapeError(examples[0].error(words))
    stride = as_pair(task.stride, "stride")
    geometries = [geometry_of(one, size, task.padding, stride) for one in examples]
    shift = find_shift(examples[0], geometries[0], auto=task.size is None) if single else (0, 0)
    geometries = [one._replace(before=plus(one.before, shift)) for one in geometries]
    outputs = [
        _gathered(examples, geometries, task, output) for output in range(1 if single else len(examples[0].after))
    ]
    channels = len(examples[0].before) if task.layer else 1
    if task.size is None and max(size) <= LARGEST:
        size, index = smallest_size(outputs, channels, size, task.wish)
        outputs = [one.part(index) for one in outputs]
    found: list[_Found] = []
    for number, one in enumerate(outputs):
        found.append(_fitted(one, channels, size, task, number))
        task = replace(task, steps=len(found[-1].losses)) if task.method is Learning.DESCENT else task  # after Ctrl-C
    return _summary(examples, replace(task, steps=asked), outputs, found, (channels, *size), shift)


def _summary(
    examples: Sequence[Example],
    task: Task,
    outputs: Sequence[Gathered],
    found: Sequence["_Found"],
    shape: tuple[int, int, int],
    shift: Pair,
) -> Fit:
    """The fits of all outputs as one, each of a kernel ``(channels, kh, kw)``."""
    single = not (task.layer or task.per_channel)
    weights = np.array([one.weights for one in found])
    weights[np.abs(weights) < DUST * np.abs(weights).max()] = 0
    kernel = weights[:, :-1].reshape(len(found), *shape)
    steps = max(len(one.losses) for one in found)
    loss = np.sum([one.losses + one.losses[-1:] * (steps - len(one.losses)) for one in found], axis=0)
    count = sum(one.all.patches for one in outputs)
    error = sum(one.error for one in found) / max(1, count)
    unsure = np.array([one.unsure for one in found])[:, :-1].reshape(kernel.shape)
    return Fit(
        kernel=kernel[0, 0] if single else kernel,
        bias=float(weights[0, -1]) if single else weights[:, -1],
        loss=tuple(map(float, loss)),
        r2=float(np.mean([one.r2 for one in found])),
        psnr=-10 * log10(error) if error > 0 else np.inf,
        condition=max(one.condition for one in found),
        unsure=(unsure[0, 0] if single else unsure) > UNSURE,
        patches=count,
        windows=sum(one.windows for one in outputs),
        clipped=sum(one.clipped() for one in examples) / sum(one.after.size for one in examples),
        shift=shift,
        method=task.method,
        closest=closest(kernel[0, 0]) if single else None,
        rate=found[0].rate,
        held_error=max(one.held_error for one in found),
        rounding=2 * max(one.rounding() for one in examples),
        exact=sum(one.exact for one in found),
        steps=min(len(one.losses) for one in found),
        with_bias=task.wish.bias,
        identical=all(one.identical() for one in examples),
        interrupted=task.method is Learning.DESCENT and min(len(one.losses) for one in found) < task.steps,
    )


class _Found(NamedTuple):
    """The weights of one output, and how they came about."""

    weights: Array
    losses: list[float]
    error: float
    exact: float
    held_error: float
    r2: float
    condition: float
    unsure: Array
    rate: float | None = None


def _fitted(gathered: Gathered, channels: int, size: Pair, task: Task, number: int) -> _Found:
    """Fitted to all rows, but judged by those held out from a fit to the others."""
    everything = gathered.all
    if everything.energy == 0 or not everything.patches:
        raise PictureError("nothing to learn from: no pixel of the second picture is left to heed, or all are 0")
    solution = solve(everything, channels, size, task.wish)
    enough = gathered.held.patches > 0 and gathered.train.patches > 0
    train, held = (gathered.train, gathered.held) if enough else (everything, everything)
    if task.method is Learning.LEAST_SQUARES:
        weights, losses, rate = solution.weights, [everything.loss(solution.weights)], None
        judged = solve(train, channels, size, task.wish).weights if enough else weights
    else:
        start = _start(task, channels * prod(size), number)
        weights, losses, rate = descend(everything, start, task.steps, task.rate, task.wish.bias, task.tell)
        judged, _, _ = descend(train, start, len(losses), rate, task.wish.bias) if enough else (weights, 0, 0)
    return _Found(
        weights,
        losses,
        everything.loss(weights),
        everything.loss(solution.weights),
        held.loss(judged) / max(1, held.patches),
        held.r2(judged),
        solution.condition,
        solution.unsure,
        rate,
    )


def _start(task: Task, n: int, number: int) -> Array:
    """Where gradient descent begins: what was asked for, or uniform within 1/sqrt(n), as PyTorch has it."""
    if task.start is not None:
        return np.append(task.start.ravel(), 0.0)
    reach = 1 / np.sqrt(n)
    return np.append(np.random.default_rng(task.seed + number).uniform(-reach, reach, n), 0.0)


def _check(examples: Sequence[Example], task: Task) -> None:
    """Raise PictureError for what can't be learnt from."""
    for one in examples:
        if not task.layer and len(one.before) != len(one.after):
            many = f"{len(one.before)} channels can't become {len(one.after)} by one kernel; ask for a layer"
            raise ShapeError(one.error(many))
        if not all(np.isfinite(plane).all() for side in (one.before, one.after) for plane in side):
            raise PictureError(one.error("the pictures must be finite, but one holds NaN or infinity"))
    if all(np.ptp(plane) == 0 for one in examples for plane in one.before):
        raise PictureError("nothing to learn from: the first picture is one value all over")
    if task.start is not None and task.start.ndim == 2 and task.size and task.start.shape != task.size:
        raise ShapeError(
            f"the start is {'x'.join(map(str, task.start.shape))}, but the kernel {task.size[0]}x{task.size[1]}"
        )
    if task.start is not None and task.layer:
        wanted = prod(task.size or (0, 0)) * len(examples[0].before)
        if task.start.size != wanted:
            raise ShapeError(f"the start has {task.start.size} numbers, but the kernel {wanted}")


def _gathered(examples: Sequence[Example], geometries: Sequence[Geometry], task: Task, output: int) -> Gathered:
    """The moments of all that one kernel has to explain."""
    asked = [
        (example, geometry, target)
        for example, geometry in zip(examples, geometries, strict=True)
        for target in ([output] if task.layer or task.per_channel else range(len(example.after)))
    ]
    outputs = len(examples[0].after) if task.layer or task.per_channel else 1
    most = MOST_PRODUCTS / (len(asked) * outputs)
    parts = []
    for example, geometry, target in asked:
        channels = slice(None) if task.layer else slice(target, target + 1)
        parts.append(gather(example.of(channels, target), geometry, most=most, threads=task.threads, tell=task.tell))
    return Gathered.of(parts)
