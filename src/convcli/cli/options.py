"""Every option once: its flags, its help, its parser and its default, in the groups that commands take whole."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from convcli import values
from convcli.errors import ConvcliError, system_words
from convcli.images.formats import format_named
from convcli.images.png import FAST, parse_packing
from convcli.images.writing import parse_background
from convcli.layers import Pool
from convcli.places import local_path
from convcli.words import AUTO, MAX_PIXELS, Alpha, Depth, Existing, Range, Reduce

T = TypeVar("T")

GIVEN = "convcli.given"  # where a context keeps the options as they were typed


def option_parser(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser whose ConvcliError becomes the option's own error."""

    @functools.wraps(parse)
    def parser(text: str) -> T:
        try:
            return parse(text)
        except ConvcliError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


parse_pair = option_parser(values.parse_pair)
parse_padding = option_parser(values.parse_padding)
parse_amount = option_parser(values.parse_amount)
parse_boundary = option_parser(values.parse_boundary)


@option_parser
def parse_share(text: str) -> float:
    """``30%`` or ``0.3``, from 0 to 1."""
    value = values.parse_amount(text).value
    if not 0 <= value <= 1:
        raise ConvcliError(f"must be from 0% to 100%, not {text!r}")
    return value


@option_parser
def parse_pool(text: str) -> Pool:
    """``max:2`` or ``avg:3x3,stride=2,padding=1``."""
    word, _, rest = text.partition(":")
    size, *settings = rest.split(",")
    if word not in list(Reduce) or not size:
        raise ConvcliError(f"must be {', '.join(Reduce)} with a size, as in max:2 or avg:3x3,stride=2, not {text!r}")
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in ("stride", "padding") or not value:
            raise ConvcliError(f"knows stride= and padding= after its size, not {setting!r}")
        given[key] = values.parse_pair(value) if key == "stride" else values.parse_padding(value)
    return Pool(reduce=Reduce(word), size=values.parse_pair(size), **given)


@option_parser
def parse_report(text: str) -> Path:
    """A path whose suffix says the kind of report."""
    from convcli.report import REPORT_SUFFIXES

    path = local_path(text)
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise ConvcliError(f"must end in {' '.join(REPORT_SUFFIXES)}, not {text!r}")
    return path


parse_local = option_parser(local_path)


@option_parser
def parse_listing(text: str) -> str:
    """A file of this machine, or ``-``."""
    return str(local_path(text))


@option_parser
def parse_png(text: str) -> str:
    """``fast``, ``small`` or a level."""
    parse_packing(text)
    return text


def option(panel: str, words: str, help_text: str, parser: Callable[[str], Any] | None = None, **more: Any) -> Any:
    """An option from its flags and metavar, as in ``-p --padding HOW``. Its default is written where it is used."""
    flags = [word for word in words.split() if word.startswith("-")]
    metavar = " ".join(word for word in words.split() if not word.startswith("-")) or None
    more.setdefault("show_default", False)
    return typer.Option(*flags, help=help_text, metavar=metavar, parser=parser, rich_help_panel=panel, **more)


_WINDOW, _VALUES, _FILES, _BATCH, _STORED, _REPORT = (
    "Window",
    "Values",
    "Files",
    "Many files",
    "Storage",
    "Report and limits",
)

InputsArg = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders, URLs, - for standard input, or a matrix such as '[0 1 2; 3 4 5]'.",
        show_default=False,
    ),
]
_KERNEL_HELP = "A name (gaussian:2), rows ('1 0 -1; 2 0 -2; 1 0 -1'), 'WxH: a,b,...', JSON, - or a file."
KernelOpt = Annotated[str, typer.Option("-k", "--kernel", metavar="KERNEL", help=_KERNEL_HELP, show_default=False)]
_PADDING = _WINDOW, "-p --padding HOW", "valid, same, same-lower, full, N, HxW or T,B,L,R.", parse_padding
PaddingOpt = Annotated[Any, option(*_PADDING, show_default="same; valid for a layer")]
LearnPaddingOpt = Annotated[Any, option(*_PADDING, show_default="what the sizes say")]
PoolPaddingOpt = Annotated[Any, option(*_PADDING, show_default=True)]
StrideOpt = Annotated[Any, option(_WINDOW, "-s --stride N|HxW", "Steps of the window.", parse_pair)]
DilationOpt = Annotated[Any, option(_WINDOW, "--dilation N|HxW", "Spread of its cells.", parse_pair)]


PipelineArg = Annotated[
    str,
    typer.Argument(metavar="PIPELINE", help="Stages split by |, or a .toml file.", show_default=False),
]
ReportFileOpt = Annotated[
    Path | None, option(_REPORT, "--report FILE", "Shape report: .json .csv .md .txt .html", parse_report)
]
JsonOpt = Annotated[bool, option(_REPORT, "--json", "One JSON object for each input.")]
QuietOpt = Annotated[bool, option(_REPORT, "-q --quiet", "Errors only.")]
MaxPixelsOpt = Annotated[
    int, option(_REPORT, "--max-pixels N", "Most pixels of an input or output.", min=1, show_default=True)
]
MaxMemoryOpt = Annotated[
    Any,
    option(
        _REPORT,
        "--max-memory SIZE",
        "Most that pictures at work may take: 2GB.",
        option_parser(values.parse_bytes),
        show_default="none; run: 3/4 of what is free",
    ),
]
ThreadsOpt = Annotated[int | None, option(_REPORT, "--threads N", "For one picture; else the cores.", min=1)]
RangeOpt = Annotated[
    Range | None,
    option(_VALUES, "--range HOW", "Outside 0..1: clip, abs, signed, minmax or none.", show_default="clip"),
]
GrayOpt = Annotated[bool, option(_VALUES, "--gray", "Make it grey first.")]
OverwriteOpt = Annotated[bool, option(_FILES, "-f --force", "Overwrite files that exist.")]


def file_option(what: str) -> Any:
    """``-o`` of a command that writes one file."""
    return typer.Option("-o", "--output", metavar="FILE", help=what, parser=parse_local)


class Options:
    """A group of options: annotated attributes with their defaults, given together to a command's function.

    ``typed`` has the words of the whole call by parameter, ``kept`` files that nothing may be written over.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        self.typed: dict[str, list[str]] = {}
        self.kept: list[Path] = []

    @classmethod
    def annotations(cls) -> dict[str, Any]:
        """The options by name, those of its bases first."""
        return {name: one for base in reversed(cls.__mro__) for name, one in inspect.get_annotations(base).items()}

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """One keyword parameter for each option, as Typer reads them."""
        keyword = inspect.Parameter.KEYWORD_ONLY
        return [
            inspect.Parameter(name, keyword, default=getattr(cls, name), annotation=annotation)
            for name, annotation in cls.annotations().items()
        ]


class WindowOptions(Options):
    """How a kernel walks over the picture. None means: the verb's default."""

    padding: PaddingOpt = None
    boundary: Annotated[
        Any,
        option(
            _WINDOW,
            "-b --boundary WITH",
            "zero, edge, reflect, symmetric, wrap or B.",
            parse_boundary,
            show_default="reflect; zero for a layer",
        ),
    ] = None
    stride: StrideOpt = "1"
    dilation: DilationOpt = "1"
    keep_size: Annotated[bool, option(_WINDOW, "--keep-size", "Pad so that a stride keeps the size.")] = False
    flip: Annotated[bool, option(_WINDOW, "--flip", "Turn the kernel: true convolution.")] = False
    normalize: Annotated[bool, option(_WINDOW, "--normalize", "Divide the kernel by its sum.")] = False
    bias: Annotated[Any, option(_WINDOW, "--bias B", "Added to every value: 0.5 or 50%.", parse_amount)] = None
    pool: Annotated[Any, option(_WINDOW, "--pool POOL", "Afterwards: max:2, avg:3x3,stride=2.", parse_pool)] = None


class ValueOptions(Options):
    """How values become pixels."""

    value_range: RangeOpt = None
    gray: GrayOpt = False
    linear: Annotated[bool, option(_VALUES, "--linear", "Filter light, not sRGB codes.")] = False
    alpha: Annotated[
        Alpha,
        option(_VALUES, "--alpha HOW", "Transparency: auto, keep, premultiply, filter, drop.", show_default=True),
    ] = Alpha.AUTO
    mix: Annotated[Any, option(_VALUES, "--mix SHARE", "Lay the result over the input: 30%.", parse_share)] = "100%"
    depth: Annotated[
        Depth | None,
        option(_VALUES, "--depth BITS", "Store it in 8, 16 or float.", show_default="the input's"),
    ] = None


class FileOptions(Options):
    """Where results go, and what is never harmed."""

    output: Annotated[
        str | None,
        option(_FILES, "-o --output WHERE", "File, folder/, -, or {stem} {ext} {parent} {command} {channel} {frame}."),
    ] = None
    existing: Annotated[
        Existing, option(_FILES, "--existing DO", "If it exists: error, skip, overwrite or rename.", show_default=True)
    ] = Existing.ERROR
    force: OverwriteOpt = False
    in_place: Annotated[bool, option(_FILES, "--in-place", "Replace the inputs themselves.")] = False
    recursive: Annotated[bool, option(_FILES, "-r --recursive", "Folders with their sub-folders.")] = False
    frame: Annotated[
        int | None, option(_FILES, "--frame N", "One frame of an animation, from 0.", min=0, show_default="all")
    ] = None
    dry_run: Annotated[bool, option(_FILES, "-n --dry-run", "Print the outputs, write nothing.")] = False


class BatchOptions(Options):
    """How many inputs are worked through."""

    jobs: Annotated[
        int | None, option(_BATCH, "-j --jobs N", "Pictures at a time.", min=1, show_default="the cores")
    ] = None
    resume: Annotated[bool, option(_BATCH, "--resume", "Do what is missing or changed in -o DIR/.")] = False
    files_from: Annotated[
        Any, option(_BATCH, "--files-from FILE", "More inputs, one a line; - is stdin.", parse_listing)
    ] = None
    null: Annotated[bool, option(_BATCH, "-0 --null", "Names in lists end in NUL, not in a line.")] = False
    failed: Annotated[Any, option(_BATCH, "--failed FILE", "Write the names of those that failed.", parse_local)] = None
    fail_fast: Annotated[bool, option(_BATCH, "--fail-fast", "Stop at the first failure.")] = False
    watch: Annotated[bool, option(_BATCH, "--watch", "Go on with what arrives in the folders.")] = False
    cluster: Annotated[str | None, option(_BATCH, "--cluster ADDRESS", "On a Dask cluster: tcp://HOST:8786.")] = None
    durable: Annotated[bool, option(_BATCH, "--durable", "Wait for the disk to have each file.")] = False


class EncodingOptions(Options):
    """How results are stored."""

    file_format: Annotated[
        Any, option(_STORED, "--format NAME", "png, jpeg, npy ...; beats the name.", option_parser(format_named))
    ] = None
    quality: Annotated[
        int | None,
        option(
            _STORED, "--quality N", "Of JPEG, WebP, AVIF: 1 to 100.", min=1, max=100, show_default="a JPEG's, or 90"
        ),
    ] = None
    png: Annotated[
        Any, option(_STORED, "--png HOW", "fast, small, or a level of zlib, 0 to 9.", parse_png, show_default=FAST)
    ] = None
    background: Annotated[
        Any,
        option(
            _STORED,
            "--background COLOR",
            "Behind what a JPEG can't show through.",
            option_parser(parse_background),
            show_default="white",
        ),
    ] = None
    strip: Annotated[bool, option(_STORED, "--strip", "Leave out profile, EXIF, texts.")] = False


class ReportOptions(Options):
    """What is said, and how much may be used."""

    report: ReportFileOpt = None
    json_lines: JsonOpt = False
    quiet: QuietOpt = False
    verbose: Annotated[bool, option(_REPORT, "-v --verbose", "Also the method, and why.")] = False
    preview: Annotated[bool, option(_REPORT, "--preview", "Show the result in the terminal.")] = False
    no_color: Annotated[bool, option(_REPORT, "--no-color", "No colours.")] = False
    max_pixels: MaxPixelsOpt = MAX_PIXELS
    max_memory: MaxMemoryOpt = None
    method: Annotated[str, option(_REPORT, "--method NAME", "How to compute, or auto.")] = AUTO
    threads: ThreadsOpt = None


class CommonOptions(ReportOptions, EncodingOptions, BatchOptions, FileOptions, ValueOptions):
    """What every command has that makes files of inputs."""

    @functools.cached_property
    def listed(self) -> list[str]:
        """The names in ``--files-from``. Raises ConvcliError."""
        if self.files_from is None:
            if self.null and not self.failed:
                raise ConvcliError("-0: goes with --files-from and --failed")
            return []
        try:
            data = sys.stdin.buffer.read() if self.files_from == "-" else Path(self.files_from).read_bytes()
        except OSError as error:
            raise ConvcliError(f"--files-from: can't read {self.files_from}: {system_words(error)}") from None
        names = data.split(b"\0") if self.null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
        return [os.fsdecode(name) for name in names if name]


# options that say where results go and what is told, and nothing about the pixels or bytes of a result
WITHOUT_EFFECT = {
    *("inputs", "trace", "save"),
    *(FileOptions.annotations().keys() - {"frame", "in_place"}),
    *BatchOptions.annotations(),
    *ReportOptions.annotations(),
}
# and those that say how results are stored, or which frame is taken: not what is done to a picture
OF_THE_RUN = WITHOUT_EFFECT | {"frame", "in_place", *EncodingOptions.annotations()}


def typed(parameters: Iterable[Any], given: dict[str, Any]) -> dict[str, list[str]]:
    """The words of a call by the names of its parameters, from what a parser found."""
    found: dict[str, list[str]] = {}
    for one in parameters:
        value = given.get(str(one.name))
        if value is not None:
            flag = [max(one.opts, key=len)] if one.param_type_name == "option" else []
            more = list(value) if isinstance(value, (list, tuple)) else [] if value is True else [value]
            found[str(one.name)] = [*flag, *map(str, more)]
    return found


def command(function: Callable[..., int]) -> Callable[..., int]:
    """A function for Typer whose parameters that are option groups are spread into their options."""
    signature = inspect.signature(function)
    groups: dict[str, type[Options]] = {}
    spread = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in signature.parameters.items():
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Options):
            groups[name] = parameter.annotation
            spread += parameter.annotation.parameters()
        elif name != "context":
            kept = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            spread.append(kept.replace(default=[]) if name == "inputs" else kept)  # --files-from may stand for them

    @functools.wraps(function)
    def run(context: typer.Context, **values: Any) -> int:
        for name, group in groups.items():
            options = {option: values.pop(option) for option in group.annotations()}
            values[name] = group(**options)
            values[name].typed = typed(context.command.params, context.meta.get(GIVEN, {}))
            values[name].kept = list(context.find_root().obj or ())
        if "context" in signature.parameters:
            values["context"] = context
        return function(**values)

    run.__signature__ = signature.replace(parameters=spread)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run
