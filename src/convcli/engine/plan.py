"""The plan: which method computes a problem, why, and what the others would have cost. A value that prints."""

from functools import lru_cache, partial
from typing import NamedTuple

from convcli.engine.costs import COSTS
from convcli.engine.methods import METHODS
from convcli.engine.problem import Method, Problem, block_values, count_tiles
from convcli.errors import ConvcliError, suggest
from convcli.words import AUTO


class Candidate(NamedTuple):
    """A method that was considered: its estimated seconds on one thread and bytes of memory, or why it can't."""

    method: str
    seconds: float
    memory: int
    refused: str | None


class Plan(NamedTuple):
    """The method chosen for a problem, and the others beside it."""

    problem: Problem
    method: str
    why: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        p, w = self.problem, self.problem.window
        lines = [
            f"{self.method}: {self.why}",
            f"  {p.planes} x {p.channels}x{w.size[0]}x{w.size[1]}"
            + (f"x{p.pitch}" if p.pitch > 1 else "")
            + f" -> {p.outputs}x{w.output[0]}x{w.output[1]}, kernel {w.kernel[0]}x{w.kernel[1]}"
            f", {p.dtype}{', exact' if p.bound is not None else ''}, {p.macs:,} multiply-adds",
        ]
        for one in self.candidates:
            price = one.refused or f"{one.seconds * 1000:.3g} ms, {one.memory / 1024:,.0f} kB a thread"
            lines.append(f"  {'*' if one.method == self.method else ' '} {one.method:12} {price}")
        return "\n".join(lines)


def make_plan(problem: Problem, method: str = AUTO) -> Plan:
    """Guards first, then the least estimated cost. Raises ConvcliError for a method unknown or unable."""
    check_method(method)
    return _plan(problem, method)


@lru_cache(maxsize=512)
def _plan(problem: Problem, method: str) -> Plan:
    candidates = []
    for name, one in METHODS.items():
        refused = one.refuses(problem)
        price = (float("inf"), 0) if refused else (estimate(one, problem), working_memory(one, problem))
        candidates.append(Candidate(name, *price, refused))
    if method == AUTO:
        best = min(candidates, key=lambda one: one.seconds)
        able = sum(not one.refused for one in candidates)
        why = f"least estimated cost of {able} methods" if able > 1 else "the only method that can do it"
    else:
        best, why = next(one for one in candidates if one.method == method), "asked for"
        if best.refused:
            raise ConvcliError(f"method {method!r} can't do this: it {best.refused}")
    return Plan(problem, best.method, why, tuple(candidates))


@lru_cache(maxsize=512)
def estimate(method: Method, problem: Problem) -> float:
    """Seconds on one thread: the method's own work, and what every tile costs besides."""
    return price(method, problem, cheapest_form(method, problem))


@lru_cache(maxsize=512)
def cheapest_form(method: Method, problem: Problem, shares: int = 1) -> Problem:
    """Of the forms in which a method may get a problem, if there are to be so many ``shares``, that of least price."""
    forms = method.forms(problem, shares)
    return min(forms, key=partial(price, method, problem)) if len(forms) > 1 else forms[0]


def price(method: Method, problem: Problem, form: Problem) -> float:
    """The estimate for one of the forms; linear in the constants."""
    strided = COSTS["copy.strided"] if form.pitch < problem.pitch else 0.0
    tile, size = method.tile(form), method.dtype(form).itemsize
    viewed = method.views and not form.window.padded  # and not copied, unless its dtype is another
    block = 0.0 if viewed else block_values(form, tile) * size * (COSTS["tile.cell"] + strided)
    store = form.values * size * (COSTS["tile.result"] + strided)
    calls = COSTS["tile.call"] + method.calls(form) * COSTS["numpy.call"]
    return COSTS["start"] + method.cost(form) + store + count_tiles(form, tile) * (block + calls)


def working_memory(method: Method, problem: Problem) -> int:
    """Bytes of a thread: the block of a tile, its result, and what the method needs besides; at the sides, too."""
    form = cheapest_form(method, problem)
    sides = [form._replace(window=form.window.transposed())] if method.views and form.stack == 1 else []
    return max(_tile_memory(method, one) for one in [form, *sides])


def _tile_memory(method: Method, problem: Problem) -> int:
    (rows, columns), window = method.tile(problem), problem.window
    if problem.stack > 1:  # there are rows up to where one more plane would be on end
        rows += window.effective[0] // window.stride[0] + 1
    outputs = problem.groups * problem.outputs * rows * columns * problem.pitch
    values = block_values(problem, (rows, columns)) + outputs
    return values * method.dtype(problem).itemsize + method.memory(problem)


def check_method(name: str) -> None:
    """Raise ConvcliError unless a method has this name."""
    if not isinstance(name, str) or (name != AUTO and name not in METHODS):
        names = ", ".join([AUTO, *METHODS])
        raise ConvcliError(f"method must be one of {names}, not {name!r}{suggest(str(name), list(METHODS))}")
