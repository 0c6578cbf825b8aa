"""The `gpt` decoder.

Legend: B sequences, T tokens, W width, N query heads, K key/value heads, H features of a head, V vocabulary,
L tokens whose logits are wanted.
Small models on a CPU are bound by the number of operations, so projections that share an input are one matrix.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import Cache
from kleiber.models.gpt.experts import Experts
from kleiber.models.gpt.rotary import norm_and_rotate, rotations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.gpt.transfer import transfer_marks
from kleiber.models.groups import HiddenMatrix, ParamGroups

__all__ = ["EMBEDDING_STD", "GPT", "Block", "build"]

EMBEDDING_STD = 0.02
"""Standard deviation of embedding and head at the start, as in GPT-2."""


class Block(nn.Module):
    """Attention and a gated MLP or a mixture of them, each behind a norm and added to the residual stream."""

    def __init__(self, spec: GPTSpec, device: torch.device | str) -> None:
        super().__init__()
        self.spec = spec
        w, h = spec.width, spec.head_dim

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device))

        self.attn_norm = empty(w)
        self.qkv = empty(spec.attn_width + 2 * spec.kv_width, w)
        self.q_norm = empty(h)
        self.k_norm = empty(h)
        self.attn_out = empty(w, spec.attn_width)
        self.mlp_norm = empty(w)
        if spec.is_mixture:
            self.experts = Experts(spec, device)
        else:
            self.gate_up = empty(2 * spec.mlp_width, w)
            self.mlp_down = empty(w, spec.mlp_width)

    def forward(self, x_BTW: Tensor, rope: tuple[Tensor, Tensor], cache: tuple[Cache, int] | None) -> Tensor:
        """Return the residual stream after this block, [B, T, W]."""
        spec = self.spec
        B, T, W = x_BTW.shape
        qkv = F.linear(F.rms_norm(x_BTW, (W,), self.attn_norm, spec.norm_eps), self.qkv)
        qkv_BTJH = qkv.view(B, T, spec.num_heads + 2 * spec.num_kv_heads, spec.head_dim)
        qk, v_BTKH = torch.split(qkv_BTJH, [spec.num_heads + spec.num_kv_heads, spec.num_kv_heads], 2)
        heads = [spec.num_heads, spec.num_kv_heads]
        if cache is not None and cache[0].rotates:
            q_BTNH, k_BTKH = (
                F.rms_norm(one, (spec.head_dim,), gain, spec.norm_eps)
                for one, gain in zip(torch.split(qk, heads, 2), (self.q_norm, self.k_norm), strict=True)
            )
        else:
            qk = norm_and_rotate(
                qk, self.q_norm, self.k_norm, rope, num_heads=spec.num_heads, eps=spec.norm_eps
            )
            q_BTNH, k_BTKH = torch.split(qk, heads, 2)
        y = self._attend(q_BTNH, k_BTKH, v_BTKH, cache).transpose(1, 2).reshape(B, T, spec.attn_width)
        x_BTW = x_BTW + F.linear(y, self.attn_out)
        if spec.is_mixture:
            x_NW = F.rms_norm(x_BTW, (W,), self.mlp_norm, spec.norm_eps).flatten(0, 1)
            added_NW: Tensor = self.experts(x_NW)
            return x_BTW + added_NW.view(B, T, W)
        gate_up = F.linear(F.rms_norm(x_BTW, (W,), self.mlp_norm, spec.norm_eps), self.gate_up)
        gate, up = gate_up.chunk(2, -1)
        return x_BTW + F.linear(F.silu(gate) * up, self.mlp_down)

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
        self.blocks = nn.ModuleList(Block(spec, device) for _ in range(spec.depth))
        self.final_norm = nn.Parameter(torch.empty(spec.width, device=device))
        if not spec.is_tied:
            self.head = nn.Parameter(torch.empty(spec.vocab_size, spec.width, device=device))
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
        rope = self._rope(start, T)
        x_BTW = F.embedding(tokens_BT, self.embedding)
        for index, block in enumerate(self.blocks):
            x_BTW = block(x_BTW, rope, (cache, index) if cache is not None else None)
        if cache is not None:
            cache.advance(T)
        if kept_L is not None:
            x_BTW = x_BTW.index_select(1, kept_L)
        x_BTW = F.rms_norm(x_BTW, (self.spec.width,), self.final_norm, self.spec.norm_eps)
        return F.linear(x_BTW, self.embedding if self.spec.is_tied else self.head)

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
        """Fill the weights: norms 1, projections back into the residual stream 0, the rest normal.

        With zero output projections every block starts as the identity; the variance 1 / fan-in keeps the
        scale of what enters a matrix (Yang et al. 2022, arXiv:2203.03466).
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            elif name.endswith(("attn_out", "mlp_down", "experts.down")):
                parameter.zero_()
            elif name in {"embedding", "head"}:
                parameter.normal_(0.0, EMBEDDING_STD, generator=generator)
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        return self

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
            splits |= {"gate_up": (spec.mlp_width, spec.mlp_width), "mlp_down": (spec.width,)}
        norms = ("attn_norm", "q_norm", "k_norm", "mlp_norm")
        return ParamGroups(
            hidden=tuple(
                HiddenMatrix(f"blocks.{i}.{name}", rows) for name, rows in splits.items() for i in blocks
            ),
            embedding=("embedding",),
            head=() if spec.is_tied else ("head",),
            norms=(*(f"blocks.{i}.{name}" for i in blocks for name in norms), "final_norm"),
            transfer=transfer_marks(spec),
        )


def build(spec: GPTSpec, *, seed: int = 0) -> GPT:
    """Return a decoder with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    return GPT(spec).init_weights_(seed)
