"""Where results go: each input's output named, dangers refused before any work.

A :class:`Plan` is as good as a list of jobs, but makes each only when it is asked for, so that a folder of a hundred
thousand pictures takes little more memory than their names.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from convcli.errors import ConvcliError
from convcli.images.formats import FORMATS, OF_SUFFIX, Format, format_of
from convcli.places import State, check_writable, folded, identity, inside, is_remote, is_there, kind_of, place
from convcli.sources import STREAM, Group, Inputs, Source, exists
from convcli.words import Existing

TOKENS = ("stem", "ext", "parent", "command", "channel", "frame")
NUMBERED = ("channel", "frame")  # a template with these stands for a file for each
ADJACENT = re.compile(r"\{channel\}\d*\{frame\}|\{frame\}\d*\{channel\}")
AROUND = re.compile(r"\d*\{(?:channel|frame)\}\d*")  # a number with the digits beside it, which may be part of it
MARK = "\0"  # stands for a stem in the outputs of a group: no name holds it


class Job(NamedTuple):
    """One input and where its result goes: a path, or None for standard output.

    A path that holds ``{channel}`` or ``{frame}`` stands for a file for each of them. ``renew`` says that what is there
    already is from an earlier try at the same, ``before`` what was there when the job was handed out, ``chosen`` the
    output's other name where ``--existing rename`` gave it one.
    """

    source: Source
    output: Path | None
    target: Format
    renew: bool = False
    before: State | None = None
    chosen: Path | None = None

    @property
    def split(self) -> tuple[str, ...]:
        """What has files of its own."""
        return tuple(one for one in NUMBERED if self.output is not None and f"{{{one}}}" in str(self.output))

    def path(self, **numbers: int) -> Path:
        """The file of a channel and frame."""
        text = str(self.chosen or self.output)
        for name, number in numbers.items():
            text = text.replace(f"{{{name}}}", str(number))
        return place(text)


class Naming(NamedTuple):
    """How outputs are named: ``-o`` and whether that is a folder, the command's name, the format whatever the name."""

    output: str | None
    command: str
    wanted: Format | None = None
    in_place: bool = False
    into_folder: bool = False

    def job(self, source: Source) -> Job:
        """Where a result goes. Raises ConvcliError for a bad template or format."""
        if self.in_place:
            if source.path is None:
                raise ConvcliError(f"--in-place needs a file, not {source.name!r}")
            check_writable(source.path)
            return Job(source, source.path, self.wanted or format_of(source.path))
        if self.output == STREAM or (self.output is None and (source.is_array or source.name == STREAM)):
            return Job(source, None, self.wanted or FORMATS["TEXT" if source.is_array else "PNG"])
        suffix = source.suffix
        if self.wanted and OF_SUFFIX.get(suffix.lower()) != self.wanted:
            suffix = self.wanted.suffix
        words = {
            "stem": source.stem,
            "ext": suffix,
            "parent": source.parent,
            "command": re.sub(r"[:,=/\\]", "-", self.command),
        }
        words |= {name: f"{{{name}}}" for name in NUMBERED}
        if self.output is None:
            path = (source.path or Path()).with_name(f"{words['stem']}.{words['command']}{suffix}")
        elif self.into_folder:
            path = inside(self.output, source.parent) / f"{words['stem']}{suffix}"
        else:
            path = place(_fill(self.output, words))
        check_writable(path)
        return Job(source, path, self.wanted or format_of(path))

    def patterns(self, group: Group) -> dict[str, Job]:
        """The job of each suffix in a group, with a mark for the stem."""
        return {suffix: self.job(group.source(f"{MARK}{suffix}")) for suffix in group.suffixes}


class Plan:
    """The jobs of all inputs in order, also of those with a problem; ``targets`` are the formats by name.

    Raises ConvcliError for a bad template or format, several results in one place, or a result in the place of an input
    or of a file that is to be ``kept``.
    """

    def __init__(self, inputs: Inputs, naming: Naming, kept: Sequence[Path] = ()) -> None:
        self.inputs, self.naming = inputs, naming
        self.targets: dict[str, Format] = {}
        self.to_stdout = False
        for item in inputs.items:
            for job in self._kinds(item):
                self.targets[job.target.name] = job.target
                self.to_stdout = self.to_stdout or job.output is None
        if not self._surely_apart(kept):
            _check_each(self, naming, kept)

    def __iter__(self) -> Iterator[Job]:
        return (
            Job(source, None, FORMATS["PNG"]) if source.problem else self.naming.job(source) for source in self.inputs
        )

    def _kinds(self, item: Source | Group) -> Collection[Job]:
        """A job of each format that comes out."""
        if isinstance(item, Group):
            return self.naming.patterns(item).values()
        return [] if item.problem else [self.naming.job(item)]

    def _surely_apart(self, kept: Sequence[Path]) -> bool:
        """Whether a quick look at whole folders tells that no two files of this run are one: a hundred thousand names
        must not keep the first picture waiting. If not, each is looked at."""
        written: dict[str, set[str]] = {}
        for item in self.inputs.items:
            if not isinstance(item, Group) or item.links:
                return False
            patterns = {suffix: job.output or Path() for suffix, job in self.naming.patterns(item).items()}
            fixed = all(MARK in one.name and str(one).count(MARK) == 1 for one in patterns.values())
            if not fixed or any("{" in one.name for one in patterns.values()):
                return False
            folders = {folded(one.parent) for one in patterns.values()}
            if len(folders) != 1 or any(_has_links(one.parent) for one in patterns.values()):
                return False
            names = set[str]()
            for suffix, one in patterns.items():
                before, _, after = one.name.casefold().partition(MARK)
                stems = (name[: -len(suffix)] for name in item.names if name.endswith(suffix))
                names |= {before + stem.casefold() + after for stem in stems}
            others = written.setdefault(folders.pop(), names)
            if len(names) != len(item.names) or not (others is names or others.isdisjoint(names)):
                return False
            others |= names
        read = [(folded(place(item.folder)), item.names) for item in self.inputs.items if isinstance(item, Group)]
        read += [(folded(path.parent), [path.name]) for path in kept]
        return self.naming.in_place or all(
            written[folder].isdisjoint(map(str.casefold, names)) for folder, names in read if folder in written
        )


def _check_each(jobs: Plan, naming: Naming, kept: Sequence[Path]) -> None:
    inputs = _read_places(jobs, kept)
    sound = [job for job in jobs if not job.source.problem]
    arrays = all(job.source.is_array for job in sound)
    taken: dict[str, Job] = {}
    for job in sound:
        if job.output is None:
            if len(sound) > 1 and not (arrays if naming.output == STREAM else job.source.is_array):
                what = "-o - takes one input" if naming.output == STREAM else "standard output takes one result"
                raise ConvcliError(f"{what}; give a folder, as in -o out/")
            continue
        where = identity(job.output)
        if ADJACENT.search(where):
            raise ConvcliError(f"-o: {job.output} could mean two files; put more than digits between the numbers")
        other = taken.setdefault(AROUND.sub(MARK, folded(job.output)) if job.split else folded(job.output), job)
        if other is not job:
            raise ConvcliError(_collision(other, job))
        if not naming.in_place and _written_among(where, inputs):
            raise ConvcliError(f"the output {job.output} is an input; only --in-place overwrites inputs")


def _collision(one: Job, other: Job) -> str:
    if one.source.path == other.source.path:
        return f"{one.source.name} is given twice"
    names = f"{one.source.name} and {other.source.name}"
    if one.output != other.output:
        return f"{names} would be written to {one.output} and {other.output}, which are one file on some disks"
    return f"{names} would both be written to {one.output}; give them different folders or names"


def check_traces(jobs: Iterable[Job], trace: Path, labels: Sequence[str], kept: Sequence[Path]) -> None:
    """Raise ConvcliError if two inputs would be traced in one folder, or a trace would harm another file of the run."""
    taken: dict[str, Job] = {}
    traces: set[str] = set()
    for job in jobs:
        sheets = trace_files(trace, job, labels)
        traces |= {identity(path) for sheet in sheets for path in (sheet, sheet.with_suffix(".json"))}
        other = taken.setdefault(folded(trace_folder(trace, job)), job)
        if other is not job:
            names = f"{other.source.name} and {job.source.name}"
            raise ConvcliError(f"--trace: {names} would share {trace_folder(trace, job)}; trace them apart")
    harmed = sorted(traces & _read_places(jobs, kept)) + [
        str(job.output) for job in jobs if job.output and _written_among(identity(job.output), traces)
    ]
    if harmed:
        raise ConvcliError(f"--trace: {harmed[0]} is an input or an output of this run; trace elsewhere")


def name_report(option: str, path: Path, jobs: Iterable[Job], kept: Sequence[Path], existing: Existing) -> Path:
    """Where a report goes. Raises ConvcliError for the place of an input, a result or a file that is to be kept, for a
    folder that is not there, and for a file that is, unless ``existing`` allows it."""
    where = identity(path)
    written = any(_written_among(identity(job.output), {where}) for job in jobs if job.output)
    if written or where in _read_places(jobs, kept):
        raise ConvcliError(f"{option}: {path} is an input or an output of this run; give it another name")
    if path.is_dir() or not path.parent.is_dir():
        raise ConvcliError(f"{option}: {path} is a folder" if path.is_dir() else f"{option}: there is no {path.parent}")
    if existing is Existing.RENAME and os.path.lexists(path):
        return free_name(path)
    if existing is not Existing.OVERWRITE and os.path.lexists(path):
        raise ConvcliError(f"{option}: {path} exists; add -f to overwrite it")
    return path


def trace_files(trace: Path, job: Job, labels: Iterable[str]) -> list[Path]:
    """The sheets of an input's layers."""
    names = [re.sub(r"[^\w+-]+", "-", label).strip("-")[:40] for label in labels]
    digits, folder = max(2, len(str(len(names)))), trace_folder(trace, job)
    return [folder / f"{number:0{digits}}-{name}.png" for number, name in enumerate(names, 1)]


def trace_folder(trace: Path, job: Job) -> Path:
    """Where the trace of an input goes."""
    return trace / job.source.parent / job.source.stem


def is_folder(output: str) -> bool:
    """Whether ``-o`` names a folder: it ends with a slash, or is one."""
    if output.endswith(("/", os.sep)):
        return True
    where = place(output)
    if is_remote(where):
        with suppress(OSError):  # what may be written may not be asked for
            return kind_of(where) == "directory"
        return False
    return exists(where) and where.is_dir()


def is_template(output: str) -> bool:
    """Whether ``-o`` has fields to fill."""
    return re.search(r"\{[^{}]*\}", output) is not None


def output_root(output: str | None) -> Path | None:
    """The folder that results go below, which is never taken as an input; of a template, what is before its fields."""
    if not output or output == STREAM:
        return None
    return place(output.partition("{")[0] + "x").parent if is_template(output) else place(output)


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
    return {identity(path) for path in (*kept, *(job.source.path for job in jobs)) if path is not None}


def _written_among(place: str, others: set[str]) -> bool:
    """Whether an output's place, or one that its ``{channel}`` or ``{frame}`` stands for, is among others."""
    fixed = re.split("|".join(rf"\{{{name}\}}" for name in NUMBERED), place)
    if len(fixed) == 1:
        return place in others
    pattern = re.compile(r"\d+".join(map(re.escape, fixed)), re.DOTALL)
    return any(pattern.fullmatch(one) for one in others if one.startswith(fixed[0]))


def _has_links(folder: Path) -> bool:
    """Whether a folder has links in it, so that its names do not tell its files."""
    if is_remote(folder):
        return False
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_symlink() for entry in entries)
    except OSError:  # not there yet
        return False


def free_name(path: Path, taken: Collection[Path] = ()) -> Path:
    """``photo-1.png``, ``photo-2.png`` ...: the first that is free, and not ``taken`` by what is still under way."""
    number = 1
    while is_there(free := path.with_name(f"{path.stem}-{number}{path.suffix}")) or free in taken:
        number += 1
    return free
