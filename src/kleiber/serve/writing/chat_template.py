"""From a conversation to the text that a model goes on from, by the chat template in its folder.

A template is a program that came with the weights, from whoever made them: it runs in a sandbox that reaches no attribute but
those of the messages, has few filters, and counts its steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from kleiber.errors import DataError
from kleiber.serve.errors import RefusedError
from kleiber.serve.writing.sandbox import MAX_CHARS, LimitError, RefusedByTemplateError, Sandbox

__all__ = ["PLAIN", "ChatTemplate", "open_chat_template"]

PLAIN = "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}Assistant:"
"""Of models without a template of their own: who speaks, a colon, what was said, and an empty line between two."""
_PLAIN_STOPS = ("\n\nUser:", "\n\nSystem:", "\n\nDeveloper:")
"""A model that knows nothing of turns would go on with the other side's."""


@dataclass(frozen=True)
class ChatTemplate:
    """How a conversation is written."""

    sandbox: Sandbox
    writes_start: bool
    """Whether the tokens that begin a text are its own to write."""
    stops: tuple[str, ...]
    """Strings that end an answer."""
    special: Mapping[str, str]
    """Special tokens by role, which templates name."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of a conversation, up to where the model's answer begins.

        Raises:
            RefusedError: The template refuses it, fails on it or comes to no end.
        """
        try:
            return self.sandbox.render(
                {"messages": list(messages), "add_generation_prompt": True, "tools": None, **self.special}
            )
        except RefusedByTemplateError as error:
            raise RefusedError(
                f"the model's chat template refuses the messages: {str(error).rstrip('.')}.", param="messages"
            ) from None
        except LimitError:
            raise RefusedError(
                f"the model's chat template comes to no end, or to more than {MAX_CHARS:,} characters.",
                param="messages",
            ) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise RefusedError(
                f"the model's chat template fails on these messages: {error}.", param="messages"
            ) from None


def open_chat_template(folder: Path, special: Mapping[str, str]) -> ChatTemplate:
    """Return the template of a model's folder: `chat_template.jinja`, else that of `tokenizer_config.json`, else `PLAIN`.

    Args:
        folder: With `config.json`.
        special: Special tokens by role.

    Raises:
        DataError: The file cannot be read or is no template.
    """
    found = _read(folder)
    source, where = found or (PLAIN, folder)
    try:
        sandbox = Sandbox(source)
    except (TemplateError, RecursionError) as error:
        raise DataError(
            f"{where} holds a chat template that is none: {error}.",
            hint="a folder without it: turns are then told plainly",
        ) from None
    return ChatTemplate(sandbox, found is not None, () if found else _PLAIN_STOPS, dict(special))


def _read(folder: Path) -> tuple[str, Path] | None:
    """Return the text of the template and where it stands."""
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    try:
        if own.is_file():
            return own.read_text(encoding="utf-8"), own
        raw = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"the chat template beside {folder}/config.json cannot be read: {error}.") from None
    asked: Any = raw.get("chat_template") if isinstance(raw, dict) else None
    if isinstance(asked, list):  # several by name
        named = {one.get("name"): one.get("template") for one in asked if isinstance(one, dict)}
        asked = named.get("default")
    return (asked, config) if isinstance(asked, str) else None
