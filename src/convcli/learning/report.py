"""A fit in words, and as JSON."""

import math
from collections.abc import Iterator
from typing import Any

from convcli.learning.learn import Fit

ALIKE = 0.9  # the least correlation that is worth a name
SLOW = 1.1  # times the least loss from which descent was too short
EXACT = 140  # dB from which an error is rounding
MOST_NAMED = 9  # places of unsure weights
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 40


def record(fit: Fit) -> dict[str, Any]:
    """The JSON object; numbers that JSON does not know are null."""
    return {
        "kernel": fit.kernel.tolist(),
        "bias": fit.bias if isinstance(fit.bias, float) else fit.bias.tolist(),
        "loss": list(fit.loss),
        "r2": fit.r2,
        "closest": fit.closest._asdict() if fit.closest else None,
        "explains": fit.explains,
        "psnr": fit.psnr if math.isfinite(fit.psnr) else None,
        "condition": fit.condition if math.isfinite(fit.condition) else None,
        "unsure": fit.unsure.tolist(),
        "patches": fit.patches,
        "clipped": fit.clipped,
        "shift": list(fit.shift),
        "method": fit.method,
        "lr": fit.rate,
    }


def sentences(fit: Fit, made: str) -> Iterator[str]:
    """What was found, and how far it can be trusted, for people."""
    size = "x".join(map(str, fit.kernel.shape))
    heeded = f"{fit.patches:,} patches" + (
        f" of {fit.windows:,}, evenly spread" if fit.patches < fit.windows / 2 else ""
    )
    yield f"{size} kernel {made}, by {heeded}"
    if fit.interrupted:
        yield f"stopped after {fit.steps} steps"
    psnr = "exact" if not math.isfinite(fit.psnr) or fit.psnr > EXACT else f"PSNR {fit.psnr:.1f} dB"
    yield f"R2 {fit.r2:.6f} on rows held out, {psnr}, condition {fit.condition:.2g}"
    if not fit.explains:
        yield f"no {size} kernel explains this pair" + (
            "" if fit.with_bias else "; if something is added, too, try --bias"
        )
    if len(fit.loss) > 1:
        yield f"loss {_sparkline(fit.loss)} {fit.loss[0]:.4g} to {fit.loss[-1]:.4g}, --lr {fit.rate:.4g}"
        every = max(1, len(fit.loss) // 5)
        shown = "  ".join(f"{one:.3f}" if one >= 0.001 else f"{one:.3g}" for one in fit.loss[every - 1 :: every])
        yield f"     every {every} steps: {shown}" if every > 1 else f"     {shown}"
        if fit.exact is not None and fit.loss[-1] > SLOW * fit.exact + 1e-9 * fit.loss[0]:
            yield f"not there yet: least squares leaves {fit.exact:.3g}; take more steps, or --method lstsq"
    if fit.closest and abs(fit.closest.correlation) >= ALIKE:
        yield f"{fit.closest.correlation:.4f} like {fit.closest.name}, scale {fit.closest.scale:.4g}"
    elif fit.closest:
        yield "like no named kernel"
    if fit.identical:
        yield "the pictures are identical"
    if any(fit.shift):
        (down, right), (low, side) = (
            map(abs, fit.shift),
            ("higher" if fit.shift[0] < 0 else "lower", "left" if fit.shift[1] < 0 else "right"),
        )
        yield f"the second picture lies {down} rows {low} and {right} columns to the {side}; the kernel leaves that out"
    if fit.clipped:
        yield f"{100 * fit.clipped:.2g} % of its values are at 0 or white, and were left out; --keep-clipped heeds them"
    if fit.unsure.any():
        places = [",".join(map(str, place)) for place in zip(*fit.unsure.nonzero(), strict=True)]
        named = f" ({' '.join(places)})" if len(places) <= MOST_NAMED else ""
        unsure = f"{len(places)} of {fit.unsure.size} weights{named}"
        yield f"{unsure} are not told by these pictures, too smooth for that; of all that fit, these are the least"


def _sparkline(losses: tuple[float, ...]) -> str:
    """Losses on a logarithmic scale, in at most 40 letters."""
    chosen = (
        [losses[round(one * (len(losses) - 1) / (SPARKS - 1))] for one in range(SPARKS)]
        if len(losses) > SPARKS
        else losses
    )
    floor = max(max(chosen) * 1e-12, 1e-300)
    heights = [math.log10(max(one, floor)) for one in chosen]
    low, high = min(heights), max(heights)
    return "".join(BARS[round((one - low) / (high - low or 1) * (len(BARS) - 1))] for one in heights)
