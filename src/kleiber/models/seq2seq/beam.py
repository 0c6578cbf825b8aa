"""Write targets: the likeliest token at every step, or the best of several targets that are written side by side.

Legend: B sources, K beams of each, C = 2K candidates, T tokens written so far, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kleiber.errors import UsageError
from kleiber.models.seq2seq.decoder_block import TargetCache
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.runs.data_shape import PAD_ID

__all__ = ["generate"]

_END = PAD_ID
"""Ends a target, and starts it."""
_IMPOSSIBLE = -1e9
"""Logarithm of the probability of what does not exist; finite, so that sums stay numbers."""


@torch.no_grad()
def generate(
    module: Seq2Seq,
    source_BS: Tensor,
    *,
    beam_size: int = 1,
    max_tokens: int | None = None,
    length_penalty: float = 1.0,
) -> Tensor:
    """Return a target for each source, [B, T]: without its start, padded at the end.

    With one beam the likeliest token is taken at every step. With more, the best targets that have ended are kept: by the sum
    of their logarithmic probabilities over their length, its end included, to the power of `length_penalty`. The search of
    a source is over when no unfinished target, at its present length, is better than the worst of those.

    Args:
        module: The model; it is set to evaluation for the call.
        source_BS: Token numbers, padded at the end.
        beam_size: K.
        max_tokens: What a target has at most; None is what the model reads.
        length_penalty: 0 favours short targets, 1 compares the mean of each token.

    Raises:
        UsageError: A size is not positive, or more tokens than the model reads.
    """
    longest = module.spec.max_positions - 1
    num_steps = longest if max_tokens is None else max_tokens
    if beam_size < 1:
        raise UsageError("beam_size must be at least 1.", got=beam_size, hint="--set task.beam_size=4")
    if not 1 <= num_steps <= longest:
        raise UsageError(f"max_tokens must be between 1 and {longest}.", got=num_steps)
    was_training = module.training
    module.eval()
    try:
        if beam_size == 1:
            return _greedy(module, source_BS, num_steps)
        return _beam(module, source_BS, beam_size, num_steps, length_penalty)
    finally:
        module.train(was_training)


def _greedy(module: Seq2Seq, source_BS: Tensor, num_steps: int) -> Tensor:
    memory, cache = module.encode(source_BS), TargetCache()
    tokens_B1 = torch.full((len(source_BS), 1), _END, device=source_BS.device)
    has_ended_B1 = torch.zeros_like(tokens_B1, dtype=torch.bool)
    written: list[Tensor] = []
    while len(written) < num_steps and not has_ended_B1.all():
        tokens_B1 = module.decode(tokens_B1, memory, cache)[:, -1:].argmax(-1)
        tokens_B1 = tokens_B1.masked_fill(has_ended_B1, PAD_ID)
        has_ended_B1 |= tokens_B1 == _END
        written.append(tokens_B1)
    return _trimmed(torch.cat(written, 1))


@dataclass
class _Beams:
    """Targets side by side."""

    tokens: Tensor
    """[B, K, T]"""
    scores: Tensor
    """Sum of the logarithmic probabilities of the tokens, or what is made of it; [B, K]."""

    def best(self, num: int) -> tuple[_Beams, Tensor]:
        """Return the best `num`, and which those are, [B, num]."""
        scores_BK, kept_BK = self.scores.topk(num)
        tokens_BKT = self.tokens.take_along_dim(kept_BK.unsqueeze(-1), 1)
        return _Beams(tokens_BKT, scores_BK), kept_BK


def _beam(module: Seq2Seq, source_BS: Tensor, K: int, num_steps: int, length_penalty: float) -> Tensor:
    B, device = len(source_BS), source_BS.device
    memory, cache = module.encode(source_BS).repeated(K), TargetCache()
    first_rows_B1 = torch.arange(B, device=device)[:, None] * K
    running = _Beams(
        torch.full((B, K, 1), _END, device=device), torch.full((B, K), _IMPOSSIBLE, device=device)
    )
    running.scores[:, 0] = 0.0  # all beams start the same: one is enough
    ended = _Beams(running.tokens.clone(), torch.full((B, K), _IMPOSSIBLE, device=device))
    is_open_B1 = torch.ones((B, 1), dtype=torch.bool, device=device)
    for step in range(1, num_steps + 1):
        logits = module.decode(running.tokens[..., -1:].reshape(B * K, 1), memory, cache)
        candidates, parents_BC = _continue(running, logits[:, -1])
        ends_BC = candidates.tokens[..., -1] == _END
        if step == num_steps:
            ends_BC = torch.ones_like(ends_BC)
        length = step**length_penalty
        # Only the K best may end: the other candidates are there to go on when those have.
        may_end_BC = ends_BC & is_open_B1 & (torch.arange(2 * K, device=device) < K)
        ended = _merge(ended, candidates, may_end_BC, length)
        candidates.scores = candidates.scores.masked_fill(ends_BC, _IMPOSSIBLE)
        running, kept_BK = candidates.best(K)
        cache.select((first_rows_B1 + parents_BC.gather(1, kept_BK)).flatten())
        is_open_B1 &= running.scores[:, :1] / length > ended.scores[:, -1:]
        if not is_open_B1.any():
            break
    return _trimmed(ended.tokens[:, 0, 1:])


def _continue(running: _Beams, logits: Tensor) -> tuple[_Beams, Tensor]:
    """Return the 2K best continuations by one token, and the beam that each continues, [B, C]."""
    (B, K), V = running.scores.shape, logits.shape[-1]
    scores_BKV = logits.float().log_softmax(-1).view(B, K, V) + running.scores.unsqueeze(-1)
    scores_BC, chosen_BC = scores_BKV.flatten(1).topk(2 * K)
    parents_BC = chosen_BC // V
    before = running.tokens.take_along_dim(parents_BC.unsqueeze(-1), 1)
    tokens = torch.cat((before, (chosen_BC % V).unsqueeze(-1)), -1)
    return _Beams(tokens, scores_BC), parents_BC


def _merge(ended: _Beams, candidates: _Beams, may_end_BC: Tensor, length: float) -> _Beams:
    """Return the K best of what had ended and what ends now."""
    scores = (candidates.scores / length).masked_fill(~may_end_BC, _IMPOSSIBLE)
    missing = candidates.tokens.shape[-1] - ended.tokens.shape[-1]
    padded = torch.nn.functional.pad(ended.tokens, (0, missing), value=PAD_ID)
    together = _Beams(torch.cat((padded, candidates.tokens), 1), torch.cat((ended.scores, scores), 1))
    return together.best(ended.scores.shape[1])[0]


def _trimmed(tokens_BT: Tensor) -> Tensor:
    """Leave out columns at the end that are padding in every row."""
    lengths_B = (
        (tokens_BT != PAD_ID) * torch.arange(1, tokens_BT.shape[1] + 1, device=tokens_BT.device)
    ).amax(1)
    return tokens_BT[:, : int(lengths_B.max())]
