"""The named kernels: literals and small factories, known by name, arguments and defaults without NumPy."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, suggest
from convcli.words import Combine

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows = Sequence[Sequence[float]]

SMOOTH, SHARPEN, EDGES, GRADIENTS = "Smooth", "Sharpen", "Edges", "Gradients"


class Parameter(NamedTuple):
    """An argument of a named kernel, a whole number if ``whole``; ``default`` None: worked out from the others."""

    name: str
    default: float | None
    whole: bool
    least: float
    most: float
    shown: str

    def parse(self, text: str, kernel: str) -> float:
        """The value, checked."""
        try:
            value: float = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if not (self.least <= value <= self.most):
            kind = "a whole number" if self.whole else "a number"
            raise ConvcliError(
                f"{kernel}: {self.name} must be {kind} from {self.least:g} to {self.most:g}, not {text!r}"
            )
        return value


class Named(NamedTuple):
    """A named kernel, or several whose responses are combined; ``make`` gives its rows from its arguments."""

    name: str
    panel: str
    summary: str
    make: Callable[..., Any]
    combine: Combine | None = None

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Read from the signature of ``make``, so that a default is written once."""
        found = []
        for one in inspect.signature(self.make).parameters.values():
            default, whole = one.default, one.annotation is not float
            shown = DERIVED[self.name] if default is None else f"{default:g}"
            found.append(Parameter(one.name, default, whole, *LIMITS[one.name], shown))
        return tuple(found)

    @property
    def usage(self) -> str:
        """``gaussian:sigma=1,size=2*ceil(3*sigma)+1``."""
        return self.name + ":" * bool(self.parameters) + ",".join(f"{p.name}={p.shown}" for p in self.parameters)

    def weights(self, arguments: str = "") -> "NDArray[Any]":
        """The matrix ``(kh, kw)``, or ``(n, kh, kw)`` of a filter that combines n kernels."""
        import numpy as np

        return np.array(self.make(**self._parse(arguments)), float)

    def _parse(self, text: str) -> dict[str, float]:
        """``2``, ``2,9`` or ``sigma=2,size=9``: positional arguments first, as in Python."""
        values: dict[str, float] = {}
        known = {one.name: one for one in self.parameters}
        for place, word in enumerate(text.split(",") if text.strip() else ()):
            key, equals, value = (part.strip() for part in word.partition("="))
            if not equals:
                if "=" in text.rpartition(word)[0] or place >= len(self.parameters):
                    raise ConvcliError(f"{self.name}: {word!r} is one value too many; {self._takes()}")
                key, value = self.parameters[place].name, key
            if key not in known:
                raise ConvcliError(f"{self.name} has no argument {key!r}; {self._takes()}{suggest(key, list(known))}")
            if key in values:
                raise ConvcliError(f"{self.name}: {key} is given twice")
            values[key] = known[key].parse(value, self.name)
        return values

    def _takes(self) -> str:
        return f"it is written {self.usage}" if self.parameters else "it takes none"


def identity() -> Rows:
    """One."""
    return [[1]]


def box(size: int = 3) -> Rows:
    """``1 / size^2`` everywhere."""
    return [[1 / size**2] * size] * size


def binomial(size: int = 3) -> Rows:
    """A row of Pascal's triangle by itself, over ``4^(size - 1)``."""
    weights = [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]
    return [[a * b for b in weights] for a in weights]


def gaussian(sigma: float = 1, size: int | None = None) -> "NDArray[Any]":
    """``exp(-r^2 / (2 sigma^2))`` at the cell centres, divided by its sum."""
    import numpy as np

    places = _places(size or 2 * math.ceil(3 * sigma) + 1)
    weights = np.exp(-(places**2) / (2 * sigma**2))
    weights /= weights.sum()
    return np.outer(weights, weights)


def motion(size: int = 9, angle: float = 0) -> "NDArray[Any]":
    """``size`` points, 1 apart, on a line through the centre, each shared among its four nearest cells."""
    import numpy as np

    steps = _places(size)
    centre = (size - 1) / 2
    y, x = centre - steps * math.sin(math.radians(angle)), centre + steps * math.cos(math.radians(angle))
    weights = np.zeros((size + 1, size + 1))
    y, x = np.round(y, 9), np.round(x, 9)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for dy, dx in np.ndindex(2, 2):
        share = np.abs(1 - dy - (y - top)) * np.abs(1 - dx - (x - left))
        np.add.at(weights, (top + dy, left + dx), share / size)
    return weights[:size, :size]


def disk(radius: float = 3) -> "NDArray[Any]":
    """The same weight for every cell whose centre lies within the radius."""
    import numpy as np

    places = _places(2 * math.floor(radius) + 1)
    inside = places[:, None] ** 2 + places**2 <= radius**2
    return _array(inside / np.count_nonzero(inside))


def unsharp(sigma: float = 1, amount: float = 1) -> "NDArray[Any]":
    """``identity + amount (identity - gaussian)``."""
    weights = -amount * _array(gaussian(sigma))
    weights[len(weights) // 2, len(weights) // 2] += 1 + amount
    return weights


def log(sigma: float = 1, size: int | None = None) -> "NDArray[Any]":
    """The Laplacian of a gaussian, ``(r^2 - 2 sigma^2) / sigma^4 * g``, less its mean so that the sum is 0."""
    size = size or 2 * math.ceil(4 * sigma) + 1
    squares = _places(size) ** 2
    weights = (squares[:, None] + squares - 2 * sigma**2) / sigma**4 * gaussian(sigma, size)
    return _array(weights - weights.mean())


def dog(sigma1: float = 1, sigma2: float = 1.6) -> "NDArray[Any]":
    """The narrower gaussian less the wider one."""
    size = 2 * math.ceil(3 * max(sigma1, sigma2)) + 1
    return _array(gaussian(sigma1, size) - gaussian(sigma2, size))


def _places(size: int) -> "NDArray[Any]":
    import numpy as np

    return np.arange(size) - (size - 1) / 2


def _array(values: Any) -> "NDArray[Any]":
    import numpy as np

    return np.asarray(values)


def _fixed(*kernels: Rows) -> Callable[[], Any]:
    """A factory without arguments."""
    return lambda: kernels[0] if len(kernels) == 1 else kernels


def _transposed(rows: Rows) -> Rows:
    return list(zip(*rows, strict=True))


def _compass(rows: Rows) -> list[Rows]:
    """A 3x3 kernel turned in eight steps of 45 degrees: its rim moves round, its centre stays."""
    rim = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    turned: list[Rows] = []
    for step in range(8):
        kernel = [list(row) for row in rows]
        for place, (y, x) in enumerate(rim):
            from_y, from_x = rim[(place + step) % 8]
            kernel[y][x] = rows[from_y][from_x]
        turned.append(kernel)
    return turned


EDGE = [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
SCHARR = [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
PREWITT = [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]
ROBERTS = [[[1, 0], [0, -1]], [[0, 1], [-1, 0]]]
KIRSCH = [[5, 5, 5], [-3, 0, -3], [-3, -3, -3]]

SIGMA = 0.05, 500.0
LIMITS = {"sigma": SIGMA, "sigma1": SIGMA, "sigma2": SIGMA, "radius": (0, 2000), "size": (1, 4095)}
LIMITS |= {"angle": (-360, 360), "amount": (-100, 100)}
DERIVED = {"gaussian": "2*ceil(3*sigma)+1", "log": "2*ceil(4*sigma)+1"}

NAMED: dict[str, Named] = {
    one.name: one
    for one in (
        Named("identity", SMOOTH, "change nothing", identity),
        Named("box", SMOOTH, "mean of a square", box),
        Named("blur", SMOOTH, "the same as box", box),
        Named("binomial", SMOOTH, "binomial weights, a small gaussian", binomial),
        Named("gaussian", SMOOTH, "gaussian blur", gaussian),
        Named("motion", SMOOTH, "motion blur, angle counter-clockwise", motion),
        Named("disk", SMOOTH, "mean of a disk, as out of focus", disk),
        Named("sharpen", SHARPEN, "4-neighbour sharpening", _fixed([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])),
        Named("unsharp", SHARPEN, "unsharp mask", unsharp),
        Named("emboss", SHARPEN, "relief lit from the upper left", _fixed([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])),
        Named("edge", EDGES, "8-neighbour edges", _fixed(EDGE)),
        Named("outline", EDGES, "the same as edge", _fixed(EDGE)),
        Named("laplacian", EDGES, "4-neighbour Laplacian", _fixed([[0, 1, 0], [1, -4, 1], [0, 1, 0]])),
        Named("ridge", EDGES, "4-neighbour edges", _fixed([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])),
        Named("log", EDGES, "Laplacian of a gaussian", log),
        Named("dog", EDGES, "difference of two gaussians", dog),
        Named("sobel-x", GRADIENTS, "Sobel, left to right", _fixed(SOBEL)),
        Named("sobel-y", GRADIENTS, "Sobel, top to bottom", _fixed(_transposed(SOBEL))),
        Named("scharr-x", GRADIENTS, "Scharr, left to right", _fixed(SCHARR)),
        Named("scharr-y", GRADIENTS, "Scharr, top to bottom", _fixed(_transposed(SCHARR))),
        Named("prewitt-x", GRADIENTS, "Prewitt, left to right", _fixed(PREWITT)),
        Named("prewitt-y", GRADIENTS, "Prewitt, top to bottom", _fixed(_transposed(PREWITT))),
        Named("sobel", GRADIENTS, "Sobel magnitude", _fixed(SOBEL, _transposed(SOBEL)), Combine.NORM),
        Named("scharr", GRADIENTS, "Scharr magnitude", _fixed(SCHARR, _transposed(SCHARR)), Combine.NORM),
        Named("prewitt", GRADIENTS, "Prewitt magnitude", _fixed(PREWITT, _transposed(PREWITT)), Combine.NORM),
        Named("roberts", GRADIENTS, "Roberts cross magnitude", _fixed(*ROBERTS), Combine.NORM),
        Named("kirsch", GRADIENTS, "Kirsch, strongest of 8 directions", _fixed(*_compass(KIRSCH)), Combine.MAXIMUM),
        Named("compass", GRADIENTS, "Sobel turned, strongest of 8", _fixed(*_compass(SOBEL)), Combine.MAXIMUM),
    )
}


def find(text: str) -> tuple[Named, str] | None:
    """The named kernel and its arguments that ``name`` or ``name:arguments`` mean, if the name is known."""
    name, _, arguments = text.strip().partition(":")
    return (NAMED[name.strip()], arguments) if name.strip() in NAMED else None


def looks_named(text: str) -> bool:
    """Whether a text reads like a name, known or not, rather than like numbers or a path."""
    return re.fullmatch(r"\s*[A-Za-z][\w-]*\s*(:.*)?", text) is not None
