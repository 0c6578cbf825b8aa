"""Errors as OpenAI's API writes them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kleiber.errors import KleiberError, UsageError

__all__ = ["RefusedError", "add_handlers", "error_response"]

_LOG = logging.getLogger("kleiber.serve")
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error", 405: "invalid_request_error",
    408: "timeout_error", 413: "invalid_request_error", 429: "rate_limit_error", 503: "service_unavailable",
}  # fmt: skip
_BAD_REQUEST, _SERVER_FAULT = 400, 500


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
        body = error_body(str(error), error.status, param=error.param, code=error.code)
        return JSONResponse(body, error.status, headers)
    status = _BAD_REQUEST if isinstance(error, UsageError) else _SERVER_FAULT
    return JSONResponse(error_body(str(error), status), status)


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
        message = (
            f"{request.method} {request.url.path}: {str(error.detail)[0].lower()}{str(error.detail)[1:]}."
        )
        return JSONResponse(error_body(message, error.status_code), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
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
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "json_invalid":
        return RefusedError(f"the body is not valid JSON: {first['ctx']['error']}.", code="invalid_json")
    if first["type"] == "missing":
        return RefusedError(
            f"'{place}' is missing." if place else "the body is missing.", param=place or None
        )
    message = str(first["msg"])
    got = repr(first["input"])
    shown = got if len(got) <= 100 else f"{got[:100]}..."
    return RefusedError(
        f"{place or 'the body'}: {message[0].lower()}{message[1:]}. Got {shown}.", param=place or None
    )
