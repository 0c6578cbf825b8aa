"""Text out of files, a part at a time: unpacked, decoded, checked."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from kleiber.errors import DataError, MissingExtraError

__all__ = ["COMPRESSED_SUFFIXES", "inner_suffix", "text_lines", "text_parts"]

COMPRESSED_SUFFIXES = frozenset({".xz", ".gz", ".zst"})

_PART_BYTES = 2**20
_PACKED_BYTES = 2**16
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EXAMPLE = "name a file of UTF-8 text, which may be packed as .xz, .gz or .zst"


def inner_suffix(name: str) -> str:
    """Return what a file is, in lower case, whether it is packed or not.

    Example:
        >>> inner_suffix("a/b.CSV.xz"), inner_suffix("b.csv"), inner_suffix("b.gz")
        ('.csv', '.csv', '')
    """
    path = Path(name)
    is_packed = path.suffix.lower() in COMPRESSED_SUFFIXES
    return (Path(path.stem).suffix if is_packed else path.suffix).lower()


def text_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a file, each with its "\n" but perhaps the last, as `text_parts` reads them."""
    rest = ""
    for part in text_parts(path):
        *lines, rest = (rest + part).split("\n")
        for line in lines:
            yield line + "\n"
    if rest:
        yield rest


def text_parts(path: Path) -> Iterator[str]:
    r"""Yield the text of a file in order; line ends are "\n" whatever they were, a byte order mark is left out.

    Memory holds a mebibyte of it at a time, packed or not.

    Raises:
        DataError: It is binary, is not UTF-8 (the byte is named), or its packing is torn.
        MissingExtraError: It is a .zst, and `zstandard` is not installed.
        OSError: It cannot be read.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    num_read = 0
    for part in _unpacked(path):
        if not num_read and part.startswith(_UTF16_MARKS):
            raise DataError(
                f"{path} is not UTF-8 text: it begins with the byte order mark of UTF-16.",
                hint=f"iconv -f utf-16 -t utf-8 {path.name} > utf8{inner_suffix(path.name) or '.txt'}",
            )
        if (zero := part.find(b"\0")) >= 0:
            raise DataError(f"{path} is binary, not text: byte {num_read + zero} is NUL.", hint=_EXAMPLE)
        yield _decoded(decoder, part, num_read, path, is_last=False)
        num_read += len(part)
    yield _decoded(decoder, b"", num_read, path, is_last=True)


def _decoded(
    decoder: io.IncrementalNewlineDecoder, part: bytes, num_read: int, path: Path, *, is_last: bool
) -> str:
    try:
        # The stub of typeshed says str, of decoders that take text.
        return decoder.decode(cast("str", part), is_last)
    except UnicodeDecodeError as error:
        # What the decoder held back of earlier parts stands at the head of the object it choked on.
        place = num_read + len(part) - len(error.object) + error.start
        raise DataError(
            f"{path} is not UTF-8 text: byte {place} is 0x{error.object[error.start]:02x}.",
            hint=f"iconv -f latin1 -t utf-8 {path.name} > utf8{inner_suffix(path.name) or '.txt'}   (if it is Latin-1)",
        ) from None


def _unpacked(path: Path) -> Iterator[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".zst":
        yield from _unpacked_zst(path)
        return
    if suffix not in COMPRESSED_SUFFIXES:
        with path.open("rb") as stream:
            yield from _parts(stream, _PART_BYTES)
        return
    with path.open("rb") as packed:  # a file that is not there is no torn packing
        try:
            with lzma.open(packed) if suffix == ".xz" else gzip.open(packed) as stream:
                yield from _parts(cast("BinaryIO", stream), _PART_BYTES)
        except (lzma.LZMAError, EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{path} is not a whole {suffix} file: {error}.", hint=f"test it with: {suffix[1:]} -t"
            ) from None


def _unpacked_zst(path: Path) -> Iterator[bytes]:
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("zstandard", "data", f"Reading {path.name}") from None
    frame = None
    try:
        with path.open("rb") as packed:
            for part in _parts(packed, _PACKED_BYTES):
                rest = part
                while rest:
                    if frame is None or frame.eof:  # frames may follow each other
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    yield frame.decompress(rest)
                    rest = frame.unused_data
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is not a whole .zst file: {error}.", hint="test it with: zstd -t") from None
    if frame is None or not frame.eof:
        raise DataError(f"{path} is not a whole .zst file: its end is missing.", hint="test it with: zstd -t")


def _parts(stream: BinaryIO, num_bytes: int) -> Iterator[bytes]:
    while part := stream.read(num_bytes):
        yield part
