"""What arrives in folders, round after round, as jobs."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from convcli.errors import ConvcliError
from convcli.naming import Job, Naming, Plan
from convcli.sources import Group, Inputs, Source

STEP = 200  # milliseconds between two looks
SETTLED = 1.0  # seconds without a change after which a file counts as whole


def check_watching(names: Sequence[str]) -> None:
    """Raise ConvcliError if names can't be watched."""
    for name in names:
        if not Path(name).is_dir():
            raise ConvcliError(f"--watch: needs folders, and {name} is none")
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise ConvcliError("--watch: needs watchfiles; pip install 'convcli[watch]'") from None


def watched_jobs(
    look: Callable[[], Inputs],
    naming: Naming,
    kept: Sequence[Path],
    changes: Iterator[set[Path] | None],
    made: Collection[Path],
    *,
    replace: bool = False,
) -> Iterator[list[Job]]:
    """The jobs of each round of changes; of the first, which is None, all that have no output yet or ``replace`` one.

    An output that this run has ``made`` is renewed. What can't be planned becomes jobs with a problem.
    """
    for changed in changes:
        try:
            inputs = look()
            if not naming.into_folder:
                inputs = _without_results(inputs, naming)
            jobs: list[Job] = []
            for job in Plan(inputs, naming, kept):
                new = job.source.path in changed if changed is not None else replace or not _is_done(job)
                if new and not (job.source.problem and changed is None):
                    jobs.append(job._replace(renew=job.output in made))
        except ConvcliError as error:
            sources = [Source(str(path), path, problem=str(error)) for path in sorted(changed or ())]
            jobs = [naming.job(source) for source in sources if source.path and source.path.is_file()]
        if jobs:
            yield jobs


def settled_changes(
    folders: Sequence[str], *, recursive: bool, ended: Callable[[], bool]
) -> Iterator[set[Path] | None]:
    """None once watching has begun; then, until it has ``ended``, what has come or changed and was left alone since."""
    from watchfiles import Change, watch

    places = {os.path.realpath(folder): Path(folder) for folder in folders}
    moments: dict[Path, float] = {}
    begun = False
    for found in watch(
        *places,
        recursive=recursive,
        watch_filter=None,
        debounce=STEP,
        rust_timeout=STEP,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        if ended():
            return
        if not begun:
            begun = True
            yield None
        now = time.monotonic()
        for change, name in found:
            if change != Change.deleted:
                inside = [(root, folder) for root, folder in places.items() if Path(name).is_relative_to(root)]
                moments |= {folder / Path(name).relative_to(root): now for root, folder in inside}
        settled = {path for path, moment in moments.items() if now - moment > SETTLED}
        if settled:
            moments = {path: moment for path, moment in moments.items() if path not in settled}
            yield settled


def _is_done(job: Job) -> bool:
    return job.output is not None and os.path.lexists(job.path(channel=0, frame=0))


def _without_results(inputs: Inputs, naming: Naming) -> Inputs:
    """Inputs but for those that are results of others, made by an earlier run."""
    results = {naming.job(source).output for source in inputs if not source.problem}
    items: list[Source | Group] = []
    for item in inputs.items:
        if isinstance(item, Group):
            item = item._replace(names=[name for name in item.names if Path(item.folder) / name not in results])
        items.append(item)
    return Inputs([item for item in items if not isinstance(item, Group) or item.names])
