"""What has been done in an output folder: a line for each job begun and ended, so that a killed run can go on."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import BinaryIO, NamedTuple

from convcli.errors import ConvcliError, StorageError, system_words
from convcli.jobs import Result, tidy
from convcli.naming import Job
from convcli.places import stamp_of

NAME = ".convcli-journal.jsonl"
BEGUN, WRITTEN = "begun", "written"
PATIENCE = 2.0  # seconds: the workers of a killed run share its lock until they see that it is gone, a few tenths later


class Entry(NamedTuple):
    """The state of one output: of which input, by its name, size and time, by which recipe, how far, and whether what
    is there is of this run's making."""

    input: str
    size: int
    time: int
    recipe: str
    status: str
    ours: bool


class Journal:
    """The journal of a folder, held by one run at a time; its keys are outputs below the folder.

    A line that was cut off by a crash counts for nothing. With ``reading`` nothing is written. Raises ConvcliError if
    it can't be opened, or another run holds it.
    """

    def __init__(self, folder: Path, recipe: str, *, durable: bool = False, reading: bool = False) -> None:
        self._folder, self._recipe, self._durable = folder, sha256(recipe.encode()).hexdigest()[:16], durable
        self._reading = reading
        path = folder / NAME
        try:
            if not reading:
                folder.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = (
                path.open("rb" if reading else "a+b", buffering=0) if path.exists() or not reading else BytesIO()
            )
        except OSError as error:
            raise ConvcliError(f"--resume: can't open {path}: {system_words(error)}") from None
        if not reading and not _locked(self._file.fileno()):
            self._file.close()
            raise ConvcliError(f"--resume: another run is at work in {folder}")
        self._entries = dict(self._read())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def remaining(self, jobs: Iterable[Job], done: Callable[[Result], object]) -> Iterator[Job]:
        """The jobs that are still to be done, noted as begun; the others are given to ``done`` as skipped.

        What is there and not ours is no business of the journal's.
        """
        for job in jobs:
            if job.output is None or job.source.path is None:
                yield job
                continue
            there, known = os.path.lexists(job.path(channel=0, frame=0)), self._entries.get(self._key(job))
            ours = not there or (known is not None and known.ours)
            entry = self._entry(job, BEGUN, ours=ours)
            if there and known == entry._replace(status=WRITTEN):
                if not self._reading:
                    tidy(job.output.parent)
                done(Result(job, "skipped", outputs=(job.output,)))
                continue
            if ours:
                self._note(job, entry)
            yield job._replace(renew=there and ours)

    def end(self, result: Result) -> None:
        """Note what became of a job."""
        known = self._entries.get(self._key(result.job)) if result.job.output else None
        if known and known.status == BEGUN and result.status in (WRITTEN, "failed"):
            there = os.path.lexists(result.job.path(channel=0, frame=0))
            self._note(result.job, known._replace(status=result.status, ours=known.ours and there))

    def _entry(self, job: Job, status: str, *, ours: bool) -> Entry:
        try:
            size, time = stamp_of(job.source.path or Path())
        except OSError:
            size, time = -1, -1
        return Entry(job.source.name, size, time, self._recipe, status, ours)

    def _key(self, job: Job) -> str:
        return os.path.relpath(job.output or "", self._folder)

    def _note(self, job: Job, entry: Entry) -> None:
        key = self._key(job)
        self._entries[key] = entry
        if self._reading:
            return
        line = json.dumps({"output": key, **entry._asdict()})
        try:
            self._file.write(line.encode() + b"\n")
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"can't write {self._folder / NAME}: {system_words(error)}") from None

    def _read(self) -> Iterator[tuple[str, Entry]]:
        self._file.seek(0)
        line = b"\n"
        for line in self._file:
            try:
                found = json.loads(line)
                yield found["output"], Entry(*(found[name] for name in Entry._fields))
            except (ValueError, KeyError, TypeError):
                continue  # cut off
        if not line.endswith(b"\n") and not self._reading:
            self._file.write(b"\n")


def _locked(descriptor: int) -> bool:
    """Whether the file could be taken for this process and its children alone."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    end = monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > end:
                return False
            sleep(PATIENCE / 40)
        except OSError:  # a disk that knows no locks
            return True
        else:
            return True
