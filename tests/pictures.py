"""What tests of pictures share."""

from convcli.images.formats import FORMATS
from convcli.images.writing import Encoding, encode


def encoded(frames, name, **encoding):
    """The bytes of a file in the format of a name."""
    return encoded_and_said(frames, name, **encoding)[0]


def encoded_and_said(frames, name, **encoding):
    """The bytes, and the notices."""
    pieces, notices = encode(frames, FORMATS[name], Encoding(**encoding))
    return b"".join(pieces), notices
