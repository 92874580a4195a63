"""What every filter and pool command does with its inputs: plan, run one after another, report."""

import shlex
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from convcli import __version__
from convcli.batch import Stop, heeding_signals, run_here, run_jobs
from convcli.cli.checks import Asked, check_cluster, check_inputs, check_outputs, check_values, urls_of
from convcli.cli.options import OF_THE_RUN, WITHOUT_EFFECT, CommonOptions
from convcli.cli.talk import Talk
from convcli.crew import Crew, Processes, Work, share_cores
from convcli.errors import ConvcliError
from convcli.images.png import FAST
from convcli.images.writing import WHITE, Encoding
from convcli.jobs import Result, Settings, begin_reading, first_frame, tidy
from convcli.layers import Layer
from convcli.naming import Naming, Plan, check_traces, is_folder, is_template, name_report, output_root
from convcli.places import forget, is_private, is_remote
from convcli.recipe import Recipe
from convcli.sources import Inputs, find_sources
from convcli.watching import Watch, settled_changes, without_results
from convcli.words import Existing, ExitStatus

if TYPE_CHECKING:
    from concurrent.futures import Future

    from convcli.images.picture import Frames
    from convcli.journal import Journal


def apply(name: str, names: Sequence[str], common: CommonOptions, ask: Callable[[], Asked]) -> int:
    """Do what is asked to inputs, and write over none of those or the files that it came from; the exit status.

    A single picture is decoded while ``ask`` and the modules of the engine, which it needs, are at work: decoders let
    other threads run. Raises ConvcliError for what is wrong before any work.
    """
    forget()
    tidy.cache_clear()
    into_folder = common.output not in (None, "") and is_folder(common.output)
    naming = Naming(common.output, name, common.file_format, common.in_place, into_folder)
    inputs = _find(names, naming, common)
    check_inputs(names, inputs, naming, common)
    with ExitStack() as stack:  # its end is waited for, whatever is raised: decoding TIFFs silences stderr
        reading = stack.enter_context(_reading_ahead(inputs, naming, common))
        asked = ask()
        check_values(inputs, asked, common)
        kept = [*asked.kept, *common.kept]
        plan = Plan(inputs, naming, kept)
        check_outputs(plan, common)
        if common.cluster is not None:
            check_cluster(plan, common)
        workers, threads = _share(inputs, common)
        settings = _settings(naming, common, asked, _encoding(name, common, threads))
        if asked.trace:
            check_traces(plan, asked.trace, [layer.label for layer in asked.layers], kept)
        reports = {
            option: name_report(option, path, plan, kept, settings.existing)
            for option, path in (("--report", common.report), ("--failed", common.failed))
            if path
        }
        work = Work(_recipe(asked.layers, common, threads), settings)
        stop = stack.enter_context(heeding_signals()) if len(inputs) > 1 or common.watch else Stop()
        talk = Talk(common, None if common.watch else len(inputs), data_on_stdout=plan.to_stdout)
        journal = stack.enter_context(_journal(name, common, settings, asked)) if common.resume else None
        crew = stack.enter_context(_crew(work, workers, plan, common, talk)) if _apart(plan, common) else None
        watch = _watch(names, naming, kept, common) if common.watch else None
        changes = settled_changes([*names, *common.listed], recursive=common.recursive, ended=lambda: stop.enough)
        for jobs in watch.rounds(changes) if watch else [plan]:
            left = journal.remaining(jobs, talk.say) if journal else iter(jobs)
            results = run_jobs(left, crew, stop, work) if crew else run_here(left, work, stop, reading)
            with closing(results):
                for result in results:
                    _note(result, talk, journal, stop, settings)
                    if watch:
                        watch.note(result)
        talk.end(interrupted=stop.signal is not None)
    written = [talk.write_report(reports["--report"])] if "--report" in reports else []
    written += [talk.write_failed(reports["--failed"])] if "--failed" in reports else []
    if stop.signal is not None:
        return 128 + stop.signal
    return ExitStatus.DONE if all(written) and not talk.failed else ExitStatus.FAILED


def _note(result: Result, talk: Talk, journal: "Journal | None", stop: Stop, settings: Settings) -> None:
    """What became of an input is kept, told, and may be the end of the run."""
    if journal:
        journal.end(result)
    if not (result.fatal and stop.enough):  # it has been said once
        talk.say(result)
    if result.fatal or (result.status == "failed" and settings.fail_fast):
        stop.enough = True  # what is under way is still told of


def _apart(plan: Plan, common: CommonOptions) -> bool:
    """Whether the work is done elsewhere: in processes it is worth it for pictures, if there are several."""
    several = len(plan.inputs) > 1 and not plan.to_stdout and plan.inputs.pictures
    return _address(common) is not None or common.watch or (several and not any(map(is_private, urls_of(plan, common))))


def _share(inputs: Inputs, common: CommonOptions) -> tuple[int, int]:
    """How many workers there are on this machine, and how many threads each of them, or of a cluster's, has."""
    if _address(common) is not None:
        return 0, common.threads or 1
    return share_cores(common.jobs, len(inputs) if not common.watch else sys.maxsize, common.threads)


def _address(common: CommonOptions) -> str | None:
    """The cluster's, if it is needed: a plan is made at home."""
    return None if common.dry_run else common.cluster


def _crew(work: Work, workers: int, plan: Plan, common: CommonOptions, talk: Talk) -> AbstractContextManager[Crew]:
    address = _address(common)
    if address is None:
        return Processes(work, workers, fork=not any(urls_of(plan, common)))
    from convcli.cluster import Cluster

    return Cluster(address, work, jobs=common.jobs, inputs=len(plan.inputs), notice=talk.notice)


def _watch(names: Sequence[str], naming: Naming, kept: Sequence[Path], common: CommonOptions) -> Watch:
    replace = common.force or common.existing is Existing.OVERWRITE
    return Watch(lambda: _find(names, naming, common), naming, kept, replace=replace)


def _find(names: Sequence[str], naming: Naming, common: CommonOptions) -> Inputs:
    root = output_root(common.output)
    inputs = find_sources([*names, *common.listed], recursive=common.recursive, output=root)
    if not common.watch or naming.into_folder:
        return inputs
    return without_results(inputs, naming)


@contextmanager
def _reading_ahead(inputs: Inputs, naming: Naming, common: CommonOptions) -> "Iterator[Future[Frames] | None]":
    """The only picture, on its way."""
    source = next(iter(inputs)) if len(inputs) == 1 else None
    if source is None or source.problem or common.dry_run or common.resume or common.existing is Existing.SKIP:
        yield None
        return
    job = naming.job(source)
    if job.target.name == "TIFF" and source.suffix.lower() in job.target.suffixes:  # which may go in strips
        yield None
        return
    frame = first_frame(job, common.frame, in_place=common.in_place)
    with ThreadPoolExecutor(1) as pool:
        yield begin_reading(pool, source, common.max_pixels, frame, common.threads)


def _journal(name: str, common: CommonOptions, settings: Settings, asked: Asked) -> "Journal":
    from convcli.journal import Journal

    root = output_root(common.output)
    if root is not None and is_remote(root):
        raise ConvcliError(f"--resume: keeps its journal in a folder, which {root} can't hold; add --existing skip")
    if root is None or not settings.make_folders:
        raise ConvcliError("--resume: keeps its journal in the output folder; give one, as in -o out/")
    words = [word for key, one in common.typed.items() if key not in WITHOUT_EFFECT for word in one]
    contents = [str(zlib.crc32(path.read_bytes())) for path in asked.kept if path.is_file()]
    recipe = " ".join([__version__, name, *words, *contents])
    return Journal(root, recipe, durable=settings.durable, reading=settings.dry_run)


def _recipe(layers: tuple[Layer, ...], common: CommonOptions, threads: int) -> Recipe:
    return Recipe(
        layers=layers,
        range=common.value_range,
        gray=common.gray,
        linear=common.linear,
        alpha=common.alpha,
        mix=common.mix,
        depth=common.depth,
        method=common.method,
        threads=threads,
        max_pixels=common.max_pixels,
    )


def _encoding(name: str, common: CommonOptions, threads: int) -> Encoding:
    words = [name, *(word for key, words in common.typed.items() if key not in OF_THE_RUN for word in words)]
    return Encoding(
        png=common.png or FAST,
        quality=common.quality,
        background=common.background or WHITE,
        strip=common.strip,
        made=None if common.strip else (f"convcli {__version__}", shlex.join(words)),
        threads=threads,
    )


def _settings(naming: Naming, common: CommonOptions, asked: Asked, encoding: Encoding) -> Settings:
    return Settings(
        encoding=encoding,
        existing=Existing.OVERWRITE if common.force else common.existing,
        in_place=common.in_place,
        make_folders=naming.into_folder or is_template(common.output or ""),
        dry_run=common.dry_run,
        frame=common.frame,
        preview=shutil.get_terminal_size().columns if common.preview else None,
        trace=asked.trace,
        max_memory=common.max_memory if common.max_memory is not None else asked.usual_memory,
        durable=common.durable,
        fail_fast=common.fail_fast,
    )
