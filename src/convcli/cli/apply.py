"""What every filter and pool command does with its inputs: plan, run one after another, report."""

import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from convcli import __version__
from convcli.batch import (
    Job,
    Result,
    Settings,
    begin_reading,
    check_traces,
    is_folder,
    is_template,
    name_outputs,
    name_report,
    output_root,
    run_job,
)
from convcli.cli.options import OF_THE_RUN, CommonOptions
from convcli.cli.streams import check_stdin, colored, stdout_is_closed, write_stdout
from convcli.errors import ConvcliError, one_line, system_words
from convcli.files import write_file
from convcli.images.formats import FORMATS
from convcli.images.png import FAST
from convcli.images.writing import WHITE, Encoding
from convcli.layers import Layer, check_layers
from convcli.recipe import Recipe
from convcli.report import hint, range_text, render, table
from convcli.sources import STREAM, Source, find_sources
from convcli.values import Measure, format_bytes
from convcli.words import AUTO, Depth, Existing, ExitStatus, Range

if TYPE_CHECKING:
    from concurrent.futures import Future

    from convcli.images.picture import Frames, Picture


class Asked(NamedTuple):
    """What is asked of every input: layers, the values in them whose unit depends on the input, the files that they
    came from, and what ``run`` may be told besides."""

    layers: tuple[Layer, ...]
    measures: Sequence[Measure] = ()
    kept: Sequence[Path] = ()
    trace: Path | None = None
    max_memory: float = math.inf


def apply(name: str, inputs: Sequence[str], common: CommonOptions, ask: Callable[[], Asked]) -> int:
    """Do what is asked to inputs, and write over none of those or the files that it came from; the exit status.

    The first picture is decoded while ``ask`` and the modules of the engine, which it needs, are at work: decoders let
    other threads run. Raises ConvcliError for what is wrong before any work.
    """
    found = list(find_sources(inputs, recursive=common.recursive, output=output_root(common.output)))
    sources = [one for one in found if not one.problem]
    _check_inputs(inputs, sources, common)
    with ThreadPoolExecutor(1) as pool:  # its end is waited for, whatever is raised: decoding TIFFs silences stderr
        first = sources[0] if sources and not common.dry_run else None
        reading = first and begin_reading(pool, first, common.max_pixels, common.frame, common.threads)
        asked = ask()
        _check_values(sources, asked, common)
        jobs = name_outputs(sources, common.output, name, common.file_format, in_place=common.in_place, kept=asked.kept)
        _check_outputs(jobs, common)
        settings = _settings(name, common)._replace(trace=asked.trace, max_memory=asked.max_memory)
        if asked.trace:
            check_traces(jobs, settings, [layer.label for layer in asked.layers], asked.kept)
        report_path = common.report and name_report(common.report, jobs, asked.kept, settings.existing)
        return _run(found, jobs, _recipe(asked.layers, common), settings, common, report_path, reading)


def _run(
    found: Sequence[Source],
    jobs: Sequence[Job],
    recipe: Recipe,
    settings: Settings,
    common: CommonOptions,
    report_path: Path | None,
    reading: "Future[Frames] | None",
) -> int:
    job_of = {job.source: job for job in jobs}
    talk = Talk(common, data_on_stdout=any(job.output is None for job in jobs))
    results = []
    for one in found:
        job = job_of.get(one) or Job(one, None, FORMATS["PNG"])
        result = run_job(job, recipe, settings, reading if jobs and job is jobs[0] else None)
        talk.say(result)
        results.append(result._replace(data=None, picture=None))
        if result.status == "failed" and common.fail_fast:
            break
    talk.end(results)
    written = talk.write_report(report_path, results) if report_path else True
    failed = not written or any(result.status == "failed" for result in results)
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def _recipe(layers: tuple[Layer, ...], common: CommonOptions) -> Recipe:
    return Recipe(
        layers=layers,
        range=common.value_range,
        gray=common.gray,
        linear=common.linear,
        alpha=common.alpha,
        mix=common.mix,
        depth=common.depth,
        method=common.method,
        threads=common.threads,
        max_pixels=common.max_pixels,
    )


def _settings(name: str, common: CommonOptions) -> Settings:
    words = [name, *(word for key, words in common.typed.items() if key not in OF_THE_RUN for word in words)]
    return Settings(
        encoding=Encoding(
            png=common.png or FAST,
            quality=common.quality,
            background=common.background or WHITE,
            strip=common.strip,
            made=None if common.strip else (f"convcli {__version__}", shlex.join(words)),
            threads=common.threads,
        ),
        existing=Existing.OVERWRITE if common.force else common.existing,
        in_place=common.in_place,
        make_folders=common.output is not None and (is_folder(common.output) or is_template(common.output)),
        dry_run=common.dry_run,
        frame=common.frame,
        preview=common.preview,
    )


class Talk:
    """What a run says: data on stdout, everything for people on stderr."""

    def __init__(self, report: CommonOptions, *, data_on_stdout: bool) -> None:
        self.report = report
        self.data_on_stdout = data_on_stdout
        self.color = colored(sys.stderr, report.no_color)
        self.last_table = ""
        self.remarks: set[str] = set()

    def say(self, result: Result) -> None:
        """One result: its data or its path, its JSON, its report."""
        name = one_line(result.job.source.name) or "''"
        if result.data is not None:
            for piece in result.data:
                write_stdout(piece)
        if self.report.json_lines:
            import json

            stream = sys.stderr if self.data_on_stdout else sys.stdout
            print(json.dumps(result.record()), file=stream, flush=True)
        elif result.status in ("written", "planned"):
            for path in result.outputs:
                write_stdout(os.fsencode(path) + b"\n")
        if self.report.json_lines and self.data_on_stdout:
            return  # stderr is then for programs
        if result.error is not None:
            self._line(f"convcli: {name}: {one_line(result.error)}", "red")
        elif not self.report.quiet:
            self._people(name, result)
        if result.picture is not None:
            self._show(result.picture)

    def end(self, results: Sequence[Result]) -> None:
        """The count of what became of several inputs."""
        if self.report.quiet or len(results) < 2 or (self.report.json_lines and self.data_on_stdout):
            return
        counts = {
            status: sum(one.status == status for one in results)
            for status in ("planned", "written", "skipped", "failed")
        }
        self._line(", ".join(f"{count} {status}" for status, count in counts.items() if count), "bold")

    def write_report(self, path: Path, results: Sequence[Result]) -> bool:
        """The report file; whether it could be written."""
        outcomes = [one.outcome for one in results]
        rows = [one.rows if one else () for one in outcomes]
        ranges = [range_text(one.spread(), one.lost(), one.range) if one else "" for one in outcomes]
        text = render([one.record() for one in results], rows, ranges, path.suffix.lower())
        try:
            write_file(path, text.encode(errors="backslashreplace"), overwrite=True)
        except OSError as error:
            self._line(f"convcli: --report: can't write {one_line(str(path))}: {system_words(error)}", "red")
            return False
        return True

    def _people(self, name: str, result: Result) -> None:
        for notice in result.notices:
            self._line(f"convcli: {name}: {notice}", "yellow")
        for remark in result.remarks:
            if remark not in self.remarks:  # it would hold for a thousand more
                self._line(f"convcli: {name}: {remark}", "yellow")
                self.remarks.add(remark)
        if result.status == "skipped":
            self._line(f"{name}: skipped, {one_line(str(result.outputs[0]))} exists")
        if result.memory is not None and result.status == "planned":
            self._line(f"{name}: about {format_bytes(result.memory)} of memory")
        if result.outcome is None:
            return
        where = one_line(str(result.record()["output"])) if result.outputs else "standard output"
        self._line(f"{name} -> {where}  ({result.seconds:.2f} s)", "bold")
        text = table(result.outcome.rows)
        if text != self.last_table:
            self._line(text)
            self.last_table = text
        found, lost, choice = result.outcome.spread(), result.outcome.lost(), result.outcome.range
        self._line(f"range {range_text(found, lost, choice)}")
        if advice := hint(lost, choice):
            self._line(advice)
        if self.report.verbose:
            for plan in result.outcome.plans:
                self._line(plan)

    def _show(self, picture: "Picture") -> None:
        from convcli.images.preview import preview

        self._line(preview(picture, shutil.get_terminal_size().columns, color=self.color))

    def _line(self, text: str, style: str = "") -> None:
        if self.color and style:
            text = typer.style(text, bold=True) if style == "bold" else typer.style(text, fg=style)
        print(text, file=sys.stderr, flush=True)


def _check_inputs(inputs: Sequence[str], sources: Sequence[Source], common: CommonOptions) -> None:
    if inputs.count(STREAM) > 1:
        raise ConvcliError("-: standard input can be read only once")
    if STREAM in inputs:
        check_stdin("-")
    if common.output == "":
        raise ConvcliError("-o: is empty; give a file, a folder/ or -")
    folder = next((one.root for one in sources if one.root), None)
    if folder and not (common.output or common.in_place):
        raise ConvcliError(f"{folder}: a folder needs -o DIR/ for its results, or --in-place")
    if common.in_place and common.output:
        raise ConvcliError("--in-place: takes no -o; choose one of them")


def _check_values(sources: Sequence[Source], asked: Asked, common: CommonOptions) -> None:
    arrays = any(one.is_array for one in sources)
    pictures = any(not one.is_array for one in sources)
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


def _check_outputs(jobs: Sequence[Job], common: CommonOptions) -> None:
    """Raise ConvcliError for what a format can't hold, and for what no format of this run heeds."""
    targets = {job.target.name: job.target for job in jobs}
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
    for job in jobs:
        if job.output is None and job.target.name not in ("TEXT", "CSV") and sys.stdout.isatty():
            raise ConvcliError("-o: standard output is a terminal; give a file, or pipe it on")
        if job.output is None and stdout_is_closed():
            raise ConvcliError("-o: standard output is closed; give a file")
