"""The definition, as slowly and plainly as it can be written: the judge of every method."""

import itertools
import math

import numpy as np


def pad(x, pads, boundary):
    """``(H, W)`` with its border, cell by cell through ``np.pad``'s rules."""
    modes = {"edge": "edge", "reflect": "reflect", "mirror": "reflect", "symmetric": "symmetric", "wrap": "wrap"}
    if boundary in modes:
        return np.pad(x, pads, mode=modes[boundary])
    return np.pad(x, pads, constant_values=0 if boundary == "zero" else boundary)


def pads_of(n, k, s, padding, keep=False):
    """Front and back pads of one axis for an effective kernel size ``k``, straight from the contract's table."""
    if isinstance(padding, tuple):
        return padding
    if padding == "valid":
        return 0, 0
    if padding == "full":
        total = (n + k - 2) * s + k - n if keep else 2 * (k - 1)
    elif keep:
        total = max(0, (n - 1) * s + k - n)
    else:
        total = max(0, (math.ceil(n / s) - 1) * s + k - n)
    small, large = total // 2, math.ceil(total / 2)
    return (large, small) if padding == "same-lower" else (small, large)


def correlate(x, kernel, padding="valid", boundary="zero", stride=(1, 1), dilation=(1, 1), keep=False):
    """Plain loops over one plane ``(H, W)``, in float64 or Python integers as ``x`` has them."""
    kh, kw = kernel.shape
    reach = [d * (k - 1) + 1 for k, d in zip(kernel.shape, dilation, strict=True)]
    paddings = padding if isinstance(padding, tuple) else (padding, padding)
    pads = [pads_of(n, k, s, p, keep) for n, k, s, p in zip(x.shape, reach, stride, paddings, strict=True)]
    padded = pad(x, pads, boundary)
    height, width = ((m - k) // s + 1 for m, k, s in zip(padded.shape, reach, stride, strict=True))
    out = np.zeros((height, width), dtype=x.dtype if x.dtype == object else float)
    for y, z in itertools.product(range(height), range(width)):
        total = 0
        for i, j in itertools.product(range(kh), range(kw)):
            total += padded[y * stride[0] + i * dilation[0], z * stride[1] + j * dilation[1]] * kernel[i, j]
        out[y, z] = total
    return out


def layer(x, weight, bias=None, groups=1, **options):
    """``(C, H, W)`` through a weight ``(c_out, c_in/groups, kh, kw)``, channel by channel."""
    share = weight.shape[0] // groups
    planes = []
    for o, kernels in enumerate(weight):
        first = (o // share) * weight.shape[1]
        total = sum(correlate(x[first + c], kernel, **options) for c, kernel in enumerate(kernels))
        planes.append(total + (0 if bias is None else bias[o]))
    return np.stack(planes)


def windows(shape, size, stride, pads, dilation=(1, 1), ceil=False):
    """The output's size and for each output its place, the cells ``(row, column)`` of its window, and the pads."""
    out_size = []
    for n, k, s, p, d in zip(shape, size, stride, pads, dilation, strict=True):
        room = n + p[0] + p[1] - (d * (k - 1) + 1)
        count = (math.ceil(room / s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + p[0]:
            count -= 1
        out_size.append(count)
    found = []
    for y, z in np.ndindex(*out_size):
        cells, padding = [], 0
        for i, j in np.ndindex(*size):
            row = y * stride[0] + i * dilation[0] - pads[0][0]
            column = z * stride[1] + j * dilation[1] - pads[1][0]
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                cells.append((row, column))
            elif row < shape[0] + pads[0][1] and column < shape[1] + pads[1][1]:
                padding += 1
        found.append(((y, z), cells, padding))
    return out_size, found


def pool(x, size, stride, pads, how, dilation=(1, 1), ceil=False, count_pads=True):
    """Plain loops over one plane, with PyTorch's rules for pads and for a last, partial window."""
    out_size, found = windows(x.shape, size, stride, pads, dilation, ceil)
    out = np.zeros(out_size)
    for place, where, padding in found:
        cells = [x[one] for one in where]
        if any(math.isnan(one) for one in cells):
            out[place] = math.nan
        elif how == "avg":
            out[place] = sum(cells) / (len(cells) + (padding if count_pads else 0))
        else:
            out[place] = max(cells, default=-math.inf) if how == "max" else min(cells, default=math.inf)
    return out


def winners(x, size, stride, pads, dilation=(1, 1), ceil=False):
    """Flat indices of maxima: the first of equals, or else the last NaN; -1 where a window meets no cell."""
    out_size, found = windows(x.shape, size, stride, pads, dilation, ceil)
    out = np.full(out_size, -1)
    for place, cells, _ in found:
        best = None
        for one in cells:
            if best is None or x[one] > x[best] or x[one] != x[one]:
                best = one
        if best is not None:
            out[place] = best[0] * x.shape[1] + best[1]
    return out
