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
from convcli.layers import Row
from convcli.sources import STREAM, Source, exists
from convcli.words import Existing

if TYPE_CHECKING:
    from convcli.recipe import Outcome, Recipe

TOKENS = ("stem", "ext", "parent", "command", "channel")
CHANNEL = "{channel}"


class Job(NamedTuple):
    """One input and where its result goes: a path, or None for standard output. ``format`` is a file format's name.

    A path that holds ``{channel}`` stands for a file for each channel.
    """

    source: Source
    output: Path | None
    format: str

    @property
    def split(self) -> bool:
        """Whether every channel has a file of its own."""
        return self.output is not None and CHANNEL in str(self.output)

    def outputs(self, count: int) -> list[Path]:
        """The files of a result of so many parts."""
        if self.output is None:
            return []
        return [Path(str(self.output).replace(CHANNEL, str(number))) for number in range(count if self.split else 1)]


class Settings(NamedTuple):
    """How files are treated, the same for every job."""

    existing: Existing = Existing.ERROR
    in_place: bool = False
    make_folders: bool = False
    dry_run: bool = False
    trace: Path | None = None
    max_memory: float = math.inf


class Result(NamedTuple):
    """What became of a job. ``data`` is what belongs on standard output, ``memory`` an estimate of what it takes."""

    job: Job
    status: str
    seconds: float = 0.0
    outputs: tuple[Path, ...] = ()
    error: str | None = None
    outcome: "Outcome | None" = None
    notices: tuple[str, ...] = ()
    data: bytes | None = None
    memory: int | None = None

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
    file_format: str | None,
    *,
    in_place: bool = False,
    kept: Sequence[Path] = (),
) -> list[Job]:
    """Where each result goes. Raises ConvcliError for a bad template or format, several results in one place, or a
    result in the place of an input or of a file that is to be ``kept``."""
    jobs = [_job(source, output, command, file_format, in_place) for source in sources]
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


def run_job(job: Job, recipe: "Recipe", settings: Settings) -> Result:
    """Read, filter, write. Never raises for what one input can do wrong: that comes back as a failed result."""
    start = time.perf_counter()
    try:
        if job.source.problem:
            raise PictureError(job.source.problem)
        return _run(job, recipe, settings)._replace(seconds=time.perf_counter() - start)
    except Exception as error:
        if os.environ.get("CONVCLI_DEBUG"):
            raise
        return Result(job, "failed", time.perf_counter() - start, error=_reason(error))


def _run(job: Job, recipe: "Recipe", settings: Settings) -> Result:
    from convcli.produce import check_memory, planned_shape, produce

    targets = job.outputs(1)
    if settings.existing is Existing.SKIP and targets and os.path.lexists(targets[0]):
        return Result(job, "skipped", outputs=tuple(targets))
    shape = planned_shape(job.source, job.format, recipe) if job.split or settings.max_memory < math.inf else None
    if shape and job.split:
        targets = job.outputs(shape.parts)
    targets = [_target(one, settings) for one in targets]
    memory = shape.memory if shape and settings.max_memory < math.inf else None
    if memory is not None:
        check_memory(memory, settings.max_memory)
    if settings.dry_run:
        return Result(job, "planned", outputs=tuple(targets), memory=memory)
    watch = Trace(settings, job, [layer.label for layer in recipe.layers]) if settings.trace else None
    made = produce(
        job.source,
        job.format,
        recipe,
        in_place=settings.in_place,
        split=job.split,
        max_memory=settings.max_memory,
        watch=watch.sheet if watch else None,
    )
    if watch:
        watch.rows(made.outcome.rows)
    done = Result(job, "written", outcome=made.outcome, notices=made.notices)
    if not targets:
        return done._replace(data=made.parts[0])
    targets = [_target(one, settings) for one in job.outputs(len(made.parts))] if job.split else targets
    written = [_write(one, data, settings) for one, data in zip(targets, made.parts, strict=True)]
    return done._replace(outputs=tuple(written))


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
        self._put(self.sheets[number - 1], encode(contact_sheet(maps, title=title), "PNG"))

    def rows(self, rows: Iterable[Row]) -> None:
        """Write the report's rows."""
        import json

        for number, row in enumerate(rows, 1):
            text = json.dumps(row.to_dict(), indent=2) + "\n"
            self._put(self.sheets[number - 1].with_suffix(".json"), text.encode())

    def _put(self, path: Path, data: bytes) -> None:
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


def _write(output: Path, data: bytes, settings: Settings) -> Path:
    """Write whole or not at all; a name that is taken meanwhile is an error, or another name with ``rename``."""
    from convcli.images.writing import write_file

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


def _job(source: Source, output: str | None, command: str, file_format: str | None, in_place: bool) -> Job:
    from convcli.images.writing import FORMAT_NAMES, SUFFIX_FORMATS, format_of

    if in_place:
        if source.path is None:
            raise ConvcliError(f"--in-place needs a file, not {source.name!r}")
        return Job(source, source.path, format_of(source.path, file_format))
    if output == STREAM or (output is None and (source.is_array or source.name == STREAM)):
        usual = "TEXT" if source.is_array else "PNG"
        return Job(source, None, format_of(Path(), file_format) if file_format else usual)
    suffix = source.suffix
    if file_format:
        wanted = format_of(Path(), file_format)
        if SUFFIX_FORMATS.get(suffix.lower()) != wanted:
            suffix = f".{next(name for name, value in FORMAT_NAMES.items() if value == wanted)}"
            suffix = {".text": ".txt"}.get(suffix, suffix)
    words = {
        "stem": source.stem,
        "ext": suffix,
        "parent": source.parent,
        "command": re.sub(r"[:,=/\\]", "-", command),
        "channel": CHANNEL,
    }
    if output is None:
        path = (source.path or Path()).with_name(f"{words['stem']}.{words['command']}{suffix}")
    elif is_folder(output):
        path = Path(output) / source.parent / f"{words['stem']}{suffix}"
    else:
        path = Path(_fill(output, words))
    return Job(source, path, format_of(path, file_format))


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
    """Whether an output's place, or one that its ``{channel}`` stands for, is among others."""
    start, channel, _ = place.partition(CHANNEL)
    if not channel:
        return place in others
    pattern = re.compile(re.escape(place).replace(re.escape(CHANNEL), r"\d+"), re.DOTALL)
    return any(pattern.fullmatch(one) for one in others if one.startswith(start))


def _identity(path: Path) -> str:
    """The one name of a file, links followed."""
    return os.path.realpath(path)


def _free_name(path: Path) -> Path:
    """``photo-1.png``, ``photo-2.png`` ...: the first that is free."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    return free
