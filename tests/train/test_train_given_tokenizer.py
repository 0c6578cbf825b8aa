"""Pretrained text models are fine-tuned on texts as their own tokenizers read them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from kleiber.data import open_data, with_model_tokenizer
from kleiber.data.augment import AUGMENTATIONS
from kleiber.errors import DataError, RecipeError
from kleiber.models import build, load, resolve_spec
from kleiber.runs import Recipe, RunFolder
from kleiber.study.baseline import run_baseline
from kleiber.study.plan import plan
from kleiber.study.planned_data import of_data
from kleiber.train import train

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "river", "stone", "cloud", "house", "green", "winter", "bread", "song", "paper", "light", "horse", "garden", "night", "water",
    "glass", "##s",
]  # fmt: skip
CONTEXT = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders with a BERT and its vocab.txt, a GPT-2 whose end of text is its last token, a T5, and texts to learn from."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    write_bert(folder / "bert")
    write_gpt2(folder / "gpt2")
    write_t5(folder / "t5")
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(120):
        label = int(draw.integers(2))
        words = draw.choice(WORDS[7 * label : 7 * label + 7], int(draw.integers(2, 14)))
        rows.append((" ".join(words), "good" if label else "bad"))
    (folder / "texts.tsv").write_text("text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    pairs = [(text, " ".join(reversed(text.split()))) for text, _ in rows]
    (folder / "pairs.tsv").write_text("from\tto\n" + "".join(f"{a}\t{b}\n" for a, b in pairs))
    (folder / "book.txt").write_text("\n\n".join(f"Ünd {text}, 語 {text}s." for text, _ in rows))
    return folder


def write_bert(folder):
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]")  # noqa: S106 - no password
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(4)  # as some folders say, and nobody asked for
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    special = dict(zip(names, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), strict=True))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **special}))


def byte_level(*special):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer=trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def write_gpt2(folder):
    tokenizer = byte_level("<|endoftext|>")
    end = tokenizer.token_to_id("<|endoftext|>")
    assert end == 280
    config = transformers.GPT2Config(
        vocab_size=288, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=end, eos_token_id=end
    )  # a table that is larger than the tokenizer, as many are
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_t5(folder):
    tokenizer = byte_level("<pad>", "</s>")
    pad, end = (tokenizer.token_to_id(name) for name in ("<pad>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    config = transformers.T5Config(
        vocab_size=282,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def recipe_of(folders, name="bert", *more):
    return Recipe().with_values(
        [
            "model.family=hf", f"model.path={folders / name}", "model.pretrained=true", "task.name=classification",
            f"data.source=csv:{folders / 'texts.tsv'}", "data.field=text", f"data.context={CONTEXT}", "data.val_frac=0.2",
            "train.batch_size=16", "train.num_steps=24", "train.optimizer.lr=0.01", "train.log_every=3", "train.val_every=12",
            "train.checkpoint_every=5", "train.schedule.warmup_steps=2", "parallel.num_threads=1", *more,
        ]
    )  # fmt: skip


def lm_recipe(folders, name, *more):
    book = f"data.source=text:{folders / 'book.txt'}"
    return recipe_of(folders, name, "task.name=lm", book, "data.field=null", "data.val_tokens=200", *more)


def opened(recipe):
    recipe = with_model_tokenizer(recipe)
    return open_data(recipe.data, seed=0, task=recipe.task)


def whole(data, split):
    """Return the texts and labels of a split in its own order."""
    return next(iter(data.batches(split, 0, 10_000))).arrays


def test_texts_are_numbered_as_transformers_numbers_them(folders):
    data = opened(recipe_of(folders))
    theirs = transformers.AutoTokenizer.from_pretrained(folders / "bert")
    lines = [line.split("\t")[0] for line in (folders / "texts.tsv").read_text().splitlines()[1:]]
    expected = theirs(lines, truncation=True, padding="max_length", max_length=CONTEXT)["input_ids"]
    assert any(row[-1] == 3 for row in expected), "some are cut"
    found = [row for split in ("train", "val") for row in whole(data, split)["tokens"].tolist()]
    # Batches of train are in an order of their own, and repeat.
    assert {tuple(row) for row in found} == {tuple(row) for row in expected}
    assert (data.meta.shape.vocab_size, data.meta.shape.pad_id) == (len(SPECIAL + WORDS), 0)
    assert (
        f"Texts are read by the tokenizer of {folders / 'bert'}: 21 entries, padding is [PAD] (token 0)."
        in (data.meta.notes)
    )
    assert "% of the texts are cut to data.context 10" in data.meta.notes[-1]


def test_pretrained_weights_are_fine_tuned_and_come_back_in_transformers(folders, tmp_path):
    recipe = recipe_of(folders)
    record = train(recipe, tmp_path / "whole")
    assert record.recipe.data.tokenizer == str(folders / "bert")
    assert record.recipe.data.vocab_size == 21
    start = build(resolve_spec(record.recipe))
    pretrained = transformers.BertForMaskedLM.from_pretrained(folders / "bert")
    for name, weight in pretrained.bert.named_parameters():
        assert torch.equal(weight, start.model.bert.get_parameter(name))
    losses = [line["loss"] for line in RunFolder(tmp_path / "whole").read_metrics()]
    assert losses[-1] < 0.7 * losses[0]
    slow = train(recipe.with_values(["train.optimizer.lr=1e-7"]), tmp_path / "slow")
    module, _ = load(RunFolder(tmp_path / "slow").model_path)
    for name, weight in pretrained.bert.named_parameters():
        assert torch.allclose(weight, module.model.bert.get_parameter(name), atol=1e-5)
    assert slow.data.tokenizer_hash == record.data.tokenizer_hash

    model_path = RunFolder(tmp_path / "whole").model_path
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model_path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path)
    texts = ["river stone", "bread song paper light horse garden nights unknown and more", ""]
    batch = tokenizer(
        texts, truncation=True, padding="max_length", return_tensors="pt", return_token_type_ids=False
    )
    assert batch["input_ids"].shape == (3, CONTEXT)
    original = transformers.AutoTokenizer.from_pretrained(folders / "bert")
    expected = original(texts, truncation=True, padding="max_length", max_length=CONTEXT)["input_ids"]
    assert batch["input_ids"].tolist() == expected
    module, _ = load(model_path)
    with torch.no_grad():
        assert torch.allclose(module.eval()(batch["input_ids"]), theirs(**batch).logits, atol=1e-6)


def test_a_run_goes_on_to_the_same_bits(folders, tmp_path):
    recipe = recipe_of(folders)

    def interrupt(progress):
        if progress.step >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", on_progress=interrupt)
    parts, straight = train(recipe, tmp_path / "parts"), train(recipe, tmp_path / "straight")
    assert parts.result.val_loss == straight.result.val_loss
    for path in ("parts", "straight"):
        assert train(recipe, tmp_path / path).status == "finished"
    ours, theirs = (load(RunFolder(tmp_path / name).model_path)[0] for name in ("parts", "straight"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    again = train(RunFolder(tmp_path / "straight").read_record().recipe, tmp_path / "straight")
    assert again.result == straight.result


def test_padding_that_is_not_token_0_is_not_read(folders, tmp_path):
    recipe = recipe_of(folders, "gpt2", "data.context=24")
    data = opened(recipe)
    assert (data.meta.shape.vocab_size, data.meta.shape.pad_id) == (281, 280)
    rows = whole(data, "val")["tokens"]
    is_short = rows[:, -1] == 280
    assert is_short.any()
    assert np.all(np.diff(rows == 280, axis=1) >= 0), "padding stands at the end"
    record = train(recipe, tmp_path / "run")
    module, spec = load(RunFolder(tmp_path / "run").model_path)
    assert spec.shape.pad_id == 280
    row = torch.from_numpy(rows[is_short][:1])
    num = int((row != 280).sum())
    with torch.no_grad():
        assert torch.allclose(module.eval()(row), module(row[:, :num]), atol=1e-6)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        RunFolder(tmp_path / "run").model_path
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(RunFolder(tmp_path / "run").model_path)
    assert (tokenizer.pad_token_id, theirs.config.pad_token_id) == (280, 280)
    text = tokenizer.decode(row[0, :num])
    batch = tokenizer(text, padding="max_length", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        assert torch.allclose(theirs.eval()(**batch).logits, module(row), atol=1e-6)
    assert plan(record.recipe).num_params.total == record.num_params.total


@pytest.mark.parametrize("family", ["encoder", "rnn"])
def test_our_own_families_read_by_another_tokenizer(folders, tmp_path, family):
    sizes = (f"model={{family: {family}, depth: 1, width: 16}}", f"data.tokenizer={folders / 'gpt2'}")
    recipe = recipe_of(folders).with_values([*sizes, "data.context=24"])
    record = train(recipe, tmp_path / "run")
    module, spec = load(RunFolder(tmp_path / "run").model_path)
    assert spec.shape.pad_id == record.data.shape.pad_id == 280
    row = torch.tensor([[5, 6, 7, 280, 280]])
    with torch.no_grad():
        assert torch.allclose(module.eval()(row), module(row[:, :3]), atol=1e-6)
        assert not torch.equal(module(torch.tensor([[5, 6, 7, 0, 0]])), module(row))
    assert run_baseline(record.recipe).results


def test_text_is_modelled_in_the_numbers_of_the_pretrained_model(folders, tmp_path):
    recipe = lm_recipe(folders, "gpt2")
    planned = of_data(recipe)
    assert planned.data.shape.vocab_size == 281
    record = train(recipe, tmp_path / "run")
    assert record.num_params == plan(planned).num_params == resolve_spec(record.recipe).count()
    assert resolve_spec(record.recipe).count().total == sum(
        weight.numel() for weight in load(RunFolder(tmp_path / "run").model_path)[0].parameters()
    )
    data = opened(record.recipe)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders / "gpt2")
    batch = next(iter(data.batches("val", 0, 1000)))
    said = sum(len(tokenizer.decode(row[1:], skip_special_tokens=True).encode()) for row in batch.tokens)
    # A character may be cut at the end of a window; nothing else is lost or counted twice.
    assert data.val_bytes == pytest.approx(said, abs=3 * len(batch))
    loss = record.result.val_loss
    bits = record.result.val_metrics["bits_per_byte"].value
    assert bits == pytest.approx(loss / np.log(2) * batch.tokens[:, 1:].size / data.val_bytes)
    with pytest.raises(RecipeError, match="another recipe"):
        train(recipe.with_values(["data.context=12"]), tmp_path / "run")


def test_bytes_are_counted_where_a_tokenizer_leaves_spaces_and_case_out(folders, tmp_path):
    wide = tmp_path / "wide.txt"
    wide.write_text((folders / "book.txt").read_text().replace(" ", " " * 8))
    data = opened(lm_recipe(folders, "bert", f"data.source=text:{wide}", "data.val_tokens=100000"))
    assert data.meta.shape.vocab_size == 21
    mean = len(wide.read_bytes()) / (len(data.train_tokens) + len(data.val_tokens))
    assert data.meta.val_bytes_per_token == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_pairs_begin_and_end_as_the_pretrained_model_does(folders, tmp_path, beam_size):
    recipe = recipe_of(
        folders, "t5", "task.name=seq2seq", f"task.beam_size={beam_size}", f"data.source=pairs:{folders / 'pairs.tsv'}",
        "data.field=null", "data.context=40", "train.num_steps=6", "train.val_every=6",
    )  # fmt: skip
    data = opened(recipe)
    pad, end = 280, 281
    assert (data.meta.shape.pad_id, data.meta.shape.end_id) == (pad, end)
    row = {role: array[0].tolist() for role, array in whole(data, "val").items()}
    assert row["target"][0] == pad
    for tokens in (row["source"], row["target"][1:]):
        assert tokens.count(end) == 1
        assert set(tokens[tokens.index(end) + 1 :]) == {pad}
    record = train(recipe, tmp_path / "run")
    assert {"bleu", "perplexity"} <= record.result.val_metrics.keys()
    module, _ = load(RunFolder(tmp_path / "run").model_path)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(RunFolder(tmp_path / "run").model_path)
    batch = {role: torch.tensor([tokens]) for role, tokens in row.items()}
    labels = batch["target"][:, 1:].masked_fill(batch["target"][:, 1:] == pad, -100)
    with torch.no_grad():
        expected = theirs.eval()(
            input_ids=batch["source"], attention_mask=(batch["source"] != pad).long(), labels=labels
        )
        logits = module.eval()(batch["source"], batch["target"][:, :-1])
    assert torch.allclose(
        torch.nn.functional.cross_entropy(logits[0], labels[0], ignore_index=-100), expected.loss, atol=1e-6
    )
    with pytest.raises(
        RecipeError, match=r"begins, ends and pads texts with token 0.* pads with 280 and ends with 281"
    ):
        train(record.recipe.with_values(["model={family: seq2seq, depth: 1, width: 16}"]), tmp_path / "other")


def test_a_folder_from_scratch_trains_the_vocabulary_that_is_asked_for(folders):
    scratch = recipe_of(folders, "bert", "model.pretrained=false")
    assert with_model_tokenizer(scratch).data.tokenizer == str(folders / "bert")
    assert with_model_tokenizer(scratch.with_values(["data.vocab_size=300"])).data.tokenizer is None
    images = recipe_of(folders, "bert", "data.source=digits", "data.field=null")
    assert with_model_tokenizer(images) == images


@pytest.mark.parametrize("name", ["token_mask", "token_delete"])
def test_changes_of_tokens_are_refused(folders, name):
    assert name in AUGMENTATIONS
    with pytest.raises(DataError, match=f"data.augment {name} goes by the bytes and the padding"):
        opened(recipe_of(folders, "bert", f"data.augment=[{{name: {name}}}]"))


def test_what_does_not_fit_is_refused_with_numbers(folders, tmp_path):
    bare = tmp_path / "bare"
    transformers.BertForMaskedLM.from_pretrained(folders / "bert").save_pretrained(bare)
    with pytest.raises(
        RecipeError, match="bare holds no tokenizer, and pretrained weights know tokens by the numbers"
    ):
        train(recipe_of(tmp_path, "bare", f"data.source=csv:{folders / 'texts.tsv'}"), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"hf: '.*nowhere' is no folder here"):
        train(recipe_of(tmp_path, "nowhere", f"data.source=csv:{folders / 'texts.tsv'}"), tmp_path / "run")
    other = f"data.tokenizer={folders / 'gpt2'}"
    with pytest.raises(
        RecipeError, match="vocabulary of 21 tokens, and that of the data has 281: its weights do not"
    ):
        train(recipe_of(folders, "bert", other), tmp_path / "run")
    with pytest.raises(
        DataError, match=r"data.vocab_size 300 contradicts data.tokenizer '.*bert', which has 21 entries"
    ):
        train(recipe_of(folders, "bert", "data.vocab_size=300"), tmp_path / "run")
    with pytest.raises(
        DataError, match=r"data.context 3 leaves no room for a text: the tokenizer puts 2 tokens"
    ):
        train(recipe_of(folders, "bert", "data.context=3"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
