"""The tensors of a `gpt`'s forward pass, in the order in which `module.py` makes them and lets them go.

In training at half precision the residual stream, norms and rotation are wide (fp32), what products take and give is
narrow, and autocast copies from the one to the other; all that is served is narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.cost.tape import Tape
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["FP32_BYTES", "Tensors"]

FP32_BYTES = 4


@dataclass(frozen=True)
class Tensors:
    """Writes the forward pass of a micro-batch to a tape."""

    tape: Tape
    spec: GPTSpec
    usage: Usage
    batch: int
    """Sequences of a micro-batch."""
    context: int
    """Tokens of a sequence."""
    has_copies: bool = True
    """Whether autocast copies the weights; FSDP gathers narrow ones instead."""

    @property
    def num_tokens(self) -> int:
        """Of a micro-batch."""
        return self.batch * self.context

    @property
    def narrow_bytes(self) -> int:
        """Of a value in a product."""
        return PRECISIONS[self.usage.precision]

    @property
    def wide_bytes(self) -> int:
        """Of a value of the residual stream."""
        return FP32_BYTES if self.usage.mode == "train" else self.narrow_bytes

    @property
    def is_mixed(self) -> bool:
        """Whether autocast makes narrow copies of wide tensors."""
        return self.wide_bytes != self.narrow_bytes

    @property
    def num_rotated(self) -> int:
        """Features of query and key heads."""
        return self.spec.attn_width + self.spec.kv_width

    @property
    def weights(self) -> dict[str, int]:
        """Values of each matrix."""
        spec = self.spec
        return {
            "qkv": (self.num_rotated + spec.kv_width) * spec.width,
            "attn_out": spec.width * spec.attn_width,
            "gate_up": 2 * spec.mlp_width * spec.width,
            "mlp_down": spec.width * spec.mlp_width,
            "logits": spec.vocab_size * spec.width,
        }

    @property
    def block_weights(self) -> int:
        """Values of all matrices of a block."""
        return sum(num for name, num in self.weights.items() if name != "logits")

    def copy_bytes(self, num_weights: int) -> int:
        """Return the bytes of autocast's copy of so many weights."""
        return self.narrow_bytes * num_weights if self.has_copies else 0

    def wide(self, num_features: int) -> int:
        """Return the bytes of a wide tensor."""
        return self.wide_bytes * self.num_tokens * num_features

    def narrow(self, num_features: int) -> int:
        """Return the bytes of a narrow tensor."""
        return self.narrow_bytes * self.num_tokens * num_features

    def block(self, *, is_kept: bool, is_again: bool = False) -> None:
        """Run a block forward, from `stream` to `stream`; its input stays as `block_in`.

        Args:
            is_kept: Whether a backward pass will need what is in between.
            is_again: In the backward pass, from `block_in`: the last product is left out, for nobody needs it.
        """
        tape, spec = self.tape, self.spec
        if not is_again:
            tape.rename("stream", "block_in")
        self.norm("attn_norm", is_kept=is_kept)
        self.linear("qkv", "attn_norm", self.num_rotated + spec.kv_width, is_kept=is_kept)
        self._rotate(is_kept=is_kept)
        self._attend(is_kept=is_kept)
        self.linear("attn_out", "attended", spec.width, is_kept=is_kept)
        tape.make(middle=self.wide(spec.width))
        tape.drop("attn_out")
        self.norm("mlp_norm", is_kept=is_kept)
        self.linear("gate_up", "mlp_norm", 2 * spec.mlp_width, is_kept=is_kept)
        tape.make(silu=self.narrow(spec.mlp_width), product=self.narrow(spec.mlp_width))
        if not is_kept:
            tape.drop("silu")
        if is_again:
            self._cast_weight("mlp_down", is_kept=is_kept)
        else:
            self.linear("mlp_down", "product", spec.width, is_kept=is_kept)
            tape.make(stream=self.wide(spec.width))
            tape.drop("mlp_down")
        if not is_kept:  # variables of `Block.forward` until it returns
            tape.drop("qkv", "rotated", "attended", "middle", "gate_up")
        elif self.is_mixed:
            tape.drop("rotated")

    def norm(self, name: str, *, is_kept: bool) -> None:
        """Normalize the residual stream into the tensor `name`."""
        tape, width = self.tape, self.spec.width
        if self.wide_bytes < FP32_BYTES:  # torch normalizes in fp32
            in_fp32 = FP32_BYTES * self.num_tokens * width
            tape.make(cast=in_fp32, unit=in_fp32, scaled=in_fp32)
            tape.drop("cast", "unit")
            tape.make(**{name: self.wide(width)})
            tape.drop("scaled")
            return
        between = {f"{name}.scale": self.wide(1), f"{name}.unit": self.wide(width)}
        tape.make(**between, **{name: self.wide(width)})
        if not is_kept:
            tape.drop(*between)

    def linear(self, name: str, source: str, num_features: int, *, is_kept: bool) -> None:
        """Multiply `source` by the weights `name` into a tensor of that name."""
        tape = self.tape
        self._cast_weight(name, is_kept=is_kept)
        is_cast = self.is_mixed and source.endswith("norm")
        if is_cast:
            tape.make(**{f"{source}.cast": self.narrow(self.spec.width)})
        tape.make(**{name: self.narrow(num_features)})
        if is_cast:
            tape.drop(source)
            tape.rename(f"{source}.cast", source)
        if not is_kept and source != "attended":
            tape.drop(source)

    def _cast_weight(self, name: str, *, is_kept: bool) -> None:
        """Make autocast's copy of a weight; what is not kept is autocast's own until the forward pass ends."""
        if self.is_mixed and is_kept:
            self.tape.make(**{f"{name}.weight": self.copy_bytes(self.weights[name])})

    def _rotate(self, *, is_kept: bool) -> None:
        """Normalize and turn the heads, as `rotary.py` does."""
        tape, heads = self.tape, self.wide(self.num_rotated)
        num_heads = self.spec.num_heads + self.spec.num_kv_heads
        if self.is_mixed:
            tape.make(heads=heads)
        between = {"rotated.scale": self.wide(num_heads), "rotated.unit": heads}
        tape.make(**between, gained=heads, times_cos=heads, rolled=heads, rotated=heads)
        tape.drop("gained", "times_cos", "rolled")
        if self.is_mixed:
            tape.drop("heads")
        if not is_kept:
            tape.drop(*between)

    def _attend(self, *, is_kept: bool) -> None:
        tape, spec = self.tape, self.spec
        if self.is_mixed:
            tape.make(**{"rotated.cast": self.narrow(self.num_rotated)})
        log_sums = FP32_BYTES * self.num_tokens * spec.num_heads
        tape.make(attended=self.narrow(spec.attn_width), log_sums=log_sums)
        if not is_kept:
            tape.drop("log_sums")
            if self.is_mixed:
                tape.drop("rotated.cast")
