"""A template that came from elsewhere, run within limits.

Jinja's own sandbox keeps a template from reaching Python; it does not keep it from running for ever. Here every turn of a loop and
every call is counted, numbers that would make huge strings are refused, and what is written may not be longer than a limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["MAX_CHARS", "LimitError", "RefusedByTemplateError", "Sandbox"]

MAX_CHARS = 4_000_000
"""Of a rendered conversation."""
_MAX_STEPS = 200_000
_MAX_NUMBER = 10_000
"""That a template may pass to a call or multiply by."""
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join", "last", "length",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr",
    "sort", "string", "sum", "title", "trim", "unique", "upper",
)  # fmt: skip
"""What chat templates use, and none that makes a long text of a number."""

_STEPS_LEFT: ContextVar[int] = ContextVar("steps_left", default=_MAX_STEPS)


class LimitError(Exception):
    """A template took too many steps or wrote too much."""


class RefusedByTemplateError(Exception):
    """A template called `raise_exception`."""


class Sandbox:
    """A template that can be rendered again and again.

    Args:
        source: In Jinja, as transformers writes chat templates.

    Raises:
        TemplateError: It is none.

    Example:
        >>> Sandbox("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}").render(
        ...     {"messages": [{"role": "user", "content": "Hi"}]}
        ... )
        '<user>Hi'
    """

    def __init__(self, source: str) -> None:
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters = {name: environment.filters[name] for name in _FILTERS}
        environment.filters |= {
            "tojson": _to_json,
            "replace": _replaced,
            "join": _joined,
            "counted": _counted,
            "short": _short,
        }
        environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
        tree = environment.parse(source)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None)
        for joined in tree.find_all(nodes.Concat):
            joined.nodes = [nodes.Filter(node, "short", [], [], None, None) for node in joined.nodes]
        tree.set_environment(environment)
        self._template = environment.from_string(tree)

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text.

        Raises:
            RefusedByTemplateError: The template says so.
            LimitError: It comes to no end.
            TemplateError: It fails.
        """
        before = _STEPS_LEFT.set(_MAX_STEPS)
        try:
            return "".join(_within_limit(self._template.generate(values)))
        finally:
            _STEPS_LEFT.reset(before)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what could make a huge text or number."""
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise LimitError
        if operator == "*":
            sizes = [
                len(side) if isinstance(side, str | list | tuple) else abs(side) for side in (left, right)
            ]
            _within(sizes[0] * sizes[1])
        return _short(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template may, and count it."""
        _step()
        for value in (*args, *kwargs.values()):
            if isinstance(value, int | float):
                _within(value, _MAX_NUMBER)
        text, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(text, str) and name in _GROWING:
            return _GROWING[name](text, *args, **kwargs)
        return super().call(context, obj, *args, **kwargs)


class _Generation(Extension):
    """Reads `{% generation %}`, by which transformers marks what is learnt; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _step() -> None:
    left = _STEPS_LEFT.get() - 1
    if left < 0:
        raise LimitError
    _STEPS_LEFT.set(left)


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _step()
        yield value


def _within_limit(pieces: Iterable[str]) -> Iterator[str]:
    num_chars = 0
    for piece in pieces:
        num_chars += len(piece)
        _within(num_chars)
        yield piece


def _within(number: float, limit: float = MAX_CHARS) -> None:
    if abs(number) > limit:
        raise LimitError


def _short(value: Any) -> Any:
    """Return a part of a longer text, unless it is too long by itself: what doubles in each turn ends soon."""
    if isinstance(value, str | list | tuple):
        _within(len(value))
    return value


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    _within(len(text) + str(text).count(old) * len(new))
    return str(text).replace(old, new, count)


def _joined(values: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    words = [str(value if attribute is None else value[attribute]) for value in values]
    _within(sum(map(len, words)) + len(between) * len(words))
    return between.join(words)


def _refused(*_: Any, **__: Any) -> NoReturn:
    raise LimitError


_GROWING: dict[str, Callable[..., str]] = {
    "replace": _replaced,
    "join": lambda between, values: _joined(values, between),
    **dict.fromkeys(("format", "format_map", "translate", "expandtabs"), _refused),
}
"""Methods of texts whose result may be far longer than what they are given."""


def _raise(message: str) -> NoReturn:
    raise RefusedByTemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    _within(indent or 0, _MAX_NUMBER)
    return json.dumps(value, ensure_ascii=False, indent=indent)
