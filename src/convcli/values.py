"""Values as people write them, in options and in the stages of a pipeline: sizes, pads, amounts, borders."""

import math
import re
from typing import NamedTuple

from convcli.engine.shapes import PaddingLike, Pair, as_pair
from convcli.errors import ConvcliError
from convcli.words import BOUNDARY_ALIASES, Boundary, Padding

MOST_DIGITS = 18


class Amount(NamedTuple):
    """A number given in the input's unit, or as a percentage of white."""

    value: float
    percent: bool = False

    def check(self, option: str, *, pictures: bool, arrays: bool, least: float, reach: float = 1.0) -> float:
        """The value, refused where it can't mean what it says: ``128`` for a picture, ``%`` for plain numbers."""
        if arrays and self.percent:
            raise ConvcliError(f"{option}: % is for pictures; matrices and arrays are plain numbers")
        if pictures and not least * reach <= self.value <= reach:
            white = 255 if abs(self.value) <= 255 else 65535
            code = self.value.is_integer() and least * white <= self.value <= white
            meant = f"; is {self.value / white:.3f} meant?" if code else ""
            raise ConvcliError(
                f"{option}: pictures are fractions of white, from {least:g} to 1, not {self.value:g}{meant}"
            )
        return self.value


class Measure(NamedTuple):
    """An option's amount, whose meaning an input's kind decides, the least it may be for a picture, and how many times
    white values can be where it stands."""

    option: str
    amount: Amount
    least: float
    reach: float = 1.0

    def check(self, *, pictures: bool, arrays: bool) -> None:
        """Raise ConvcliError where the amount can't mean what it says."""
        self.amount.check(self.option, pictures=pictures, arrays=arrays, least=self.least, reach=self.reach)


def parse_sizes(text: str, count: tuple[int, ...], separator: str, form: str = "N or HxW") -> list[int]:
    """Whole numbers between separators, or ConvcliError that says the right form."""
    words = text.lower().split(separator)
    if len(words) not in count or not all(word.strip().isdecimal() for word in words):
        raise ConvcliError(f"must be whole numbers, as {form}, not {text[:60]!r}")
    return [whole_number(word.strip()) for word in words]


def whole_number(digits: str) -> int:
    """Decimal digits as a number; a great one for more of them than any size here has."""
    return int(digits) if len(digits) <= MOST_DIGITS else 10**MOST_DIGITS


def parse_pair(text: str) -> Pair:
    """``3`` or ``3x5``, from 1."""
    sizes = parse_sizes(text, (1, 2), "x")
    return as_pair(sizes if len(sizes) == 2 else sizes[0], "the value")


def parse_padding(text: str) -> PaddingLike:
    """A word, ``N``, ``HxW`` or ``T,B,L,R``."""
    if text in list(Padding):
        return Padding(text)
    if "," in text:
        top, bottom, left, right = parse_sizes(text, (4,), ",") if text.count(",") == 3 else [-1] * 4
        if top >= 0:
            return as_pair((top, bottom), "padding", 0), as_pair((left, right), "padding", 0)
    elif text[:1].isdigit():
        sizes = parse_sizes(text, (1, 2), "x")
        return as_pair(sizes if len(sizes) == 2 else sizes[0], "padding", 0)
    raise ConvcliError(f"must be {', '.join(Padding)}, N, HxW or T,B,L,R, not {text!r}")


def parse_amount(text: str) -> Amount:
    """``0.5``, ``50%`` or, for arrays, any number."""
    percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConvcliError(f"must be a number or a percentage, not {text!r}")
    return Amount(value / 100, True) if percent else Amount(value)


def parse_boundary(text: str) -> Boundary | Amount:
    """A boundary word or a number."""
    if text in [*Boundary, *BOUNDARY_ALIASES]:
        return BOUNDARY_ALIASES.get(text) or Boundary(text)
    try:
        return parse_amount(text)
    except ConvcliError:
        words = ", ".join([*Boundary, *BOUNDARY_ALIASES])
        raise ConvcliError(f"must be {words} or a number, not {text!r}") from None


def parse_bytes(text: str) -> int:
    """``500M``, ``2GB`` or a number of bytes; units of a thousand."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not found or not float(found[1]):
        raise ConvcliError(f"must be a size in bytes, as in 500M or 2GB, not {text!r}")
    return int(float(found[1]) * 1000 ** " kmgt".index(found[2] or " "))


def format_bytes(count: float) -> str:
    """Bytes in a unit of a thousand, to three digits."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
