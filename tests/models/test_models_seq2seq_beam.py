from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.errors import UsageError
from kleiber.models import build, save
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.models.seq2seq.beam import generate
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.runs import DataShape


def reversing_model(num_steps: int, vocab_size: int = 12, context: int = 8, **size: object) -> Seq2Seq:
    """A model that has begun to learn to write sources backwards: unsure, and of targets that end."""
    shape = DataShape(inputs="pairs", vocab_size=vocab_size, context=context)
    spec = Seq2SeqSpec.of_size({"depth": 1, "width": 32, "dropout": 0.0} | size, shape)
    module = build(spec)
    assert isinstance(module, Seq2Seq)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        source, target = examples(32, vocab_size, context, generator)
        read = F.pad(target, (1, 0))
        loss = F.cross_entropy(module(source, read).flatten(0, 1), F.pad(target, (0, 1)).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def examples(
    num: int, vocab_size: int, context: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.randint(1, vocab_size, (num, context), generator=generator)
    target = torch.zeros_like(source)
    for row in range(num):
        length = int(torch.randint(2, context + 1, (), generator=generator))
        source[row, length:] = 0
        target[row, :length] = source[row, :length].flip(0)
    return source, target


def score(module: Seq2Seq, source_1S: torch.Tensor, tokens: list[int], length_penalty: float) -> float:
    """Sum of logarithmic probabilities over the length to a power; the end is a token of its own."""
    read = torch.tensor([[0, *tokens[:-1]]])
    log_probs = module(source_1S, read)[0].log_softmax(-1)
    total = sum(log_probs[step, token].item() for step, token in enumerate(tokens))
    return total / len(tokens) ** length_penalty


@pytest.mark.parametrize("is_pre_norm", [True, False])
@torch.no_grad()
def test_targets_are_those_of_transformers(tmp_path: Path, is_pre_norm: bool) -> None:
    transformers = pytest.importorskip("transformers")
    with torch.enable_grad():
        module = reversing_model(60, is_pre_norm=is_pre_norm).eval()
    save(module, module.spec, tmp_path)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    source, _ = examples(24, 12, 8, torch.Generator().manual_seed(5))
    written = {}
    for beam_size, length_penalty, max_tokens in itertools.product((1, 2, 5), (1.0, 0.0, 2.0), (8, 4)):
        extra = {} if beam_size == 1 else {"length_penalty": length_penalty, "early_stopping": False}
        expected = theirs.generate(
            input_ids=source, attention_mask=(source != 0).long(), num_beams=beam_size, do_sample=False,
            max_new_tokens=max_tokens, **extra,
        )[:, 1:]  # fmt: skip
        ours = generate(
            module, source, beam_size=beam_size, max_tokens=max_tokens, length_penalty=length_penalty
        )
        padded = F.pad(ours, (0, expected.shape[1] - ours.shape[1]))
        assert torch.equal(padded, expected), (beam_size, length_penalty, max_tokens)
        written[beam_size, length_penalty] = ours
    # The cases are not all alike: lengths differ within a batch, and beams find other targets than greed does.
    assert len({int(length) for length in (written[5, 1.0] != 0).sum(1)}) > 1
    assert not torch.equal(written[1, 1.0], written[5, 0.0])


@torch.no_grad()
def test_a_beam_of_everything_finds_the_best_target_of_all() -> None:
    with torch.enable_grad():
        module = reversing_model(15, vocab_size=3, context=3).eval()
    source = torch.tensor([[1, 2, 0], [2, 1, 1]])
    for row in source:
        ended = [[*head, 0] for length in range(3) for head in itertools.product((1, 2), repeat=length)]
        candidates = ended + [list(tokens) for tokens in itertools.product((1, 2), (1, 2), (0, 1, 2))]
        candidates = [list(tokens) for tokens in {tuple(tokens) for tokens in candidates}]
        best = max(candidates, key=lambda tokens: score(module, row[None], tokens, 1.0))
        ours = generate(module, row[None], beam_size=40, max_tokens=3)[0].tolist()
        assert [token for token in ours if token] == [token for token in best if token]


def test_a_learnt_task_is_written_right() -> None:
    module = reversing_model(250, vocab_size=6, context=4, num_heads=4)
    source, target = examples(40, 6, 4, torch.Generator().manual_seed(9))
    for beam_size in (1, 3):
        ours = generate(module, source, beam_size=beam_size)
        rights = [
            torch.equal(F.pad(row, (0, 4))[:4], expected) for row, expected in zip(ours, target, strict=True)
        ]
        assert sum(rights) >= 30  # by chance none


@torch.no_grad()
def test_one_source_alone_or_among_others_gives_the_same_target() -> None:
    with torch.enable_grad():
        module = reversing_model(40)
    source, _ = examples(6, 12, 8, torch.Generator().manual_seed(7))
    for beam_size in (1, 3):
        together = generate(module, source, beam_size=beam_size)
        for row in range(6):
            alone = generate(module, source[row : row + 1], beam_size=beam_size)[0]
            assert torch.equal(F.pad(alone, (0, together.shape[1] - len(alone))), together[row])


def test_the_mode_of_the_module_is_kept() -> None:
    module = reversing_model(1, dropout=0.5)
    source = torch.tensor([[1, 2, 3]])
    assert module.training
    one, same = (generate(module, source, beam_size=2) for _ in range(2))
    assert torch.equal(one, same)
    assert module.training
    with pytest.raises(UsageError, match="at most 9 tokens"):
        generate(module, torch.ones(1, 20, dtype=torch.long))
    assert module.training


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1. Got 0"),
        ({"max_tokens": 0}, "max_tokens must be between 1 and 8. Got 0"),
        ({"max_tokens": 9}, "max_tokens must be between 1 and 8. Got 9"),
    ],
)
def test_absurd_searches_are_refused(asked: dict[str, int], message: str) -> None:
    module = reversing_model(0)
    with pytest.raises(UsageError, match=message):
        generate(module, torch.tensor([[1, 2, 3]]), **asked)
