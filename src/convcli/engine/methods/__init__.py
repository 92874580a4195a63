"""The registry: every way to compute a convolution, by name. A new method is one file and one entry here."""

from convcli.engine.methods import banded, shift_add
from convcli.engine.problem import Method

METHODS: dict[str, Method] = {method.name: method for method in (shift_add.METHOD, banded.METHOD)}
