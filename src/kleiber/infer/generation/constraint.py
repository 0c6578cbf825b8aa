"""Text that must have a form: JSON of a schema, or what a regular expression matches.

Before a token is drawn those that cannot go on are left out; what is drawn of the rest is as probable among them as ever. The form
is followed by llguidance, which takes a schema at its word or refuses it.

Legend: V vocabulary.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kleiber.errors import KleiberError, MissingExtraError, UsageError

__all__ = ["Allowed", "Constraint", "Guide"]

Allowed = npt.NDArray[np.bool_]

_HINT = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
_PLAIN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to set JSON, that of most texts: a model in doubt would otherwise write spaces without end."""
_ANY_OBJECT = '{"type": "object"}'


@dataclass(frozen=True)
class Constraint:
    """The form of a text.

    Raises:
        UsageError: It is no schema, or no regular expression, or of a kind that cannot be followed.
        MissingExtraError: llguidance is not installed.

    Example:
        >>> Constraint.json_schema({"type": "boolean"}).form
        '{"type": "boolean"}'
    """

    kind: Literal["json_schema", "regex"]
    form: str
    """A schema in JSON (draft 2020-12), or a regular expression that the whole text matches."""

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        _require_llguidance()
        import llguidance  # noqa: PLC0415 - of an extra

        is_wrong, reasons = llguidance.LLMatcher.validate_grammar_with_warnings(self.grammar())
        if is_wrong:
            raise UsageError(
                f"{self._name} cannot be followed: {_in_one_line(reasons[0])}",
                hint=_HINT if self.kind == "json_schema" else "[a-z]+",
            )

    @classmethod
    def json_schema(cls, schema: str | Mapping[str, Any]) -> Self:
        """Return the form of JSON that a schema validates, written on one line.

        Args:
            schema: In JSON, or what that is read as.

        Raises:
            UsageError: It is no JSON, or cannot be followed.
            MissingExtraError: llguidance is not installed.
        """
        try:
            read = json.loads(schema) if isinstance(schema, str) else schema
            form = json.dumps(read)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the JSON schema is no JSON: {error}.", hint=_HINT) from None
        except RecursionError:
            raise UsageError("the JSON schema is nested too deep.", hint=_HINT) from None
        if not isinstance(read, Mapping):
            raise UsageError("a JSON schema is an object.", got=read, hint=_HINT)
        return cls("json_schema", form)

    @classmethod
    def json_object(cls) -> Self:
        """Return the form of any JSON object.

        Raises:
            MissingExtraError: llguidance is not installed.
        """
        return cls("json_schema", _ANY_OBJECT)

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Return the form of what a regular expression matches as a whole.

        Raises:
            UsageError: It cannot be followed.
            MissingExtraError: llguidance is not installed.
        """
        return cls("regex", pattern)

    def grammar(self) -> str:
        """Return it in llguidance's own words."""
        from llguidance import LLMatcher  # noqa: PLC0415 - of an extra

        if self.kind == "regex":
            return LLMatcher.grammar_from_regex(self.form)
        options: Any = _PLAIN
        return LLMatcher.grammar_from_json_schema(self.form, overrides=options)

    @property
    def _name(self) -> str:
        return "the JSON schema" if self.kind == "json_schema" else "the regular expression"


class Guide:
    """Follows one text and says what may come next.

    Args:
        constraint: Its form.
        tokenizer: Of the model.
        end_ids: Tokens that end a text; they may come where the form is whole.

    Raises:
        UsageError: The tokenizer does not say which bytes its tokens are, or the form is too large.
    """

    def __init__(self, constraint: Constraint, tokenizer: Tokenizer, end_ids: AbstractSet[int]) -> None:
        from llguidance import LLMatcher  # noqa: PLC0415 - of an extra

        known = _known_tokens(tokenizer, tuple(sorted(end_ids)))
        self._matcher = LLMatcher(known, constraint.grammar(), log_level=0)
        if self._matcher.is_error():
            raise UsageError(
                f"the form of the text cannot be followed: {_in_one_line(self._matcher.get_error())}",
                hint=_HINT,
            )

    @property
    def is_complete(self) -> bool:
        """Whether the text has its form, and nothing may follow."""
        return self._matcher.is_stopped()

    def allowed(self, vocab_size: int) -> Allowed:
        """Return which tokens may come next, [V]: at least one.

        Args:
            vocab_size: Numbers that the model gives; it may be more than the tokenizer has.

        Raises:
            KleiberError: The form became too large to follow, or no token goes on.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        is_allowed_V = np.unpackbits(bits, bitorder="little")[:vocab_size].astype(np.bool_)
        if self._matcher.is_error() or not is_allowed_V.any():
            reason = _in_one_line(self._matcher.get_error()) or "no token of the model goes on in it."
            raise KleiberError(f"the form of the text cannot be followed further: {reason}")
        return np.pad(is_allowed_V, (0, vocab_size - len(is_allowed_V)))

    def add(self, token: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            KleiberError: It was not.
        """
        if not self._matcher.consume_token(token):
            raise KleiberError(
                f"token {token} does not fit the form of the text: {_in_one_line(self._matcher.get_error())}"
            )


# Making one reads a whole vocabulary; a process has a model or two.
@functools.lru_cache(maxsize=4)
def _known_tokens(tokenizer: Tokenizer, end_ids: tuple[int, ...]) -> Any:
    """Return the vocabulary as llguidance knows it."""
    from llguidance import LLTokenizer  # noqa: PLC0415 - of an extra

    size = 1 + max(tokenizer.get_vocab().values())
    try:
        return LLTokenizer(tokenizer.to_str(), n_vocab=size, eos_token=list(end_ids) or None)
    except ValueError as error:
        raise UsageError(
            f"text of this model cannot be given a form: its tokenizer is of a kind that llguidance does not read "
            f"({_in_one_line(str(error))})",
            hint="a model whose tokenizer is of bytes",
        ) from None


def _require_llguidance() -> None:
    if importlib.util.find_spec("llguidance") is None:
        raise MissingExtraError.of("llguidance", "serve", "Text of a given form")


def _in_one_line(reason: str) -> str:
    # After the reason llguidance shows what it knows.
    lines = " ".join(reason.partition("<state>")[0].split())
    return lines if not lines or lines.endswith(".") else f"{lines}."
