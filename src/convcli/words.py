"""The closed vocabularies, each written once: the engine, the layers and the options all read them here."""

from enum import IntEnum, StrEnum


class Padding(StrEnum):
    """How much is added around the picture; numbers are accepted beside these words."""

    VALID = "valid"
    SAME = "same"
    SAME_LOWER = "same-lower"
    FULL = "full"


class Boundary(StrEnum):
    """What is added around ``abcd``; a number is accepted beside these words."""

    ZERO = "zero"  # 00|abcd|00
    EDGE = "edge"  # aa|abcd|dd
    REFLECT = "reflect"  # cb|abcd|cb
    SYMMETRIC = "symmetric"  # ba|abcd|dc
    WRAP = "wrap"  # cd|abcd|ab


BOUNDARY_ALIASES = {"mirror": Boundary.REFLECT}


class Combine(StrEnum):
    """How the responses to several kernels become one."""

    NORM = "norm"  # the root of the sum of squares
    MAXIMUM = "maximum"


class Reduce(StrEnum):
    """What a pool keeps of its window."""

    MAX = "max"
    MIN = "min"
    AVG = "avg"


class Pointwise(StrEnum):
    """What is done to each number by itself; ``normalize`` brings the least of all to 0 and the greatest to 1."""

    RELU = "relu"
    ABS = "abs"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    NORMALIZE = "normalize"
    THRESHOLD = "threshold"


class Range(StrEnum):
    """How values become storable: before rounding, after everything else."""

    CLIP = "clip"
    ABS = "abs"
    SIGNED = "signed"
    MINMAX = "minmax"
    NONE = "none"


class Learning(StrEnum):
    """How a kernel is fitted."""

    LEAST_SQUARES = "lstsq"
    DESCENT = "gd"


class Alpha(StrEnum):
    """What a filter does about transparency."""

    AUTO = "auto"
    KEEP = "keep"
    PREMULTIPLY = "premultiply"
    FILTER = "filter"
    DROP = "drop"


class Depth(StrEnum):
    """How the numbers of a picture are stored: whole numbers of 8 or 16 bits, or 32-bit floats."""

    EIGHT = "8"
    SIXTEEN = "16"
    FLOAT = "float"


class Existing(StrEnum):
    """What happens to an output that is already there."""

    ERROR = "error"
    SKIP = "skip"
    OVERWRITE = "overwrite"
    RENAME = "rename"


class ExitStatus(IntEnum):
    """How the program ends: an input failed, the call was wrong, Ctrl-C."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


AUTO = "auto"
STEPS = 1000  # of gradient descent, unless told
MAX_PIXELS = 200_000_000
