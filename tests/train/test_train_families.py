"""Every family through a whole run: it learns, goes on after an interruption to the same bits, and is found again on disk."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from kleiber.data import open_data
from kleiber.models import FAMILIES, load, resolve_spec
from kleiber.runs import Recipe, RunFolder
from kleiber.study.plan import plan
from kleiber.tasks import task_of
from kleiber.train import train

SHARED = (
    "train.batch_size=16", "train.log_every=3", "train.val_every=9", "train.checkpoint_every=4",
    "train.schedule.warmup_steps=2", "parallel.num_threads=1",
)  # fmt: skip
DIGITS = ("task.name=classification", "data.source=digits")
TEXT = (
    "data.source=text:{text}",
    "data.vocab_size=300",
    "data.context=24",
    "data.val_frac=0.2",
    "data.val_tokens=512",
)
REVIEWS = (
    "task.name=classification", "data.source=csv:{reviews}", "data.field=text", "data.vocab_size=280", "data.context=12",
    "data.val_frac=0.1",
)  # fmt: skip
SUNSPOTS = (
    "task.name=regression",
    "data.source=series:{series}",
    "data.context=8",
    "data.horizon=2",
    "data.val_frac=0.2",
)
PAIRS = (
    "task.name=seq2seq", "data.source=pairs:{pairs}", "data.vocab_size=280", "data.context=12", "data.val_frac=0.1",
)  # fmt: skip
CAPTIONS = ("task.name=contrastive", "data.source=digits")


@dataclass(frozen=True)
class Case:
    """A model on data of a kind."""

    model: tuple[str, ...]
    data: tuple[str, ...]
    num_steps: int = 15
    lr: float = 0.01
    falls_by: float = 0.1
    """Part of the loss of the first steps that must be gone in the last."""


CASES: dict[str, Case] = {
    "mlp": Case(
        ("family=mlp", "depth=1", "width=32", "dropout=0.1"), (*DIGITS, "data.augment=[{{name: noise}}]")
    ),
    "mlp on columns": Case(
        ("family=mlp", "depth=1", "width=16"), ("task.name=classification", "data.source=wine")
    ),
    "mlp to a number": Case(
        ("family=mlp", "depth=1", "width=16"), ("task.name=regression", "data.source=diabetes")
    ),
    "convnet": Case(("family=convnet", "depth=2", "width=8"), DIGITS),
    "inception": Case(("family=inception", "depth=2", "width=16"), DIGITS),
    "resnet": Case(("family=resnet", "depth=8", "width=8"), (*DIGITS, "data.augment=[{{name: shift}}]")),
    "vit": Case(("family=vit", "depth=1", "width=16", "patch_size=4", "dropout=0.1"), DIGITS),
    "rnn": Case(("family=rnn", "cell=lstm", "depth=1", "width=24", "is_tied=true"), TEXT),
    "rnn on texts": Case(("family=rnn", "cell=gru", "depth=1", "width=16", "dropout=0.1"), REVIEWS),
    "rnn on a series": Case(("family=rnn", "cell=elman", "depth=1", "width=16"), SUNSPOTS),
    "gpt": Case(("family=gpt", "depth=1", "width=32"), TEXT),
    "gpt of experts": Case(("family=gpt", "depth=1", "width=32", "num_experts=4"), TEXT),
    "encoder": Case(
        ("family=encoder", "depth=1", "width=16", "dropout=0.1"), REVIEWS, num_steps=24, lr=0.003
    ),
    "seq2seq": Case(("family=seq2seq", "depth=1", "width=32", "dropout=0.1"), PAIRS),
    "dual": Case(("family=dual", "depth=1", "width=32", "patch_size=4"), CAPTIONS, num_steps=36, lr=0.003),
    "file": Case(("family=file", "path={net}", "name=Net", "init={{width: 24}}"), DIGITS),
    "hf": Case(("family=hf", "path={bert}"), REVIEWS, num_steps=24, lr=0.003),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_text):
    """Return the paths of small data that the cases name."""
    folder = tmp_path_factory.mktemp("families")
    draw = random.Random(0)  # noqa: S311 - words, no secrets
    words = [
        "river", "stone", "cloud", "house", "green", "winter", "bread", "song",
        "paper", "light", "horse", "garden", "night", "water", "glass", "road",
    ]  # fmt: skip

    def sentence(num: int) -> list[str]:
        return [draw.choice(words) for _ in range(num)]

    # Each verdict has words of its own, so that a few steps are enough.
    reviews = [draw.choice(("good", "bad")) for _ in range(160)]
    own = {"good": words[:8], "bad": words[8:]}
    lines = [" ".join(draw.choice(own[verdict]) for _ in range(6)) + f",{verdict}" for verdict in reviews]
    (folder / "reviews.csv").write_text("\n".join(["text,verdict", *lines]) + "\n")
    said = [sentence(4) for _ in range(160)]
    lines = ["\t".join((" ".join(one), " ".join(word[::-1] for word in one))) for one in said]
    (folder / "pairs.tsv").write_text("\n".join(["forth\tback", *lines]) + "\n")
    rows = [str(round(10 + 5 * ((row % 12) / 6 - 1) ** 2 + draw.random() / 10, 3)) for row in range(160)]
    (folder / "series.csv").write_text("\n".join(["count", *rows]) + "\n")
    return {
        "text": small_text,
        "reviews": folder / "reviews.csv",
        "pairs": folder / "pairs.tsv",
        "series": folder / "series.csv",
        "bert": tiny_bert(folder / "bert"),
        "net": brought_net(folder / "net.py"),
    }


def brought_net(path):
    path.write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, width):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    )
    return path


def tiny_bert(folder):
    BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    ).save_pretrained(folder)
    return folder


def recipe_of(case: Case, files) -> Recipe:
    model = [f"model.{part}" for part in case.model]
    values = [
        *model,
        *case.data,
        *SHARED,
        f"train.num_steps={case.num_steps}",
        f"train.optimizer.lr={case.lr}",
    ]
    return Recipe().with_values([value.format(**files) for value in values])


def test_every_family_is_among_the_cases():
    assert {dict(part.split("=") for part in case.model)["family"] for case in CASES.values()} == set(
        FAMILIES
    )


@pytest.mark.parametrize("name", CASES)
def test_a_run_learns_resumes_and_is_found_again(name, files, tmp_path):
    case = CASES[name]
    recipe = recipe_of(case, files)
    whole = train(recipe, tmp_path / "whole")
    losses = [line["loss"] for line in RunFolder(tmp_path / "whole").read_metrics()]
    assert whole.status == "finished"
    assert losses[-1] < (1 - case.falls_by) * losses[0]

    parts = interrupted_and_resumed(recipe, tmp_path / "parts", at_step=case.num_steps // 2)
    assert measured(parts) == measured(whole)
    assert weights(tmp_path / "parts").keys() == weights(tmp_path / "whole").keys()
    for tensor, same in zip(
        weights(tmp_path / "parts").values(), weights(tmp_path / "whole").values(), strict=True
    ):
        assert torch.equal(tensor, same)

    check_folder(whole, RunFolder(tmp_path / "whole"))
    found = plan(whole.recipe)
    assert found.num_params.total == whole.num_params.total
    assert found.train_flops == pytest.approx(whole.train_flops)


def interrupted_and_resumed(recipe, folder, *, at_step):
    def interrupt(progress):
        if progress.step >= at_step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, on_progress=interrupt)
    assert RunFolder(folder).read_record().status == "interrupted"
    assert list(RunFolder(folder).checkpoints_path.iterdir())
    return train(recipe, folder)


def measured(record):
    """Return what a run came to, without what depends on the hour."""
    keys = {
        "num_steps",
        "num_tokens",
        "loss",
        "val_loss",
        "val_loss_half_width",
        "val_metrics",
        "test_loss",
        "test_metrics",
    }
    return record.result.model_dump(include=keys)


def weights(folder):
    return load_file(RunFolder(folder).model_path / "model.safetensors")


def check_folder(record, run):
    """What was saved is what was measured, and says what it predicts."""
    module, spec = load(run.model_path)
    assert spec == resolve_spec(record.recipe)
    assert sum(param.numel() for param in module.parameters()) == record.num_params.total
    data = open_data(record.recipe.data, seed=record.seed, task=record.recipe.task)
    task = task_of(record.recipe.task, data.meta)
    assert task.evaluate(module, data).loss == record.result.val_loss
    assert (run.model_path / "tokenizer.json").is_file() == (data.tokenizer_path is not None)
    shown = run.read_predictions()
    assert bool(shown) == (record.recipe.task.name != "lm")
    assert shown == list(task.show(module, data))
