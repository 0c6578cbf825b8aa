"""`/v1/embeddings`: texts as points, as OpenAI's API has it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict

from kleiber.errors import UsageError
from kleiber.infer.embedding import Embedder
from kleiber.runs import Document
from kleiber.serve.asked.completion import Prompts, one_by_one
from kleiber.serve.errors import RefusedError
from kleiber.serve.given import given_text
from kleiber.serve.json_body import JsonRoute
from kleiber.serve.served import Served, served_of
from kleiber.serve.settings import ServeSettings
from kleiber.serve.streamed import unless_left

__all__ = ["router"]

_BATCH = 32
"""Texts that go to a thread at once: after them others have their turn."""


class EmbeddingsBody(Document):
    """What is to be embedded."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    """Which of the models served; without it the first that embeds."""
    input: Prompts
    """A text, its tokens, or a list of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """Numbers, or the base64 of their fp32."""
    dimensions: int | None = None
    """Is refused: an embedding is as long as the model makes it."""
    user: str | None = None
    """Not used."""


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["embeddings"], route_class=JsonRoute)

    @routes.post("/v1/embeddings", response_model=None)
    async def embed(body: EmbeddingsBody, request: Request) -> Response:
        """Give each text an embedding of unit length, as OpenAI's API does."""
        return await unless_left(request, _answer(served_of(request), body))

    return routes


async def _answer(served: Served, body: EmbeddingsBody) -> Response:
    if body.dimensions is not None:
        raise RefusedError(
            "dimensions is not supported: an embedding is as long as the model makes it.",
            param="dimensions",
            code="unsupported_parameter",
        )
    model = served.model(body.model, "encoder")
    if model.embedder is None:
        raise AssertionError("a model of the kind encoder has an embedder")
    texts = _texts(body.input, served.settings)
    async with served.workers.admitted(model.name):
        run = served.workers.run
        tokens = await run(_tokens, model.embedder, texts)
        parts = [tokens[start : start + _BATCH] for start in range(0, len(tokens), _BATCH)]
        found = [await run(_embedded, served, model.name, model.embedder, part) for part in parts]
        num_tokens = sum(map(len, tokens))
        content = await run(_document, found, model.name, body.encoding_format or "float", num_tokens)
    served.metrics.inputs_answered(model.name, len(tokens), num_tokens=num_tokens)
    return Response(content, media_type="application/json")


def _texts(given: Any, settings: ServeSettings) -> list[str | list[int]]:
    """Return the texts of a request one by one, or their tokens."""
    several = one_by_one(given)
    if not several:
        raise RefusedError("there is no input.", param="input", hint='"input": "a text"')
    if len(several) > settings.max_inputs:
        raise RefusedError(
            f"a request has at most {settings.max_inputs:,} inputs.", param="input", got=len(several)
        )
    names = ["the input"] if len(several) == 1 else [f"input {index + 1}" for index in range(len(several))]
    return [
        given_text(one, name, settings) if isinstance(one, str) else one
        for one, name in zip(several, names, strict=True)
    ]


def _tokens(embedder: Embedder, texts: Sequence[str | list[int]]) -> list[list[int]]:
    try:
        return [embedder.tokens_of(text) for text in texts]
    except UsageError as error:
        raise RefusedError(error.message, param="input", got=error.got, hint=error.hint) from None


def _embedded(
    served: Served, name: str, embedder: Embedder, tokens: Sequence[Sequence[int]]
) -> npt.NDArray[np.float32]:
    with served.workers.engine(name):
        return embedder.embed(tokens)


def _document(
    batches: Sequence[npt.NDArray[np.float32]],
    model: str,
    encoding: Literal["float", "base64"],
    num_tokens: int,
) -> bytes:
    rows = (row for batch in batches for row in batch)
    said = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(row, encoding)}
            for index, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return json.dumps(said, separators=(",", ":")).encode()


def _encoded(row: npt.NDArray[np.float32], encoding: Literal["float", "base64"]) -> list[float] | str:
    """Return an embedding as numbers, or as the base64 of its fp32, the least significant byte first."""
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers
