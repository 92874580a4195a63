"""One job from its input to its files: read, filtered, written whole or not at all.

:func:`run_job` is total: whatever one input does wrong is in its :class:`Result`, and never ends the run.
"""

import math
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, PictureError, StorageError, system_words, unexpected
from convcli.files import UNWRITABLE, Contents, clear_left_over, write_file
from convcli.images.formats import FORMATS
from convcli.images.writing import USUAL, Encoding
from convcli.layers import Row
from convcli.naming import NUMBERED, Job, free_name, trace_files
from convcli.places import is_remote, is_there, remember, size_of
from convcli.sources import STREAM, Source, read_numbers, read_pictures
from convcli.words import Existing

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from convcli.images.picture import Frames, Picture
    from convcli.produce import Planned, Product, Task
    from convcli.recipe import Outcome, Recipe
    from convcli.strips import Strips


class Settings(NamedTuple):
    """How inputs are read and files treated, the same for every job. ``frame`` None means all."""

    encoding: Encoding = USUAL
    existing: Existing = Existing.ERROR
    in_place: bool = False
    make_folders: bool = False
    dry_run: bool = False
    frame: int | None = None
    preview: int | None = None  # characters across
    trace: Path | None = None
    max_memory: float = math.inf
    durable: bool = False
    fail_fast: bool = False


class Result(NamedTuple):
    """What became of a job. ``data`` is what belongs on standard output, ``planned`` what its header tells;
    ``remarks`` hold for every input of the kind, ``size`` is the bytes written or to be read, ``picture`` the result to
    look at, and ``fatal`` says that nothing more can be written there."""

    job: Job
    status: str
    seconds: float = 0.0
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    outcome: "Outcome | None" = None
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    data: list[bytes] | None = None
    planned: "Planned | None" = None
    size: int = 0
    fatal: bool = False
    picture: "Picture | None" = None

    def record(self) -> dict[str, Any]:
        """The JSON object of one input; numbers that JSON does not know are null."""
        output: str | None = STREAM if self.status == "written" else None
        if self.outputs:
            output = str(self.job.output if self.job.split else self.outputs[0])
        spread = self.outcome.spread() if self.outcome else None
        seen = self.outcome or self.planned
        return {
            "input": self.job.source.name,
            "output": output,
            "status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 6),
            "layers": [row.to_dict() for row in seen.rows] if seen else [],
            "range": spread and {key: value if math.isfinite(value) else None for key, value in spread.items()},
        }


def begin_reading(
    pool: "Executor", source: Source, max_pixels: int, frame: int | None, threads: int | None
) -> "Future[Frames] | None":
    """Decode a picture file in another thread, its decoder imported in this one; None for what is no such file."""
    if source.is_array or source.path is None or is_remote(source.path) or not source.path.is_file():
        return None
    from convcli.images.reading import load_decoder

    load_decoder(source.path)  # now, before NumPy is imported: side by side it takes three times as long
    return pool.submit(read_pictures, source, max_pixels, frame=frame, threads=threads)


def first_frame(job: Job, chosen: int | None, *, in_place: bool) -> int | None:
    """The only frame that is to be read, or None for all: the first where more of them would find no room."""
    room = job.target.frames or job.target.pages or "frame" in job.split or in_place
    return chosen if chosen is not None or room else 0


def run_job(job: Job, recipe: "Recipe", settings: Settings, reading: "Future[Frames] | None" = None) -> Result:
    """Read, unless that has begun, filter and write. Never raises for what one input can do wrong: that comes back as
    a failed result."""
    start = time.perf_counter()
    try:
        if job.source.problem:
            raise PictureError(job.source.problem)
        return _run(job, recipe, settings, reading)._replace(seconds=time.perf_counter() - start)
    except Exception as error:
        if os.environ.get("CONVCLI_DEBUG"):
            raise
        fatal = isinstance(error, StorageError)
        return Result(job, "failed", time.perf_counter() - start, error=_reason(error), fatal=fatal)


def _run(job: Job, recipe: "Recipe", settings: Settings, reading: "Future[Frames] | None") -> Result:
    if job.renew:
        settings = settings._replace(existing=Existing.OVERWRITE)
    targets = [] if job.output is None else [job.path(channel=0, frame=settings.frame or 0)]
    if targets and is_remote(targets[0]) and job.before is not None:
        remember(targets[0], bool(job.before))
    planned = None
    if job.split or ((settings.dry_run or settings.max_memory < math.inf) and not _skipped(targets, settings)):
        planned = plan_job(job, recipe, settings)
        targets = _all_targets(job, planned, settings) or targets
    if targets and all(_skipped([one], settings) for one in targets):
        if not settings.dry_run:
            tidy(targets[0].parent)
        return Result(job, "skipped", outputs=tuple(targets))
    targets = [_target(one, settings) for one in targets if not _skipped([one], settings)]
    if settings.dry_run:
        return Result(job, "planned", outputs=tuple(targets), planned=planned, size=_file_size(job.source))
    if targets and not (settings.trace or settings.preview) and (strips := _strips(job, recipe, settings)):
        with strips:
            path = _write(targets[0], strips.write, settings)
        return Result(
            job,
            "written",
            outputs=(path,),
            outcome=strips.outcome(),
            notices=strips.notices,
            remarks=tuple(strips.remarks),
            size=strips.size,
        )
    watch = Trace(settings.trace, settings, job, [layer.label for layer in recipe.layers]) if settings.trace else None
    made = _produce(job, recipe, settings, watch, reading)
    if watch:
        watch.rows(made.outcome.rows)
    done = Result(job, "written", outcome=made.outcome, notices=made.notices, remarks=made.remarks)
    if settings.preview and made.picture:
        from convcli.images.preview import shrink

        done = done._replace(picture=shrink(made.picture, settings.preview))
    if not targets:
        return done._replace(data=made.parts[0].pieces)
    if job.split:
        targets = [job.path(channel=one.channel, frame=one.frame) for one in made.parts]
    written = [
        (_write(_target(one, settings) if job.split else one, part.pieces, settings), part.size)
        for one, part in zip(targets, made.parts, strict=True)
        if not _skipped([one], settings)
    ]
    return done._replace(outputs=tuple(path for path, _ in written), size=sum(size for _, size in written))


def _file_size(source: Source) -> int:
    return size_of(source.path) if source.path else 0


def _skipped(targets: list[Path], settings: Settings) -> bool:
    """Whether the only target is there and is to be left alone."""
    return settings.existing is Existing.SKIP and len(targets) == 1 and is_there(targets[0])


def plan_job(job: Job, recipe: "Recipe", settings: Settings) -> "Planned | None":
    """What a job's header tells of it, if it has one. Raises ConvcliError, also for what takes too much memory."""
    from convcli.produce import check_memory, planned_shape

    planned = planned_shape(job.source, _task(job, recipe, settings), settings.frame)
    if planned is not None and (strips := _strips(job, recipe, settings)):
        with strips:
            planned = planned._replace(memory=strips.memory)
    if planned is not None:
        check_memory(planned.memory, settings.max_memory)
    return planned


def _all_targets(job: Job, planned: "Planned | None", settings: Settings) -> list[Path]:
    """Every file of a job that is split, as far as that is known."""
    if not job.split or planned is None:
        return []
    first = settings.frame or 0
    counts = {"channel": range(planned.channels), "frame": range(first, first + planned.frames)}
    channels, frames = (counts[name] if name in job.split else range(1) for name in NUMBERED)
    return [job.path(channel=channel, frame=frame) for frame in frames for channel in channels]


def _strips(job: Job, recipe: "Recipe", settings: Settings) -> "Strips | None":
    """The strips that a large TIFF goes in."""
    path = job.source.path
    if job.target.name != "TIFF" or path is None or job.source.is_array or is_remote(path):
        return None
    from convcli.strips import in_strips

    return in_strips(path, _task(job, recipe, settings), settings.frame)


def _task(job: Job, recipe: "Recipe", settings: Settings) -> "Task":
    from convcli.produce import Task

    return Task(recipe, job.target, settings.encoding, job.split, settings.in_place, settings.max_memory)


def _produce(
    job: Job, recipe: "Recipe", settings: Settings, watch: "Trace | None", reading: "Future[Frames] | None"
) -> "Product":
    from convcli.produce import produce_from_array, produce_from_frames

    task, sheet = _task(job, recipe, settings), watch.sheet if watch else None
    if job.source.is_array:
        return produce_from_array(read_numbers(job.source, recipe.max_pixels), task, watch=sheet)
    if reading:
        frames = reading.result()
    else:
        frame = first_frame(job, settings.frame, in_place=settings.in_place)
        frames = read_pictures(job.source, recipe.max_pixels, frame=frame, threads=recipe.threads)
    chosen = settings.frame is not None
    return produce_from_frames(frames, task, first=settings.frame or 0, chosen=chosen, watch=sheet)


class Trace:
    """Every layer's output as a contact sheet, with its row of the report beside it, in a folder for each input.

    Raises PictureError if one of the files can't go where it belongs, before anything is written.
    """

    def __init__(self, trace: Path, settings: Settings, job: Job, labels: Iterable[str]) -> None:
        self.settings = settings._replace(make_folders=True, in_place=False)
        self.sheets = trace_files(trace, job, labels)
        for sheet in self.sheets:
            _target(sheet, self.settings)
            _target(sheet.with_suffix(".json"), self.settings)

    def sheet(self, number: int, layer: str, maps: Any) -> None:
        """Write what layer ``number`` gives, ``(C, H, W)``."""
        from convcli.images.sheet import contact_sheet
        from convcli.images.writing import encode

        title = f"{number} {layer}: {'x'.join(map(str, maps.shape))}"
        pieces, _ = encode(contact_sheet(maps, title=title), FORMATS["PNG"])
        self._put(self.sheets[number - 1], pieces)

    def rows(self, rows: Iterable[Row]) -> None:
        """Write the report's rows."""
        import json

        for number, row in enumerate(rows, 1):
            text = json.dumps(row.to_dict(), indent=2) + "\n"
            self._put(self.sheets[number - 1].with_suffix(".json"), [text.encode()])

    def _put(self, path: Path, data: list[bytes]) -> None:
        target = _target(path, self.settings)
        if self.settings.existing is not Existing.SKIP or not os.path.lexists(target):
            _write(target, data, self.settings)


def _reason(error: Exception) -> str:
    if isinstance(error, ConvcliError):
        return str(error)
    return "not enough memory for this picture" if isinstance(error, MemoryError) else unexpected(error)


def _target(output: Path, settings: Settings) -> Path:
    """Where a result goes after a look at what is there; PictureError if it can't go anywhere."""
    if settings.in_place:
        return output
    if is_there(output):
        if settings.existing is Existing.ERROR:
            raise PictureError(f"{output} exists; add -f to overwrite it, or --existing skip or rename")
        if settings.existing is Existing.RENAME:
            return free_name(output)
    elif not settings.make_folders and not is_remote(output) and not output.parent.is_dir():
        raise PictureError(f"there is no folder {output.parent} to write in")
    return output


def _write(output: Path, data: Contents, settings: Settings) -> Path:
    """Write whole or not at all; a name that is taken meanwhile is an error, or another name with ``rename``."""
    overwrite = settings.in_place or settings.existing is Existing.OVERWRITE
    try:
        if settings.make_folders and not is_remote(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        tidy(output.parent)
        while True:
            try:
                write_file(output, data, overwrite=overwrite, durable=settings.durable)
            except FileExistsError:
                if settings.existing is not Existing.RENAME:
                    raise
                output = free_name(output)
            else:
                return output
    except OSError as error:
        hopeless = error.errno in UNWRITABLE or isinstance(error, PermissionError)
        hopeless = hopeless or (is_remote(output) and isinstance(error, FileNotFoundError))  # its bucket
        kind = StorageError if hopeless else PictureError
        raise kind(f"can't write {output}: {system_words(error)}") from None


@cache
def tidy(folder: Path) -> None:
    """Once for each folder, what a killed run left behind goes away: of an object store, nothing."""
    if not is_remote(folder):
        clear_left_over(folder)
