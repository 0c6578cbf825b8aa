"""The sizes of a `gpt` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.errors import RecipeError
from kleiber.models.gpt.features import Features
from kleiber.runs import DataShape, ParamCount

__all__ = [
    "EXPERT_MULTIPLE",
    "MAX_EXPERTS",
    "Depth",
    "GPTSpec",
    "Heads",
    "MLPWidth",
    "Width",
    "require_closed_form",
    "require_qwen3",
]

EXPERT_MULTIPLE = 4
"""Of the widths in a mixture."""
MAX_EXPERTS = 10_000

Depth = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Width = Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
Heads = Annotated[int, Field(strict=True, ge=1, le=10_000)]
MLPWidth = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]


class GPTSpec(Features):
    """Shape of a decoder: pre-norm RMSNorm, RoPE, QK-norm, grouped-query attention, SwiGLU, no biases; or as `Features` change that.

    With `num_experts` it is a mixture: in every block a router sends each token to a few of many MLPs. All parameters
    are counted; operations are those of the experts that a token meets.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> spec.num_heads, spec.mlp_width, spec.count().total
        (2, 96, 59616)
        >>> mixture = GPTSpec.from_dial({"depth": 2, "width": 32, "num_experts": 8}, vocab_size=1024, context=128)
        >>> mixture.expert_width, mixture.count().total, mixture.num_active_params  # 2 routers of 8 x 32 beside the dense
        (48, 115424, 60128)
    """

    example_shape: ClassVar[DataShape] = DataShape(inputs="tokens", vocab_size=1024, context=128)
    """Data that the family is planned on when none is named."""

    family: Literal["gpt"] = "gpt"
    depth: Depth
    """Blocks."""
    width: Width
    """Features of the residual stream."""
    num_heads: Heads
    """Query heads."""
    num_kv_heads: Heads
    """Key and value heads; divides `num_heads`."""
    head_dim: Width
    """Features of a head; even, for the rotation pairs them."""
    mlp_width: MLPWidth
    """Features between gate and down projection; a mixture has none of this width."""
    vocab_size: Annotated[int, Field(strict=True, ge=2, le=10_000_000)]
    context: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    """Longest sequence [tokens]."""
    is_tied: bool = Field(default=True, strict=True)
    """The output projection is the embedding table."""
    rope_theta: float = Field(default=10_000.0, gt=1, lt=1e12)
    """Base of the rotation's wavelengths."""
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    num_experts: Annotated[int, Field(strict=True, ge=0, le=MAX_EXPERTS)] = 0
    """MLPs of a block among which a router chooses for each token; 0 is one MLP for all."""
    experts_per_token: Annotated[int, Field(strict=True, ge=0, le=MAX_EXPERTS)] = 0
    """Experts that a token meets. Their weights add up to 1, so that of a single one says nothing: its router would learn from
    the balance alone."""
    expert_width: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] = 0
    """Features between an expert's gate and down projection."""
    router_aux_coef: float = Field(default=0.0, ge=0, lt=100)
    """Weight in the loss of how unevenly tokens are spread over the experts."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even, for RoPE turns pairs of features")
        if self.value_embeddings > self.depth:
            raise ValueError(
                f"value_embeddings {self.value_embeddings} must be at most depth {self.depth}, for each is of one block"
            )
        if self.num_experts:
            self._check_mixture()
        elif self.experts_per_token or self.expert_width or self.router_aux_coef:
            raise ValueError("experts_per_token, expert_width and router_aux_coef need num_experts")
        return self

    def _check_mixture(self) -> None:
        if not self.is_gated:
            raise ValueError(f"mlp must be swiglu in a mixture, whose experts are gated, got {self.mlp}")
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise ValueError(
                f"experts_per_token {self.experts_per_token} must be between 1 and num_experts {self.num_experts}"
            )
        for name, size in (("width", self.width), ("expert_width", self.expert_width)):
            # torch's grouped product wants rows that begin at multiples of 16 bytes.
            if size % EXPERT_MULTIPLE or not size:
                raise ValueError(f"{name} {size} of a mixture must be a multiple of {EXPERT_MULTIPLE}")

    @classmethod
    def from_dial(cls, size: Mapping[str, Any], vocab_size: int, context: int) -> Self:
        """Return the spec that a size dial gives.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            vocab_size: Entries of the tokenizer.
            context: Longest sequence [tokens].

        Raises:
            RecipeError: An unknown key, an absurd number, parts that do not divide, a target out of reach.
        """
        from kleiber.models.gpt.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        return cls.model_validate(resolve_dial(size, vocab_size, context).model_dump())

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives for text of a shape; as `from_dial` otherwise.

        Raises:
            RecipeError: The shape is not of text that is modelled.
        """
        if shape.vocab_size is None or shape.context is None or shape.inputs != "tokens" or shape.num_outputs:
            raise RecipeError(
                "gpt models text, token by token.",
                got=shape.inputs,
                hint="--set model.family=encoder   to classify texts",
            )
        return cls.from_dial(size, shape.vocab_size, shape.context)

    @property
    def attn_width(self) -> int:
        """Features of all query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of all key heads, and of all value heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def is_mixture(self) -> bool:
        """Whether the blocks have experts: memory and operations then come from a trace, not in closed form."""
        return self.num_experts > 0

    @property
    def is_closed_form(self) -> bool:
        """Whether memory and operations of a step follow from the sizes alone; others come from a trace."""
        return not self.is_mixture and not self.beyond_qwen3

    @property
    def value_table_blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks with value embeddings: every other one from the last on, then those between."""
        backwards = range(self.depth - 1, -1, -1)
        order = [*backwards[::2], *backwards[1::2]]
        return tuple(sorted(order[: self.value_embeddings]))

    @property
    def num_active_params(self) -> int:
        """Parameters without those of the experts that a token does not meet."""
        idle = self.num_experts - self.experts_per_token
        return self.count().total - self.depth * idle * 3 * self.width * self.expert_width

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix between embedding and head: q, k, v, output, gate (if there is one), up, down.

        Of a mixture a router, and the last three of every expert.
        """
        w, m = self.width, self.expert_width or self.mlp_width
        attention = [(self.attn_width, w), (self.kv_width, w), (self.kv_width, w), (w, self.attn_width)]
        router = [(self.num_experts, w)] if self.is_mixture else []
        mlps = [*[(m, w)] * (1 + self.is_gated), (w, m)] * max(1, self.num_experts)
        return [*attention, *router, *mlps] * self.depth

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds."""
        vectors = 2 * self.width + 2 * self.head_dim * self.has_qk_norm
        vectors += 2 * self.has_x0_skip
        norms = self.depth * vectors + self.width + 2 * self.has_value_residual * (self.depth - 1)
        norms += self.value_embeddings * self.num_kv_heads
        table = self.vocab_size * self.width
        tables = self.vocab_size * self.value_embeddings * self.kv_width
        tables += self.context * self.width * (self.positions == "learned")
        return ParamCount(
            embedding=table + tables,
            body=self._num_hidden(max(1, self.num_experts)) + norms,
            head=0 if self.is_tied else table,
            is_tied=self.is_tied,
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` sequences of `context` tokens.

        Forward, 2 per multiply-add: every matrix of the blocks and the head on each token, and the two products
        of attention (scores, and scores with values) on each pair of tokens. Backward is twice that: each
        product has a gradient for both of its factors. Of a mixture the router, and the experts that a token meets.

        Args:
            batch: Sequences.
            context: Tokens of a sequence; None is the longest.
            convention: `causal` counts half of the attention square, `full` all of it.

        Source:
            Hoffmann et al. 2022, arXiv:2203.15556, appendix F; the embedding look-up is left out here.
        """
        context = context or self.context
        weights = self._num_hidden(max(1, self.experts_per_token)) + self.vocab_size * self.width
        square = 4 * self.depth * self.attn_width * context * context
        attention = square if convention == "full" else square // 2
        forward = batch * (2 * weights * context + attention)
        return FlopCount(forward=forward, backward=2 * forward, convention=convention)

    def _num_hidden(self, num_mlps: int) -> int:
        """Return the weights of all matrices of the blocks, so many MLPs counted in each."""
        attention = self.width * 2 * (self.attn_width + self.kv_width)
        mlp = (2 + self.is_gated) * self.width * (self.expert_width or self.mlp_width)
        return self.depth * (attention + self.num_experts * self.width + num_mlps * mlp)


def require_closed_form(spec: GPTSpec) -> None:
    """Raise if a step of a spec has no closed form: how tokens are spread over experts, or changes of the layout.

    Raises:
        RecipeError: It has none.
    """
    if spec.is_mixture:
        raise RecipeError(
            "memory and operations of a mixture of experts come from a trace, not in closed form.",
            got=f"num_experts={spec.num_experts}",
            hint="kleiber plan gpt:depth=12,num_experts=8",
        )
    if not spec.is_closed_form:
        raise RecipeError(
            "memory and operations of a gpt beyond the Qwen3 layout come from a trace, not in closed form.",
            got=", ".join(spec.beyond_qwen3),
            hint=f"kleiber plan gpt:depth=12,{spec.beyond_qwen3[0]}",
        )


def require_qwen3(spec: GPTSpec) -> None:
    """Refuse a model that Qwen3's layout cannot hold.

    Raises:
        RecipeError: It has features beyond that layout.
    """
    if spec.beyond_qwen3:
        raise RecipeError(
            "transformers and llama.cpp have no architecture that computes this gpt: it is beyond the Qwen3 layout.",
            got=", ".join(spec.beyond_qwen3),
            hint="--format onnx   holds any model; a gpt that is trained without a preset has that layout",
        )
