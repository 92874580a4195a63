"""What convcli raises when the work can't be done as asked."""


class ConvcliError(ValueError):
    """One sentence: the offending value and what is allowed. The base of all errors a user can cause."""


class ShapeError(ConvcliError):
    """Sizes that do not fit together: a kernel larger than the picture, channels that don't match."""


class PictureError(ConvcliError):
    """A file that is missing, unreadable, not a picture, too large, or can't be written."""


def suggest(name: str, known: list[str]) -> str:
    """``"; did you mean 'sobel'?"`` when a known name is close to the one given, else nothing."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
