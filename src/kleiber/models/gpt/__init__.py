"""The `gpt` family: decoder-only transformers in the layout of transformers' `Qwen3ForCausalLM`."""

from kleiber.models.gpt.spec import GPTSpec

__all__ = ["GPTSpec"]
