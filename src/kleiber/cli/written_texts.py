"""Texts that a model writes, as `kleiber generate` prints them and as its document has them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kleiber.cli.output import Output
    from kleiber.infer.generation import Piece, Request, TextGenerator

__all__ = ["write_texts"]


@dataclass
class _Text:
    """A text as it comes."""

    prompt: str
    pieces: list[Piece] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def document(self, words: dict[int, str] | None) -> dict[str, Any]:
        """Return what a program is told of it; with `words` each token too."""
        told = {
            "prompt": self.prompt,
            "text": self.text,
            "num_tokens": len(self.pieces),
            "finish": self.pieces[-1].finish,
        }
        if words is None:
            return told
        return told | {"tokens": [_token(piece, words) for piece in self.pieces]}


def write_texts(
    generator: TextGenerator, run: Path, prompts: Sequence[str], request: Request, out: Output
) -> None:
    """Write what a model writes: one text as it comes, of several each when those before it are whole; then the document."""
    pieces = generator.generate(prompts, request)
    texts = [_Text(prompt) for prompt in prompts for _ in range(request.num_samples)]
    start = time.perf_counter()
    if len(texts) == 1:
        _stream(texts[0], pieces, out)
    else:
        _in_turn(texts, pieces, out)
    elapsed_s = time.perf_counter() - start
    if request.constraint is not None:
        _warn_of_torn(texts, out)
    words = None
    if request.num_logprobs is not None:
        words = _words(generator, texts)
        _print_tokens(texts, words, out)
    num_tokens = sum(len(one.pieces) for one in texts)
    document = {
        "run": str(run),
        "engine": generator.model.decoder.engine,
        "precision": generator.model.decoder.precision,
        "texts": [one.document(words) for one in texts],
        "num_tokens": num_tokens,
        "tokens_per_s": num_tokens / elapsed_s,
    }
    if generator.speculation is not None:
        document["speculation"] = dataclasses.asdict(generator.speculation)
    out.document(document)


def _stream(text: _Text, pieces: Iterable[Piece], out: Output) -> None:
    out.write(text.prompt)
    for piece in pieces:
        out.write(piece.text)
        text.pieces.append(piece)
    out.say()


def _in_turn(texts: list[_Text], pieces: Iterable[Piece], out: Output) -> None:
    num_said = 0
    with out.progress() as progress:
        bar = progress.add_task("texts", total=len(texts), note="")
        for piece in pieces:
            texts[piece.index].pieces.append(piece)
            if piece.finish is None:
                continue
            progress.advance(bar)
            while num_said < len(texts) and texts[num_said].pieces and texts[num_said].pieces[-1].finish:
                one, num_said = texts[num_said], num_said + 1
                out.say(f"--- {num_said} of {len(texts)}")
                out.write(one.prompt + one.text)
                out.say()


def _warn_of_torn(texts: list[_Text], out: Output) -> None:
    """Say which texts do not have the form that they were to have: they were cut off."""
    num_torn = sum(one.pieces[-1].finish != "end" for one in texts)
    if num_torn:
        out.notice(
            f"{num_torn} of {len(texts)} texts ended before the form was whole; --max-tokens gives them more."
        )


def _words(generator: TextGenerator, texts: list[_Text]) -> dict[int, str]:
    """Return what the tokens that are told of are spelt like, each by itself."""
    pieces = [piece for one in texts for piece in one.pieces]
    tokens = {piece.token for piece in pieces} | {token for piece in pieces for token, _ in piece.likeliest}
    backend = generator.model.tokenizer.backend
    return {token: backend.decode([token], skip_special_tokens=False) for token in tokens}


def _token(piece: Piece, words: dict[int, str]) -> dict[str, Any]:
    likeliest = [
        {"token": token, "text": words[token], "logprob": logprob} for token, logprob in piece.likeliest
    ]
    return {
        "token": piece.token,
        "text": words[piece.token],
        "logprob": piece.logprob,
        "likeliest": likeliest,
    }


def _print_tokens(texts: list[_Text], words: dict[int, str], out: Output) -> None:
    for one in texts:
        rows = (
            [
                repr(words[piece.token]),
                f"{piece.logprob:.3f}",
                "  ".join(f"{words[token]!r} {logprob:.3f}" for token, logprob in piece.likeliest),
            ]
            for piece in one.pieces
        )
        out.table(["token", "log-probability", "likeliest"], rows, words=(0, 2))
