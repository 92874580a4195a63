"""What convcli raises when the work can't be done as asked."""


class ConvcliError(ValueError):
    """One sentence: the offending value and what is allowed. The base of all errors a user can cause."""


class ShapeError(ConvcliError):
    """Sizes that do not fit together: a kernel larger than the picture, channels that don't match."""


class PictureError(ConvcliError):
    """A file that is missing, unreadable, not a picture, too large, or can't be written."""


class StorageError(PictureError):
    """Nothing more can be written where results go: the disk is full, or read-only."""


def suggest(name: str, known: list[str]) -> str:
    """``"; did you mean 'sobel'?"`` when a known name is close to the one given, else nothing."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def one_line(text: str) -> str:
    """The text with all that is no printable character written out: names can hold anything, a line can't."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def system_words(error: OSError) -> str:
    """What the system says."""
    return error.strerror or str(error)


def unexpected(error: Exception) -> str:
    """One clause for what should not have happened."""
    return f"unexpected {type(error).__name__}: {error}; CONVCLI_DEBUG=1 shows where"
