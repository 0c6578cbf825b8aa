"""Steps a second of `kleiber train` beside a plain loop written by hand, on the same model and batches; the two take turns.

The plain loop holds all samples as one tensor, shuffles with `torch.randperm`, clips, steps and reads the loss as anyone
would. What Kleiber does beside the same steps (batches that resume, checks, logs, TensorBoard) is what the ratio shows.
The last line is JSON.

    python bench/train_loop.py [--data ../shared/data] [--threads 2] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.data import Batch, Data, open_data
from kleiber.models import build, resolve_spec
from kleiber.runs import Recipe, RunFolder
from kleiber.train import train
from kleiber.train.allocator import pin_allocator

LOG_EVERY = 25
COMMON = (
    f"train.log_every={LOG_EVERY}", "train.val_every=1000000", "train.checkpoint_every=1000000",
    "train.schedule.name=constant", "train.schedule.warmup_steps=0", "train.optimizer.name=adamw", "train.optimizer.lr=0.001",
    "train.optimizer.matrix_lr=0.001",
)  # fmt: skip


def cases(data: Path | None) -> dict[str, tuple[Recipe, int]]:
    """Return recipes and the steps of a turn."""
    samples = ("task.name=classification",)
    gpt = ("model.depth=4", "model.width=128", "train.batch_size=8", "data.context=128")
    digits = (
        "model.family=mlp",
        "model.depth=2",
        "model.width=512",
        "data.source=digits",
        "train.batch_size=256",
    )
    asked: dict[str, tuple[tuple[str, ...], int]] = {
        "gpt on stdlib": (gpt, 60),
        "mlp on digits": ((*digits, *samples), 400),
    }
    if data is not None:
        mnist = (
            "model.family=convnet",
            "model.depth=4",
            "model.width=16",
            f"data.source=npz:{data}/images/mnist.npz",
        )
        cifar = (
            "model.family=resnet",
            "model.depth=20",
            f"data.source=npz:{data}/images/cifar10_train_jpeg.npz",
        )
        asked["convnet on MNIST"] = ((*mnist, *samples, "train.batch_size=128"), 60)
        asked["resnet-20 on CIFAR-10"] = ((*cifar, *samples, "train.batch_size=64"), 40)
    return {
        name: (Recipe().with_values([*COMMON, *values]), steps) for name, (values, steps) in asked.items()
    }


def kleiber_rate(recipe: Recipe, folder: Path) -> float:
    """Return steps a second from the first line of the log to the last but one, all between them included."""
    train(recipe, folder, resume=False)
    lines = RunFolder(folder).read_metrics()[:-1]  # the last waits for the validation
    return (lines[-1]["step"] - lines[0]["step"]) / (lines[-1]["time_s"] - lines[0]["time_s"])


def whole_split(data: Data, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return inputs and labels of the training split; of text its sequences."""
    num = data.meta.num_train_tokens // recipe.tokens_per_sample
    batch: Batch = next(data.batches("train", 0, min(num, 20_000)))
    inputs = torch.from_numpy(batch.arrays[data.meta.shape.inputs])
    return inputs, None if recipe.task.name == "lm" else torch.from_numpy(batch.arrays["labels"])


def plain_rate(recipe: Recipe, inputs: torch.Tensor, labels: torch.Tensor | None) -> float:
    """Return steps a second of a loop written by hand, after as many steps as are left out of the other."""
    options = recipe.train
    module = build(resolve_spec(recipe), seed=0)
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=options.optimizer.lr, weight_decay=0.0, fused=True)
    generator, losses = torch.Generator().manual_seed(0), []
    order = torch.randperm(len(inputs), generator=generator)
    start, cursor = 0.0, 0
    for step in range(options.num_steps - LOG_EVERY):
        if step == LOG_EVERY:
            start = time.perf_counter()
        if cursor + options.batch_size > len(order):
            order, cursor = torch.randperm(len(inputs), generator=generator), 0
        chosen = order[cursor : cursor + options.batch_size]
        cursor += options.batch_size
        x = inputs[chosen]
        if labels is None:
            loss = F.cross_entropy(module(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        else:
            loss = F.cross_entropy(module(x), labels[chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm or 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return (options.num_steps - 2 * LOG_EVERY) / (time.perf_counter() - start)


def compare(recipe: Recipe, num_steps: int, rounds: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return median rates and the median of the ratios of neighbouring turns."""
    values = [f"train.num_steps={num_steps + 2 * LOG_EVERY}"]
    recipe = recipe.with_values(values)
    data = open_data(recipe.data, seed=0, task=recipe.task)
    recipe = recipe.with_shape(data.meta.shape)
    inputs, labels = whole_split(data, recipe)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            # Who comes first changes from turn to turn: a machine that slows down over one favours neither.
            if turn % 2:
                ours, plain = kleiber_rate(recipe, Path(folder) / "run"), plain_rate(recipe, inputs, labels)
            else:
                plain, ours = plain_rate(recipe, inputs, labels), kleiber_rate(recipe, Path(folder) / "run")
            if turn:  # the first warms up
                pairs.append((ours, plain))
                say(f"  turn {turn}: {ours:.2f} and {plain:.2f} steps/s, ratio {ours / plain:.3f}")
    ratios = [ours / plain for ours, plain in pairs]
    return {
        "kleiber_steps_per_s": statistics.median(ours for ours, _ in pairs),
        "plain_steps_per_s": statistics.median(plain for _, plain in pairs),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder with images/mnist.npz and images/cifar10_train_jpeg.npz"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pin_allocator(keeps_freed_memory=True)
    found = {}
    for name, (case, num_steps) in cases(asked.data).items():
        recipe = case.with_values([f"parallel.num_threads={asked.threads}"])
        print(name)
        found[name] = compare(recipe, num_steps, asked.rounds, print)
        print(f"  ratio {found[name]['ratio']:.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
