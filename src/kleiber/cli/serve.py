"""`kleiber serve`: models behind HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from kleiber.serve import Opened, ServeSettings

__all__ = ["EXAMPLE", "PACKAGES", "serve"]

EXAMPLE = "kleiber serve runs/demo/target"
_COMMAND = EXAMPLE
_KEYS_VARIABLE = "KLEIBER_API_KEYS"
PACKAGES = ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart")
"""Of the extra, without which nothing is served."""


def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, or folders of models.")],
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where it listens; 0.0.0.0 is for everybody.")
    ] = "127.0.0.1",
    port: Annotated[str, typer.Option("--port", metavar="WHOLE", help="0 takes a free one.")] = "8000",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            help=f"Keys of which requests must bring one, a key a line; or in {_KEYS_VARIABLE}, with commas between.",
        ),
    ] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="Another name that this machine's own server is asked by, such as a proxy's; may be given again.",
        ),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="What runs the models.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="fp32|int8|int4", help="Of the weights of language models."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context", metavar="WHOLE", help="Tokens of a text with its prompt; fewer take less memory."
        ),
    ] = None,
    threads: Annotated[str | None, typer.Option("--threads", metavar="WHOLE", help="Of each engine.")] = None,
    max_running: Annotated[
        str, typer.Option("--max-running", metavar="WHOLE", help="Texts that a model writes at once.")
    ] = "16",
    max_waiting: Annotated[
        str, typer.Option("--max-waiting", metavar="WHOLE", help="Texts that may wait; then it answers 429.")
    ] = "32",
    max_prompt_tokens: Annotated[
        str | None, typer.Option("--max-prompt-tokens", metavar="WHOLE", help="Of one prompt.")
    ] = None,
    max_output_tokens: Annotated[
        str | None, typer.Option("--max-output-tokens", metavar="WHOLE", help="Of one text.")
    ] = None,
    max_body: Annotated[str, typer.Option("--max-body", metavar="BYTES", help="Of one request.")] = "16M",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="SECONDS", help="For an answer to be whole.")
    ] = "600",
    drain: Annotated[
        str, typer.Option("--drain", metavar="SECONDS", help="For what runs to end when it is stopped.")
    ] = "10",
    json_: Json = False,
) -> None:
    """Serve models as OpenAI's API does, with a page to try them.

    Ctrl-C or SIGTERM stops it: it takes no more requests, and what runs may end.

    With --json: address, pid, models (name, kind, engine, precision), as soon as it is ready.
    """
    out = Output(json_)
    numbers = {
        "port": parse_whole(port, "--port", _COMMAND, maximum=65_535, example=8000),
        "max_running": parse_whole(max_running, "--max-running", _COMMAND, minimum=1, maximum=1024),
        "max_waiting": parse_whole(max_waiting, "--max-waiting", _COMMAND, maximum=100_000),
        "max_body_bytes": parse_whole(max_body, "--max-body", _COMMAND, minimum=1),
        "request_timeout_s": parse_positive(timeout, "--timeout", _COMMAND, example="600"),
        "drain_s": parse_whole(drain, "--drain", _COMMAND, maximum=86_400),
        "context": _optional(context, "--context", 2**31 - 1),
        "num_threads": _optional(threads, "--threads", 4096),
        "max_prompt_tokens": _optional(max_prompt_tokens, "--max-prompt-tokens", 2**31 - 1),
        "max_output_tokens": _optional(max_output_tokens, "--max-output-tokens", 2**31 - 1),
    }
    values: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    keys = _keys(api_key_file)
    try:
        from kleiber.serve import ServeSettings, open_served
        from kleiber.serve import serve as run
        from kleiber.serve.listening import listen
    except ModuleNotFoundError as error:
        if (package := str(error.name).partition(".")[0]) not in PACKAGES:
            raise
        raise MissingExtraError.of(package, "serve", "kleiber serve") from None
    settings = ServeSettings(
        host=host,
        engine=engine,
        precision=precision,
        api_keys=keys,
        allowed_hosts=tuple(allowed_hosts or ()),
        **values,
    )
    with listen(settings) as listener:
        models = open_served(runs, settings, on_progress=out.notice)
        run(
            models,
            settings,
            listener=listener,
            on_ready=lambda address: _greet(out, address, models, settings),
        )
    out.say("stopped.")


def _optional(text: str | None, name: str, maximum: int) -> int | None:
    return None if text is None else parse_whole(text, name, _COMMAND, minimum=1, maximum=maximum)


def _keys(file: Path | None) -> tuple[str, ...]:
    """Return the keys of a file, else of the environment; none where neither is given."""
    typed = os.environ.get(_KEYS_VARIABLE)
    if file is None and typed is None:
        return ()
    where = f"--api-key-file {file}" if file is not None else _KEYS_VARIABLE
    hint = f"openssl rand -hex 32 > keys.txt; {_COMMAND} --api-key-file keys.txt"
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"{where} cannot be read: {reason}.", hint=hint) from None
    else:
        lines = str(typed).split(",")
    keys = tuple(filter(None, map(str.strip, lines)))
    if not keys:
        raise UsageError(f"{where} holds no key.", hint=hint)
    for number, key in enumerate(keys, 1):
        if not (key.isascii() and key.isprintable() and " " not in key):
            # The key itself is not shown: what is printed may be kept.
            raise UsageError(
                f"key {number} of {where} has a space, or a letter that no header has.", hint=hint
            )
    return keys


def _greet(out: Output, address: str, models: dict[str, Opened], settings: ServeSettings) -> None:
    """Say that it is ready, and how to try it."""
    from kleiber.serve.door import is_loopback

    for one in models.values():
        for note in one.notes:
            out.notice(f"{one.name}: {note}")
        out.say(f"{one.name}: a {one.kind} model, in {one.engine} at {one.precision}.")
    first = next(iter(models.values()))
    out.say(f"Serving at {address}   (Ctrl-C stops it; {address}/ in a browser is a page to try it)")
    out.say(f"  try: {_trial(address, first, has_keys=bool(settings.api_keys))}")
    if not is_loopback(settings.host):
        out.notice(
            f"{settings.host} is reached from other machines"
            + (
                ", and keys travel unencrypted: put a proxy with TLS before it."
                if settings.api_keys
                else ", and without a key EVERYBODY who reaches it may use it: --api-key-file FILE asks for one."
            )
        )
    told = [
        {"name": one.name, "kind": one.kind, "engine": one.engine, "precision": one.precision}
        for one in models.values()
    ]
    out.document({"address": address, "pid": os.getpid(), "models": told})


def _trial(address: str, model: Opened, *, has_keys: bool) -> str:
    """Return a line for a shell that asks the model something."""
    path, body = {
        "text": ("completions", {"model": model.name, "prompt": "Once upon a time", "max_tokens": 50}),
        "classifier": ("classify", {"model": model.name, "input": "..."}),
        "encoder": ("embeddings", {"model": model.name, "input": "A cat sat on the mat."}),
    }[model.kind]
    key = " -H 'Authorization: Bearer KEY'" if has_keys else ""
    return f"curl {address}/v1/{path}{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
