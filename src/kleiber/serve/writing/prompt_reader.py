"""From what a request says to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from kleiber.infer.batching import Speaker
from kleiber.serve.errors import RefusedError
from kleiber.serve.writing.chat_template import open_chat_template

__all__ = ["PromptReader"]


class PromptReader:
    """Reads prompts and conversations for one model; not for several threads at once.

    A special token that a client spells is read as the text that it is, in a conversation too: what makes a turn is what the chat
    template writes.

    Args:
        speaker: Of the model.
        folder: With `config.json`, and with the chat template where the model has one.

    Raises:
        DataError: The chat template is no template.
    """

    def __init__(self, speaker: Speaker, folder: Path) -> None:
        # Tokenizers of its own: how one reads special tokens is a switch on it.
        whole = speaker.tokenizer.backend.to_str()
        self._plain, self._special = Tokenizer.from_str(whole), Tokenizer.from_str(whole)
        self._plain.encode_special_tokens = True
        self._template = open_chat_template(folder, speaker.tokenizer.given or {})
        added = speaker.tokenizer.backend.get_added_tokens_decoder().values()
        self._special_names = sorted((one.content for one in added if one.special), key=len, reverse=True)
        self._start_ids, self._vocab_size = list(speaker.start_ids), speaker.tokenizer.vocab_size
        self.context, self.tokenizer = speaker.context, speaker.tokenizer.backend

    @property
    def chat_stops(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        return self._template.stops

    def prompt(self, prompt: str | Sequence[int]) -> list[int]:
        """Return the tokens of a prompt.

        Raises:
            RefusedError: It is empty, longer than the context, or a token is none of the vocabulary.
        """
        if not isinstance(prompt, str):
            for token in prompt:
                if not 0 <= token < self._vocab_size:
                    raise RefusedError(
                        f"a token of this model is from 0 to {self._vocab_size - 1}.",
                        param="prompt",
                        got=token,
                    )
            return self._fitting(list(prompt), "prompt")
        tokens = self._read(self._plain, prompt)
        return self._fitting([*self._start_ids, *tokens] if tokens else [], "prompt")

    def spelt(self, prompt: str | Sequence[int]) -> str:
        """Return a prompt as text."""
        if isinstance(prompt, str):
            return prompt
        text: str = self.tokenizer.decode(list(prompt), skip_special_tokens=False)
        return text

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a conversation, up to where the model's answer begins.

        Raises:
            RefusedError: It is longer than the context, or the chat template refuses it.
        """
        spelt: list[str] = []
        hidden = [{key: self._hide(text, spelt) for key, text in one.items()} for one in messages]
        tokens = [] if self._template.writes_start else list(self._start_ids)
        for part in _split(self._template.render(hidden), len(spelt)):
            if isinstance(part, int):
                tokens += self._read(self._plain, spelt[part])
            else:
                tokens += self._read(self._special, part)
        return self._fitting(tokens, "messages")

    def _hide(self, text: str, spelt: list[str]) -> str:
        """Return a text with a mark in place of each special token that it spells; those are noted."""
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        for name in self._special_names:
            if name in text:
                text = text.replace(name, f"{_OPEN}{len(spelt)}{_CLOSE}")
                spelt.append(name)
        return text

    def _read(self, tokenizer: Tokenizer, text: str) -> list[int]:
        tokens: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    def _fitting(self, tokens: list[int], param: str) -> list[int]:
        if not tokens:
            raise RefusedError(
                "the prompt is empty: the model needs something to go on from.",
                param=param,
                hint='"prompt": "def "',
            )
        if len(tokens) > self.context:
            raise RefusedError(
                f"the prompt is {len(tokens)} tokens long; the model reads at most {self.context}.",
                param=param,
                code="context_length_exceeded",
            )
        return tokens


# Of Unicode's private use: no text of a client holds them when it is rendered.
_OPEN, _CLOSE = "\ue000", "\ue001"


def _split(rendered: str, num_marks: int) -> list[str | int]:
    r"""Return the parts of a rendered conversation: text, and the numbers of marks.

    Example:
        >>> _split("a\ue0000\ue001b", 1)
        ['a', 0, 'b']
    """
    parts: list[str | int] = []
    first, *rest = rendered.split(_OPEN)
    parts.append(first)
    for piece in rest:
        number, _, text = piece.partition(_CLOSE)
        if number.isdigit() and int(number) < num_marks:
            parts += [int(number), text]
        else:  # the template has cut the mark or written one itself
            parts.append(number + text)
    return [part for part in parts if part != ""]
