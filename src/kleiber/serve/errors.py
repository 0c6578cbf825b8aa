"""Errors as OpenAI's API writes them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kleiber.errors import KleiberError, UsageError
from kleiber.runs import Document

__all__ = ["FORMS", "ErrorBody", "ErrorDetail", "RefusedError", "add_handlers", "error_response"]

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error", 405: "invalid_request_error",
    408: "timeout_error", 413: "invalid_request_error", 429: "rate_limit_error", 503: "service_unavailable",
}  # fmt: skip
_BAD_REQUEST, _SERVER_FAULT = 400, 500
_MAX_SHOWN = 100
"""Characters of what a client sent, in a sentence about it."""
FORMS = ("a text", "several texts", "tokens", "lists of tokens", "an object", "several objects")
"""What the forms of a field that has several are called."""


class RefusedError(KleiberError):
    """A request that is not done, and the status that says so.

    Args:
        message: One sentence.
        status: Of HTTP.
        param: The field of the request that is at fault.
        code: A word for programs.
        retry_after_s: When to ask again.
        got: What was found instead.
        hint: What would work.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = _BAD_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        got: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, got=got, hint=hint)
        self.status, self.param, self.code, self.retry_after_s = status, param, code, retry_after_s


class ErrorDetail(Document):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Document):
    """The JSON of an answer that is an error."""

    error: ErrorDetail


def error_body(message: str, status: int, *, param: str | None = None, code: str | None = None) -> Any:
    """Return the JSON of an error.

    Example:
        >>> error_body("no such model.", 404, param="model", code="model_not_found")["error"]["type"]
        'invalid_request_error'
    """
    kind = _TYPES.get(status, "invalid_request_error" if status < _SERVER_FAULT else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: KleiberError) -> JSONResponse:
    """Return what a client reads of an error of ours: what was asked wrongly is 400, what failed here 500."""
    if isinstance(error, RefusedError):
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        body = error_body(_said(error), error.status, param=error.param, code=error.code)
        return JSONResponse(body, error.status, headers)
    status = _BAD_REQUEST if isinstance(error, UsageError) else _SERVER_FAULT
    return JSONResponse(error_body(_said(error), status), status)


def _said(error: KleiberError) -> str:
    """Return it in one line, as no terminal shows it."""
    return " Try: ".join(str(error).split("\n  try: ", 1))


def add_handlers(app: FastAPI) -> None:
    """Make an application answer every error in this form."""

    @app.exception_handler(KleiberError)
    async def _ours(_: Request, error: KleiberError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {str(error.detail).lower()}."
        return JSONResponse(error_body(message, error.status_code), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _fault(_: Request, __: Exception) -> JSONResponse:
        # Starlette raises it again, and who runs the application writes it down.
        return JSONResponse(error_body("the server failed; its log says how.", _SERVER_FAULT), _SERVER_FAULT)


def invalid(violations: list[Any]) -> RefusedError:
    """Return the first violation of a body's schema, as a sentence.

    Example:
        >>> print(invalid([{"type": "missing", "loc": ("body", "prompt"), "msg": "Field required", "input": {}}]))
        'prompt' is missing.
        >>> print(invalid([{"type": "x", "loc": ("body", "n"), "msg": "Input should be a valid integer", "input": "a"}]))
        n: input should be a valid integer. Got 'a'.
    """
    first = violations[0]
    # Where a field has several forms, pydantic says which of them it took: no part of the path.
    path = [str(part) for part in first["loc"][1:] if part not in FORMS]
    place, param = ".".join(path) or "the body", ".".join(path) or None
    if first["type"] == "json_invalid":
        return RefusedError(f"the body is not valid JSON: {first['ctx']['error']}.", code="invalid_json")
    if first["type"] == "missing":
        return RefusedError(f"'{place}' is missing." if path else "the body is missing.", param=param)
    if first["type"] == "extra_forbidden":
        return RefusedError(f"the field '{place[:100]}' is not known.", param=param, code="unknown_parameter")
    if not path and isinstance(first["input"], bytes):
        return RefusedError("the body must be JSON.", hint="Content-Type: application/json")
    message, got = str(first["msg"]), repr(first["input"])
    shown = got if len(got) <= _MAX_SHOWN else f"{got[:_MAX_SHOWN]}..."
    return RefusedError(f"{place}: {message[0].lower()}{message[1:]}. Got {shown}.", param=param)
