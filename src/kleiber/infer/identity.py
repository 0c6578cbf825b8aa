"""What the speed of a model follows from: sizes and precision, not its numbers."""

from __future__ import annotations

from typing import Any

from torch import nn

from kleiber.models.stored import Activations, Forms, Quantized

__all__ = ["identity_of"]


def identity_of(module: nn.Module, forms: Forms, activations: Activations) -> dict[str, Any]:
    """Return in JSON what two models share that are equally fast on an engine.

    Args:
        module: The model, with the spec of its family.
        forms: How its weights are stored.
        activations: How the inputs of layers are held, and a decoder's keys and values.
    """
    spec: Any = module.spec
    bits = {name: [one.num_bits, one.group_size] for name, one in forms.items() if isinstance(one, Quantized)}
    return {
        "spec": spec.model_dump(mode="json", exclude={"path"}),
        "config": str(getattr(module, "config", None)),  # of a model of transformers; its spec names a folder
        "sizes": {name: list(one.shape) for name, one in module.named_parameters()},
        "kinds": {name: type(one).__name__ for name, one in forms.items()},
        "bits": bits,
        "cache_bits": activations.cache_bits,
        "has_dynamic_inputs": activations.has_dynamic_inputs,
        "has_input_ranges": bool(activations.input_ranges),
    }
