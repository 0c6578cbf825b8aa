"""Embeddings are those of transformers, whatever else is in the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from encoder_folders import MAX_TOKENS, WORDS, write_bert, write_encoder, write_modules, write_tokenizer

from kleiber.errors import KleiberError, RunFolderError, UsageError
from kleiber.infer.embedding import open_embedder
from kleiber.models import build, resolve_spec, save
from kleiber.runs import DataShape, Recipe

TEXTS = ["river", "stone cloud green winter songs", "house, bread", "winter winter"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture
def own(bert, tmp_path):
    """Return a copy of the folder that a test may change."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in bert.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def embedded(embedder, texts):
    return embedder.embed([embedder.tokens_of(text) for text in texts])


def states(folder, text):
    """Return the vectors of a text's tokens as transformers computes them, alone, [T, W]."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_mean_of_a_texts_tokens_beside_others(bert, engine):
    embedder = open_embedder(bert, engine=engine, num_threads=1)
    found = embedded(embedder, TEXTS)
    assert (embedder.engine, embedder.precision, embedder.context) == (engine, "fp32", MAX_TOKENS)
    for text, embedding in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(embedding, unit(states(bert, text).mean(0)), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert (found @ found.T - np.eye(4)).max() < 0.999


KINDS = {
    # Positions are counted from behind the padding's number, and there is one kind of token.
    "roberta": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": MAX_TOKENS + 1},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": MAX_TOKENS},
    # Rotary positions, and windows.
    "modernbert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": MAX_TOKENS},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_other_encoders_of_transformers(kind, tmp_path):
    folder = write_encoder(tmp_path / kind, kind, **KINDS[kind])
    found = embedded(open_embedder(folder), TEXTS)
    for text, embedding in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(embedding, unit(states(folder, text).mean(0)), atol=5e-6)


def test_the_fastest_engine_is_measured_and_answers_alike(bert, monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    heard = []
    embedder = open_embedder(bert, engine="auto", num_threads=1, on_progress=heard.append)
    assert any("measuring the engine openvino" in sentence for sentence in heard)
    np.testing.assert_allclose(embedded(embedder, TEXTS), embedded(open_embedder(bert), TEXTS), atol=2e-6)
    (choice,) = (tmp_path / "engines").glob("*.json")
    said = json.loads(choice.read_text())
    assert said["engine"] == embedder.engine
    assert "knows programs by the spec" in said["left_out"]["compiled"]


def test_the_first_tokens_vector_where_the_model_says_so(own):
    write_modules(own, "Normalize", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    embedder = open_embedder(own)
    assert embedder.pooling == "cls"
    for text, embedding in zip(TEXTS, embedded(embedder, TEXTS), strict=True):
        np.testing.assert_allclose(embedding, unit(states(own, text)[0]), atol=2e-6)


def test_pooling_as_new_releases_write_it(own):
    write_modules(own, pooling_mode="mean", embedding_dimension=32)
    assert open_embedder(own).pooling == "mean"


def test_many_texts_stay_in_their_order(bert):
    embedder = open_embedder(bert)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:8], rng.integers(1, 9))) for _ in range(75)]
    alone = np.concatenate([embedded(embedder, [text]) for text in texts])
    np.testing.assert_allclose(embedded(embedder, texts), alone, atol=2e-6)


def test_tokens_are_read_as_they_are_and_text_is_framed(bert):
    embedder = open_embedder(bert)
    assert embedder.tokens_of("river stone") == [2, 5, 6, 3]
    assert embedder.tokens_of([5, 6]) == [5, 6]
    # A special token that a text spells is not one: it has no other end.
    assert 3 not in embedder.tokens_of("river [SEP] stone")[1:-1]


def test_a_trained_encoder_and_a_tower_embed_too(tmp_path):
    shape = DataShape(inputs="tokens", vocab_size=14, context=10, num_outputs=3)
    recipe = Recipe().with_values(
        ["task.name=classification", "model.family=encoder", "model.depth=1", "model.width=32"]
    )
    write_tokenizer(tmp_path / "encoder")
    spec = resolve_spec(recipe.with_shape(shape))
    save(build(spec), spec, tmp_path / "encoder")
    found = embedded(open_embedder(tmp_path / "encoder"), TEXTS[:2])
    for text, embedding in zip(TEXTS, found, strict=False):
        np.testing.assert_allclose(embedding, unit(states(tmp_path / "encoder", text).mean(0)), atol=2e-6)

    shape = DataShape(inputs="captions", vocab_size=14, context=10, channels=3, height=8, width=8)
    recipe = Recipe().with_values(["task.name=contrastive", "model.family=dual", "model.depth=1", "model.width=32", "model.patch_size=4"])  # fmt: skip
    write_tokenizer(tmp_path / "dual")
    spec = resolve_spec(recipe.with_shape(shape))
    module = build(spec)
    save(module, spec, tmp_path / "dual")
    embedder = open_embedder(tmp_path / "dual")
    with torch.no_grad():
        expected = module.embed_texts(torch.tensor([embedder.tokens_of(TEXTS[1])])).numpy()
    np.testing.assert_allclose(embedded(embedder, TEXTS)[1:2], expected, atol=2e-6)


def test_what_is_no_encoder_is_refused(tmp_path):
    recipe = Recipe().with_values(["model.family=gpt", "model.depth=1", "model.width=32"])
    spec = resolve_spec(recipe.with_shape(DataShape(inputs="tokens", vocab_size=14, context=16)))
    write_tokenizer(tmp_path / "gpt")
    save(build(spec), spec, tmp_path / "gpt")
    with pytest.raises(
        UsageError, match=r"gpt gives no embeddings of texts: encoders such as BERT do.* Got 'GPT'"
    ):
        open_embedder(tmp_path / "gpt")
    write_tokenizer(tmp_path / "llama")
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 8,
        "n_head": 2,
        "n_layer": 1,
    }
    (tmp_path / "llama" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"llama gives no embeddings of texts.* Got 'gpt2'"):
        open_embedder(tmp_path / "llama")


def test_bad_texts(bert):
    embedder = open_embedder(bert)
    with pytest.raises(UsageError, match=r"a text to embed is empty. Got ''"):
        embedder.tokens_of("")
    with pytest.raises(UsageError, match=r"a text to embed is empty. Got \[\]"):
        embedder.tokens_of([])
    with pytest.raises(UsageError, match=r"is 13 tokens long; the model reads at most 12."):
        embedder.tokens_of("river " * 11)
    for token in (-1, 14):
        with pytest.raises(UsageError, match=f"a token of this model is from 0 to 13. Got {token}"):
            embedder.tokens_of([5, token])


def test_a_text_is_as_long_as_the_folder_says(own):
    (own / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    with pytest.raises(UsageError, match=r"is 6 tokens long; the model reads at most 5."):
        open_embedder(own).tokens_of("river stone cloud house")


def test_folders_that_say_what_is_not_computed(own):
    write_modules(own, pooling_mode_max_tokens=True)
    with pytest.raises(
        UsageError,
        match=r"pooled by their mean or by the first token's, one of them. Got .'pooling_mode_max_tokens'",
    ):
        open_embedder(own)
    write_modules(own, pooling_mode_max_tokens=True, pooling_mode_mean_tokens=True)
    with pytest.raises(UsageError, match="one of them"):
        open_embedder(own)
    write_modules(own, "Dense", pooling_mode_mean_tokens=True)
    with pytest.raises(UsageError, match="has a part Dense behind its encoder"):
        open_embedder(own)
    (own / "modules.json").write_text('[{"type": "models.Pooling", "path": "../elsewhere"}]')
    with pytest.raises(RunFolderError, match=r"names a folder outside of its own. Got '../elsewhere'"):
        open_embedder(own)
    (own / "modules.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"modules.json is not valid JSON"):
        open_embedder(own)
    (own / "modules.json").write_text("{}")
    with pytest.raises(
        RunFolderError, match=r"does not hold what sentence-transformers writes there. Got 'dict'"
    ):
        open_embedder(own)


def test_weights_that_are_not_finite(bert):
    embedder = open_embedder(bert)
    with torch.no_grad():
        next(embedder.predictor._module.parameters()).fill_(float("nan"))
    with pytest.raises(KleiberError, match="gave an embedding that is not finite"):
        embedded(embedder, TEXTS)
