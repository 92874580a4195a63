"""A pipeline as a value: what was written, the shapes that follow, and the same for arrays as ``run`` for files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray

from convcli.chain import Chain
from convcli.engine.conv import as_cells, result_dtype
from convcli.engine.shapes import is_count
from convcli.errors import ConvcliError, ShapeError
from convcli.layers import Layer, Row, Shape, report_rows
from convcli.places import local_path
from convcli.stages import Stage, parse_stages, read_toml, stage_text, to_toml
from convcli.words import AUTO

Array = NDArray[Any]


def names_file(text: str) -> bool:
    """Whether a PIPELINE is the path of a file rather than stages, the last of which may name a kernel's file."""
    text = text.strip()
    return text.lower().endswith(".toml") and (len(text.split()) == 1 or _is_file(Path(text)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Pipeline:
    """Stages in their order. Files that they name are looked for in ``folder`` first, if there is one; ``path`` is the
    file that they came from.

    >>> Pipeline.parse("gray | conv 3x3 out=16 | relu").shapes((3, 32, 32))[-1].output
    (16, 30, 30)
    """

    stages: tuple[Stage, ...]
    folder: Path | None = None
    path: Path | None = None

    @classmethod
    def parse(cls, text: str | Path, folder: Path | str | None = None) -> "Pipeline":
        """Stages split by ``|``, or the path of a ``.toml`` file. Raises ConvcliError for what can't be read."""
        text = str(text)
        if names_file(text):
            path = local_path(text.strip())
            return cls(read_toml(path), path.parent, path)
        folder = None if folder is None else Path(folder)
        return cls(parse_stages(text, folder), folder)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, repeats written out."""
        return tuple(stage.layer for stage in self.stages for _ in range(stage.repeat))

    @property
    def files(self) -> list[Path]:
        """Every file that it was read from."""
        return [file for stage in self.stages for file in stage.files] + ([self.path] if self.path else [])

    def shapes(self, shape: Shape, itemsize: int = 4) -> list[Row]:
        """The shape report over an input ``(C, H, W)``; ShapeError at the first layer that does not fit."""
        sizes = tuple(shape) if isinstance(shape, Sequence) else ()
        if len(sizes) != 3 or not all(map(is_count, sizes)):
            raise ConvcliError(f"a shape is (C, H, W), whole numbers from 1, not {shape!r}")
        return list(report_rows(self.layers, (int(sizes[0]), int(sizes[1]), int(sizes[2])), itemsize))

    def run(self, array: ArrayLike, *, method: str = AUTO, threads: int | None = None) -> Array:
        """What the stages make of ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``; the channel axis stays or comes if
        there are several. float64 stays, everything else becomes float32.

        Raises ShapeError where a layer does not fit, ConvcliError for weights that were left out.
        """
        given = as_cells(array, "array", (2, 3, 4))
        for stage in self.stages:
            for measure in stage.measures:
                measure.check(pictures=False, arrays=True)
        cells = given.reshape((1,) * (4 - given.ndim) + given.shape + (1,))
        if not cells.shape[1]:
            raise ShapeError(f"an array has one channel or more, but this one's shape is {given.shape}")
        self.shapes((cells.shape[1], cells.shape[2], cells.shape[3]))
        result = Chain(self.layers, method=method, threads=threads).run(cells)[..., 0]
        result = result.astype(result_dtype(cells.dtype), copy=False)
        return result.reshape(result.shape[4 - max(given.ndim, 2 + (result.shape[1] > 1)) :])

    def to_toml(self) -> str:
        """The text of a ``.toml`` file that reads back as the same stages."""
        return to_toml(self.stages)

    def __str__(self) -> str:
        return " | ".join(map(stage_text, self.stages))

    def __repr__(self) -> str:
        folder = f", {str(self.folder)!r}" if self.folder else ""
        return f"Pipeline.parse({str(self)!r}{folder})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and (str(self), self.folder) == (str(other), other.folder)

    def __hash__(self) -> int:
        return hash((str(self), self.folder))
