"""What every filter and pool command does with its inputs: plan, run one after another, report."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from convcli.batch import (
    Job,
    Result,
    Settings,
    check_traces,
    is_folder,
    is_template,
    name_outputs,
    name_report,
    output_root,
    run_job,
)
from convcli.cli.options import FileOptions, ReportOptions, ValueOptions
from convcli.cli.streams import check_stdin, colored, stdout_is_closed, write_stdout
from convcli.errors import ConvcliError, one_line, system_words
from convcli.layers import Layer, check_layers
from convcli.report import hint, range_text, render, table
from convcli.sources import STREAM, Source, find_sources
from convcli.values import Measure, format_bytes
from convcli.words import AUTO, Existing, ExitStatus, Range

if TYPE_CHECKING:
    from convcli.recipe import Recipe


def apply(
    name: str,
    inputs: Sequence[str],
    layers: tuple[Layer, ...],
    values: ValueOptions,
    files: FileOptions,
    report: ReportOptions,
    measures: Sequence[Measure] = (),
    kept: Sequence[Path] = (),
    trace: Path | None = None,
    max_memory: float = math.inf,
) -> int:
    """Run layers over inputs and write over none of those or the ``kept`` files; the exit status.

    Raises ConvcliError for what is wrong before any work.
    """
    from convcli.images.writing import format_of

    found = list(find_sources(inputs, recursive=files.recursive, output=output_root(files.output)))
    sources = [one for one in found if not one.problem]
    if files.file_format:
        _named("--format", lambda name: format_of(Path(), name), files.file_format)
    _check_inputs(inputs, sources, files)
    _check_values(sources, layers, values, report, measures)
    jobs = name_outputs(sources, files.output, name, files.file_format, in_place=files.in_place, kept=kept)
    _check_outputs(jobs, values)
    job_of = {job.source: job for job in jobs}
    recipe = _recipe(layers, values, report)
    settings = _settings(files)._replace(trace=trace, max_memory=max_memory)
    if trace:
        check_traces(jobs, settings, [layer.label for layer in layers], kept)
    report_path = report.report and name_report(report.report, jobs, kept, settings.existing)
    talk = Talk(report, data_on_stdout=any(job.output is None for job in jobs))
    results = []
    for one in found:
        result = run_job(job_of.get(one) or Job(one, None, ""), recipe, settings)
        results.append(result)
        talk.say(result)
        if result.status == "failed" and files.fail_fast:
            break
    talk.end(results)
    written = talk.write_report(report_path, results) if report_path else True
    failed = not written or any(result.status == "failed" for result in results)
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def _recipe(layers: tuple[Layer, ...], values: ValueOptions, report: ReportOptions) -> "Recipe":
    from convcli.recipe import Recipe

    return Recipe(
        layers=layers,
        range=values.value_range,
        gray=values.gray,
        linear=values.linear,
        alpha=values.alpha,
        mix=values.mix,
        method=report.method,
        threads=report.threads,
        max_pixels=report.max_pixels,
    )


def _settings(files: FileOptions) -> Settings:
    return Settings(
        existing=Existing.OVERWRITE if files.force else files.existing,
        in_place=files.in_place,
        make_folders=files.output is not None and (is_folder(files.output) or is_template(files.output)),
        dry_run=files.dry_run,
    )


class Talk:
    """What a run says: data on stdout, everything for people on stderr."""

    def __init__(self, report: ReportOptions, *, data_on_stdout: bool) -> None:
        self.report = report
        self.data_on_stdout = data_on_stdout
        self.color = colored(sys.stderr, report.no_color)
        self.last_table = ""

    def say(self, result: Result) -> None:
        """One result: its data or its path, its JSON, its report."""
        name = one_line(result.job.source.name) or "''"
        if result.data is not None:
            write_stdout(result.data)
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
        from convcli.images.writing import write_file

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

    def _line(self, text: str, style: str = "") -> None:
        if self.color and style:
            text = typer.style(text, bold=True) if style == "bold" else typer.style(text, fg=style)
        print(text, file=sys.stderr, flush=True)


def _check_inputs(inputs: Sequence[str], sources: Sequence[Source], files: FileOptions) -> None:
    if inputs.count(STREAM) > 1:
        raise ConvcliError("-: standard input can be read only once")
    if STREAM in inputs:
        check_stdin("-")
    if files.output == "":
        raise ConvcliError("-o: is empty; give a file, a folder/ or -")
    folder = next((one.root for one in sources if one.root), None)
    if folder and not (files.output or files.in_place):
        raise ConvcliError(f"{folder}: a folder needs -o DIR/ for its results, or --in-place")
    if files.in_place and files.output:
        raise ConvcliError("--in-place: takes no -o; choose one of them")


def _check_values(
    sources: Sequence[Source],
    layers: Sequence[Layer],
    values: ValueOptions,
    report: ReportOptions,
    measures: Sequence[Measure],
) -> None:
    arrays = any(one.is_array for one in sources)
    pictures = any(not one.is_array for one in sources)
    for measure in measures:
        measure.check(pictures=pictures, arrays=arrays)
    if arrays and (values.gray or values.linear):
        raise ConvcliError(f"{'--gray' if values.gray else '--linear'}: is for pictures, not for matrices and arrays")
    check_layers(layers)
    if report.method != AUTO:
        from convcli.engine.plan import check_method

        _named("--method", check_method, report.method)


def _named(name: str, check: Callable[[Any], object], value: Any) -> None:
    """A check whose error is to begin with the name of what was checked."""
    try:
        check(value)
    except ConvcliError as error:
        raise ConvcliError(f"{name}: {error}") from None


def _check_outputs(jobs: Sequence[Job], values: ValueOptions) -> None:
    from convcli.images.writing import FLOAT_FORMATS

    for job in jobs:
        if values.value_range is Range.NONE and job.format not in FLOAT_FORMATS:
            raise ConvcliError(f"--range: none keeps floats, which {job.format} can't; write .npy or .tiff")
        if job.output is None and job.format not in ("TEXT", "CSV") and sys.stdout.isatty():
            raise ConvcliError("-o: standard output is a terminal; give a file, or pipe it on")
        if job.output is None and stdout_is_closed():
            raise ConvcliError("-o: standard output is closed; give a file")
