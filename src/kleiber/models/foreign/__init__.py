"""Models that somebody brings: a file with a module, a transformers config, a size of a built-in family.

Nothing here imports torch before it is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kleiber.errors import RecipeError, nearest
from kleiber.models import FAMILIES
from kleiber.models.foreign.inputs import parse_inputs
from kleiber.models.subject import Subject

__all__ = ["open_subject"]

_FORMS = "gpt:depth=12, my_model.py:Net, or a transformers config.json"


def open_subject(
    text: str,
    *,
    inputs: Sequence[str] = (),
    init: str | None = None,
    batch_size: int | None = None,
    context: int | None = None,
    vocab_size: int | None = None,
    mode: Literal["train", "infer"] = "train",
    loss: str | None = None,
) -> Subject:
    """Return the model that `text` names, with an example of its use; nothing of it is built yet.

    Args:
        text: `my_model.py:Net` (a subclass of `torch.nn.Module`, Keras's included, or a function that returns a
            module; the file is run), a transformers `config.json` or a folder with one, or `gpt:depth=12`.
        inputs: What the module takes, in its order: `8x3x32x32`, `8x128:int64`.
        init: Arguments of the class or function, a JSON object.
        batch_size: Samples; without it those of `inputs`, or 8.
        context: Tokens of a sequence of a text model.
        vocab_size: Of a built-in family.
        mode: Whether the example carries labels.
        loss: A name of `kleiber.models.foreign.losses.LOSSES`; None lets the module's own come first.

    Raises:
        RecipeError: `text`, or what it names, or an option beside it, is not as described.
        MissingExtraError: transformers or Keras is needed and not installed.
    """
    if batch_size is not None and batch_size < 1:
        raise RecipeError("--batch must be at least 1.", got=batch_size, hint="--batch 8")
    shapes = parse_inputs(inputs)
    path, name = _split(text)
    if path.suffix == ".py":
        if context is not None:
            raise RecipeError(
                "--context is for text models; the length of what a module takes stands in --input.",
                got=context,
                hint=f"kleiber plan {text} --input 8x{context}:int64",
            )
        from kleiber.models.foreign.user_module import open_user_file  # noqa: PLC0415 - torch takes a second

        return open_user_file(text, path, name, shapes=shapes, init=init, batch_size=batch_size, loss=loss)
    if init is not None:
        raise RecipeError("--init is for a class in a file.", got=text, hint="my_model.py:Net --init '{...}'")
    if text.partition(":")[0] in FAMILIES:
        if shapes:
            raise RecipeError(
                "A family knows what it takes.", got=f"--input {shapes[0]}", hint=f"{text} --context 512"
            )
        from kleiber.models.foreign.family import open_family  # noqa: PLC0415 - torch takes a second to import

        return open_family(text, batch_size=batch_size, context=context, vocab_size=vocab_size, loss=loss)
    if path.suffix == ".json" or (path / "config.json").is_file():
        from kleiber.models.foreign.transformers_model import open_transformers  # noqa: PLC0415 - torch takes a second

        return open_transformers(
            text, path, shapes=shapes, batch_size=batch_size, context=context, mode=mode, loss=loss
        )
    raise _unknown(text, path)


def _split(text: str) -> tuple[Path, str]:
    file, separator, name = text.rpartition(":")
    return (Path(file), name) if separator and file.endswith(".py") else (Path(text), "")


def _unknown(text: str, path: Path) -> RecipeError:
    hint = "kleiber plan gpt:depth=12   (or my_model.py:Net --input 8x3x32x32)"
    family, colon, _ = text.partition(":")
    if path.is_dir():
        return RecipeError(
            f"{text} is a folder without a config.json.", hint="kleiber plan folder/config.json"
        )
    if colon:
        return RecipeError(
            f"'{family}' is neither a family nor a .py file. {nearest(family, FAMILIES)}", hint=hint
        )
    return RecipeError(f"'{text}' names no model; a model is {_FORMS}.", hint=hint)
