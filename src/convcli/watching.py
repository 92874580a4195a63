"""What arrives in folders, round after round, as jobs."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convcli.errors import ConvcliError
from convcli.jobs import Result
from convcli.naming import Job, Naming, Plan
from convcli.places import State, is_there, stamp_of, state_of
from convcli.sources import Group, Inputs, Source

STEP = 200  # milliseconds between two looks
SETTLED = 1.0  # seconds without a change after which a file counts as whole


def check_watching(names: Sequence[str]) -> None:
    """Raise ConvcliError if names can't be watched."""
    if not names:
        raise ConvcliError("--watch: needs folders")
    for name in names:
        if not Path(name).is_dir():
            raise ConvcliError(f"--watch: needs folders, and {name} is none")
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConvcliError("--watch: needs watchfiles; pip install 'convcli[watch]'") from None


class Watch:
    """The jobs of what comes and changes. ``look`` finds the inputs that are there, ``replace`` says that results are
    to be made anew which are there at the beginning."""

    def __init__(self, look: Callable[[], Inputs], naming: Naming, kept: Sequence[Path], *, replace: bool) -> None:
        self._look, self._naming, self._kept, self._replace = look, naming, kept, replace
        self._made: dict[tuple[Path | None, Path | None], Path] = {}  # results, by inputs and planned outputs
        self._planned: dict[Path | None, State] = {}  # inputs as they were when they became jobs
        self._done: dict[Path | None, State] = {}  # and those among them that have results
        self._refused: set[Path] = set()

    def rounds(self, changes: Iterable[set[Path] | None]) -> Iterator[list[Job]]:
        """The jobs of each round of changes; of the first, which is None, all that have no output yet.

        What this run has made is renewed, unless only attributes of its input have changed, or this came just as
        watching began and was seen already. An input whose result would be in the place of another's becomes a job
        with a problem.
        """
        for changed in changes:
            inputs = without(self._look(), self._refused - (changed or set()))
            try:
                plan = Plan(inputs, self._naming, self._kept)
                jobs = [job for job in plan if changed is None or job.source.path in changed]
            except ConvcliError:
                jobs = list(self._one_by_one(inputs, changed or set()))
            if changed is None:
                jobs = [job for job in jobs if not job.source.problem and (self._replace or not _is_done(job))]
            jobs = [job for job in map(self._renewed, jobs) if not self._is_known(job)]
            self._planned |= {job.source.path: state_of(job.source.path) for job in jobs if job.source.path}
            if jobs:
                yield jobs

    def note(self, result: Result) -> None:
        """Remember what was written for a job."""
        output = result.job.output
        if result.status != "written" or output is None:
            return
        self._done[result.job.source.path] = self._planned.get(result.job.source.path, ())
        if not result.job.split:
            self._made[result.job.source.path, output] = result.outputs[0]  # --existing rename may have changed it
        elif result.job.path(channel=0, frame=0) in result.outputs:  # under no other name
            self._made[result.job.source.path, output] = output

    def _is_known(self, job: Job) -> bool:
        """Whether the input is as it was when its result was made, which is there; not where files have the time in
        seconds, within one of which it can be written twice."""
        path = job.source.path
        before = self._done.get(path)
        if path is None or not before or before != state_of(path):
            return False
        return stamp_of(path)[1] % 10**9 != 0 and _is_done(job)

    def _renewed(self, job: Job) -> Job:
        made = self._made.get((job.source.path, job.output))
        return job if made is None else job._replace(output=made, renew=True)

    def _one_by_one(self, inputs: Inputs, changed: set[Path]) -> Iterator[Job]:
        """The jobs of changes that can't all be planned together: as many as go with what is there."""
        waiting = {source.path for source in inputs if source.path in changed}
        for source in inputs:
            if source.path is not None and source.path in waiting:
                waiting.discard(source.path)
                self._refused.discard(source.path)
                try:
                    Plan(without(inputs, waiting | self._refused), self._naming, self._kept)
                    yield self._naming.job(source)
                except ConvcliError as error:
                    self._refused.add(source.path)
                    yield self._naming.job(source._replace(problem=str(error)))


Changes = Iterator[set[Path] | None]


def settled_changes(folders: Sequence[str], *, recursive: bool, ended: Callable[[], bool]) -> Changes:
    """None once watching has begun; then, until it has ``ended``, what has come or changed and was left alone since.

    Another None says that something was missed. Raises ConvcliError if a folder is not there any more.
    """
    from watchfiles import watch

    places = {os.path.realpath(folder): Path(folder) for folder in folders}
    options: dict[str, Any] = {"debounce": STEP, "rust_timeout": STEP, "yield_on_timeout": True}
    while not ended():
        for folder in places.values():
            if not folder.is_dir():
                raise ConvcliError(f"{folder}: is not there any more")
        try:
            found = watch(*places, recursive=recursive, watch_filter=None, raise_interrupt=False, **options)
            yield from _settled(found, places, ended)
        except RuntimeError:  # a name that is no text: the next look finds all others
            continue


def _settled(found: Iterable[set[tuple[Any, str]]], places: Mapping[str, Path], ended: Callable[[], bool]) -> Changes:
    from watchfiles import Change

    moments: dict[Path, float] = {}
    begun = False
    for changes in found:
        if ended() or not all(folder.is_dir() for folder in places.values()):
            return
        if not begun:
            begun = True
            yield None
        now = time.monotonic()
        for change, name in changes:
            if change != Change.deleted:
                inside = [(root, folder) for root, folder in places.items() if Path(name).is_relative_to(root)]
                for root, folder in inside:
                    moments |= dict.fromkeys(_files_of(folder / Path(name).relative_to(root)), now)
        settled = {path for path, moment in moments.items() if now - moment > SETTLED}
        if settled:
            moments = {path: moment for path, moment in moments.items() if path not in settled}
            yield settled


def _files_of(path: Path) -> list[Path]:
    """A file itself; of a folder, which may have come as a whole, all that is in it."""
    return [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]


def _is_done(job: Job) -> bool:
    return job.output is not None and is_there(job.path(channel=0, frame=0))


def without(inputs: Inputs, paths: Collection[Path | None]) -> Inputs:
    """Inputs but for some."""
    items: list[Source | Group] = []
    for item in inputs.items:
        if isinstance(item, Group):
            item = item._replace(names=[name for name in item.names if Path(item.folder) / name not in paths])
            items += [item] if item.names else []
        elif item.path not in paths or item.path is None:
            items.append(item)
    return Inputs(items)


def without_results(inputs: Inputs, naming: Naming) -> Inputs:
    """Inputs but for those that are results of others, made by an earlier run."""
    return without(inputs, {naming.job(source).output for source in inputs if not source.problem})
