"""Convolution and pooling for images: a command line, and the same engine for arrays.

Importing the package loads no NumPy; the first use of a name does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convcli.errors import ConvcliError, PictureError, ShapeError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from convcli.doors import filter2d
    from convcli.engine.conv import conv2d, plan_conv
    from convcli.engine.pool import (
        avg_pool2d,
        global_avg_pool2d,
        global_max_pool2d,
        lp_pool2d,
        max_pool2d,
        min_pool2d,
    )
    from convcli.kernels.reading import kernel
    from convcli.learning.learn import learn_kernel
    from convcli.pipeline import Pipeline

_HOMES = {
    "Pipeline": "convcli.pipeline",
    "avg_pool2d": "convcli.engine.pool",
    "conv2d": "convcli.engine.conv",
    "filter2d": "convcli.doors",
    "global_avg_pool2d": "convcli.engine.pool",
    "global_max_pool2d": "convcli.engine.pool",
    "kernel": "convcli.kernels.reading",
    "learn_kernel": "convcli.learning.learn",
    "lp_pool2d": "convcli.engine.pool",
    "max_pool2d": "convcli.engine.pool",
    "min_pool2d": "convcli.engine.pool",
    "plan_conv": "convcli.engine.conv",
}

__all__ = [
    "ConvcliError",
    "PictureError",
    "Pipeline",
    "ShapeError",
    "avg_pool2d",
    "conv2d",
    "filter2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "kernel",
    "learn_kernel",
    "lp_pool2d",
    "max_pool2d",
    "min_pool2d",
    "plan_conv",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convcli' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)  # to be found at once from now on
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
