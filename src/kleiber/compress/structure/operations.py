"""The operations of a forward pass, in closed form for whatever has heads and neurons to cut."""

from __future__ import annotations

from kleiber.cost.flops import FlopConvention
from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.encoder.spec import EncoderSpec
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.spec import HFSpec

__all__ = ["operations_of"]


def operations_of(spec: Spec) -> int:
    """Return the operations of a forward pass on one sample.

    A step of a transformers model is traced, which takes seconds, and a target is met by trying many sizes: decoders and BERT
    of transformers do what ours do of the same sizes.
    """
    if not isinstance(spec, HFSpec):
        return spec.flops(1).forward
    # A decoder that classifies is told which tokens are padding: its attention is masked, and computed whole.
    convention: FlopConvention = "full" if spec.shape.num_outputs else "causal"
    return _as_ours(spec).flops(1, convention=convention).forward


def _as_ours(spec: HFSpec) -> GPTSpec | EncoderSpec:
    architecture = fitted(spec).architecture
    config, shape = architecture.text_config, spec.shape
    num_heads = int(config.num_attention_heads)
    sizes = {
        "depth": int(config.num_hidden_layers),
        "width": int(config.hidden_size),
        "num_heads": num_heads,
        "mlp_width": int(config.intermediate_size),
    }
    if architecture.model_class.__name__.startswith("Bert"):
        return EncoderSpec.of({**sizes, "shape": shape}, spec.path, RecipeError)
    heads = {
        "num_kv_heads": int(config.num_key_value_heads),
        "head_dim": int(getattr(config, "head_dim", None) or config.hidden_size // num_heads),
    }
    # A classifier's head answers at every token as well, and the last answer is taken.
    text = {"vocab_size": max(2, shape.num_outputs or config.vocab_size), "context": shape.context or 1}
    return GPTSpec.of({**sizes, **heads, **text}, spec.path, RecipeError)
