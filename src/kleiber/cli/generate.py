"""`kleiber generate`: text from a trained run, as it is sampled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from kleiber.cli.options import Json, Seed, parse_real, parse_whole
from kleiber.cli.output import Output

__all__ = ["EXAMPLE", "generate"]

EXAMPLE = 'kleiber generate runs/demo/target --prompt "def " --max-tokens 100'
_COMMAND = "kleiber generate runs/demo/target"


def generate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    *,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What the text begins with.")],
    max_tokens: Annotated[
        str, typer.Option("--max-tokens", metavar="WHOLE", help="Tokens to sample at most.")
    ] = "200",
    temperature: Annotated[
        str, typer.Option("--temperature", metavar="NUMBER", help="0 takes the likeliest token each time.")
    ] = "0.8",
    top_k: Annotated[
        str, typer.Option("--top-k", metavar="WHOLE", help="Sample from so many likeliest tokens; 0 is all.")
    ] = "0",
    top_p: Annotated[
        str,
        typer.Option("--top-p", metavar="NUMBER", help="Sample from the likeliest tokens that add up to it."),
    ] = "1",
    seed: Seed = "0",
    json_: Json = False,
) -> None:
    """Continue a prompt with a run's model, through a KV cache.

    With --json: run, prompt, text, num_tokens, tokens_per_s.
    """
    limit = parse_whole(max_tokens, "--max-tokens", _COMMAND, minimum=1, maximum=1_000_000)
    warmth = parse_real(temperature, "--temperature", _COMMAND, maximum=100)
    num_likeliest = parse_whole(top_k, "--top-k", _COMMAND)
    mass = parse_real(top_p, "--top-p", _COMMAND, maximum=1)
    number = parse_whole(seed, "--seed", _COMMAND)
    from kleiber import infer

    out = Output(json_)
    engine = infer.TorchEngine.load(run)
    text = infer.generate(
        engine,
        prompt,
        max_tokens=limit,
        temperature=warmth,
        top_k=num_likeliest,
        top_p=mass,
        seed=number,
    )
    out.write(prompt)
    pieces, start = [], time.perf_counter()
    for piece in text:
        out.write(piece)
        pieces.append(piece)
    elapsed_s = time.perf_counter() - start
    out.say()
    out.document(
        {
            "run": str(run),
            "prompt": prompt,
            "text": "".join(pieces),
            "num_tokens": min(len(pieces), limit),
            "tokens_per_s": min(len(pieces), limit) / elapsed_s,
        }
    )
