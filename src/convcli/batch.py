"""From what a user names to what is done: inputs found, outputs named, dangers refused, then one job after another.

A :class:`Job` and a :class:`Result` are data, and :func:`run_job` is total: whatever one input does wrong is in its
result, and never ends the run.
"""

import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcli.errors import ConvcliError, PictureError, system_words, unexpected
from convcli.matrices import MATRIX_SUFFIXES, format_array, parse_matrix, read_array
from convcli.words import Existing, Range

if TYPE_CHECKING:
    from convcli.images.picture import Picture
    from convcli.recipe import Outcome, Recipe

STREAM = "-"
TOKENS = ("stem", "ext", "parent", "command")


class Source(NamedTuple):
    """One input: a file below a root, standard input, or an inline matrix. Results are named by ``suffix``."""

    name: str
    path: Path | None = None
    root: Path | None = None
    text: str | None = None
    suffix: str = ".png"

    @property
    def is_array(self) -> bool:
        """Plain numbers rather than a picture."""
        return self.text is not None or (self.path is not None and self.path.suffix.lower() in MATRIX_SUFFIXES)


class Job(NamedTuple):
    """One input and where its result goes: a path, or None for standard output. ``format`` is a file format's name."""

    source: Source
    output: Path | None
    format: str


class Settings(NamedTuple):
    """How files are treated, the same for every job."""

    existing: Existing = Existing.ERROR
    in_place: bool = False
    make_folders: bool = False
    dry_run: bool = False


class Result(NamedTuple):
    """What became of a job. ``data`` is what belongs on standard output."""

    job: Job
    status: str
    seconds: float = 0.0
    output: Path | None = None
    error: str | None = None
    outcome: "Outcome | None" = None
    notices: tuple[str, ...] = ()
    data: bytes | None = None

    def record(self) -> dict[str, Any]:
        """The JSON object of one input; numbers that JSON does not know are null."""
        output = str(self.output) if self.output is not None else STREAM if self.status == "written" else None
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


def find_sources(
    names: Sequence[str], *, recursive: bool = False, output: Path | None = None
) -> Iterator[Source | Result]:
    """Every input in order: files as named, folders as their pictures, sorted; a Result for one that is not there.

    Hidden files, symbolic links to folders and the output folder are left alone inside a folder.
    """
    for name in names:
        path = Path(name)
        if name == STREAM:
            yield Source(name)
        elif not name:
            yield failed(Source(name), "no such file: its name is empty")
        elif name.startswith("[") and name.rstrip().endswith("]") and not _exists(path):
            yield Source(name, text=name, suffix=".txt")
        elif not _exists(path):
            yield failed(Source(name, path), "no such file")
        elif path.is_dir():
            found = list(_pictures_in(path, path, recursive, output))
            yield from found
            if not found:
                hint = "" if recursive or not _has_folders(path) else "; add -r to look in its folders"
                yield failed(Source(name, path), f"a folder without pictures{hint}")
        else:
            yield _file(name, path)


def _file(name: str, path: Path) -> Source | Result:
    """A file by its suffix, or, where that says nothing, by its first bytes; a Result for what is no picture."""
    from convcli.images.reading import READABLE, sniff_suffix
    from convcli.images.writing import SUFFIX_FORMATS

    if not path.is_file():  # a pipe, which can't be looked into
        return Source(name, path)
    if path.suffix.lower() in SUFFIX_FORMATS:
        return Source(name, path, suffix=path.suffix)
    try:
        suffix = sniff_suffix(path)
    except OSError as error:
        return failed(Source(name, path), system_words(error))
    if suffix is None:
        return failed(Source(name, path), f"not a picture that can be read ({READABLE})")
    return Source(name, path, suffix=suffix)


def failed(source: Source, error: str) -> Result:
    """A result for an input that never became a job."""
    return Result(Job(source, None, ""), "failed", error=error)


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
    inputs = {_identity(path) for path in (*kept, *(one.path for one in sources if one.path))}
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
        if place in inputs and not in_place:
            raise ConvcliError(f"the output {job.output} is an input; only --in-place overwrites inputs")
    return jobs


def _collision(one: Job, other: Job) -> str:
    if one.source.path == other.source.path:
        return f"{one.source.name} is given twice"
    names = f"{one.source.name} and {other.source.name}"
    if one.output != other.output:
        return f"{names} would be written to {one.output} and {other.output}, which are one file on some disks"
    return f"{names} would both be written to {one.output}; give them different folders or names"


def name_report(path: Path, jobs: Iterable[Job], kept: Sequence[Path], existing: Existing) -> Path:
    """Where a report goes. Raises ConvcliError for the place of an input, a result or a file that is to be kept, for a
    folder that is not there, and for a file that is, unless ``existing`` allows it."""
    taken = {_identity(one) for job in jobs for one in (job.source.path, job.output) if one is not None}
    if _identity(path) in taken | {_identity(one) for one in kept}:
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
        output = _target(job.output, settings)
        if settings.existing is Existing.SKIP and output is not None and os.path.lexists(output):
            return Result(job, "skipped", time.perf_counter() - start, output)
        if settings.dry_run:
            return Result(job, "planned", time.perf_counter() - start, output)
        data, outcome, notices = _process(job, recipe, settings)
        if output is not None:
            output = _write(output, data, settings)
        done = Result(job, "written", time.perf_counter() - start, output, outcome=outcome, notices=notices)
        return done if output is not None else done._replace(data=data)
    except Exception as error:
        if os.environ.get("CONVCLI_DEBUG"):
            raise
        return Result(job, "failed", time.perf_counter() - start, error=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, ConvcliError):
        return str(error)
    return "not enough memory for this picture" if isinstance(error, MemoryError) else unexpected(error)


def _target(output: Path | None, settings: Settings) -> Path | None:
    """Where a result goes after a look at what is there; PictureError if it can't go anywhere."""
    if output is None or settings.in_place:
        return output
    if os.path.lexists(output):
        if settings.existing is Existing.ERROR:
            raise PictureError(f"{output} exists; add -f to overwrite it, or --existing skip or rename")
        if settings.existing is Existing.RENAME:
            return _free_name(output)
    elif not settings.make_folders and not output.parent.is_dir():
        raise PictureError(f"there is no folder {output.parent} to write in")
    return output


def _process(job: Job, recipe: "Recipe", settings: Settings) -> "tuple[bytes, Outcome, tuple[str, ...]]":
    """The bytes of the result, what happened, and what there is to say."""
    import numpy as np

    with np.errstate(all="ignore"):
        return _process_array(job, recipe) if job.source.is_array else _process_picture(job, recipe, settings)


def _process_picture(job: Job, recipe: "Recipe", settings: Settings) -> "tuple[bytes, Outcome, tuple[str, ...]]":
    import numpy as np

    from convcli.images.writing import ARRAY_FORMATS, encode, fit_for
    from convcli.recipe import filter_picture, store_picture

    source = _read(job.source, recipe)
    if settings.in_place and source.frames > 1:
        raise PictureError(
            f"has {source.frames} frames, of which only the first would stay; write it elsewhere with -o"
        )
    floats = job.format in ARRAY_FORMATS or (recipe.range is Range.NONE and job.format == "TIFF")
    picture, outcome = filter_picture(source, recipe, keep_floats=floats)
    if job.format in ARRAY_FORMATS:
        return _encode_array(picture.to_array(), job.format), outcome, picture.notices
    if picture.pixels.dtype.kind == "f" and not floats and (job.format != "TIFF" or picture.pixels.shape[2] > 1):
        picture, _ = store_picture(picture, Range.NONE, np.uint8)
    picture = fit_for(picture, job.format)
    return encode(picture, job.format, recipe.threads), outcome, picture.notices


def _process_array(job: Job, recipe: "Recipe") -> "tuple[bytes, Outcome, tuple[str, ...]]":
    from dataclasses import replace

    import numpy as np

    from convcli.images.picture import picture_from_array
    from convcli.images.writing import ARRAY_FORMATS, encode, fit_for
    from convcli.recipe import filter_array, store_picture

    source = job.source
    array = parse_matrix(source.text) if source.text is not None else read_array(_path(source), 4 * recipe.max_pixels)
    _check_array(array, recipe.max_pixels)
    if job.format in ARRAY_FORMATS:
        array, outcome = filter_array(array, recipe)
        return _encode_array(array, job.format), outcome, ()
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"what white is in {array.dtype} isn't known; save the array as uint8, uint16 or fractions")
    depth = array.dtype if array.dtype.kind == "u" else np.dtype(np.uint8)
    unit = float(np.iinfo(depth).max) if array.dtype == depth else 1.0
    result, outcome = filter_array(array, replace(recipe, range=Range.NONE), unit=unit)
    picture, extent = store_picture(picture_from_array(result, unit), recipe.range or Range.CLIP, depth)
    picture = fit_for(picture, job.format)
    return (
        encode(picture, job.format, recipe.threads),
        outcome._replace(extent=extent, unit=unit, range=recipe.range or Range.CLIP),
        picture.notices,
    )


def _read(source: Source, recipe: "Recipe") -> "Picture":
    from convcli.images.reading import read_all, read_picture

    if source.path is not None:
        return read_picture(source.path, recipe.max_pixels)
    data = read_all(sys.stdin.buffer)
    if not data:
        raise PictureError("nothing came in on standard input")
    return read_picture(data, recipe.max_pixels)


def _path(source: Source) -> Path:
    if source.path is None:
        raise PictureError("is not a file")
    return source.path


def _check_array(array: Any, max_pixels: int) -> None:
    if not 2 <= array.ndim <= 4 or array.size == 0:
        raise PictureError(f"an array must be (H, W), (C, H, W) or (N, C, H, W) and not empty, not {array.shape}")
    if array.shape[-1] * array.shape[-2] > max_pixels:
        raise PictureError(f"it has {array.shape[-2]}x{array.shape[-1]} values, more than --max-pixels {max_pixels:,}")


def _encode_array(array: Any, file_format: str) -> bytes:
    if file_format != "NPY":
        return format_array(array, "," if file_format == "CSV" else " ").encode()
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


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
        "stem": source.path.stem if source.path else "stdin" if source.name == STREAM else "matrix",
        "ext": suffix,
        "parent": _parent(source),
        "command": re.sub(r"[:,=/\\]", "-", command),
    }
    if output is None:
        path = (source.path or Path()).with_name(f"{words['stem']}.{words['command']}{suffix}")
    elif is_folder(output):
        path = Path(output) / words["parent"] / f"{words['stem']}{suffix}"
    else:
        path = Path(_fill(output, words))
    return Job(source, path, format_of(path, file_format))


def is_folder(output: str) -> bool:
    """Whether ``-o`` names a folder: it ends with a slash, or is one."""
    return output.endswith(("/", os.sep)) or (_exists(Path(output)) and Path(output).is_dir())


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


def _parent(source: Source) -> str:
    """The folder of a file below its input root."""
    if source.path is None or source.root is None:
        return "."
    return str(source.path.parent.relative_to(source.root))


def _exists(path: Path) -> bool:
    """Whether a path is there; one that is too long, or holds a NUL, is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _pictures_in(folder: Path, root: Path, recursive: bool, output: Path | None) -> Iterator[Source | Result]:
    """Picture files of a folder, sorted, then, if asked, those of its sub-folders."""
    from convcli.images.picture import PICTURE_SUFFIXES

    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield failed(Source(str(folder), folder), system_words(error))
        return
    visible = [Path(entry.path) for entry in entries if not entry.name.startswith(".")]
    for path in visible:
        if path.suffix.lower() in PICTURE_SUFFIXES and _exists(path) and path.is_file():
            yield Source(str(path), path, root, suffix=path.suffix)
    for path in visible if recursive else ():
        if path.is_dir() and not path.is_symlink() and not (output and output.exists() and output.samefile(path)):
            yield from _pictures_in(path, root, recursive, output)


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def _identity(path: Path) -> str:
    """The one name of a file, links followed."""
    return os.path.realpath(path)


def _free_name(path: Path) -> Path:
    """``photo-1.png``, ``photo-2.png`` ...: the first that is free."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    return free
