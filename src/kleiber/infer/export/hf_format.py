"""The folder that transformers reads by itself: config, weights as plain tensors, tokenizer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.errors import MissingExtraError, RecipeError
from kleiber.infer.export.agreement import Outputs
from kleiber.infer.export.job import Job, Part, Written, package
from kleiber.infer.export.original import Original
from kleiber.infer.export.steppers import TransformersText
from kleiber.models import save
from kleiber.models.config_file import BLOCK_KEY, read_config, read_weights, write_model
from kleiber.models.family import title_of
from kleiber.models.foreign.transformers_config import quiet
from kleiber.models.gpt.spec import GPTSpec, require_qwen3
from kleiber.models.hf.spec import HFSpec
from kleiber.models.padding import is_token
from kleiber.models.seen_data import seen_by
from kleiber.runs.files import write_text

__all__ = ["special_ids", "transformers_model", "write_hf", "write_tokenizer"]

_OWN_KEYS = (HFSpec.config_key, BLOCK_KEY, "kleiber")
"""Of a config, that are of no use outside of Kleiber."""


def write_hf(job: Job, folder: Path) -> Written:
    """Write a model as transformers does, and open it with transformers.

    Raises:
        RecipeError: transformers has no architecture that computes it.
        MissingExtraError: transformers is not installed.
    """
    original = job.original
    if isinstance(original.spec, GPTSpec):
        require_qwen3(original.spec)
    save(original.module, original.spec, folder)
    config = read_config(folder)
    architecture = str((config.get("architectures") or [""])[0])
    if not architecture or architecture.startswith("Kleiber"):
        raise RecipeError(
            f"transformers has no architecture that computes {title_of(original.module)}.",
            hint="--format onnx   holds any model",
        )
    is_half = job.precision == "f16"
    weights = read_weights(folder)
    if is_half:
        weights = {name: one.half() if one.is_floating_point() else one for name, one in weights.items()}
    own = {key: value for key, value in config.items() if key not in _OWN_KEYS}
    write_model(folder, weights, own | _said_of(original) | {"dtype": "float16" if is_half else "float32"})
    write_tokenizer(original, folder)
    model = transformers_model(folder, architecture)
    return Written(
        parts=(Part("model.safetensors", f"the weights of a {architecture}"),),
        precision="f16" if is_half else "fp32",
        accuracy="f16" if is_half else "fp32",
        checked_with=package("transformers"),
        stepper=TransformersText(model) if original.writes_text else None,
        predict=None if original.writes_text else _predict(original, model),
    )


def write_tokenizer(original: Original, folder: Path) -> None:
    """Write the tokenizer, and of a language model the tokens that end its texts."""
    if original.tokenizer is not None:
        original.tokenizer.write(folder, context=seen_by(original.spec).context)
    if original.writes_text:
        ids = {f"{role}_token_id": number for role, number in special_ids(original).items()}
        write_text(folder / "generation_config.json", json.dumps(ids, indent=2) + "\n")


def special_ids(original: Original) -> dict[str, int]:
    """Return the tokens that begin, end and fill texts, by the names that transformers has for them."""
    if original.tokenizer is None:
        return {}
    known = original.tokenizer.backend.get_vocab()
    special = original.tokenizer.special
    return {
        role: known[special[f"{role}_token"]] for role in ("bos", "eos", "pad") if f"{role}_token" in special
    }


def transformers_model(
    folder: Path, architecture: str, *, config: Mapping[str, Any] | None = None, gguf_file: str | None = None
) -> Any:
    """Return the model in a folder, in fp32 and in evaluation mode, by a class of transformers.

    Args:
        folder: Holds its files.
        architecture: The class.
        config: What it is built with; None is the `config.json` there.
        gguf_file: The file of GGUF that holds the weights; None is safetensors.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers  # noqa: PLC0415 - takes seconds to import, and is an extra
    except ImportError:
        raise MissingExtraError.of("transformers", "hf", "A model in the format hf") from None
    options: dict[str, Any] = {"dtype": torch.float32}
    if config is not None:
        options["config"] = transformers.AutoConfig.for_model(**config)
    if gguf_file is not None:
        options["gguf_file"] = gguf_file
    with quiet(), redirect_stderr(io.StringIO()):  # where it draws bars
        return getattr(transformers, architecture).from_pretrained(folder, **options).eval()


def _said_of(original: Original) -> dict[str, Any]:
    """Return what the config says beside sizes: names of classes, special tokens."""
    said: dict[str, Any] = {}
    if original.classes:
        said["id2label"] = {str(number): name for number, name in enumerate(original.classes)}
        said["label2id"] = {name: number for number, name in enumerate(original.classes)}
    if original.writes_text:
        said |= {f"{role}_token_id": number for role, number in special_ids(original).items()}
    return said


def _predict(original: Original, model: Any) -> Callable[[Sequence[npt.NDArray[Any]]], Outputs]:
    """Return what asks a model of transformers what the module of ours is asked."""

    @torch.no_grad()
    def predict(arrays: Sequence[npt.NDArray[Any]]) -> Outputs:
        said = model(**_keywords(original, [torch.from_numpy(one) for one in arrays]))
        if hasattr(said, "image_embeds"):
            return said.image_embeds.numpy(), said.text_embeds.numpy(), model.logit_scale.exp().numpy()
        return (said.logits.numpy(),)

    return predict


def _keywords(original: Original, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return inputs by the names that transformers has for them."""
    shape = seen_by(original.spec)
    if shape.inputs == "images":
        return {"pixel_values": _filled(inputs[0], original)}
    if shape.inputs == "captions":  # CLIP reads its text at the token that ends it
        return {"pixel_values": inputs[0], "input_ids": F.pad(inputs[1], (0, 1), value=shape.pad_id)}
    read = {"input_ids": inputs[0], "attention_mask": is_token(inputs[0], shape.pad_id).long()}
    if shape.inputs == "pairs":
        read["decoder_input_ids"] = inputs[1]
    return read


def _filled(images_BCHX: Tensor, original: Original) -> Tensor:
    """Return images filled up with zeros to whole patches, which transformers leaves to whoever calls it."""
    patch = int(getattr(original.spec, "patch_size", 1))
    rows, columns = (-size % patch for size in images_BCHX.shape[2:])
    return F.pad(images_BCHX, (0, columns, 0, rows))
