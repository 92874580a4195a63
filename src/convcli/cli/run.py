"""``convcli run PIPELINE INPUT...``: several layers in one process, float between them."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcli.cli.apply import apply
from convcli.cli.checks import Asked
from convcli.cli.options import (
    CommonOptions,
    InputsArg,
    PipelineArg,
    command,
    parse_local,
)
from convcli.cli.targets import check_target, write_target
from convcli.errors import ConvcliError
from convcli.layers import NO_WEIGHTS
from convcli.stages import STAGES
from convcli.words import Existing

if TYPE_CHECKING:
    from convcli.pipeline import Pipeline


@command
def run_command(
    pipeline: PipelineArg,
    inputs: InputsArg,
    common: CommonOptions,
    trace: Annotated[
        Any,
        typer.Option(
            "--trace", metavar="DIR", help="Every layer's maps as a sheet, and its report.", parser=parse_local
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save-pipeline", metavar="FILE", help="Write the stages to a .toml file.", parser=parse_local),
    ] = None,
) -> int:
    """Filters, layers, pools and more, one after another."""
    from convcli.pipeline import Pipeline

    if trace is not None and not trace.name:
        raise ConvcliError(f"--trace: must be a folder of its own, not {str(trace)!r}")
    parsed: list[Pipeline] = []

    def ask() -> Asked:
        asked = Pipeline.parse(pipeline)
        for number, layer in enumerate(asked.layers, 1):
            if not layer.complete:
                raise ConvcliError(f"layer {number}, {layer.label}: {NO_WEIGHTS}")
        if save:
            _check_save(save, asked, overwrite=common.force or common.existing is Existing.OVERWRITE)
        parsed.append(asked)
        common.typed["pipeline"] = [" | ".join(stage.text for stage in asked.stages)]  # a file may be gone by then
        measures = [measure for stage in asked.stages for measure in stage.measures]
        return Asked(asked.layers, measures, asked.files, trace, _usual_memory())

    status = apply("run", inputs, common, ask)
    if save and not common.dry_run:
        write_target("--save-pipeline", save, parsed[0].to_toml().encode(), force=True)
    return status


def _check_save(path: Path, pipeline: "Pipeline", *, overwrite: bool) -> None:
    """Raise ConvcliError for a place where a pipeline can't be saved, or would not find its files."""
    if path.suffix.lower() != ".toml":
        raise ConvcliError(f"--save-pipeline: must end in .toml, not {str(path)!r}")
    check_target("--save-pipeline", path, pipeline.files, overwrite)
    folder = pipeline.folder
    if folder and any(one.beside for one in pipeline.stages) and folder.resolve() != path.parent.resolve():
        raise ConvcliError(f"--save-pipeline: the pipeline names files in {folder}; save it there, too")


def _usual_memory() -> float:
    from convcli.engine.threads import free_memory

    return 0.75 * free_memory()


def _help() -> str:
    """What the command does, with the stages there are."""
    lines = [
        inspect.getdoc(run_command) or "",
        "",
        'Example: `convcli run "gray | sobel | threshold 30%" photo.jpg`',
        "",
    ]
    lines += ["Stages are split by `|`; `* 3` repeats one. Every named filter is one, and:", ""]
    lines += [f"- `{kind.usage}`: {kind.summary}" for kind in STAGES.values()]
    return "\n".join(lines)


run_command.__doc__ = _help()
