"""The tensors of a `gpt`'s backward pass, in the order in which autograd makes them and lets them go.

The gradient of the residual stream is `grad` throughout: it is as large from the head to the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.models.gpt.tensors import FP32_BYTES, Tensors

__all__ = ["Gradients"]


@dataclass(frozen=True)
class Gradients:
    """Writes the backward pass of what `Tensors` wrote."""

    forward: Tensors
    is_added: bool
    """Whether the parameters have gradients of an earlier micro-batch, to which these are added."""

    def loss(self) -> None:
        """Go back through the cross-entropy, to `logits.grad`."""
        tape, forward = self.forward.tape, self.forward
        num_logits = forward.num_tokens * forward.spec.vocab_size
        logits_bytes = FP32_BYTES * num_logits
        tape.make(**{"log_probs.grad": logits_bytes, "logits.grad": logits_bytes})
        tape.drop("log_probs", "log_probs.grad", "targets")
        self._cast("logits.grad", forward.narrow_bytes * num_logits)

    def head(self) -> None:
        """Go back through head and last norm; a tied table's gradient waits for that of the embedding."""
        forward = self.forward
        self._linear("logits", "final_norm", forward.spec.width)
        forward.tape.make(grad=forward.wide(forward.spec.width))
        self._norm("final_norm", "stream")

    def embedding(self) -> None:
        """Go back through the look-up."""
        tape, table_bytes = self.forward.tape, FP32_BYTES * self.forward.weights["logits"]
        tape.make(look_up=table_bytes)
        if self.forward.spec.is_tied:
            tape.make(sum=table_bytes)
            tape.drop("table", "look_up")
            tape.rename("sum", "look_up")
        tape.drop("grad")
        self._arrive("look_up")

    def block(self) -> None:
        """Go back through a block; one that was checkpointed runs forward again first."""
        forward, spec = self.forward, self.forward.spec
        self._take("mlp_down")
        if forward.usage.is_checkpointed:
            forward.block(is_kept=True, is_again=True)
        self._linear("mlp_down", "product", spec.mlp_width)
        self._mlp()
        self._linear("gate_up", "mlp_norm", spec.width)
        self._norm("mlp_norm", "middle")
        self._take("attn_out")
        self._linear("attn_out", "attended", spec.attn_width)
        self._attention()
        self._rotation()
        self._linear("qkv", "attn_norm", spec.width)
        self._norm("attn_norm", "block_in")

    def _take(self, name: str) -> None:
        """Give a product the gradient of the residual stream: itself, or a narrow copy."""
        forward = self.forward
        own = forward.narrow(forward.spec.width) if forward.is_mixed else 0
        forward.tape.make(**{f"{name}.grad": own})

    def _linear(self, name: str, source: str, num_features: int) -> None:
        """Go back through a product: the gradient of its weights, then that of its source."""
        tape, forward = self.forward.tape, self.forward
        num_weights = forward.weights[name]
        tape.make(weight_grad=forward.narrow_bytes * num_weights)
        tape.make(**{f"{source}.grad": forward.narrow(num_features)})
        tape.drop(f"{name}.grad")
        if source != "attended":  # attention needs it as well
            tape.drop(source)
        if forward.is_mixed:
            tape.drop(f"{name}.weight")
        if source.endswith("norm"):
            self._cast(f"{source}.grad", forward.wide(num_features))
        self._cast("weight_grad", FP32_BYTES * num_weights)
        if name == "logits" and forward.spec.is_tied:
            tape.rename("weight_grad", "table")
        else:
            self._arrive("weight_grad")

    def _norm(self, name: str, source: str) -> None:
        tape = self.forward.tape
        tape.make(squares=self.forward.wide(2 * self.forward.spec.width))
        tape.drop("squares", f"{name}.grad", f"{name}.scale", f"{name}.unit", source)
        self._gains(self.forward.spec.width)

    def _mlp(self) -> None:
        tape, part = self.forward.tape, self.forward.narrow(self.forward.spec.mlp_width)
        tape.make(up=part, activated=part)
        tape.drop("silu", "product.grad")
        tape.make(gate=part)
        tape.drop("activated", "gate_up")
        tape.make(**{"gate_up.grad": 2 * part})
        tape.drop("up", "gate")

    def _attention(self) -> None:
        tape, forward = self.forward.tape, self.forward
        values = forward.narrow(forward.spec.kv_width)
        tape.make(**{"rotated.grad": forward.narrow(forward.num_rotated), "values.grad": values})
        tape.drop("attended.grad", "attended", "log_sums", "qkv")
        tape.drop("rotated.cast" if forward.is_mixed else "rotated")

    def _rotation(self) -> None:
        """Go back through `rotary.py`, and join the gradients of queries, keys and values."""
        tape, forward = self.forward.tape, self.forward
        heads, num_values = forward.wide(forward.num_rotated), forward.spec.kv_width
        self._cast("rotated.grad", heads)
        tape.make(joined=heads)
        tape.drop("rotated.grad")
        tape.make(turned=heads, scaled=heads, along=heads)
        tape.drop("joined", "turned", "along", "rotated.scale", "rotated.unit")
        self._gains(2 * forward.spec.head_dim)
        self._cast("scaled", forward.narrow(forward.num_rotated))
        tape.make(**{"qkv.grad": forward.narrow(forward.num_rotated + num_values)})
        tape.drop("scaled", "values.grad")

    def _cast(self, name: str, num_bytes: int) -> None:
        """Copy a gradient between the wide and the narrow dtype, where they differ."""
        tape = self.forward.tape
        if self.forward.is_mixed:
            tape.make(cast=num_bytes)
            tape.drop(name)
            tape.rename("cast", name)

    def _gains(self, num_gains: int) -> None:
        self.forward.tape.make(gains=FP32_BYTES * num_gains)
        self._arrive("gains")

    def _arrive(self, name: str) -> None:
        """Give a parameter its gradient."""
        if self.is_added:
            self.forward.tape.drop(name)
        else:
            self.forward.tape.rename(name, "gradients")
