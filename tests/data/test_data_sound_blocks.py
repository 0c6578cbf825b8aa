"""Samples a block at a time, and files that libsndfile reads without decoding them."""

import io
import random

import numpy as np
import pytest
import soundfile

from kleiber.data.sound_blocks import mono_blocks
from kleiber.errors import DataError


def sound_of(samples, form="WAV", subtype="FLOAT"):
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format=form, subtype=subtype)
    return io.BytesIO(out.getvalue())


def test_channels_are_averaged_block_by_block():
    samples = np.array([[0.0, 1.0], [0.5, 0.5], [-1.0, 0.0], [0.25, 0.75], [1.0, 1.0]], np.float32)
    with soundfile.SoundFile(sound_of(samples)) as sound:
        blocks = list(mono_blocks(sound, 2))

    assert [block.tolist() for block in blocks] == [[0.5, 0.5], [-0.5, 0.5], [1.0]]
    assert blocks[0].dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_samples_that_are_no_sound_are_refused(value):
    samples = np.zeros(10, np.float32)
    samples[7] = value
    with soundfile.SoundFile(sound_of(samples)) as sound:
        blocks = mono_blocks(sound, 5)
        assert next(blocks).tolist() == [0.0] * 5
        with pytest.raises(DataError, match="holds samples that are not finite, or beyond any sound"):
            next(blocks)


@pytest.mark.parametrize("seed", [69, 197, 353])
def test_a_header_without_samples_is_refused(seed):
    """Of these damaged files libsndfile decodes nothing, and soundfile's own blocks are memory that nobody wrote."""
    content = sound_of(np.random.default_rng(0).normal(0, 0.1, 2000), "FLAC", "PCM_16").getvalue()
    chance = random.Random(seed)  # noqa: S311 - nothing is secret
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(min(len(content), 200))
        cut = chance.choice((0, 1, 1, 1, 20, len(content)))
        content = content[:place] + chance.randbytes(chance.randrange(4)) + content[place + cut :] or b"x"
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        mark = np.full((4400, 1), 7e33, np.float32)
        assert (next(sound.blocks(out=mark)) == np.float32(7e33)).all()
    with (
        soundfile.SoundFile(io.BytesIO(content)) as sound,
        pytest.raises(DataError, match=r"^does not decode: its header speaks of [\d,]+ samples"),
    ):
        list(mono_blocks(sound, 4400))


def test_an_empty_sound_has_no_blocks():
    with soundfile.SoundFile(sound_of(np.zeros(0, np.float32))) as sound:
        assert list(mono_blocks(sound, 4)) == []
    with soundfile.SoundFile(sound_of(np.ones(8, np.float32))) as sound:
        assert [len(block) for block in mono_blocks(sound, 4)] == [4, 4]
