"""The `gpt` decoder.

Legend: B sequences, T tokens, W width, N query heads, K key/value heads, H features of a head, V vocabulary,
L tokens whose logits are wanted.
Small models on a CPU are bound by the number of operations, so projections that share an input are one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import Cache
from kleiber.models.gpt.experts import Experts
from kleiber.models.gpt.fused import mixed, relu2, softcapped
from kleiber.models.gpt.rotary import norm_and_rotate, rotated, rotations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.gpt.transfer import transfer_marks
from kleiber.models.groups import HiddenMatrix, ParamGroups

__all__ = ["EMBEDDING_STD", "GPT", "Block", "build"]

EMBEDDING_STD = 0.02
"""Standard deviation of embedding and head at the start, as in GPT-2."""
GPT2_STD = 0.02
"""Of its matrices; those that end a residual branch have it divided by the root of the branches (Radford et al. 2019, section 2.3)."""


@dataclass
class Shared:
    """What blocks beyond the Qwen3 layout have from outside their stream; the first block adds its values."""

    tokens_BT: Tensor
    x0_BTW: Tensor
    """The embeddings."""
    v0_BTKH: Tensor | None = None
    """Values of the first block."""


class Block(nn.Module):
    """Attention and an MLP or a mixture of them, each behind a norm and added to the residual stream."""

    def __init__(self, spec: GPTSpec, device: torch.device | str, index: int) -> None:
        super().__init__()
        self.spec, self.index = spec, index
        w, h = spec.width, spec.head_dim

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device))

        self.attn_norm = empty(w)
        self.qkv = empty(spec.attn_width + 2 * spec.kv_width, w)
        if spec.has_qk_norm:
            self.q_norm = empty(h)
            self.k_norm = empty(h)
        self.attn_out = empty(w, spec.attn_width)
        self.mlp_norm = empty(w)
        if spec.is_mixture:
            self.experts = Experts(spec, device)
        else:
            if spec.is_gated:
                self.gate_up = empty(2 * spec.mlp_width, w)
            else:
                self.mlp_up = empty(spec.mlp_width, w)
            self.mlp_down = empty(w, spec.mlp_width)
        if spec.has_x0_skip:
            self.skip_mix = empty(2)
        if spec.has_value_residual and index:
            self.value_mix = empty(2)
        if index in spec.value_table_blocks:
            self.value_table = empty(spec.vocab_size, spec.kv_width)
            self.value_gate = empty(spec.num_kv_heads)

    def forward(
        self,
        x_BTW: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        cache: tuple[Cache, int] | None,
        shared: Shared | None = None,
    ) -> Tensor:
        """Return the residual stream after this block, [B, T, W].

        Args:
            x_BTW: The stream.
            rope: Cosine and sine of these tokens; None where positions are learned.
            cache: Holds what was read before, and this block's number there.
            shared: Of a model beyond the Qwen3 layout.
        """
        spec = self.spec
        B, T, W = x_BTW.shape
        if spec.has_x0_skip and shared is not None:
            x_BTW = mixed(x_BTW, shared.x0_BTW, self.skip_mix)
        qkv = F.linear(F.rms_norm(x_BTW, (W,), self.attn_norm, spec.norm_eps), self.qkv)
        qkv_BTJH = qkv.view(B, T, spec.num_heads + 2 * spec.num_kv_heads, spec.head_dim)
        qk, v_BTKH = torch.split(qkv_BTJH, [spec.num_heads + spec.num_kv_heads, spec.num_kv_heads], 2)
        if shared is not None:
            v_BTKH = self._values(v_BTKH, shared)
        is_turned_later = cache is not None and cache[0].rotates
        q_BTNH, k_BTKH = self._placed(qk, None if is_turned_later else rope)
        y = self._attend(q_BTNH, k_BTKH, v_BTKH, cache).transpose(1, 2).reshape(B, T, spec.attn_width)
        x_BTW = x_BTW + F.linear(y, self.attn_out)
        if spec.is_mixture:
            x_NW = F.rms_norm(x_BTW, (W,), self.mlp_norm, spec.norm_eps).flatten(0, 1)
            added_NW: Tensor = self.experts(x_NW)
            return x_BTW + added_NW.view(B, T, W)
        first = self.gate_up if spec.is_gated else self.mlp_up
        # Not named: what is normalized goes when it has been multiplied.
        inner = F.linear(F.rms_norm(x_BTW, (W,), self.mlp_norm, spec.norm_eps), first)
        return x_BTW + F.linear(self._activated(inner), self.mlp_down)

    def _activated(self, inner: Tensor) -> Tensor:
        """Return what the MLP's last matrix takes, [B, T, M], of what its first gave: of a gated one gate and up, [B, T, 2 M]."""
        if self.spec.mlp == "relu2":
            return relu2(inner)
        if self.spec.mlp == "gelu":
            return F.gelu(inner, approximate="tanh")
        gate, up = inner.chunk(2, -1)
        return F.silu(gate) * up

    def _values(self, v_BTKH: Tensor, shared: Shared) -> Tensor:
        """Return the values mixed with those of the first block, and what the block's table has for the tokens added."""
        spec = self.spec
        if spec.has_value_residual:
            if shared.v0_BTKH is None:
                shared.v0_BTKH = v_BTKH
            else:
                v_BTKH = mixed(v_BTKH, shared.v0_BTKH, self.value_mix)
        if self.index in spec.value_table_blocks:
            found_BTKH = F.embedding(shared.tokens_BT, self.value_table).view(v_BTKH.shape)
            v_BTKH = torch.addcmul(v_BTKH, found_BTKH, self.value_gate[:, None])
        return v_BTKH

    def _placed(self, qk_BTJH: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return query and key heads, normalized and turned as the spec says; turned only where `rope` is given."""
        spec = self.spec
        heads = [spec.num_heads, spec.num_kv_heads]
        if rope is not None and spec.has_qk_norm:
            qk_BTJH = norm_and_rotate(
                qk_BTJH, self.q_norm, self.k_norm, rope, num_heads=spec.num_heads, eps=spec.norm_eps
            )
        elif rope is not None:
            qk_BTJH = rotated(qk_BTJH, rope)
        q_BTNH, k_BTKH = torch.split(qk_BTJH, heads, 2)
        if rope is None and spec.has_qk_norm:
            q_BTNH = F.rms_norm(q_BTNH, (spec.head_dim,), self.q_norm, spec.norm_eps)
            k_BTKH = F.rms_norm(k_BTKH, (spec.head_dim,), self.k_norm, spec.norm_eps)
        return q_BTNH, k_BTKH

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, cache: tuple[Cache, int] | None) -> Tensor:
        """Return causal attention, [B, N, T, H]; q, k, v are [B, T, heads, H]."""
        if cache is not None:
            kept, index = cache
            return kept.attend(index, q, k, v)
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        is_grouped = self.spec.num_heads != self.spec.num_kv_heads
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=is_grouped)


class GPT(FamilyModule):
    """A decoder-only transformer in fp32; its weights are empty until `init_weights_` or `load`."""

    def __init__(self, spec: GPTSpec, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Parameter(torch.empty(spec.vocab_size, spec.width, device=device))
        if spec.positions == "learned":
            self.positions = nn.Parameter(torch.empty(spec.context, spec.width, device=device))
        self.blocks = nn.ModuleList(Block(spec, device, index) for index in range(spec.depth))
        self.final_norm = nn.Parameter(torch.empty(spec.width, device=device))
        if not spec.is_tied:
            self.head = nn.Parameter(torch.empty(spec.vocab_size, spec.width, device=device))
        if spec.positions == "rope":
            cos, sin = rotations(spec, device)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)
        groups = self.param_groups()
        if sorted(groups.names) != sorted(name for name, _ in self.named_parameters()):
            raise AssertionError("param_groups() must name every parameter exactly once")

    def forward(self, tokens_BT: Tensor, cache: Cache | None = None, kept_L: Tensor | None = None) -> Tensor:
        """Return the logits of the next token after each token, [B, T, V].

        Args:
            tokens_BT: Token numbers, int64.
            cache: Holds what was read before; these tokens follow it and are added to it.
            kept_L: Places in `tokens_BT` after which the logits are wanted, int64; then they are [B, L, V]. None is after all.
        """
        start, T = (cache.length if cache else 0), tokens_BT.shape[1]
        if cache is not None:
            cache.require_room(T)
        rope = self._rope(start, T) if self.spec.positions == "rope" else None
        x_BTW = self._embedded(tokens_BT, start)
        shared = Shared(tokens_BT, x_BTW) if self.spec.beyond_qwen3 else None
        for index, block in enumerate(self.blocks):
            x_BTW = block(x_BTW, rope, (cache, index) if cache is not None else None, shared)
        if cache is not None:
            cache.advance(T)
        if kept_L is not None:
            x_BTW = x_BTW.index_select(1, kept_L)
        x_BTW = F.rms_norm(x_BTW, (self.spec.width,), self.final_norm, self.spec.norm_eps)
        logits = F.linear(x_BTW, self.embedding if self.spec.is_tied else self.head)
        return softcapped(logits, self.spec.softcap) if self.spec.softcap else logits

    def _embedded(self, tokens_BT: Tensor, start: int | Tensor) -> Tensor:
        """Return what enters the first block, [B, T, W], of tokens that follow `start` others."""
        x_BTW = F.embedding(tokens_BT, self.embedding)
        if self.spec.positions == "learned":
            x_BTW = x_BTW + self._learned(start, tokens_BT.shape[1])
        if self.spec.has_embedding_norm:
            x_BTW = F.rms_norm(x_BTW, (self.spec.width,), None, self.spec.norm_eps)
        return x_BTW

    def _learned(self, start: int | Tensor, num_tokens: int) -> Tensor:
        """Return what is added to the embeddings of the tokens from `start` on, [T, W], or [B, T, W] as `_rope` says."""
        if isinstance(start, int):
            return self.positions[start : start + num_tokens]
        return F.embedding(torch.arange(num_tokens, device=self.positions.device) + start, self.positions)

    def _rope(self, start: int | Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the tokens from `start` on, laid out for every head, [T, J, H] each.

        Of sequences that stand at different places, [B, 1], they are [B, T, J, H].
        """
        J = self.spec.num_heads + self.spec.num_kv_heads
        cos, sin = self.get_buffer("cos"), self.get_buffer("sin")
        if isinstance(start, int):
            cos, sin = cos[start : start + num_tokens, None], sin[start : start + num_tokens, None]
        elif isinstance(start, Tensor) and start.ndim > 1:
            rows_BT = torch.arange(num_tokens, device=cos.device) + start
            cos, sin = F.embedding(rows_BT, cos)[:, :, None], F.embedding(rows_BT, sin)[:, :, None]
        else:  # in a graph, where it is known with the tokens
            rows_T = torch.arange(num_tokens, device=cos.device) + start
            cos, sin = cos.index_select(0, rows_T)[:, None], sin.index_select(0, rows_T)[:, None]
        # Contiguous: one pass of memory instead of a short loop a head.
        laid_out = (*[-1] * (cos.ndim - 2), J, -1)
        return cos.expand(laid_out).contiguous(), sin.expand(laid_out).contiguous()

    @torch.no_grad()
    def init_weights_(self, seed: int) -> Self:
        """Fill the weights: norms 1, mixes as they leave the stream alone, matrices as `init` says, tables normal.

        With zero output projections every block starts as the identity; the variance 1 / fan-in keeps the
        scale of what enters a matrix (Yang et al. 2022, arXiv:2203.03466).
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("skip_mix"):
                parameter.copy_(torch.tensor([1.0, 0.0]))
            elif name.endswith("value_mix"):
                parameter.fill_(0.5)
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            elif (std := self._initial_std(name, parameter)) == 0:
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=generator)
        return self

    def _initial_std(self, name: str, parameter: Tensor) -> float:
        """Return the standard deviation that a table or matrix starts with."""
        spec = self.spec
        if name.endswith(("embedding", "head", "positions", "value_table")):
            return EMBEDDING_STD
        is_out = name.endswith(("attn_out", "mlp_down", "experts.down"))
        if is_out and spec.init == "zero_out":
            return 0.0
        std = GPT2_STD if spec.init == "standard" else float(parameter.shape[-1 if is_out else 1]) ** -0.5
        return std / (2 * spec.depth) ** 0.5 if is_out else std

    def auxiliary_loss(self) -> Tensor | None:
        """Return the imbalance of a mixture's experts, the mean over its blocks, times `router_aux_coef`; once.

        None of a dense model, and after a forward pass in evaluation.
        """
        if not self.spec.is_mixture:
            return None
        experts = [module for module in self.modules() if isinstance(module, Experts)]
        taken = [one for module in experts if (one := module.take_imbalance()) is not None]
        return self.spec.router_aux_coef * torch.stack(taken).mean() if taken else None

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""
        spec, blocks = self.spec, range(self.spec.depth)
        splits: dict[str, tuple[int, ...]] = {
            "qkv": (spec.attn_width, spec.kv_width, spec.kv_width),
            "attn_out": (spec.width,),
        }
        if spec.is_mixture:
            splits |= {
                "experts.router": (spec.num_experts,),
                "experts.gate_up": (spec.expert_width,) * (2 * spec.num_experts),
                "experts.down": (spec.width,) * spec.num_experts,
            }
        else:
            gated = {"gate_up": (spec.mlp_width, spec.mlp_width)}
            splits |= gated if spec.is_gated else {"mlp_up": (spec.mlp_width,)}
            splits |= {"mlp_down": (spec.width,)}
        vectors = ("attn_norm", "q_norm", "k_norm", "mlp_norm", "skip_mix", "value_mix", "value_gate")
        has = {name for name, _ in self.named_parameters()}
        tables = ("positions", *(f"blocks.{i}.value_table" for i in blocks))
        return ParamGroups(
            hidden=tuple(
                HiddenMatrix(f"blocks.{i}.{name}", rows) for name, rows in splits.items() for i in blocks
            ),
            embedding=("embedding", *(name for name in tables if name in has)),
            head=() if spec.is_tied else ("head",),
            norms=(
                *(f"blocks.{i}.{name}" for i in blocks for name in vectors if f"blocks.{i}.{name}" in has),
                "final_norm",
            ),
            transfer=transfer_marks(spec),
        )


def build(spec: GPTSpec, *, seed: int = 0) -> GPT:
    """Return a decoder with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    return GPT(spec).init_weights_(seed)
