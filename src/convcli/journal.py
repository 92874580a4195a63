"""What has been done in an output folder: a line for each job begun and ended, so that a killed run can go on."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from convcli.errors import ConvcliError, system_words
from convcli.jobs import Result
from convcli.naming import Job

NAME = ".convcli-journal.jsonl"
BEGUN, WRITTEN = "begun", "written"


class Entry(NamedTuple):
    """The state of one output: of which input by its size and time, by which recipe, and how far."""

    size: int
    time: int
    recipe: str
    status: str


class Journal:
    """The journal of a folder, held by one run at a time; its keys are outputs below the folder.

    A line that was cut off by a crash counts for nothing. Raises ConvcliError if it can't be opened, or another run
    holds it.
    """

    def __init__(self, folder: Path, recipe: str, *, durable: bool = False) -> None:
        self._folder, self._recipe, self._durable = folder, sha256(recipe.encode()).hexdigest()[:16], durable
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise ConvcliError(f"--resume: can't open {path}: {system_words(error)}") from None
        if not _locked(self._file.fileno()):
            raise ConvcliError(f"--resume: another run is at work in {folder}")
        self._entries = dict(self._read())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def remaining(self, jobs: Iterable[Job], done: Callable[[Result], object]) -> Iterator[Job]:
        """The jobs that are still to be done, noted as begun; the others are given to ``done`` as skipped."""
        for job in jobs:
            if job.output is None or job.source.path is None:
                yield job
                continue
            entry, known = self._entry(job, BEGUN), self._entries.get(self._key(job))
            if known == entry._replace(status=WRITTEN) and all(map(os.path.lexists, self._outputs(job))):
                done(Result(job, "skipped", outputs=(job.output,)))
                continue
            self._note(job, entry)
            yield job._replace(renew=known is not None)

    def end(self, result: Result) -> None:
        """Note what became of a job."""
        known = self._entries.get(self._key(result.job)) if result.job.output else None
        if known and result.status != "skipped":
            self._note(result.job, known._replace(status=result.status))

    def _outputs(self, job: Job) -> list[Path]:
        """The file of a job, or the first of its files."""
        return [job.path(channel=0, frame=0)]

    def _entry(self, job: Job, status: str) -> Entry:
        try:
            found = os.stat(job.source.path or "")  # noqa: PTH116
        except OSError:
            return Entry(-1, -1, self._recipe, status)
        return Entry(found.st_size, found.st_mtime_ns, self._recipe, status)

    def _key(self, job: Job) -> str:
        return os.path.relpath(job.output or "", self._folder)

    def _note(self, job: Job, entry: Entry) -> None:
        key = self._key(job)
        self._entries[key] = entry
        line = json.dumps({"output": key, "input": job.source.name, **entry._asdict()})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if self._durable:
            os.fsync(self._file.fileno())

    def _read(self) -> Iterator[tuple[str, Entry]]:
        self._file.seek(0)
        line = b"\n"
        for line in self._file:
            try:
                found = json.loads(line)
                yield found["output"], Entry(*(found[name] for name in Entry._fields))
            except (ValueError, KeyError, TypeError):
                continue  # cut off
        if not line.endswith(b"\n"):
            self._file.write(b"\n")


def _locked(descriptor: int) -> bool:
    """Whether the file could be taken for this process alone."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
