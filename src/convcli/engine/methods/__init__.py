"""The registry: every way to compute a convolution, by name. A new method is one file and one entry here."""

from convcli.engine.methods import box_sum, fft, im2col, row_gemm, separable, shift_add, winograd
from convcli.engine.problem import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD for module in (shift_add, box_sum, row_gemm, winograd, im2col, separable, fft)
}
