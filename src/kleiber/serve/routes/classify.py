"""`/v1/classify`: which class texts, images, sounds, rows or arrays are of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.datastructures import FormData, UploadFile

from kleiber.errors import KleiberError
from kleiber.infer.classification import Classifier
from kleiber.infer.classification.rows import RowReader
from kleiber.runs import Document
from kleiber.serve.errors import RefusedError, invalid
from kleiber.serve.given import Given, given_in, prepared
from kleiber.serve.json_body import JsonRoute
from kleiber.serve.opened import Opened
from kleiber.serve.served import Served, served_of
from kleiber.serve.streamed import unless_left

__all__ = ["router"]

_BATCH = 32
"""Inputs that go to a thread at once: after them others have their turn."""
_OTHER_MEDIA = 415
_MOST_FIELDS = 16
_INPUT = {
    "description": "As the model reads: a text, an object of cells by column, an array of numbers, an image or a sound as a "
    "base64 data URL; or an array of them.",
    "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {}}],
}


class ClassifyBody(Document):
    """What is to be classified."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    """Which of the models served; without it the first that classifies."""
    input: Annotated[Any, WithJsonSchema(_INPUT)]
    """One, or a list of them."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest classes to tell; all where nothing is said."""


_FORM = {
    "type": "object",
    "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
        "model": {"type": "string"},
        "top_k": {"type": "integer", "minimum": 1},
    },
    "required": ["file"],
    "additionalProperties": False,
}
_DOCUMENTED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ClassifyBody.model_json_schema()},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["classification"], route_class=JsonRoute)

    @routes.get("/v1/classifiers")
    async def describe(request: Request) -> dict[str, Any]:
        """Say what each classifier reads, and its classes."""
        models = served_of(request).models.values()
        return {"object": "list", "data": [_described(one) for one in models if one.classifier is not None]}

    @routes.post("/v1/classify", response_model=None, openapi_extra=_DOCUMENTED)
    async def classify(request: Request) -> Response:
        """Tell which class each input is of, and how likely each class is."""
        served = served_of(request)
        body, files = await _asked(request, served)
        return await unless_left(request, _answer(served, body, files))

    return routes


async def _answer(served: Served, body: ClassifyBody, files: list[Given]) -> Response:
    model = served.model(body.model, "classifier")
    async with served.workers.admitted(model.name):
        run = served.workers.run
        given = files or await run(given_in, _classifier(model).reader, body.input, served.settings)
        parts = [given[start : start + _BATCH] for start in range(0, len(given), _BATCH)]
        found = [one for part in parts for one in await run(_answers, served, model, part, body.top_k)]
        content = await run(_document, found, model.name)
    served.metrics.inputs_answered(model.name, len(given))
    return Response(content, media_type="application/json")


def _document(answers: Sequence[dict[str, Any]], model: str) -> bytes:
    data = [{"object": "classification", "index": index, **answer} for index, answer in enumerate(answers)]
    return json.dumps({"object": "list", "data": data, "model": model}, ensure_ascii=False).encode()


def _classifier(model: Opened) -> Classifier:
    if model.classifier is None:
        raise AssertionError("a model of the kind classifier has one")
    return model.classifier


def _described(model: Opened) -> dict[str, Any]:
    classifier = _classifier(model)
    reader = classifier.reader
    said: dict[str, Any] = {"id": model.name, "object": "classifier", "reads": model.reads}
    said["classes"] = list(classifier.classes)
    if isinstance(reader, RowReader):
        columns = reader.features.columns
        said["columns"] = {column.name: list(column.categories) or "number" for column in columns}
    return said


def _answers(
    served: Served, model: Opened, given: Sequence[Given], top_k: int | None
) -> list[dict[str, Any]]:
    """Return what the model says of some inputs; in a thread."""
    classifier = _classifier(model)
    arrays = [prepared(classifier.reader, one, served.settings) for one in given]
    with served.workers.engine(model.name):
        answers = classifier.answers(arrays)
    if not all(np.isfinite(answer.probs_K).all() for answer in answers):
        raise KleiberError(f"the model '{model.name}' gave an answer that is not finite.")
    return [answer.document(top_k or len(classifier.classes)) for answer in answers]


async def _asked(request: Request, served: Served) -> tuple[ClassifyBody, list[Given]]:
    """Return a request's body, and its files where it has some."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return _parsed(await request.json()), []
        except json.JSONDecodeError as error:
            raise RefusedError(f"the body is not valid JSON: {error.msg}.", code="invalid_json") from None
    if kind == "multipart/form-data":
        async with request.form(max_files=served.settings.max_inputs, max_fields=_MOST_FIELDS) as form:
            return await _of_form(form)
    raise RefusedError(
        "a body must be of the type application/json or multipart/form-data.",
        status=_OTHER_MEDIA,
        got=kind,
        hint="curl -F file=@cat.png ...   or   curl -H 'Content-Type: application/json' ...",
    )


def _parsed(raw: Any) -> ClassifyBody:
    try:
        return ClassifyBody.model_validate(raw)
    except ValidationError as error:
        raise invalid(
            [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        ) from None


async def _of_form(form: FormData) -> tuple[ClassifyBody, list[Given]]:
    files = [one for one in form.getlist("file") if isinstance(one, UploadFile)]
    fields: dict[str, Any] = {name: value for name, value in form.items() if name != "file"}
    if not files or len(files) < len(form.getlist("file")):
        raise RefusedError("'file' must hold a file, or several.", param="file", hint="curl -F file=@cat.png")
    if "input" in fields:
        raise RefusedError("'input' has no effect beside files.", param="input")
    top_k = fields.get("top_k")
    if isinstance(top_k, str) and top_k.isascii() and top_k.isdecimal() and len(top_k) < 10:
        fields["top_k"] = int(top_k)
    body = _parsed({**fields, "input": None})
    named = [f"the file {(one.filename or '')[:100]!r}" for one in files]
    return body, [Given(name, await one.read()) for name, one in zip(named, files, strict=True)]
