"""What arrives in pieces is answered as the whole would be."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from untrained_runs import untrained_run, val_arrays

from kleiber.data.spectrograms import Mel, log_mel
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError, UsageError
from kleiber.infer.classification import open_classifier
from kleiber.infer.streaming import FrameStream, RecurrentReader, WordStream, open_stream
from kleiber.infer.streaming.pieces import pieces_of
from kleiber.infer.streaming.recurrent import RecurrentState
from kleiber.models.rnn.module import build
from kleiber.models.rnn.spec import RNNSpec
from kleiber.runs import DataShape

CUTS = st.lists(st.integers(0, 1000), max_size=8)


def pieces(whole, cuts):
    """Return something in pieces that are cut at these places, some of them empty."""
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    return [whole[start:end] for start, end in pairwise(places)]


def byte_level():
    """Return tokens of a tokenizer that was trained here."""
    backend = train_tokenizer(["low lower lowest don't 12 123 ab  cd\n\n" * 4], 272, source="text:x")
    return lambda text: backend.encode(text, add_special_tokens=False).ids


def word_pieces():
    """Return tokens of a tokenizer such as BERT's."""
    backend = Tokenizer(
        models.WordPiece({"[UNK]": 0, "low": 1, "##er": 2, "a": 3, "b": 4, "!": 5}, unk_token="[UNK]")  # noqa: S106 - a token of text
    )
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda text: backend.encode(text, add_special_tokens=False).ids


WORDS = ("low", "er", "est", "don't", " ", "  ", "\n", "12", "ab", "é", "s\u0301", "\u3000", "\t", "!", "a")
TOKENIZERS = {"byte level": byte_level(), "word pieces": word_pieces()}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60)
@given(
    text=st.lists(st.sampled_from(WORDS), max_size=30).map("".join),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
)
def test_tokens_of_pieces_are_those_of_the_text(name, text, cuts):
    tokens_of = TOKENIZERS[name]
    words, tokens, so_far = WordStream(tokens_of), [], ""
    for piece in pieces(text, cuts):
        tokens += words.push(piece)
        so_far += piece
        assert [*tokens, *words.unfinished()] == tokens_of(so_far)


def test_a_text_without_white_space_does_not_grow_without_bound():
    words = WordStream(TOKENIZERS["byte level"])
    for _ in range(50):
        words.push("x" * 500)
        assert len(words.held) <= 4596
    assert words.num_cut_words > 0


def test_a_tokenizer_that_reads_a_text_as_a_whole_is_refused():
    with pytest.raises(UsageError, match="reads a text as a whole: its tokens are not those of the words"):
        WordStream(lambda text: [len(text) ** 2])


@settings(max_examples=40)
@given(num=st.integers(0, 1500), cuts=CUTS, rate=st.sampled_from([4000, 8000, 16_000]))
def test_frames_of_pieces_are_those_of_the_sound(num, cuts, rate):
    wave = np.random.default_rng(num).normal(0, 0.3, num).astype(np.float32)
    mel = Mel(rate)
    frames, found, num_pushed = FrameStream(mel), [], 0
    for piece in pieces(wave, cuts):
        found.append(frames.push(piece))
        num_pushed += len(piece)
        whole = log_mel(wave[None, :num_pushed], mel)[0]
        together = np.concatenate([*found, frames.unfinished()], 1)
        assert together.shape == whole.shape
        np.testing.assert_allclose(together, whole, atol=2e-4)
    silent = log_mel(np.zeros((1, 2000), np.float32), mel)[0, :, :3]
    np.testing.assert_allclose(frames.silence(3), silent, atol=1e-5)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_recurrent_model_reads_pieces_as_the_whole(cell, pooling):
    shape = DataShape(inputs="tokens", vocab_size=50, context=64, num_outputs=3)
    spec = RNNSpec(depth=2, width=16, cell=cell, pooling=pooling, shape=shape)
    module = build(spec, seed=1).eval()
    tokens = np.random.default_rng(0).integers(1, 50, 40)
    reader, state = RecurrentReader(module), RecurrentState()
    for piece in pieces(tokens, [3, 4, 20]):
        state = reader.read(state, piece)
    with torch.no_grad():
        whole = module(torch.from_numpy(tokens)[None]).numpy()
    np.testing.assert_allclose(reader.outputs(state), whole, atol=1e-6)
    with pytest.raises(AssertionError, match="an answer is given after a step"):
        reader.outputs(RecurrentState())


@pytest.fixture(scope="module")
def text_runs(tmp_path_factory, cache, make_record):
    """Return classifiers of the same texts: with a state, and with a window."""
    root = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    rows = [
        (" ".join(rng.choice(["good", "bad", "film", "dull"], 5)), "yn"[index % 2]) for index in range(40)
    ]
    (root / "texts.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    classifiers = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        for family in ("rnn", "encoder"):
            values = (f"data.source=csv:{root / 'texts.csv'}", "data.field=text", "data.vocab_size=262", "data.context=32",
                      "data.val_frac=0.2", f"model.family={family}", "model.depth=1", "model.width=16")  # fmt: skip
            classifiers[family] = open_classifier(untrained_run(root / family, make_record, *values)[0])
    return classifiers


@pytest.mark.parametrize("family", ["rnn", "encoder"])
def test_text_in_pieces_is_answered_as_the_text(text_runs, family):
    classifier = text_runs[family]
    text = "good film, bad film"
    stream = open_stream(classifier)
    assert stream.is_exact == (family == "rnn")
    assert stream.answer() is None
    for end in range(1, len(text) + 1):
        stream.push(text[end - 1])
        (whole,) = classifier.answers([classifier.reader.of(text[:end], "it")])
        np.testing.assert_allclose(stream.answer().probs_K, whole.probs_K, atol=1e-6)


def test_beyond_the_context_a_state_goes_on_and_a_window_keeps_the_last_tokens(text_runs):
    text = "dull film " * 60 + "good"
    recurrent, window = open_stream(text_runs["rnn"]), open_stream(text_runs["encoder"])
    for piece in pieces(text, range(7, 600, 7)):
        recurrent.push(piece)
        window.push(piece)
    texts = text_runs["rnn"].reader.texts
    tokens = np.array(texts.tokens_of(text))
    assert len(tokens) > texts.context
    with torch.no_grad():
        outputs = text_runs["rnn"].module(torch.from_numpy(tokens)[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(recurrent.answer().probs_K, outputs, atol=1e-6)
    (last,) = text_runs["encoder"].answers([texts.framed(tokens[-texts.room :].tolist())])
    np.testing.assert_allclose(window.answer().probs_K, last.probs_K, atol=1e-6)


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory, cache, make_record):
    """Return a classifier of sounds, its data and the folder of the sounds."""
    soundfile = pytest.importorskip("soundfile")
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for name, hertz in (("low", 300), ("high", 2000)):
        (root / "sounds" / name).mkdir(parents=True)
        for index in range(8):
            length = 600 + 100 * index
            wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(length) / 8000) + rng.normal(0, 0.05, length)
            soundfile.write(root / "sounds" / name / f"{index}.wav", wave, 8000, subtype="FLOAT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        run, data = untrained_run(
            root / "run", make_record, f"data.source=audiofolder:{root / 'sounds'}", "data.val_frac=0.3",
            "model.family=convnet", "model.stage_depths=1", "model.width=4",
        )  # fmt: skip
    return open_classifier(run), data, root / "sounds"


def test_sounds_become_the_spectrograms_that_the_runs_data_has(sound_run):
    classifier, data, folder = sound_run
    read = [array for path in sorted(folder.glob("*/*.wav")) for _, array in classifier.reader.read(path)]
    chosen = np.stack(read)[data.parts["val"].samples.indices]
    np.testing.assert_allclose(chosen, val_arrays(data, "images"), atol=1e-5)


@pytest.mark.parametrize("num_ms", [1, 13, 500])
def test_a_sound_in_pieces_is_answered_as_the_sound(sound_run, num_ms):
    classifier, _, folder = sound_run
    path = folder / "high" / "3.wav"
    stream = open_stream(classifier)
    assert not stream.is_exact
    assert stream.answer() is None
    places = []
    for place, piece in pieces_of(classifier, str(path), io.BytesIO(), num_ms=num_ms):
        stream.push(piece)
        places.append(place.strip())
    assert places[-1] == "0.11 s"
    (whole,) = classifier.answers([array for _, array in classifier.reader.read(path)])
    np.testing.assert_allclose(stream.answer().probs_K, whole.probs_K, atol=1e-4)


def test_a_long_sound_is_answered_by_its_last_frames_and_takes_no_more_memory(sound_run):
    classifier, _, _ = sound_run
    reader = classifier.reader
    wave = np.random.default_rng(0).normal(0, 0.2, 30_000).astype(np.float32)
    stream = open_stream(classifier)
    for piece in pieces(wave, range(0, 30_000, 777)):
        stream.push(piece)
    whole = log_mel(wave[None], reader.mel)
    num_complete = (30_000 - reader.mel.num_bins // 2) // reader.mel.hop + 1
    last = whole[:, :, num_complete - reader.num_frames : num_complete]
    (expected,) = classifier.answers([reader.normalized(last)])
    np.testing.assert_allclose(stream.answer().probs_K, expected.probs_K, atol=1e-4)
    assert len(stream._window) == reader.num_frames
    assert len(stream._frames._held_L) < reader.mel.num_bins


def test_sounds_that_do_not_suit_are_refused(sound_run, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    reader = sound_run[0].reader
    soundfile.write(tmp_path / "fast.wav", np.zeros(100), 16_000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 8000, subtype="FLOAT")
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"fast\.wav' must have 8,000 samples a second.*Got 16000"):
        list(reader.read(tmp_path / "fast.wav"))
    with pytest.raises(DataError, match=r"empty\.wav' is empty: there is no sound"):
        list(reader.read(tmp_path / "empty.wav"))
    with pytest.raises(DataError, match=r"nan\.wav' holds samples that are not finite"):
        list(reader.read(tmp_path / "nan.wav"))
    with pytest.raises(DataError, match=r"no\.wav' cannot be decoded"):
        list(reader.read(tmp_path / "no.wav"))
    with pytest.raises(DataError, match="a piece of the sound holds samples that are not finite"):
        open_stream(sound_run[0]).push(np.array([np.inf], np.float32))


def test_standard_input_is_16_bit_sound_or_utf_8_text(sound_run, text_runs):
    samples = np.array([0, 2**14, -(2**15)], "<i2")
    ((place, wave),) = pieces_of(sound_run[0], "-", io.BytesIO(samples.tobytes() + b"x"), num_ms=100)
    assert (place.strip(), wave.tolist(), wave.dtype) == ("0.00 s", [0.0, 0.5, -1.0], np.float32)
    with pytest.raises(
        DataError, match="standard input is a WAV file, and sound on standard input is samples alone"
    ):
        list(pieces_of(sound_run[0], "-", io.BytesIO(b"RIFF____WAVEfmt "), num_ms=100))
    parts = list(pieces_of(text_runs["rnn"], "-", io.BytesIO("é".encode() * 3000), num_ms=100))
    assert "".join(piece for _, piece in parts) == "é" * 3000
    assert len(parts) > 1
    with pytest.raises(DataError, match="'-' is not text in UTF-8"):
        list(pieces_of(text_runs["rnn"], "-", io.BytesIO(b"\xff"), num_ms=100))
    with pytest.raises(DataError, match=r"'none\.txt' is no file"):
        list(pieces_of(text_runs["rnn"], "none.txt", io.BytesIO(), num_ms=100))


def series_run(root, make_record, family, *values):
    """Return a classifier of series of 12 rows of 2 numbers."""
    rng = np.random.default_rng(0)
    series = rng.normal(3, 2, (40, 12, 2)).astype(np.float32)
    np.savez(root / f"{family}.npz", x_train=series, y_train=np.arange(40) % 3)
    run, _ = untrained_run(
        root / family, make_record, f"data.source=npz:{root / f'{family}.npz'}", "data.val_frac=0.2", f"model.family={family}", *values
    )  # fmt: skip
    return open_classifier(run), series


def test_rows_of_a_series_in_pieces_are_answered_as_the_series(tmp_path, make_record):
    classifier, series = series_run(tmp_path, make_record, "rnn", "model.depth=1", "model.width=8")
    stream = open_stream(classifier)
    assert stream.answer() is None
    for piece in pieces(series[5], [3, 4]):
        stream.push(piece)
    np.save(tmp_path / "one.npy", series[5])
    (whole,) = classifier.answers([array for _, array in classifier.reader.read(tmp_path / "one.npy")])
    np.testing.assert_allclose(stream.answer().probs_K, whole.probs_K, atol=1e-6)
    with pytest.raises(UsageError, match=r"a piece of the series must have 2 numbers a row\. Got \(4,\)"):
        stream.push(np.zeros(4))
    with pytest.raises(DataError, match="a piece of the series holds numbers that are not finite"):
        stream.push(np.full((1, 2), np.nan))
    with pytest.raises(UsageError, match="classifies series, whose rows arrive as arrays"):
        next(pieces_of(classifier, "-", io.BytesIO(), num_ms=1))


def test_what_does_not_arrive_in_pieces_is_refused(tmp_path, make_record):
    values = ("data.source=wine", "model.family=mlp", "model.depth=1", "model.width=8")
    classifier = open_classifier(untrained_run(tmp_path / "run", make_record, *values)[0])
    with pytest.raises(UsageError, match="classifies features, which do not arrive in pieces"):
        open_stream(classifier)
