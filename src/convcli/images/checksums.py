"""CRC-32 and Adler-32, by ISA-L where there is one for the processor: six times as fast as zlib."""

from functools import cache
from typing import Any


def crc32(data: Any, before: int = 0) -> int:
    """The checksum of a buffer's bytes, or of them behind others with the checksum ``before``."""
    return int(_library().crc32(data, before))


def adler32(data: Any, before: int = 1) -> int:
    """The checksum of a buffer's bytes, or of them behind others with the checksum ``before``."""
    return int(_library().adler32(data, before))


@cache
def _library() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return zlib
    return isal_zlib
