"""`kleiber plan`: what a run will need, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kleiber.cli.options import Json, Sets, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

if TYPE_CHECKING:
    from kleiber.runs import Recipe
    from kleiber.study.plan import Plan

__all__ = ["EXAMPLE", "plan"]

EXAMPLE = "kleiber plan gpt:depth=12 --tokens 2.6e9 --device h100-sxm"
_MAX_STEPS = 10**9


def plan(
    size: Annotated[
        str, typer.Argument(metavar="SIZE", help="A size such as gpt:depth=12, or a recipe in YAML.")
    ],
    *,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="NUMBER", help="Training tokens; without it the recipe's steps."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Where it will run; without it this machine."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="WHOLE", help="Tokens in a sequence; as --set data.context."),
    ] = None,
    vocab_size: Annotated[
        str | None, typer.Option("--vocab-size", metavar="WHOLE", help="As --set data.vocab_size.")
    ] = None,
    sets: Sets = None,
    json_: Json = False,
) -> None:
    """Count parameters and FLOPs, and predict memory, time and money, without building the model.

    With --json: num_params (total, embedding, body, head), train_flops, memory_bytes (weights, gradients, optimizer,
    activations, peak), step_time_s, total_time_s, num_tokens, device, dtype, usd (or null), assumptions, spec.
    """
    command = f"kleiber plan {size}"
    changes = [
        f"data.{key}={parse_whole(text, option, command, minimum=1)}"
        for key, option, text in (
            ("context", "--context", context),
            ("vocab_size", "--vocab-size", vocab_size),
        )
        if text is not None
    ]
    num_tokens = None if tokens is None else parse_positive(tokens, "--tokens", command)
    recipe = with_tokens(read_size(size).with_values([*changes, *(sets or [])]), num_tokens, command)
    from kleiber.cost import find_device, load_calibration
    from kleiber.study.plan import plan as plan_run

    found = plan_run(
        recipe,
        device=None if device is None else find_device(device),
        calibration=load_calibration() if device is None else None,
    )
    out = Output(json_)
    _print(out, recipe, found)
    out.document(found.model_dump(mode="json"))


def read_size(text: str) -> Recipe:
    """Return the recipe in a file, or a recipe of the size that the shorthand names."""
    from kleiber.models import parse_size
    from kleiber.runs import Recipe, read_recipe

    if text.endswith((".yaml", ".yml", ".json")):
        return read_recipe(Path(text))
    return Recipe(model=parse_size(text))


def with_tokens(recipe: Recipe, num_tokens: float | None, command: str) -> Recipe:
    """Return the recipe with as many whole steps as `num_tokens` take; unchanged when it is None."""
    if num_tokens is None:
        return recipe
    num_steps = math.ceil(num_tokens / recipe.tokens_per_step)
    if num_steps > _MAX_STEPS:
        raise UsageError(
            f"--tokens {num_tokens:g} takes {num_steps:.3g} steps of {recipe.tokens_per_step} tokens, "
            f"and a run has at most {_MAX_STEPS:g}.",
            hint=f"{command} --tokens {num_tokens:g} --set train.batch_size={recipe.train.batch_size * 1000}",
        )
    return recipe.with_values([f"train.num_steps={num_steps}"])


def _print(out: Output, recipe: Recipe, found: Plan) -> None:
    count, memory = found.num_params, found.memory_bytes
    out.say(
        f"{recipe.model.family}, vocabulary {recipe.data.vocab_size}, context {recipe.data.context}: "
        f"{format_count(found.num_tokens)} tokens in {recipe.train.num_steps} steps of {recipe.tokens_per_step}, "
        f"on {found.device} in {found.dtype}"
    )
    tied = " (tied)" if count.is_tied else ""
    groups = {"embedding": count.embedding, "body": count.body, "head": count.head}
    held = {name: getattr(memory, name) for name in ("weights", "gradients", "optimizer", "activations")}
    out.table(
        ["", "total", "of which"],
        [
            ["parameters", format_count(count.total), _parts(groups, format_count) + tied],
            ["operations", format_flops(found.train_flops), ""],
            ["memory", format_bytes(memory.peak), _parts(held, format_bytes)],
            ["time", format_seconds(found.total_time_s), f"a step {format_seconds(found.step_time_s)}"],
            *([["money", f"{found.usd:.2f} USD", ""]] if found.usd is not None else []),
        ],
        words=(0, 2),
    )
    for sentence in found.assumptions:
        out.say(f"- {sentence}")


def _parts(values: Mapping[str, float], show: Callable[[float], str]) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in values.items())
