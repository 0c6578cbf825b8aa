"""What can be cut out of the modules of each family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kleiber.compress.structure.axes import Sizes, Skeleton
from kleiber.compress.structure.networks import (
    convnet_skeleton,
    inception_skeleton,
    mlp_skeleton,
    resnet_skeleton,
)
from kleiber.compress.structure.resized import resized
from kleiber.compress.structure.transformers import (
    Names,
    Numbers,
    heads_fill_width,
    transformer_skeleton,
    width_holds_heads,
)
from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.encoder.spec import EncoderSpec
from kleiber.models.family import FamilyModule
from kleiber.models.file.spec import FileSpec
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.spec import HFSpec
from kleiber.models.vit.spec import ViTSpec

__all__ = ["skeleton_of"]

_GPT = Names(
    blocks="blocks",
    qkv=("qkv",),
    attn_out="attn_out",
    ups=("gate_up",),
    down="mlp_down",
    norms=("attn_norm", "mlp_norm"),
    is_pre_norm=True,
    tables=(("embedding", 1),),
    top_norm="final_norm",
    top_reader="head",
    num_fused_ups=2,
    weight="",
)
_ENCODER = Names(
    blocks="blocks",
    qkv=("qkv",),
    attn_out="attn_out",
    ups=("up",),
    down="down",
    norms=("attn_norm", "mlp_norm"),
    is_pre_norm=False,
    tables=(("tokens.weight", 1), ("positions.weight", 1), ("token_types.weight", 1)),
    top_norm="embedding_norm",
    top_reader="pooler",
    pooled=("pooler", "head"),
)
_VIT = replace(
    _ENCODER,
    is_pre_norm=True,
    tables=(("patches.weight", 0), ("patches.bias", 0), ("class_token", 2), ("positions", 2)),
    top_norm="final_norm",
    top_reader="head",
    pooled=None,
)
_LLAMA = Names(
    blocks="model.model.layers",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attn_out="self_attn.o_proj",
    ups=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
    norms=("input_layernorm", "post_attention_layernorm"),
    is_pre_norm=True,
    tables=(("model.model.embed_tokens.weight", 1),),
    top_norm="model.model.norm",
    top_reader="model.lm_head",
)
_BERT = Names(
    blocks="model.bert.encoder.layer",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    attn_out="attention.output.dense",
    ups=("intermediate.dense",),
    down="output.dense",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    is_pre_norm=False,
    tables=(
        ("model.bert.embeddings.word_embeddings.weight", 1),
        ("model.bert.embeddings.position_embeddings.weight", 1),
        ("model.bert.embeddings.token_type_embeddings.weight", 1),
    ),
    top_norm="model.bert.embeddings.LayerNorm",
    top_reader="model.bert.pooler.dense",
    pooled=("model.bert.pooler.dense", "model.classifier"),
)
_DECODERS = ("Llama", "Mistral", "Qwen2", "Qwen3")
_HF: dict[str, Names] = {
    "BertForSequenceClassification": _BERT,
    **{f"{name}ForCausalLM": _LLAMA for name in _DECODERS},
    **{f"{name}ForSequenceClassification": replace(_LLAMA, top_reader="model.score") for name in _DECODERS},
}
"""By the architecture of transformers."""
_WHOLE_HEADS = ("LlamaForCausalLM", "LlamaForSequenceClassification")
"""Whose config wants a width that the heads divide."""
_HF_SIZES = {"heads": "num_attention_heads", "mlp_width": "intermediate_size", "width": "hidden_size"}
"""What configs of transformers call the sizes."""


def skeleton_of(module: FamilyModule, spec: Spec) -> Skeleton:
    """Return what can be cut out of a module.

    Raises:
        RecipeError: Nothing can: the family's spec has no sizes for what would be left; says why.
        MissingExtraError: torch-pruning is not installed, which finds the channels of convolutional networks.
    """
    makers: dict[str, Callable[[Any, Any], Skeleton]] = {
        "gpt": _gpt,
        "encoder": _of_blocks(_ENCODER),
        "vit": _of_blocks(_VIT),
        "hf": _hf,
        "mlp": mlp_skeleton,
        "convnet": convnet_skeleton,
        "resnet": resnet_skeleton,
        "inception": inception_skeleton,
    }
    if isinstance(spec, FileSpec):
        raise RecipeError(
            f"shrink: the sizes of {spec.title} stand in its own code, and no spec could say what would be left of them.",
            got=spec.family,
            hint="prune, quantize or factorize, which keep all sizes",
        )
    if spec.family not in makers:
        raise RecipeError(
            f"shrink: a spec of {spec.family} has no sizes for what would be left of its parts, which are told apart by"
            " nothing but their width.",
            got=spec.family,
            hint="prune, quantize or factorize, which keep all sizes",
        )
    return makers[spec.family](module, spec)


def _gpt(module: FamilyModule, spec: GPTSpec) -> Skeleton:
    if spec.is_mixture:
        raise RecipeError(
            "shrink: of a mixture of experts a calibration shows each expert too few tokens to tell its neurons apart.",
            got=f"num_experts={spec.num_experts}",
            hint="prune, quantize or factorize, which keep all sizes",
        )
    if spec.beyond_qwen3:
        raise RecipeError(
            "shrink: a gpt beyond the Qwen3 layout has parts whose neurons are not told apart by their names.",
            got=", ".join(spec.beyond_qwen3),
            hint="prune, quantize or factorize, which keep all sizes",
        )
    group = spec.num_heads // spec.num_kv_heads

    def spec_of(sizes: Sizes, blocks: Sequence[int]) -> GPTSpec:
        return resized(
            spec,
            depth=len(blocks),
            width=sizes["width"],
            num_heads=sizes["heads"],
            num_kv_heads=sizes["heads"] // group,
            mlp_width=sizes["mlp_width"],
        )

    numbers = Numbers(
        spec.depth, spec.width, spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.mlp_width
    )
    names = replace(_GPT, top_reader="embedding") if spec.is_tied else _GPT
    return transformer_skeleton(names, numbers, module.state_dict(), spec_of)


def _of_blocks(names: Names) -> Callable[[FamilyModule, EncoderSpec | ViTSpec], Skeleton]:
    def skeleton(module: FamilyModule, spec: EncoderSpec | ViTSpec) -> Skeleton:
        head_dim = spec.width // spec.num_heads

        def spec_of(sizes: Sizes, blocks: Sequence[int]) -> Spec:
            return resized(
                spec,
                depth=len(blocks),
                width=sizes["width"],
                num_heads=sizes["heads"],
                mlp_width=sizes["mlp_width"],
            )

        numbers = Numbers(spec.depth, spec.width, spec.num_heads, spec.num_heads, head_dim, spec.mlp_width)
        return transformer_skeleton(
            names,
            numbers,
            module.state_dict(),
            spec_of,
            heads_fill_width(head_dim),
            is_width_free=False,
        )

    return skeleton


def _hf(module: FamilyModule, spec: HFSpec) -> Skeleton:
    architecture = fitted(spec).architecture
    name, config = architecture.model_class.__name__, architecture.text_config
    if name not in _HF:
        raise RecipeError(
            f"shrink: where heads and neurons of {name} lie is not known here.",
            got=spec.path,
            hint=f"one of {', '.join(_HF)}",
        )
    state, names = module.state_dict(), _HF[name]
    if f"{names.top_reader}.weight" not in state:
        names = replace(names, top_reader=names.tables[0][0].removesuffix(".weight"))  # tied
    num_heads = int(config.num_attention_heads)
    num_kv_heads = int(getattr(config, "num_key_value_heads", None) or num_heads)
    known_dim = getattr(config, "head_dim", None)
    head_dim = int(known_dim or config.hidden_size // num_heads)

    def spec_of(sizes: Sizes, blocks: Sequence[int]) -> HFSpec:
        changed = {theirs: sizes[ours] for ours, theirs in _HF_SIZES.items()}
        changed |= {"num_hidden_layers": len(blocks), "vocab_size": int(config.vocab_size)}
        if hasattr(config, "num_key_value_heads"):
            changed["num_key_value_heads"] = sizes["heads"] * num_kv_heads // num_heads
        if known_dim:
            changed["head_dim"] = head_dim
        # The weights beside the config are those of the larger model.
        return resized(spec, pretrained=False, sizes=tuple({**dict(spec.sizes), **changed}.items()))

    numbers = Numbers(
        int(config.num_hidden_layers),
        int(config.hidden_size),
        num_heads,
        num_kv_heads,
        head_dim,
        int(config.intermediate_size),
    )
    if not known_dim:
        fills = heads_fill_width(head_dim)
        return transformer_skeleton(names, numbers, state, spec_of, fills, is_width_free=False)
    group = num_heads // num_kv_heads
    settled = width_holds_heads(num_heads, group) if name in _WHOLE_HEADS else None
    return transformer_skeleton(names, numbers, state, spec_of, settled)
