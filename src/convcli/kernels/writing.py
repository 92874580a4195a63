"""Kernel files, as :func:`convcli.kernels.reading.read_kernel` reads them again."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

RICH_SUFFIXES, PLAIN_SUFFIXES = (".json", ".toml", ".npz"), (".npy", ".csv", ".txt")  # with a bias, and without


def kernel_bytes(weights: "NDArray[Any]", bias: "float | NDArray[Any]", made: str, suffix: str) -> bytes:
    """A kernel as ``-k`` reads it again; in JSON and TOML with how it was made."""
    import io

    import numpy as np

    numbers = bias if isinstance(bias, float) else bias.tolist()
    if suffix == ".json":
        return (json.dumps({"kernel": weights.tolist(), "bias": numbers, "made": made}, indent=2) + "\n").encode()
    if suffix == ".toml":
        return f"kernel = {weights.tolist()}\nbias = {numbers}\nmade = {json.dumps(made)}\n".encode()
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, kernel=weights, bias=bias)
    elif suffix == ".npy":
        np.save(buffer, weights)
    else:
        separator = "," if suffix == ".csv" else " "
        rows = "\n".join(separator.join(repr(float(one)) for one in row) for row in weights)
        return f"{rows}\n".encode()
    return buffer.getvalue()
