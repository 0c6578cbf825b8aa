from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile

from kleiber.data.sample_data import open_samples
from kleiber.data.spectrograms import Clip, Mel, log_mel, mel_filters, prepare_spectrograms
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import DataRecipe, TaskRecipe


def tone(frequency: float, num: int, rate: int = 8000) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(num) / rate).astype(np.float32)


def test_it_equals_the_formula_written_out():
    mel = Mel(8000)
    wave = np.random.default_rng(0).normal(size=300).astype(np.float32)
    padded = np.pad(wave.astype(np.float64), 128)
    hann = np.zeros(256)
    hann[28:228] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    angles = -2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)
    expected = np.zeros((40, 4))
    for frame in range(4):
        power = np.abs(np.exp(angles) @ (hann * padded[80 * frame : 80 * frame + 256])) ** 2
        for band in range(40):
            low, centre, high = centres[band : band + 3]
            total = 0.0
            for index, each in enumerate(power):
                hertz = index * 8000 / 256
                rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
                total += max(0.0, min(rising, falling)) * each
            expected[band, frame] = np.log(total + 1e-6)
    np.testing.assert_allclose(log_mel(wave[None], mel)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it():
    mel = Mel(8000)
    loudest = log_mel(tone(1000, 4000)[None], mel)[0, :, 25].argmax()
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)
    assert centres[loudest] < 1000 < centres[loudest + 2]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_every_band_hears_something(rate):
    filters = mel_filters(Mel(rate))
    assert filters.shape == (Mel(rate).num_bins // 2 + 1, 40 if rate == 8000 else 64)
    assert (filters.max(0) > 0.1).all()


@pytest.fixture
def sounds(tmp_path):
    """Low and high tones, 6 of each, a tenth of a second long."""
    root = tmp_path / "sounds"
    for name, frequency in (("high", 2000), ("low", 200)):
        (root / name).mkdir(parents=True)
        for index in range(6):
            soundfile.write(root / name / f"{index}.wav", tone(frequency + 10 * index, 800), 8000)
    return root


def open_sounds(root, tmp_path, **options):
    return open_samples(
        DataRecipe(source=f"audiofolder:{root}", val_frac=0.2, normalization="none", **options),
        TaskRecipe(name="classification"),
        seed=0,
        cache=tmp_path / "cache",
    )


def test_a_folder_of_sounds(sounds, tmp_path):
    stereo = np.stack([tone(2000, 800), -tone(2000, 800)], 1)
    soundfile.write(sounds / "high" / "silent.flac", stereo, 8000)  # the channels' mean is silence
    data = open_sounds(sounds, tmp_path)
    assert data.meta.classes == ("high", "low")
    assert (data.meta.shape.channels, data.meta.shape.height, data.meta.shape.width) == (1, 40, 16)
    (note,) = data.meta.notes
    assert note == (
        "Sound at 8,000 Hz became log-mel spectrograms of 40 bands and 16 frames of 10 ms; "
        "0 longer clips of 13 lost the end."
    )
    train = next(data.batches("train", 0, data.meta.num_train_tokens)).arrays
    is_silent = (train["images"] < -12).all((1, 2, 3))
    loudest = train["images"].mean(3)[:, 0].argmax(1)
    assert is_silent.sum() <= 1
    assert (loudest[(train["labels"] == 0) & ~is_silent] > 20).all()
    assert (loudest[train["labels"] == 1] < 10).all()


def test_longer_clips_are_cut_and_shorter_ones_end_in_silence(tmp_path):
    waves = [tone(500, 400)] * 39 + [tone(500, 8000)]
    clips = [Clip(str(index), len(wave), lambda wave=wave: wave) for index, wave in enumerate(waves)]
    meta = prepare_spectrograms(
        tmp_path, clips, np.full(40, True), sample_rate=8000, source="x", skips_bad=False
    )
    pictures = np.load(tmp_path / "images.npy")
    assert pictures.shape == (40, 1, 40, 8)
    assert meta.notes[0].endswith("8 frames of 10 ms; 1 longer clip of 40 lost the end.")
    assert (pictures[0, 0, :, 7] < -13).all()
    assert (pictures[39, 0, :, 7] > -13).any()


def test_the_length_is_that_of_the_training_clips(tmp_path):
    waves = [tone(500, 400)] * 4 + [tone(500, 8000)] * 4
    clips = [Clip(str(index), len(wave), lambda wave=wave: wave) for index, wave in enumerate(waves)]
    prepare_spectrograms(tmp_path, clips, np.arange(8) < 4, sample_rate=8000, source="x", skips_bad=False)
    assert np.load(tmp_path / "images.npy").shape == (8, 1, 40, 8)


def test_sounds_that_do_not_decode_are_named_counted_and_skipped_on_request(sounds, tmp_path):
    (sounds / "high" / "1.wav").write_text("no sound")
    soundfile.write(sounds / "low" / "2.wav", np.zeros(0, np.float32), 8000)
    soundfile.write(sounds / "low" / "3.wav", np.full(80, np.nan, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"3 clips of 12 cannot be decoded; the first is high/1\.wav: "):
        open_sounds(sounds, tmp_path)
    data = open_sounds(sounds, tmp_path, skips_bad_samples=True)
    assert data.meta.num_bad_samples == 3
    assert np.add(data.meta.class_counts, np.bincount(data.parts["val"].labels)).tolist() == [5, 4]


def test_sample_rates_must_agree(sounds, tmp_path):
    soundfile.write(sounds / "high" / "0.wav", tone(2000, 1600), 16_000)
    with pytest.raises(DataError, match=r"most have 8,000 Hz and high/0\.wav has 16,000"):
        open_sounds(sounds, tmp_path)


def test_a_clip_that_breaks_off_is_refused(tmp_path):
    def broken() -> np.ndarray:
        raise DataError("it breaks off")

    clips = [Clip("a", 800, broken), Clip("b", 800, lambda: tone(5, 800))]
    with pytest.raises(DataError, match=r"1 clip of 2 cannot be decoded; the first is a: it breaks off"):
        prepare_spectrograms(
            tmp_path, clips, np.array([True, True]), sample_rate=8000, source="x", skips_bad=False
        )
    with pytest.raises(DataError, match="is empty: it holds no sound"):
        prepare_spectrograms(tmp_path, [], np.zeros(0, bool), sample_rate=8000, source="x", skips_bad=False)


def test_soundfile_is_asked_for(sounds, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match="Reading sound needs the package 'soundfile'"):
        open_sounds(sounds, tmp_path)
