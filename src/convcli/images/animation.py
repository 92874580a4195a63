"""Frames that hold only what has changed, laid over those before: what is seen at each moment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Decode = Callable[[bytes], tuple[NDArray[Any], float]]  # a file's bytes to pixels and their white

LEAVE, CLEAR, RESTORE = range(3)  # what becomes of a frame before the next one
MAX_FRAMES = 1_000_000


class Frame(NamedTuple):
    """Where a frame goes, ``(top, left, height, width)``, for how many milliseconds, and how: whether it is blended
    ``over`` what is there, not put in its place. Its data are at ``places`` in the file."""

    box: tuple[int, int, int, int]
    delay: float
    disposal: int
    over: bool
    places: list[tuple[int, int]]
    extra: bytes = b""


class Animation:
    """Frames found in a file, but not decoded; ``poster`` says that the first is no part of the animation."""

    frames: list[Frame]
    size: tuple[int, int]  # height and width
    colors: int  # channels of colour, as the frames are decoded
    holed = False  # whether a frame itself may have holes
    loop, poster = 1, False

    def __init__(self) -> None:
        self._next = 0
        self._canvas: NDArray[Any] | None = None

    @property
    def veiled(self) -> bool:
        """Whether anything may be seen through."""
        shown = self.frames[self.poster :]
        whole = [one.box == (0, 0, *self.size) for one in shown]
        cleared = any(one.disposal == CLEAR for one in shown)
        return self.holed or (not all(whole) and (not whole[0] or cleared))

    def add(self, frame: Frame) -> None:
        """One more frame. Raises PictureError for too many."""
        self.frames.append(frame)
        if len(self.frames) > MAX_FRAMES:
            raise PictureError(f"it has more than {MAX_FRAMES:,} frames")

    def standing_alone(self, frame: Frame) -> bytes:
        """A file of one frame."""
        raise NotImplementedError

    def composed(self, number: int, decode: "Decode") -> tuple["NDArray[Any]", float]:
        """A frame ``(H, W, C)``, laid over those before it, and its white. Going on is cheap, going back is not."""
        if number < self._next:
            self._next, self._canvas = 0, None
        while True:
            seen, white = self._compose(self.frames[self._next], decode)
            self._next += 1
            if self._next > number:
                return (seen if self.veiled else seen[..., :-1]), white

    def _compose(self, frame: Frame, decode: "Decode") -> tuple["NDArray[Any]", float]:
        """What is seen of one frame; the canvas becomes what the next one is laid over."""
        import numpy as np

        pixels, white = decode(self.standing_alone(frame))
        if pixels.shape[2] == self.colors:
            pixels = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), white, pixels.dtype)], axis=2)
        first = self._canvas is None
        if self._canvas is None:
            self._canvas = np.zeros((*self.size, self.colors + 1), pixels.dtype)
        seen = self._canvas.copy()
        top, left, tall, wide = frame.box
        place = np.s_[top : top + tall, left : left + wide]
        pixels = pixels[: len(seen[place]), : seen[place].shape[1]]
        seen[place] = _over(pixels, seen[place], white) if frame.over else pixels
        if frame.disposal == LEAVE:
            self._canvas = seen
        elif frame.disposal == CLEAR or first:  # there is nothing to restore before the first
            self._canvas = seen.copy()
            self._canvas[place] = 0
        return seen, white


def _over(upper: "NDArray[Any]", lower: "NDArray[Any]", white: float) -> "NDArray[Any]":
    """Straight colours with alpha laid over others (PNG specification, section 13.16)."""
    import numpy as np

    above, below = upper[..., -1:] / white, lower[..., -1:] / white
    alpha = above + below * (1 - above)
    mixed = upper[..., :-1] * above + lower[..., :-1] * below * (1 - above)
    colors = np.divide(mixed, alpha, out=np.zeros(mixed.shape), where=alpha > 0)
    codes: NDArray[Any] = np.rint(np.concatenate([colors, alpha * white], axis=2)).astype(upper.dtype)
    return codes
