"""A picture as PNG, which pages show without another file."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["png_base64"]

_COLOUR_TYPES = {1: 0, 3: 2}
"""By channels: grey, red-green-blue (PNG specification, table 11.1)."""


def png_base64(image_CHW: npt.NDArray[np.uint8]) -> str:
    """Return an image of one or three channels, 8 bits each, as PNG in base64; of others the first channel.

    Source:
        ISO/IEC 15948:2004, sections 5 and 11.

    Example:
        >>> png_base64(np.zeros((1, 1, 1), np.uint8))[:11]
        'iVBORw0KGgo'
    """
    image_CHW = image_CHW if len(image_CHW) in _COLOUR_TYPES else image_CHW[:1]
    channels, height, width = image_CHW.shape
    rows = image_CHW.transpose(1, 2, 0).reshape(height, width * channels)
    scanlines = np.pad(rows, ((0, 0), (1, 0)))  # a filter type in front of each, 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)
    return base64.b64encode(png).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
