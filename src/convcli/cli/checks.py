"""What is asked of a run, looked at before any work."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from convcli.cli.options import CommonOptions
from convcli.cli.streams import check_stdin, stdout_is_closed
from convcli.errors import ConvcliError
from convcli.images.formats import FORMATS
from convcli.layers import Layer, check_layers
from convcli.naming import Naming, Plan, output_root
from convcli.places import is_private, is_remote, is_url
from convcli.sources import STREAM, Group, Inputs, Source, exists
from convcli.values import Measure
from convcli.watching import check_watching
from convcli.words import AUTO, Depth, Range


class Asked(NamedTuple):
    """What is asked of every input: layers, the values in them whose unit depends on the input, the files that they
    came from, and what ``run`` may be told besides."""

    layers: tuple[Layer, ...]
    measures: Sequence[Measure] = ()
    kept: Sequence[Path] = ()
    trace: Path | None = None
    usual_memory: float = math.inf


def urls_of(plan: Plan, common: CommonOptions) -> Iterator[str]:
    """The URLs that are read and written."""
    return filter(is_url, [*plan.inputs.urls, common.output or ""])


def check_inputs(names: Sequence[str], inputs: Inputs, naming: Naming, common: CommonOptions) -> None:
    """Raise ConvcliError for inputs that do not go with one another or with where results go."""
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
        _check_watch(names, common)
    if common.in_place and common.output:
        raise ConvcliError("--in-place: takes no -o; choose one of them")


def _check_watch(names: Sequence[str], common: CommonOptions) -> None:
    check_watching([*names, *common.listed])
    if common.in_place or common.dry_run:
        raise ConvcliError(f"--watch: does not go with {'--in-place' if common.in_place else '--dry-run'}")
    if common.output is None:
        raise ConvcliError("--watch: needs -o DIR/ for its results")
    if is_private(common.output):
        raise ConvcliError(f"--watch: what is in {common.output} ends with the run; give a folder")


def check_values(inputs: Inputs, asked: Asked, common: CommonOptions) -> None:
    """Raise ConvcliError for values, options and layers that do not suit what the inputs are."""
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


def check_cluster(plan: Plan, common: CommonOptions) -> None:
    """Raise ConvcliError for what the workers of a cluster would not see."""
    if plan.to_stdout:
        raise ConvcliError("--cluster: results must go into files; give -o out/")
    if any(map(is_private, urls_of(plan, common))):
        raise ConvcliError("--cluster: its workers can't see memory://; give files")
    if any(isinstance(one, Source) and one.name == STREAM for one in plan.inputs.items):
        raise ConvcliError("--cluster: its workers can't read standard input; give files")


def check_outputs(plan: Plan, common: CommonOptions) -> None:
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
    if plan.to_stdout and not {"TEXT", "CSV"} >= set(targets) and sys.stdout.isatty():
        raise ConvcliError("-o: standard output is a terminal; give a file, or pipe it on")
    if plan.to_stdout and stdout_is_closed():
        raise ConvcliError("-o: standard output is closed; give a file")
