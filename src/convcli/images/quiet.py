"""What libraries do to the whole process, undone while we work: Pillow's limits and warnings, libtiff's complaints."""

import logging
import os
import warnings
from typing import Any

from convcli.engine.threads import Shared


def _take_over() -> Any:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.simplefilter("ignore")
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    return limit, filters, level


def _hand_back(state: Any) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS, filters, level = state
    logging.getLogger("PIL").setLevel(level)
    filters.__exit__()


def _silence_stderr() -> int | None:
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing can be printed
        return None
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 2)
    return kept


def _restore_stderr(kept: int | None) -> None:
    if kept is not None:
        os.dup2(kept, 2)
        os.close(kept)


own_limits = Shared(_take_over, _hand_back)  # Pillow's limit and warnings off: our check comes before any decoding
quiet_decoder = Shared(_silence_stderr, _restore_stderr)  # libtiff complains on stderr, past Python; ours is one line
