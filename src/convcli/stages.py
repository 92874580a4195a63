"""The grammar of pipelines: stages as text or TOML, brought to layers.

A pipeline is stages split by ``|``; a stage is words split by spaces, both outside quotes and brackets: a name,
positional values, then ``key=value`` and flags. ``* 10`` at its end repeats it.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convcli.engine.shapes import Pair
from convcli.errors import ConvcliError, suggest, system_words
from convcli.kernels.files import split_name
from convcli.kernels.named import NAMED, find
from convcli.kernels.reading import Kernel, read_kernel, read_tensor
from convcli.layers import Conv, Dense, Each, Filter, Gray, Layer, Pool
from convcli.values import Amount, Measure, parse_amount, parse_boundary, parse_padding, parse_pair, whole_number
from convcli.words import Pointwise, Reduce

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

MAX_LAYERS = 10_000
MAX_FILE_BYTES = 2**20
LONGEST_NAME = 40
MOST = 2**31
WEIGHT_SUFFIXES = (".npy", ".npz", ".json", ".safetensors", ".toml", ".csv", ".txt")
OPENING, CLOSING, QUOTES = "[(", "])", "'\""


class Stage(NamedTuple):
    """A stage as it was written, what it means, and the amounts in it, whose meaning an input's kind decides.

    ``files`` are those it names, and ``beside`` says that one was found beside the pipeline's own.
    """

    text: str
    layer: Layer
    repeat: int = 1
    measures: tuple[Measure, ...] = ()
    files: tuple[Path, ...] = ()
    beside: bool = False


def parse_stages(text: str, folder: Path | None = None) -> tuple[Stage, ...]:
    """The stages of a pipeline; files in them are looked for in ``folder`` first, if given. Raises ConvcliError."""
    try:
        texts = split_outside(text, "|")
    except StageError as error:
        raise StageError(f"stage {error.number}, {_name(text.split('|')[error.number - 1])}: {error}") from None
    return tuple(read_stages(texts, folder))


def read_stages(texts: list[str], folder: Path | None = None) -> Iterator[Stage]:
    """Every stage of a list. Raises ConvcliError that begins with the number and name of the one that is wrong."""
    layers, reach = 0, 1.0
    for number, text in enumerate(texts, 1):
        name = _name(text)
        try:
            stage = parse_stage(text.strip(), folder)
        except ConvcliError as error:
            raise StageError(f"stage {number}, {name}: {error}", number) from None
        layers += stage.repeat
        if layers > MAX_LAYERS:
            raise StageError(f"stage {number}, {name}: a pipeline has at most {MAX_LAYERS:,} layers", number)
        place = f"stage {number}, {name}: "
        named = [one._replace(option=place + one.option, reach=reach) for one in stage.measures]
        yield stage._replace(measures=tuple(named))
        reach *= _gain(stage.layer) ** stage.repeat


def _gain(layer: Layer) -> float:
    """How many times larger values can become, as far as that has to do with colours at all."""
    if isinstance(layer, Filter):
        return max(1.0, float(layer.kernel.gains.sum()))
    return math.inf if isinstance(layer, Conv | Dense) else 1.0


def _name(text: str) -> str:
    """The first word of a stage, for messages."""
    return next(iter(text.split(maxsplit=1)), "nothing")[:LONGEST_NAME]


class StageError(ConvcliError):
    """A stage that can't be, with its number from 1."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


def read_toml(path: Path) -> tuple[Stage, ...]:
    """The stages of a ``.toml`` file: ``stages = ["gray", "conv 3x3 out=16", ...]``. Raises ConvcliError."""
    import tomllib

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConvcliError(f"{path}: more than {MAX_FILE_BYTES // 2**20} MiB is no pipeline")
        text = data.decode("utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise ConvcliError(f"{path}: {system_words(error)}") from None
    except UnicodeDecodeError:
        raise ConvcliError(f"{path}: this is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # tomllib names the line
        raise ConvcliError(f"{path}: not TOML: {error}") from None
    stages = found.get("stages")
    if set(found) != {"stages"} or not isinstance(stages, list) or not stages:
        other = next((key for key in found if key != "stages"), None)
        what = f"line {_line_of(text, other)}: there is {other!r}" if other else "it has no list of stages"
        raise ConvcliError(f'{path}: {what}; a pipeline is one list, as in stages = ["gray", "conv 3x3 out=16"]')
    for number, stage in enumerate(stages, 1):
        if not isinstance(stage, str):
            raise ConvcliError(f'{path}: stage {number} is {stage!r}, which must be text, as in "maxpool 2"')
    try:
        return tuple(read_stages(stages, path.parent))
    except StageError as error:
        line = _line_of_stage(text, stages, error.number)
        raise ConvcliError(f"{path}: {f'line {line}, ' if line else ''}{error}") from None


def to_toml(stages: tuple[Stage, ...]) -> str:
    """The file that :func:`read_toml` reads back to the same stages."""
    lines = "".join(f"    {json.dumps(one, ensure_ascii=False)},\n" for one in map(stage_text, stages))
    return f"stages = [\n{lines}]\n".replace("\x7f", "\\u007f")


def stage_text(stage: Stage) -> str:
    """The stage as it is written, with its repeats."""
    return f"{stage.text} * {stage.repeat}" if stage.repeat > 1 else stage.text


def _line_of(text: str, key: str) -> int:
    """The line in which a key or table begins."""
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.\]]", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _line_of_stage(text: str, stages: list[str], number: int) -> int | None:
    """The line of the ``number``-th stage: each is looked for, in its quotes, behind the one before it."""
    start = place = 0
    for stage in stages[:number]:
        found = [at for one in (json.dumps(stage), f'"{stage}"', f"'{stage}'") if (at := text.find(one, place)) >= 0]
        if not found:
            return None
        start = min(found)
        place = start + 1
    return text.count("\n", 0, start) + 1


def split_outside(text: str, separator: str) -> list[str]:
    """Pieces between separators that stand in no quotes or brackets. Raises ConvcliError for one that is left open."""
    pieces: list[str] = []
    start, depth, quote = 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        elif letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth -= 1
            if depth < 0:
                raise StageError(f"{letter!r} closes nothing", len(pieces) + 1)
        elif depth == 0 and (letter.isspace() if separator == " " else letter == separator):
            pieces.append(text[start:place])
            start = place + 1
    if quote or depth:
        raise StageError(f"a {'quote' if quote else 'bracket'} is left open", len(pieces) + 1)
    return [*pieces, text[start:]]


def parse_stage(text: str, folder: Path | None = None) -> Stage:
    """One stage. Raises ConvcliError."""
    if not text:
        raise ConvcliError("is empty; stages are split by |, as in gray | conv 3x3 out=16 | relu")
    if len(split_outside(text, "|")) > 1:
        raise ConvcliError("holds a | outside quotes and brackets, which would split it")
    bare, star, count = text.rpartition("*")
    repeated = bool(star) and count.strip().isdecimal()
    bare, times = (bare.strip(), whole_number(count.strip())) if repeated else (text, 1)
    if not bare or not 1 <= times <= MAX_LAYERS:
        raise ConvcliError(f"'* {count.strip()[:20]}' repeats from 1 to {MAX_LAYERS:,} times what is before it")
    words = Words(bare, folder)
    kind = words.name.partition(":")[0]
    if kind in NAMED:
        layer: Layer = _filter(words, words.name)
    elif words.name in STAGES:
        layer = STAGES[words.name].make(words)
    else:
        known = [*STAGES, *NAMED]
        raise ConvcliError(f"there is no such stage{suggest(words.name, known) or '; convcli run --help lists them'}")
    words.end()
    return Stage(bare, layer, times, tuple(words.measures), tuple(words.files), words.beside)


class Words:
    """The words of a stage, taken one by one; what is not taken at the end is an error."""

    def __init__(self, text: str, folder: Path | None) -> None:
        self.folder, self.beside = folder, False
        self.files: list[Path] = []
        self.values: list[str] = []
        self.keys: dict[str, str] = {}
        self.measures: list[Measure] = []
        self.name, *words = [word for word in split_outside(text, " ") if word]
        for word in words:
            key, equals, value = word.partition("=")
            if equals and key.isidentifier():
                if key in self.keys:
                    raise ConvcliError(f"{key}= is given twice")
                self.keys[key] = _unquoted(value)
            else:
                self.values.append(_unquoted(word))
        self.known: list[str] = []

    def value(self, what: str) -> str:
        """The next positional value."""
        if not self.values:
            raise ConvcliError(f"needs {what}")
        return self.values.pop(0)

    def flag(self, name: str) -> bool:
        """Whether a bare word is there."""
        self.known.append(name)
        if name not in self.values:
            return False
        self.values.remove(name)
        return True

    def key(self, name: str, parse: Callable[[str], T], default: Any = None) -> Any:
        """The value of ``name=``, or the default."""
        self.known.append(f"{name}=")
        if name not in self.keys:
            return default
        try:
            return parse(self.keys.pop(name))
        except ConvcliError as error:
            raise ConvcliError(f"{name}= {error}") from None

    def amount(self, name: str, amount: Amount, least: float) -> float:
        """An amount's value, to be checked when the kind of the input is known."""
        self.measures.append(Measure(name, amount, least))
        return amount.value

    def given(self, **found: Any) -> dict[str, Any]:
        """Arguments that were given, so that a layer's own defaults stand for the others."""
        return {name: value for name, value in found.items() if value is not None}

    def end(self) -> None:
        """Raise ConvcliError if a word is left over."""
        left = [*self.values, *(f"{name}=" for name in self.keys)]
        if left:
            takes = f"it takes {' '.join(self.known)}" if self.known else "it takes nothing else"
            raise ConvcliError(f"{left[0]!r} is one too many; {takes}{suggest(left[0], self.known)}")

    def located(self, text: str) -> str:
        """A file's name, or that of the file beside the pipeline's own if there is one."""
        beside = self.folder / text if self.folder and text and not text.startswith("[") else None
        if beside is not None and _file_in(beside):
            self.beside, text = True, str(beside)
        file = _file_in(Path(text))
        self.files += [file] if file else []
        return text

    def kernel(self, text: str) -> Kernel:
        """A KERNEL; a name beats a file."""
        return read_kernel(text if find(text) else self.located(text))

    def weights(self, text: str) -> Kernel:
        """The kernel of a file of numbers."""
        located = self.located(text)
        path = _file_in(Path(located))
        if path is not None and path.suffix.lower() not in WEIGHT_SUFFIXES:
            raise ConvcliError(f"{text}: weights come from {' '.join(WEIGHT_SUFFIXES)} files")
        return read_kernel(located)

    def window(self) -> dict[str, Any]:
        """What filters and convolutions share."""
        boundary = self.key("boundary", parse_boundary)
        if isinstance(boundary, Amount):
            boundary = self.amount("boundary=", boundary, 0.0)
        return self.given(
            padding=self.key("padding", parse_padding),
            boundary=boundary,
            stride=self.key("stride", parse_pair),
            dilation=self.key("dilation", parse_pair),
            flip=self.flag("flip"),
            keep_size=self.flag("keep-size"),
        )


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] in QUOTES and word[-1] == word[0] else word


def _file_in(path: Path) -> Path | None:
    """The file that a path, or ``FILE:NAME``, means, if it is there."""
    try:
        inside = split_name(str(path))
        return next((one for one in (path, Path(inside[0]) if inside else path) if one.is_file()), None)
    except (OSError, ValueError):
        return None


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= whole_number(text) <= MOST:
            raise ConvcliError(f"must be a whole number from {least}, not {text[:20]!r}")
        return int(text)

    return parse


def _filter(words: Words, kernel: str | None = None) -> Filter | Conv:
    asked = words.kernel(kernel or words.value("a KERNEL, as in filter [1 0 -1; 2 0 -2; 1 0 -1]"))
    bias = words.key("bias", parse_amount)
    more = words.window() | words.given(bias=bias and words.amount("bias=", bias, -1.0))
    return Conv(kernel=asked, **more) if asked.is_layer else Filter(kernel=asked, **more)


def _conv(words: Words) -> Conv:
    kernel, size = None, None
    if words.values:
        word = words.value("a size or a kernel")
        if word.isdecimal():
            raise ConvcliError(f"{word!r} could be a size or a weight; write {word}x{word} or [{word}]")
        if re.fullmatch(r"\d+\s*x\s*\d+", word):
            size = parse_pair(word)
        else:
            kernel = words.kernel(word)
    outputs, groups = words.key("out", _whole(1)), words.key("groups", _groups, 1)
    weights = words.key("weights", words.weights)
    seed = _seed(words)
    if sum(one is not None for one in (kernel, weights, seed)) > 1:
        raise ConvcliError("has two weights: give one of a kernel, weights= and init=")
    kernel = weights or kernel
    if kernel is None and size is None:
        raise ConvcliError("needs a size, a kernel or weights=, as in conv 3x3 out=16, conv edge or conv weights=w.npy")
    if kernel is not None:
        _check_agreement(kernel, size, outputs)
    return Conv(
        kernel=kernel,
        shape=size,
        outputs=outputs,
        groups=groups,
        seed=seed,
        bias=_bias(words),
        **words.window(),
    )


def _check_agreement(kernel: Kernel, size: Pair | None, outputs: int | None) -> None:
    kernel.matrix()
    if size and size != kernel.size:
        raise ConvcliError(f"{size[0]}x{size[1]} is asked for, but {kernel.name} is {kernel.size[0]}x{kernel.size[1]}")
    if outputs and kernel.is_layer and outputs != len(kernel.weights):
        raise ConvcliError(f"out={outputs} is asked for, but {kernel.name} has {len(kernel.weights)} outputs")


def _groups(text: str) -> int | None:
    return None if text == "in" else _whole(1)(text)


def _seed(words: Words) -> int | None:
    init, seed = words.key("init", str), words.key("seed", _whole(0))
    if init not in (None, "random"):
        raise ConvcliError(f"init= must be random, not {init!r}")
    if init is None and seed is not None:
        raise ConvcliError("seed= goes with init=random")
    return None if init is None else seed or 0


def _bias(words: Words) -> "float | NDArray[Any] | None":
    """A number, or a file with one for each output."""

    def parse(text: str) -> "Amount | NDArray[Any]":
        try:
            return parse_amount(text)
        except ConvcliError:
            bias = read_tensor(words.located(text))
        if bias.ndim > 1:
            raise ConvcliError(f"{text} has the shape {bias.shape}, but a bias is a number for each output")
        return bias

    bias = words.key("bias", parse)
    return words.amount("bias=", bias, -1.0) if isinstance(bias, Amount) else bias


def _dense(words: Words) -> Dense:
    outputs = _whole(1)(words.value("a number of outputs, as in dense 1000"))
    matrix = words.key("weights", lambda name: read_tensor(words.located(name)))
    if matrix is not None and (matrix.ndim != 2 or len(matrix) != outputs):
        raise ConvcliError(f"weights= must be {outputs} rows, one for each output, not the shape {matrix.shape}")
    seed = _seed(words)
    if matrix is not None and seed is not None:
        raise ConvcliError("has two weights: give one of weights= and init=")
    bias = _bias(words)
    if getattr(bias, "size", 1) not in (1, outputs):
        raise ConvcliError(f"bias= must be one number or {outputs}, not {bias.size}")  # type: ignore[union-attr]
    return Dense(outputs=outputs, matrix=matrix, seed=seed, bias=bias)


def _pool(reduce: Reduce) -> Callable[[Words], Pool]:
    def make(words: Words) -> Pool:
        size = parse_pair(words.value(f"a size, as in {reduce}pool 2"))
        return Pool(
            reduce=reduce,
            size=size,
            ceil=words.flag("ceil"),
            count_pads=not (reduce is Reduce.AVG and words.flag("exclude-pad")),
            **words.given(stride=words.key("stride", parse_pair), padding=words.key("padding", parse_padding)),
        )

    return make


def _each(function: Pointwise) -> Callable[[Words], Each]:
    return lambda _words: Each(function=function)


def _threshold(words: Words) -> Each:
    level = parse_amount(words.value("a level, as in threshold 0.5"))
    return Each(function=Pointwise.THRESHOLD, level=words.amount("the level", level, -1.0))


class StageKind(NamedTuple):
    """A stage that is not a named filter."""

    usage: str
    summary: str
    make: Callable[[Words], Layer]


_WINDOW = "[stride= padding= boundary= dilation=] [flip] [keep-size]"
STAGES = {
    "filter": StageKind(f"filter KERNEL {_WINDOW} [bias=]", "a kernel over each channel", _filter),
    "conv": StageKind(
        f"conv HxW|KERNEL [out=1] [groups=1|in] [weights=FILE] [init=random seed=0] [bias=] {_WINDOW}",
        "a layer: channels in are summed",
        _conv,
    ),
    **{
        f"{reduce}pool": StageKind(
            f"{reduce}pool N|HxW [stride= padding=] [ceil]" + " [exclude-pad]" * (reduce is Reduce.AVG),
            f"the {word} of each window",
            _pool(reduce),
        )
        for reduce, word in ((Reduce.MAX, "greatest"), (Reduce.AVG, "mean"), (Reduce.MIN, "least"))
    },
    "globalavg": StageKind("globalavg", "the mean of each channel", lambda _words: Pool(reduce=Reduce.AVG)),
    "globalmax": StageKind("globalmax", "its greatest value", lambda _words: Pool(reduce=Reduce.MAX)),
    "relu": StageKind("relu", "what is below 0 becomes 0", _each(Pointwise.RELU)),
    "abs": StageKind("abs", "the magnitude", _each(Pointwise.ABS)),
    "sigmoid": StageKind("sigmoid", "1/(1 + exp(-x))", _each(Pointwise.SIGMOID)),
    "tanh": StageKind("tanh", "the hyperbolic tangent", _each(Pointwise.TANH)),
    "normalize": StageKind("normalize", "the least becomes 0, the greatest 1", _each(Pointwise.NORMALIZE)),
    "threshold": StageKind("threshold T", "1 where x >= T, else 0", _threshold),
    "gray": StageKind("gray", "0.299 R + 0.587 G + 0.114 B", lambda _words: Gray()),
    "dense": StageKind("dense N [weights=FILE] [init=random seed=0] [bias=]", "fully connected, N outputs", _dense),
}
