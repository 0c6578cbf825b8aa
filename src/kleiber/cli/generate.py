"""`kleiber generate`: text from a trained model, as it is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kleiber.cli.options import Json, Seed, parse_real, parse_whole
from kleiber.cli.output import Output
from kleiber.cli.written_texts import write_texts
from kleiber.errors import DataError, UsageError

if TYPE_CHECKING:
    from kleiber.infer.text_model import TextModel

__all__ = ["EXAMPLE", "generate"]

EXAMPLE = 'kleiber generate runs/demo/target --prompt "def " --max-tokens 100'
_COMMAND = "kleiber generate runs/demo/target"
_OF_TRANSLATION = ("run", "prompts", "prompt_file", "beams", "json_")
"""What a model that writes a text from a text takes: it searches, and draws nothing."""


def generate(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run, a model's folder, or a .gguf file.")],
    *,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="What a text begins with; may be given again."),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE|-",
            help="A prompt in a file, or from stdin; for a translation a text a line.",
        ),
    ] = None,
    max_tokens: Annotated[
        str, typer.Option("--max-tokens", metavar="WHOLE", help="Tokens to write at most.")
    ] = "200",
    temperature: Annotated[
        str, typer.Option("--temperature", metavar="NUMBER", help="0 takes the likeliest token each time.")
    ] = "0.8",
    top_k: Annotated[
        str, typer.Option("--top-k", metavar="WHOLE", help="Draw from so many likeliest tokens; 0 is all.")
    ] = "0",
    top_p: Annotated[
        str,
        typer.Option("--top-p", metavar="NUMBER", help="Draw from the likeliest tokens that add up to it."),
    ] = "1",
    min_p: Annotated[
        str,
        typer.Option(
            "--min-p", metavar="NUMBER", help="Draw from tokens so probable, as a part of the likeliest."
        ),
    ] = "0",
    repetition_penalty: Annotated[
        str,
        typer.Option(
            "--repetition-penalty", metavar="NUMBER", help="Above 1 tokens that have occurred come less."
        ),
    ] = "1",
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End where this comes; may be given again."),
    ] = None,
    num_samples: Annotated[
        str, typer.Option("--num-samples", metavar="WHOLE", help="Texts of each prompt, side by side.")
    ] = "1",
    logprobs: Annotated[
        str | None,
        typer.Option(
            "--logprobs",
            metavar="WHOLE",
            help="How probable each token was, and so many likeliest beside it.",
        ),
    ] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(
            "--json-schema", metavar="FILE", help="Write JSON that the schema in this file validates."
        ),
    ] = None,
    beams: Annotated[
        str | None,
        typer.Option(
            "--beams", metavar="WHOLE", help="Of a translation: texts searched side by side; 1 takes one."
        ),
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(
            "--draft",
            metavar="RUN|lookup",
            help="A smaller model with the same tokens, or the text itself, proposes tokens; used while it is faster.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="auto|torch|compiled|onnxruntime|openvino|llamacpp",
            help="What runs it; auto takes what measures fastest on this machine.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", metavar="fp32|int8|int4", help="Of the weights; without it as they are stored."
        ),
    ] = None,
    seed: Seed = "0",
    json_: Json = False,
) -> None:
    """Continue prompts with a model, through a KV cache; or translate them.

    With --json: run, engine, precision, texts (prompt, text, num_tokens, finish; tokens with --logprobs), num_tokens,
    tokens_per_s; speculation with --draft. Of a translation: run, beams, texts (prompt, text).
    """
    out = Output(json_)
    asked = _prompts(prompts, prompt_file)
    settings: dict[str, Any] = {
        "temperature": parse_real(temperature, "--temperature", _COMMAND, maximum=100),
        "top_k": parse_whole(top_k, "--top-k", _COMMAND),
        "top_p": parse_real(top_p, "--top-p", _COMMAND, maximum=1),
        "min_p": parse_real(min_p, "--min-p", _COMMAND, maximum=1),
        "repetition_penalty": parse_real(repetition_penalty, "--repetition-penalty", _COMMAND, maximum=100),
    }
    limits: dict[str, Any] = {
        "max_tokens": parse_whole(max_tokens, "--max-tokens", _COMMAND, minimum=1, maximum=1_000_000),
        "seed": parse_whole(seed, "--seed", _COMMAND),
        "stop": tuple(stop or ()),
        "num_samples": parse_whole(num_samples, "--num-samples", _COMMAND, minimum=1, maximum=1000),
        "num_logprobs": None
        if logprobs is None
        else parse_whole(logprobs, "--logprobs", _COMMAND, maximum=1000),
    }
    num_beams = 1 if beams is None else parse_whole(beams, "--beams", _COMMAND, minimum=1, maximum=1000)
    from kleiber.infer.generation import Constraint, Request, Sampling, TextGenerator
    from kleiber.infer.generation.translation import is_translator

    if run.is_dir() and is_translator(run):
        _refuse_without_effect(ctx)
        _translate(run, asked if prompts else asked[0].splitlines(), num_beams, out)
        return
    if beams is not None:
        raise UsageError(
            f"--beams is of models that write a text from a text, and {run} goes on from one.",
            hint=f"{_COMMAND} --prompt ... --temperature 0",
        )
    constraint = None if json_schema is None else Constraint.json_schema(_read(json_schema, "--json-schema"))
    request = Request(sampling=Sampling(**settings), constraint=constraint, **limits)
    model = _open(run, engine, precision, out)
    helper: TextModel | Literal["lookup"] | None = None
    if draft is not None:
        helper = "lookup" if draft == "lookup" else _open(Path(draft), engine, precision, out)
    write_texts(TextGenerator(model, helper), run, asked, request, out)


def _open(folder: Path, engine: str, precision: str | None, out: Output) -> TextModel:
    from kleiber.infer.text_model import open_text_model

    opener: Any = open_text_model  # refuses what is no engine, and no precision
    model: TextModel = opener(folder, engine=engine, precision=precision, on_progress=out.notice)
    for sentence in (model.choice.says(),) if model.choice else ():
        out.notice(sentence)
    for note in model.decoder.notes:
        out.notice(note)
    return model


def _prompts(typed: list[str] | None, file: Path | None) -> list[str]:
    """Return the prompts: as typed, or one of a file."""
    if (file is None) == (not typed):
        raise UsageError(
            "a prompt is typed with --prompt, or read with --prompt-file; one of both.", hint=EXAMPLE
        )
    if file is None:
        return list(typed or ())
    if str(file) == "-":
        return [sys.stdin.read()]
    return [_read(file, "--prompt-file")]


def _read(file: Path, option: str) -> str:
    """Return the text of a file that was named with an option."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{option} {file} cannot be read: {reason}.", hint=EXAMPLE) from None


def _refuse_without_effect(ctx: typer.Context) -> None:
    """Refuse what was typed and is of a model that draws tokens, where one searches for its text."""
    for param in ctx.command.params:
        value: Any = ctx.params.get(str(param.name))
        if param.name in _OF_TRANSLATION or value in (param.default, (), None):
            continue
        raise UsageError(
            f"{param.opts[0]} has no effect on a model that writes a text from a text: it searches for the best.",
            got=value,
            hint='kleiber generate runs/translation --prompt "Two dogs are playing." --beams 4',
        )


def _translate(run: Path, texts: list[str], num_beams: int, out: Output) -> None:
    from kleiber.infer.generation.translation import open_translator

    written = open_translator(run).translate(texts, num_beams=num_beams)
    for text in written:
        out.write(text)
        out.say()
    pairs = [{"prompt": prompt, "text": text} for prompt, text in zip(texts, written, strict=True)]
    out.document({"run": str(run), "beams": num_beams, "texts": pairs})
