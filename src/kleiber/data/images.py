"""Images: decoded once, uint8 [C, H, W] each, grey or RGB.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kleiber.data.prepared import NpyWriter, PreparedMeta
from kleiber.data.sample_checks import left_out, num_in
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import num_cores

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EncodedImage", "decode_image", "prepare_images"]

_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "YCbCr", "CMYK"})
_TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

_CHUNK = 256


@dataclass(frozen=True)
class EncodedImage:
    """An image that has not been decoded."""

    name: str
    """For errors."""
    read: Callable[[], bytes]


def decode_image(
    encoded: bytes,
    image_size: int | None = None,
    *,
    max_pixels: int | None = None,
    formats: tuple[str, ...] | None = None,
) -> tuple[npt.NDArray[np.uint8], str]:
    """Return an image [C, H, W] with C 1 or 3, and the mode that it was stored in.

    Transparency is dropped. A resized image is `image_size` square whatever it was, by Pillow's bilinear filter, which averages
    when it shrinks.

    Args:
        encoded: The bytes of a PNG, JPEG, or any other file that Pillow reads.
        image_size: Pixels of each side; None keeps the image's own.
        max_pixels: An image whose header says more is refused before it is decoded; None leaves that to Pillow's own limit.
        formats: Names that Pillow has for those that are read; None reads all that it knows.

    Raises:
        DataError: They are no image, a part of one, too large, or not of 8 bits a channel.
        MissingExtraError: Pillow is not installed.
    """
    _require_pillow()
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - an extra

    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            _require_readable(image, max_pixels)
            pixels = image.convert("L" if image.mode in _GREY else "RGB")
            if image_size is not None and pixels.size != (image_size, image_size):
                pixels = pixels.resize((image_size, image_size), Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
            return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)), image.mode
    except UnidentifiedImageError:
        raise DataError("it is not an image that Pillow knows") from None
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - a dozen codecs, each with its own ways to stumble over somebody's bytes
        raise DataError((str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")) from None


def _require_readable(image: Image, max_pixels: int | None) -> None:
    """Refuse by its header an image that is too large or of other pixels."""
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise DataError(
            f"it is {image.width:,} x {image.height:,} pixels, and at most {max_pixels:,} pixels are read"
        )
    if image.mode not in _GREY | _COLOUR:
        raise DataError(f"its pixels are of the mode {image.mode}, not of 8 bits a channel")


def _require_pillow() -> None:
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError.of("pillow", "data", "Decoding images")


def prepare_images(
    folder: Path,
    images: Sequence[EncodedImage],
    *,
    source: str,
    image_size: int | None,
    skips_bad: bool,
    classes: tuple[str, ...] = (),
) -> PreparedMeta:
    """Write `images.npy` uint8 [N, C, H, W] and `kept.npy`, the indices in `images` of those N.

    C is 1 where all are grey, else 3.

    Args:
        folder: Where to.
        images: In order.
        source: What the user typed, for errors.
        image_size: Pixels of each side; None keeps the images' own, which must agree.
        skips_bad: Whether images that do not decode are left out.
        classes: Names of classes, handed on.

    Raises:
        DataError: An image does not decode, all are left out, or sizes differ.
    """
    _require_pillow()
    bad: list[str] = []
    kept: list[int] = []
    modes: Counter[str] = Counter()
    digest, num_channels = hashlib.sha256(), _num_channels(images)
    with closing(NpyWriter(folder / "images.npy")) as writer:
        for index, image, mode in _decoded(images, image_size, bad):
            if not kept:
                first, shape = images[index].name, image.shape[1:]
            if image.shape[1:] != shape:
                raise DataError(
                    f"data.source '{source}': images must be of one size; {first} is {_size(shape)} and "
                    f"{images[index].name} is {_size(image.shape[1:])}.",
                    hint="--set data.image_size=32",
                )
            pixels = np.ascontiguousarray(np.broadcast_to(image, (num_channels, *shape)))
            digest.update(pixels.tobytes())
            writer.append(pixels[None])
            kept.append(index)
            modes[mode] += 1
    _check_bad(bad, len(kept), source, skips_bad=skips_bad)
    np.save(folder / "kept.npy", np.array(kept, np.intp))
    return PreparedMeta(
        content_hash=digest.hexdigest()[:16],
        classes=classes,
        num_bad_samples=len(bad),
        notes=(*left_out(bad), *_notes(modes, image_size)),
    )


def _check_bad(bad: list[str], num_good: int, source: str, *, skips_bad: bool) -> None:
    if not bad and not num_good:
        raise DataError(
            f"data.source '{source}' is empty: it holds no image.", hint="name a source with images"
        )
    if bad and not (skips_bad and num_good):
        raise DataError(
            f"data.source '{source}': {num_in(len(bad), 'image')} of {len(bad) + num_good:,} cannot be decoded; the first "
            f"is {bad[0]}.",
            hint="--set data.skips_bad_samples=true"
            if num_good
            else "files of PNG, JPEG or another format that Pillow reads",
        )


def _num_channels(images: Sequence[EncodedImage]) -> int:
    """Return 3 when any is in colour: grey ones lose nothing when they become RGB, colours would."""
    return 3 if any(_is_coloured(image) for image in images) else 1


def _is_coloured(image: EncodedImage) -> bool:
    from PIL import Image  # noqa: PLC0415 - an extra

    try:
        with Image.open(io.BytesIO(image.read())) as opened:
            return opened.mode not in _GREY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False  # counted where it is decoded


def _decoded(
    images: Sequence[EncodedImage], image_size: int | None, bad: list[str]
) -> Iterator[tuple[int, npt.NDArray[np.uint8], str]]:
    """Yield index, pixels and mode of the images that decode; sentences about the others go to `bad`."""

    def attempt(image: EncodedImage) -> tuple[npt.NDArray[np.uint8], str] | str:
        try:
            return decode_image(image.read(), image_size)
        except DataError as error:
            return f"{image.name}: {error.message}"
        except OSError as error:
            return f"{image.name}: {error.strerror or error}"

    with ThreadPoolExecutor(num_cores()) as pool:  # Pillow leaves other threads running while it decodes
        for start in range(0, len(images), _CHUNK):
            for offset, result in enumerate(pool.map(attempt, images[start : start + _CHUNK])):
                if isinstance(result, str):
                    bad.append(result)
                else:
                    yield start + offset, *result


def _notes(modes: Counter[str], image_size: int | None) -> Iterator[str]:
    num_grey = sum(num for mode, num in modes.items() if mode in _GREY)
    num_transparent = sum(num for mode, num in modes.items() if mode in _TRANSPARENT)
    if 0 < num_grey < modes.total():
        yield f"{num_in(num_grey, 'grey image')} of {modes.total():,} became RGB, as the others are in colour."
    if num_transparent:
        yield f"The transparency of {num_in(num_transparent, 'image')} was dropped."
    if image_size is not None:
        yield f"Images were resized to {image_size} x {image_size} pixels."


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
