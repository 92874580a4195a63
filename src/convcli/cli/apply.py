"""What every filter and pool command does with its inputs: plan, run one after another, report."""

import math
import shlex
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convcli import __version__
from convcli.batch import Stop, heeding_signals, run_here, run_jobs
from convcli.cli.options import OF_THE_RUN, WITHOUT_EFFECT, CommonOptions
from convcli.cli.streams import check_stdin, stdout_is_closed
from convcli.cli.talk import Talk
from convcli.crew import Crew, Processes, Work, share_cores
from convcli.errors import ConvcliError
from convcli.images.formats import FORMATS
from convcli.images.png import FAST
from convcli.images.writing import WHITE, Encoding
from convcli.jobs import Result, Settings, begin_reading, first_frame
from convcli.layers import Layer, check_layers
from convcli.naming import Naming, Plan, check_traces, is_folder, is_template, name_report, output_root
from convcli.places import forget, is_private, is_remote
from convcli.recipe import Recipe
from convcli.sources import STREAM, Group, Inputs, exists, find_sources
from convcli.values import Measure
from convcli.watching import Watch, check_watching, settled_changes, without_results
from convcli.words import AUTO, Depth, Existing, ExitStatus, Range

if TYPE_CHECKING:
    from concurrent.futures import Future

    from convcli.images.picture import Frames
    from convcli.journal import Journal


class Asked(NamedTuple):
    """What is asked of every input: layers, the values in them whose unit depends on the input, the files that they
    came from, and what ``run`` may be told besides."""

    layers: tuple[Layer, ...]
    measures: Sequence[Measure] = ()
    kept: Sequence[Path] = ()
    trace: Path | None = None
    usual_memory: float = math.inf


def apply(name: str, names: Sequence[str], common: CommonOptions, ask: Callable[[], Asked]) -> int:
    """Do what is asked to inputs, and write over none of those or the files that it came from; the exit status.

    A single picture is decoded while ``ask`` and the modules of the engine, which it needs, are at work: decoders let
    other threads run. Raises ConvcliError for what is wrong before any work.
    """
    forget()
    into_folder = common.output not in (None, "") and is_folder(common.output)
    naming = Naming(common.output, name, common.file_format, common.in_place, into_folder)
    inputs = _find(names, naming, common)
    _check_inputs(names, inputs, naming, common)
    with ExitStack() as stack:  # its end is waited for, whatever is raised: decoding TIFFs silences stderr
        reading = stack.enter_context(_reading_ahead(inputs, naming, common))
        asked = ask()
        _check_values(inputs, asked, common)
        kept = [*asked.kept, *common.kept]
        plan = Plan(inputs, naming, kept)
        _check_outputs(plan, common)
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
        crew = stack.enter_context(_crew(work, workers, inputs, common)) if _apart(plan, common) else None
        watch = _watch(names, naming, kept, common) if common.watch else None
        changes = settled_changes(names, recursive=common.recursive, ended=lambda: stop.enough)
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
    private = plan.inputs.private or is_private(common.output or "")
    return common.cluster is not None or common.watch or (several and not private)


def _share(inputs: Inputs, common: CommonOptions) -> tuple[int, int]:
    """How many workers there are on this machine, and how many threads each of them, or of a cluster's, has."""
    if common.cluster is not None:
        return 0, common.threads or 1
    return share_cores(common.jobs, len(inputs) if not common.watch else sys.maxsize, common.threads)


def _crew(work: Work, workers: int, inputs: Inputs, common: CommonOptions) -> AbstractContextManager[Crew]:
    if common.cluster is None:
        return Processes(work, workers)
    from convcli.cluster import Cluster

    return Cluster(common.cluster, work, jobs=common.jobs, inputs=len(inputs))


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
    if job.target is FORMATS["TIFF"]:  # which may go in strips
        yield None
        return
    frame = first_frame(job, common.frame, in_place=common.in_place)
    with ThreadPoolExecutor(1) as pool:
        yield begin_reading(pool, source, common.max_pixels, frame, common.threads)


def _journal(name: str, common: CommonOptions, settings: Settings, asked: Asked) -> "Journal":
    from convcli.journal import Journal

    root = output_root(common.output)
    if root is None or is_remote(root) or not settings.make_folders:
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


def _check_inputs(names: Sequence[str], inputs: Inputs, naming: Naming, common: CommonOptions) -> None:
    if not names and common.files_from is None:
        raise ConvcliError("INPUT: is missing; give files, folders or --files-from")
    if [*names, *common.listed].count(STREAM) + (common.files_from == STREAM) > 1:
        raise ConvcliError("-: standard input can be read only once")
    if STREAM in names or STREAM in common.listed:
        check_stdin("-")
    if common.output == "":
        raise ConvcliError("-o: is empty; give a file, a folder/ or -")
    folder = next((one.root for one in inputs.items if isinstance(one, Group)), None)
    if folder and not (common.output or common.in_place):
        raise ConvcliError(f"{folder}: a folder needs -o DIR/ for its results, or --in-place")
    root = output_root(common.output)
    for one in (root, *root.parents) if root and naming.into_folder and not is_remote(root) else ():
        if exists(one) and not one.is_dir():
            raise ConvcliError(f"-o: {common.output}: {one} is a file, not a folder")
    if common.watch:
        check_watching([*names, *common.listed])
        if common.in_place or common.dry_run:
            raise ConvcliError(f"--watch: does not go with {'--in-place' if common.in_place else '--dry-run'}")
        if is_private(common.output or ""):
            raise ConvcliError(f"--watch: what is in {common.output} ends with the run; give a folder")
    if common.in_place and common.output:
        raise ConvcliError("--in-place: takes no -o; choose one of them")


def _check_values(inputs: Inputs, asked: Asked, common: CommonOptions) -> None:
    arrays, pictures = inputs.arrays, inputs.pictures
    for measure in asked.measures:
        measure.check(pictures=pictures, arrays=arrays)
    for_pictures = {"--gray": common.gray, "--linear": common.linear, "--frame": common.frame is not None}
    for option, given in for_pictures.items():
        if arrays and given:
            raise ConvcliError(f"{option}: is for pictures, not for matrices and arrays")
    check_layers(asked.layers)
    if common.method != AUTO:
        from convcli.engine.plan import check_method

        try:
            check_method(common.method)
        except ConvcliError as error:
            raise ConvcliError(f"--method: {error}") from None


def _check_outputs(plan: Plan, common: CommonOptions) -> None:
    """Raise ConvcliError for what a format can't hold, and for what no format of this run heeds."""
    targets = plan.targets
    for name, target in targets.items():
        try:
            target.load_plugin()
        except ConvcliError as error:
            raise ConvcliError(f"-o: {error}") from None
        if common.value_range is Range.NONE and Depth.FLOAT not in target.depths:
            raise ConvcliError(f"--range: none keeps floats, which {name} can't; write .npy or .tiff")
        if common.value_range is Range.NONE and common.depth not in (None, Depth.FLOAT):
            raise ConvcliError(f"--range: none keeps floats, not --depth {common.depth}")
        if common.depth is not None and common.depth not in target.depths:
            others = [one.suffixes[0] for one in FORMATS.values() if common.depth in one.depths]
            raise ConvcliError(f"--depth: {name} does not hold {common.depth}; write {' or '.join(others[:3])}")
    heeded = {
        "--quality": (common.quality, {one.name for one in FORMATS.values() if one.quality}),
        "--png": (common.png, {"PNG"}),
        "--background": (common.background, {one.name for one in FORMATS.values() if not one.alpha}),
    }
    for option, (given, names) in heeded.items():
        if given is not None and targets and not names & set(targets):
            raise ConvcliError(f"{option}: is for {', '.join(sorted(names))}, not for {', '.join(targets)}")
    if plan.to_stdout and common.cluster is not None:
        raise ConvcliError("--cluster: results must go into files; give -o out/")
    if plan.to_stdout and not {"TEXT", "CSV"} >= set(targets) and sys.stdout.isatty():
        raise ConvcliError("-o: standard output is a terminal; give a file, or pipe it on")
    if plan.to_stdout and stdout_is_closed():
        raise ConvcliError("-o: standard output is closed; give a file")
