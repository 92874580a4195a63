"""From inputs to what is done with them: outputs named, dangers refused, then one job after another.

A :class:`Job` and a :class:`Result` are data, and :func:`run_job` is total: whatever one input does wrong is in its
result, and never ends the run.
"""

import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, PictureError, system_words, unexpected
from convcli.files import write_file
from convcli.images.formats import FORMATS, OF_SUFFIX, Format, format_of
from convcli.images.writing import USUAL, Encoding
from convcli.layers import Row
from convcli.sources import STREAM, Source, exists, read_numbers, read_pictures
from convcli.words import Existing

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from convcli.images.picture import Frames, Picture
    from convcli.produce import Product, Task
    from convcli.recipe import Outcome, Recipe

TOKENS = ("stem", "ext", "parent", "command", "channel", "frame")
NUMBERED = ("channel", "frame")  # a template with these stands for a file for each


class Job(NamedTuple):
    """One input and where its result goes: a path, or None for standard output.

    A path that holds ``{channel}`` or ``{frame}`` stands for a file for each of them.
    """

    source: Source
    output: Path | None
    target: Format

    @property
    def split(self) -> tuple[str, ...]:
        """What has files of its own."""
        return tuple(one for one in NUMBERED if self.output is not None and f"{{{one}}}" in str(self.output))

    def path(self, **numbers: int) -> Path:
        """The file of a channel and frame."""
        text = str(self.output)
        for name, number in numbers.items():
            text = text.replace(f"{{{name}}}", str(number))
        return Path(text)


class Settings(NamedTuple):
    """How inputs are read and files treated, the same for every job. ``frame`` None means all."""

    encoding: Encoding = USUAL
    existing: Existing = Existing.ERROR
    in_place: bool = False
    make_folders: bool = False
    dry_run: bool = False
    frame: int | None = None
    preview: bool = False
    trace: Path | None = None
    max_memory: float = math.inf


class Result(NamedTuple):
    """What became of a job. ``data`` is what belongs on standard output, ``memory`` an estimate of what it takes;
    ``remarks`` hold for every input of the kind, ``picture`` is the result to look at."""

    job: Job
    status: str
    seconds: float = 0.0
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    outcome: "Outcome | None" = None
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    data: list[bytes] | None = None
    memory: int | None = None
    picture: "Picture | None" = None

    def record(self) -> dict[str, Any]:
        """The JSON object of one input; numbers that JSON does not know are null."""
        output: str | None = STREAM if self.status == "written" else None
        if self.outputs:
            output = str(self.job.output if self.job.split else self.outputs[0])
        spread = self.outcome.spread() if self.outcome else None
        return {
            "input": self.job.source.name,
            "output": output,
            "status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 6),
            "layers": [row.to_dict() for row in self.outcome.rows] if self.outcome else [],
            "range": spread and {key: value if math.isfinite(value) else None for key, value in spread.items()},
        }


def name_outputs(
    sources: Sequence[Source],
    output: str | None,
    command: str,
    wanted: Format | None,
    *,
    in_place: bool = False,
    kept: Sequence[Path] = (),
) -> list[Job]:
    """Where each result goes. Raises ConvcliError for a bad template or format, several results in one place, or a
    result in the place of an input or of a file that is to be ``kept``."""
    jobs = [_job(source, output, command, wanted, in_place) for source in sources]
    inputs = _read_places(jobs, kept)
    taken: dict[str, Job] = {}
    for job in jobs:
        if job.output is None:
            if len(jobs) > 1 and not all(one.is_array for one in sources if one is job.source or output == STREAM):
                what = "-o - takes one input" if output == STREAM else "standard output takes one result"
                raise ConvcliError(f"{what}; give a folder, as in -o out/")
            continue
        place = _identity(job.output)
        other = taken.setdefault(place.casefold(), job)
        if other is not job:
            raise ConvcliError(_collision(other, job))
        if not in_place and _written_among(place, inputs):
            raise ConvcliError(f"the output {job.output} is an input; only --in-place overwrites inputs")
    return jobs


def _collision(one: Job, other: Job) -> str:
    if one.source.path == other.source.path:
        return f"{one.source.name} is given twice"
    names = f"{one.source.name} and {other.source.name}"
    if one.output != other.output:
        return f"{names} would be written to {one.output} and {other.output}, which are one file on some disks"
    return f"{names} would both be written to {one.output}; give them different folders or names"


def check_traces(jobs: Sequence[Job], settings: Settings, labels: Sequence[str], kept: Sequence[Path]) -> None:
    """Raise ConvcliError if two inputs would be traced in one folder, or a trace would harm another file of the run."""
    taken: dict[str, Job] = {}
    traces: set[str] = set()
    for job in jobs:
        sheets = trace_files(settings, job, labels)
        traces |= {_identity(path) for sheet in sheets for path in (sheet, sheet.with_suffix(".json"))}
        other = taken.setdefault(_identity(trace_folder(settings, job)).casefold(), job)
        if other is not job:
            names = f"{other.source.name} and {job.source.name}"
            raise ConvcliError(f"--trace: {names} would share {trace_folder(settings, job)}; trace them apart")
    harmed = sorted(traces & _read_places(jobs, kept)) + [
        str(job.output) for job in jobs if job.output and _written_among(_identity(job.output), traces)
    ]
    if harmed:
        raise ConvcliError(f"--trace: {harmed[0]} is an input or an output of this run; trace elsewhere")


def name_report(path: Path, jobs: Iterable[Job], kept: Sequence[Path], existing: Existing) -> Path:
    """Where a report goes. Raises ConvcliError for the place of an input, a result or a file that is to be kept, for a
    folder that is not there, and for a file that is, unless ``existing`` allows it."""
    jobs, place = list(jobs), _identity(path)
    written = any(_written_among(_identity(job.output), {place}) for job in jobs if job.output)
    if written or place in _read_places(jobs, kept):
        raise ConvcliError(f"--report: {path} is an input or an output of this run; give it another name")
    if path.is_dir() or not path.parent.is_dir():
        raise ConvcliError(f"--report: {path} is a folder" if path.is_dir() else f"--report: there is no {path.parent}")
    if existing is Existing.RENAME and os.path.lexists(path):
        return _free_name(path)
    if existing is not Existing.OVERWRITE and os.path.lexists(path):
        raise ConvcliError(f"--report: {path} exists; add -f to overwrite it")
    return path


def begin_reading(
    pool: "Executor", source: Source, max_pixels: int, frame: int | None, threads: int | None
) -> "Future[Frames] | None":
    """Decode a picture file in another thread; None for what is no such file."""
    if source.is_array or source.path is None or not source.path.is_file():
        return None
    return pool.submit(read_pictures, source, max_pixels, frame=frame, threads=threads)


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
        return Result(job, "failed", time.perf_counter() - start, error=_reason(error))


def _run(job: Job, recipe: "Recipe", settings: Settings, reading: "Future[Frames] | None") -> Result:
    targets = [] if job.output is None else [job.path(channel=0, frame=settings.frame or 0)]
    if settings.existing is Existing.SKIP and targets and os.path.lexists(targets[0]):
        return Result(job, "skipped", outputs=tuple(targets))
    if job.split or settings.max_memory < math.inf:
        targets, memory = _plan(job, recipe, settings, targets)
    else:
        memory = None
    targets = [_target(one, settings) for one in targets]
    if settings.dry_run:
        return Result(job, "planned", outputs=tuple(targets), memory=memory)
    watch = Trace(settings, job, [layer.label for layer in recipe.layers]) if settings.trace else None
    made = _produce(job, recipe, settings, watch, reading)
    if watch:
        watch.rows(made.outcome.rows)
    done = Result(job, "written", outcome=made.outcome, notices=made.notices, remarks=made.remarks)
    if settings.preview:
        done = done._replace(picture=made.picture)
    if not targets:
        return done._replace(data=made.parts[0].pieces)
    if job.split:
        targets = [_target(job.path(channel=one.channel, frame=one.frame), settings) for one in made.parts]
    written = [_write(one, part.pieces, settings) for one, part in zip(targets, made.parts, strict=True)]
    return done._replace(outputs=tuple(written))


def _plan(job: Job, recipe: "Recipe", settings: Settings, targets: list[Path]) -> tuple[list[Path], int | None]:
    """Every file that a job writes, and about how much memory it takes, as far as its header tells."""
    from convcli.produce import check_memory, planned_shape

    shape = planned_shape(job.source, _task(job, recipe, settings), settings.frame)
    if shape is None:
        return targets, None
    check_memory(shape.memory, settings.max_memory)
    if job.split:
        first = settings.frame or 0
        counts = {"channel": range(shape.channels), "frame": range(first, first + shape.frames)}
        chosen = [counts[name] if name in job.split else range(1) for name in NUMBERED]
        targets = [job.path(channel=one, frame=other) for other in chosen[1] for one in chosen[0]]
    return targets, shape.memory if settings.max_memory < math.inf else None


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
        frame = settings.frame
        if frame is None and not (job.target.frames or job.target.pages or "frame" in job.split or settings.in_place):
            frame = 0  # no more of them would find room
        frames = read_pictures(job.source, recipe.max_pixels, frame=frame, threads=recipe.threads)
    chosen = settings.frame is not None
    return produce_from_frames(frames, task, first=settings.frame or 0, chosen=chosen, watch=sheet)


class Trace:
    """Every layer's output as a contact sheet, with its row of the report beside it, in a folder for each input.

    Raises PictureError if one of the files can't go where it belongs, before anything is written.
    """

    def __init__(self, settings: Settings, job: Job, labels: Iterable[str]) -> None:
        self.settings = settings._replace(make_folders=True, in_place=False)
        self.sheets = trace_files(settings, job, labels)
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


def trace_files(settings: Settings, job: Job, labels: Iterable[str]) -> list[Path]:
    """The sheets of an input's layers."""
    names = [re.sub(r"[^\w+-]+", "-", label).strip("-")[:40] for label in labels]
    digits, folder = max(2, len(str(len(names)))), trace_folder(settings, job)
    return [folder / f"{number:0{digits}}-{name}.png" for number, name in enumerate(names, 1)]


def trace_folder(settings: Settings, job: Job) -> Path:
    """Where the trace of an input goes."""
    return (settings.trace or Path()) / job.source.parent / job.source.stem


def _reason(error: Exception) -> str:
    if isinstance(error, ConvcliError):
        return str(error)
    return "not enough memory for this picture" if isinstance(error, MemoryError) else unexpected(error)


def _target(output: Path, settings: Settings) -> Path:
    """Where a result goes after a look at what is there; PictureError if it can't go anywhere."""
    if settings.in_place:
        return output
    if os.path.lexists(output):
        if settings.existing is Existing.ERROR:
            raise PictureError(f"{output} exists; add -f to overwrite it, or --existing skip or rename")
        if settings.existing is Existing.RENAME:
            return _free_name(output)
    elif not settings.make_folders and not output.parent.is_dir():
        raise PictureError(f"there is no folder {output.parent} to write in")
    return output


def _write(output: Path, data: Iterable[bytes], settings: Settings) -> Path:
    """Write whole or not at all; a name that is taken meanwhile is an error, or another name with ``rename``."""
    overwrite = settings.in_place or settings.existing is Existing.OVERWRITE
    try:
        if settings.make_folders:
            output.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                write_file(output, data, overwrite=overwrite)
            except FileExistsError:
                if settings.existing is not Existing.RENAME:
                    raise
                output = _free_name(output)
            else:
                return output
    except OSError as error:
        raise PictureError(f"can't write {output}: {system_words(error)}") from None


def _job(source: Source, output: str | None, command: str, wanted: Format | None, in_place: bool) -> Job:
    if in_place:
        if source.path is None:
            raise ConvcliError(f"--in-place needs a file, not {source.name!r}")
        return Job(source, source.path, wanted or format_of(source.path))
    if output == STREAM or (output is None and (source.is_array or source.name == STREAM)):
        return Job(source, None, wanted or FORMATS["TEXT" if source.is_array else "PNG"])
    suffix = source.suffix
    if wanted and OF_SUFFIX.get(suffix.lower()) is not wanted:
        suffix = wanted.suffix
    words = {
        "stem": source.stem,
        "ext": suffix,
        "parent": source.parent,
        "command": re.sub(r"[:,=/\\]", "-", command),
    }
    words |= {name: f"{{{name}}}" for name in NUMBERED}
    if output is None:
        path = (source.path or Path()).with_name(f"{words['stem']}.{words['command']}{suffix}")
    elif is_folder(output):
        path = Path(output) / source.parent / f"{words['stem']}{suffix}"
    else:
        path = Path(_fill(output, words))
    return Job(source, path, wanted or format_of(path))


def is_folder(output: str) -> bool:
    """Whether ``-o`` names a folder: it ends with a slash, or is one."""
    return output.endswith(("/", os.sep)) or (exists(Path(output)) and Path(output).is_dir())


def is_template(output: str) -> bool:
    """Whether ``-o`` has fields to fill."""
    return re.search(r"\{[^{}]*\}", output) is not None


def output_root(output: str | None) -> Path | None:
    """The folder that results go below, which is never taken as an input; of a template, what is before its fields."""
    if not output or output == STREAM:
        return None
    return Path(output.partition("{")[0] + "x").parent if is_template(output) else Path(output)


def _fill(template: str, words: dict[str, str]) -> str:
    """Fixed fields only, and never a field inside what a field was filled with."""

    def field_of(match: re.Match[str]) -> str:
        if match[1] not in words:
            allowed = " ".join(f"{{{token}}}" for token in TOKENS)
            raise ConvcliError(f"-o {template}: there is no field {match[0]}; there are {allowed}")
        return words[match[1]]

    return re.sub(r"\{([^{}]*)\}", field_of, template)


def _read_places(jobs: Iterable[Job], kept: Iterable[Path]) -> set[str]:
    """Where the inputs lie, and the files that are to be kept."""
    return {_identity(path) for path in (*kept, *(job.source.path for job in jobs)) if path is not None}


def _written_among(place: str, others: set[str]) -> bool:
    """Whether an output's place, or one that its ``{channel}`` or ``{frame}`` stands for, is among others."""
    fixed = re.split("|".join(rf"\{{{name}\}}" for name in NUMBERED), place)
    if len(fixed) == 1:
        return place in others
    pattern = re.compile(r"\d+".join(map(re.escape, fixed)), re.DOTALL)
    return any(pattern.fullmatch(one) for one in others if one.startswith(fixed[0]))


def _identity(path: Path) -> str:
    """The one name of a file, links followed."""
    return os.path.realpath(path)


def _free_name(path: Path) -> Path:
    """``photo-1.png``, ``photo-2.png`` ...: the first that is free."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    return free
