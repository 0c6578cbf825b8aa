from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from kleiber.data import perceptual_hash
from kleiber.data.copies import without_copies
from kleiber.data.images import decode_image
from kleiber.data.perceptual_hash import first_lookalikes, low_frequencies, perceptual_hashes
from kleiber.data.source import ArraySamples, Part
from kleiber.errors import DataError


def table(rows, labels=None, groups=None) -> Part:
    return Part(
        ArraySamples({"features": np.array(rows, np.float32)[:, None]}),
        labels=None if labels is None else np.array(labels),
        groups=None if groups is None else np.array(groups),
    )


def left(part: Part) -> list[float]:
    return part.samples.gather(np.arange(len(part)))["features"][:, 0].tolist()


def test_exact_copies_leave_the_training_split_those_of_held_out_samples_first():
    parts = {
        "train": table([1, 2, 3, 2, 9, 8], [0, 0, 0, 1, 0, 1]),
        "val": table([9, 7, 7], [0, 0, 0]),
        "test": table([8], [0]),
    }
    found = without_copies(parts, "exact", source="x")
    assert left(found.train) == [1, 2, 3]
    assert (found.num_of_held_out, found.num_of_train, found.num_contradicting) == (2, 1, 2)
    assert found.note == (
        "2 training samples that copied held-out ones and 1 that copied training ones were removed; "
        "2 of them had another label."
    )


def test_without_labels_nothing_contradicts():
    found = without_copies({"train": table([1, 1]), "val": table([2])}, "exact", source="x")
    assert found.num_removed == 1
    assert found.note.endswith("were removed.")


def test_groups_of_the_source_tell_near_copies():
    parts = {"train": table([1, 2, 3, 4], groups=[0, 1, 1, 2]), "val": table([5], groups=[2])}
    assert left(without_copies(parts, "near", source="x").train) == [1, 2]


def test_a_training_split_of_nothing_but_copies_is_refused():
    parts = {"train": table([2, 1]), "val": table([1]), "test": table([2])}
    with pytest.raises(DataError, match="no training sample of 'x': all 2 copy held-out ones"):
        without_copies(parts, "exact", source="x")


def test_copies_that_no_group_tells_are_exact_ones():
    # Texts that differ beyond the context are of two groups, and what goes in is the same.
    parts = {"train": table([1, 1, 3], groups=[0, 1, 2]), "val": table([5], groups=[3])}
    assert left(without_copies(parts, "near", source="x").train) == [1, 3]


def test_near_copies_of_tables_are_refused():
    with pytest.raises(DataError, match="compares images and texts, and 'x' has features"):
        without_copies({"train": table([1]), "val": table([2])}, "near", source="x")


def photographs(num: int) -> np.ndarray:
    """Smooth random pictures [N, 3, 32, 32]."""
    coarse = np.random.default_rng(7).integers(0, 256, (num, 6, 6, 3)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((32, 32))).transpose(2, 0, 1) for each in coarse]
    )


def recompressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=60)
    return decode_image(stream.getvalue())[0]


def test_recompressed_and_brighter_images_look_alike_and_others_do_not():
    images = photographs(40)
    brighter = np.clip(images[3].astype(int) + 12, 0, 255).astype(np.uint8)
    copies = np.stack([recompressed(images[5]), brighter])
    first = first_lookalikes(low_frequencies(np.concatenate([images, copies])))
    assert first.tolist() == [*range(40), 5, 3]


def test_near_images_leave_the_training_split():
    images = photographs(6)
    parts = {
        "train": Part(ArraySamples({"images": np.concatenate([images[:4], recompressed(images[5])[None]])})),
        "val": Part(ArraySamples({"images": images[4:]})),
    }
    found = without_copies(parts, "near", source="x")
    assert (len(found.train), found.num_of_held_out) == (4, 1)
    assert without_copies(parts, "exact", source="x").num_removed == 0


def test_pairs_are_found_as_by_looking_at_all(monkeypatch):
    monkeypatch.setattr(perceptual_hash, "_BLOCK", 4)
    draws = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)
    draws[30:] = draws[:30] + 0.02 * draws[30:]
    hashes = perceptual_hashes(draws)
    bits = np.unpackbits((hashes[:, None] ^ hashes[None]).view(np.uint8).reshape(60, 60, 8), axis=2).sum(2)
    distance = np.linalg.norm(draws[:, None, 1:] - draws[None, :, 1:], axis=2)
    norms = np.linalg.norm(draws[:, 1:], axis=1)
    is_alike = (bits <= 6) & (distance <= 0.1 * np.maximum(norms[:, None], norms))
    expected = is_alike.argmax(1)
    assert (expected[30:] == np.arange(30)).mean() > 0.8
    assert first_lookalikes(draws).tolist() == expected.tolist()


def test_low_frequencies_are_a_cosine_transform():
    grey = np.random.default_rng(0).random((12, 20))
    expected = dctn(grey, norm="ortho")[:8, :8]
    np.testing.assert_allclose(low_frequencies(grey[None, None])[0].reshape(8, 8), expected, atol=1e-5)
