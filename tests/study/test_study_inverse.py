from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from kleiber.cost import find_device
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, UsageError
from kleiber.models.gpt import GPTSpec
from kleiber.runs import ParamCount, Row
from kleiber.scaling import PUBLISHED_LAWS, Law, fit, optimum
from kleiber.study.budget import Budget
from kleiber.study.fitting import peak_bytes
from kleiber.study.inverse import find
from kleiber.study.optimum import Optimum

H100, A100, CPU = find_device("h100-sxm"), find_device("a100-80gb"), find_device("cpu")
USAGE = Usage(batch_size=8, precision="bf16")
BESIROGLU = PUBLISHED_LAWS["besiroglu"].coefficients


def found(
    device=H100, usage: Usage = USAGE, context: int = 2048, vocab_size: int = 32_768, **limits
) -> Optimum:
    options = {
        key: limits.pop(key)
        for key in ("law", "size", "usd_per_hour", "flops_per_s", "memory_of")
        if key in limits
    }
    return find(
        Budget(**limits), device=device, usage=usage, vocab_size=vocab_size, context=context, **options
    )


def small_law(convention: str = "total") -> Law:
    random = np.random.default_rng(0)
    rows = [
        Row(
            run=f"{n}-{d}", trunk=f"{n}", num_tokens=d, eval_hash=None,
            num_params=ParamCount(embedding=n // 3, body=n, head=0, is_tied=True),
            loss=float((1.5 + 40 * n**-0.3 + 400 * d**-0.35) * np.exp(random.normal(0, 0.002))),
        )
        for n in (30_000, 100_000, 300_000, 1_000_000) for d in (1e6, 4e6, 1.6e7)
    ]  # fmt: skip
    return fit(rows, convention=convention, num_bootstrap=100)


def test_chinchillas_budget_buys_chinchilla() -> None:
    answer = found(flops=5.76e23)
    plain = optimum(BESIROGLU, 5.76e23)
    # Attention and a count of matrix products instead of 6 N D move it by little at this size.
    assert answer.best.num_params.total == pytest.approx(plain.num_params, rel=0.02)
    assert answer.best.num_tokens == pytest.approx(1.4e12, rel=0.1)
    assert answer.best.train_flops == pytest.approx(5.76e23)
    assert answer.best.train_flops == pytest.approx(
        answer.best.spec.flops(1, 2048).total / 2048 * answer.best.num_tokens, rel=1e-9
    )
    assert answer.best.loss == pytest.approx(
        BESIROGLU.loss(answer.best.num_params.total, answer.best.num_tokens)
    )
    assert (answer.limit, answer.law, answer.convention) == ("flops", "besiroglu", "total")
    assert answer.size_exponent == pytest.approx(0.513, abs=1e-3)


def test_hours_become_operations_by_the_assumed_part_of_the_peak() -> None:
    best = found(hours=72.0, num_devices=8).best
    assert best.train_flops == pytest.approx(0.4 * H100.peak("bf16")[1] * 8 * 72 * 3600)
    assert best.time_s == pytest.approx(72 * 3600)


def test_money_buys_the_hours_that_it_pays_for() -> None:
    best = found(A100, usd=100.0, usd_per_hour=2.0).best
    assert best.time_s == pytest.approx(50 * 3600)
    assert best.usd == pytest.approx(100.0)


def test_the_tightest_limit_binds() -> None:
    assert found(hours=1.0, flops=1e24).limit == "hours"
    assert found(hours=1e6, flops=1e20).limit == "flops"
    both = found(usd=3.0, hours=50.0, usd_per_hour=1.0)
    assert (both.limit, both.best.time_s) == ("usd", pytest.approx(3 * 3600))


def test_each_size_is_trained_at_its_own_rate() -> None:
    def rate(spec: GPTSpec) -> float:  # small models do not fill the device
        return 4e14 * spec.width / (spec.width + 2000)

    best = found(hours=10.0, flops_per_s=rate).best
    assert best.train_flops == pytest.approx(36_000 * rate(best.spec))
    spent = 36_000 * rate(best.spec)
    # The same operations at an even rate buy a smaller best size: here size buys speed as well.
    assert best.num_params.total > 1.05 * found(flops=spent).best.num_params.total


def test_serving_makes_it_smaller_and_longer_and_stays_within_the_budget() -> None:
    plain, served = found(flops=1e22).best, found(flops=1e22, inference_tokens=1e12).best
    assert served.num_params.total < 0.6 * plain.num_params.total
    assert served.num_tokens > 1.2 * plain.num_tokens
    assert served.train_flops + served.inference_flops == pytest.approx(1e22)
    assert served.inference_flops == pytest.approx(served.spec.flops(1, 2048).forward / 2048 * 1e12)


def test_the_best_is_better_than_its_neighbours_on_the_same_budget() -> None:
    answer = found(flops=1e20)
    assert [choice.worse_frac for choice in answer.near][3] == pytest.approx(0, abs=1e-12)
    assert len(answer.near) == 7
    assert all(choice.loss >= answer.near[3].loss for choice in answer.near)
    for depth in (answer.best.spec.depth - 4, answer.best.spec.depth + 4):
        spec = GPTSpec.from_dial({"depth": depth}, 32_768, 2048)
        tokens = 1e20 / (spec.flops(1, 2048).total / 2048)
        assert BESIROGLU.loss(spec.count().total, tokens) > answer.best.loss


def test_the_flat_ranges_hold_each_other_and_the_best() -> None:
    answer = found(flops=1e20)
    (tenth_low, tenth_high), (half_low, half_high) = (one.num_params for one in answer.flat)
    assert half_low < tenth_low < answer.best.num_params.total < tenth_high < half_high
    assert [one.worse_frac for one in answer.flat] == [0.001, 0.005]


def test_what_does_not_fit_comes_with_the_largest_that_does() -> None:
    answer = found(flops=5.76e23)
    assert answer.best.fits is False
    assert answer.fitting is not None
    assert answer.fitting.fits is True
    assert answer.fitting.memory_bytes <= 80e9 < answer.best.memory_bytes
    assert answer.fitting.num_tokens > answer.best.num_tokens
    assert answer.fitting.train_flops == pytest.approx(5.76e23)
    assert answer.room is not None
    assert answer.room.spec == answer.fitting.spec
    assert any("It does not fit" in sentence for sentence in answer.assumptions)
    assert any("its loss is" in sentence and "% higher" in sentence for sentence in answer.assumptions)


def test_what_fits_needs_no_other() -> None:
    answer = found(hours=1.0)
    assert (answer.best.fits, answer.fitting) == (True, None)


def test_room_is_the_most_of_each() -> None:
    answer = found(hours=1.0, memory_bytes=24e9)
    assert answer.room is not None
    spec, room = answer.best.spec, answer.room

    def peak(samples: int, context: int) -> float:
        return peak_bytes(
            spec.model_copy(update={"context": context}), Usage(batch_size=samples, precision="bf16")
        )

    assert peak(room.micro_batch, 2048) <= 24e9 < peak(room.micro_batch + 1, 2048)
    assert peak(8, room.context) <= 24e9 < peak(8, room.context + 1)


def test_memory_alone_gives_the_largest_and_its_own_tokens() -> None:
    answer = found(memory_bytes=24e9)
    assert answer.limit == "memory"
    assert answer.best.fits is True
    assert answer.best.memory_bytes <= 24e9
    size = answer.best.num_params.total
    assert optimum(BESIROGLU, 6.0 * size * answer.best.num_tokens).num_params == pytest.approx(size, rel=1e-6)
    assert found(memory_bytes=24e9, inference_tokens=1e12).best.num_tokens > answer.best.num_tokens


def test_memory_may_be_told_by_the_caller() -> None:
    answer = found(flops=1e20, memory_bytes=1e9, memory_of=lambda spec, usage: 4.0 * spec.count().total)
    assert answer.best.fits is False
    assert answer.fitting is not None
    assert answer.fitting.num_params.total == pytest.approx(2.5e8, rel=0.05)


def test_without_a_memory_size_nothing_is_said_of_it() -> None:
    answer = found(CPU, usage=Usage(batch_size=8), hours=1.0)
    assert (answer.best.fits, answer.room, answer.memory_limit_bytes) == (None, None, None)
    assert answer.best.usd is None
    assert any("Whether it fits is not known" in sentence for sentence in answer.assumptions)


def test_a_fitted_law_gives_intervals_of_loss_and_optimum() -> None:
    law = small_law()
    answer = found(CPU, Usage(), context=128, vocab_size=1024, flops=1e14, law=law)
    best, intervals = answer.best, answer.intervals
    assert answer.law == law.hash
    assert best.interval_80 is not None
    assert best.interval_80[0] < best.loss < best.interval_80[1]
    assert intervals is not None
    assert intervals.size_95[0] < intervals.size_80[0] < best.num_params.total < intervals.size_80[1]
    assert intervals.tokens_95[0] < best.num_tokens < intervals.tokens_95[1]


@pytest.mark.parametrize("convention", ["body", "matmul"])
def test_n_is_what_the_law_counts(convention) -> None:
    law = small_law(convention)
    answer = found(CPU, Usage(), context=128, vocab_size=1024, flops=1e14, law=law)
    best, size = answer.best, answer.best.num_params.by(convention)
    assert best.loss == pytest.approx(law.predict(size, best.num_tokens).loss, rel=1e-6)
    # The point of the curve is the spec that was built of it, as nearly as the dial can.
    assert size == pytest.approx(answer.near[3].num_params, rel=0.1)


def test_published_laws_have_no_intervals() -> None:
    answer = found(flops=1e20)
    assert (answer.intervals, answer.best.interval_80) == (None, None)


def test_far_from_the_laws_runs_it_says_so() -> None:
    says = found(flops=5.76e23).assumptions
    assert any("fitted on 57.0 M to 16.2 B parameters; this is 4.5 times above" in one for one in says)
    assert any("times below" in one for one in found(flops=1e16).assumptions)
    assert not any("times above" in one or "times below" in one for one in found(flops=1e20).assumptions)


def test_a_tiny_budget_takes_the_smallest_there_is_and_says_so() -> None:
    answer = found(flops=2e11)
    assert (answer.best.spec.depth, answer.best.spec.width) == (1, 16)
    assert any("smallest gpt with this vocabulary" in one for one in answer.assumptions)


def test_a_budget_too_small_for_anything_says_what_the_smallest_needs() -> None:
    with pytest.raises(UsageError) as raised:
        found(usd=1e-9, usd_per_hour=3.0)
    message = str(raised.value)
    assert "A budget of 1e-09 USD is too small for any gpt" in message
    # 6 operations for each of 527,616 weights and 196,608 of attention a token, 16,384 times.
    assert "528 K parameters with a vocabulary of 32768, needs 55.1 GFLOP or " in message
    assert "USD for one step of 16.4 K tokens" in message
    with pytest.raises(UsageError, match=r"needs 55\.1 GFLOP for one step"):
        found(flops=1e10)
    with pytest.raises(
        UsageError, match=r"needs .* or 47 min 12 s for one step of 16\.4 K tokens and serving 1\.00 T"
    ):
        found(hours=1e-9, inference_tokens=1e12)


def test_a_memory_too_small_for_anything_says_what_the_smallest_needs() -> None:
    with pytest.raises(
        UsageError, match=r"No gpt fits in 1\.00 MB: the smallest, 528 K .*, needs .* 8 x 2048 tokens"
    ):
        found(memory_bytes=1e6)
    with pytest.raises(UsageError, match=r"No gpt fits in 1\.00 MB"):
        found(hours=1.0, memory_bytes=1e6)


def test_money_needs_a_price() -> None:
    with pytest.raises(UsageError, match="--budget-usd needs a price, and cpu has none"):
        found(CPU, usage=Usage(), usd=10.0)


def test_serving_is_not_paid_by_a_training_budget() -> None:
    with pytest.raises(UsageError, match=r"A budget is spent on training.*Got 'mode infer'"):
        found(usage=Usage(mode="infer"), flops=1e20)


def test_an_unknown_law() -> None:
    with pytest.raises(UsageError, match="'kaplan' is no published law"):
        found(flops=1e20, law="kaplan")


def test_a_device_without_that_precision() -> None:
    with pytest.raises(RecipeError, match="no peak for this dtype"):
        found(CPU, flops=1e20)


def test_keys_of_the_dial_are_kept() -> None:
    spec = found(flops=1e20, size={"head_dim": 128}).best.spec
    assert spec.head_dim == 128
    assert found(flops=1e20, size={"num_heads": 7}).best.spec.num_heads == 7


def test_it_reads_back_what_it_wrote() -> None:
    answer = found(flops=1e22, inference_tokens=1e10)
    assert Optimum.of(json.loads(answer.to_json()), "the answer", RecipeError) == answer


def test_it_answers_without_torch_and_scipy() -> None:
    code = (
        "import sys, time; from kleiber.study.inverse import find; from kleiber.study.budget import Budget;"
        "import kleiber.study.layout_ranking; from kleiber.cost import find_device;"
        "from kleiber.cost.usage import Usage; device = find_device('h100-sxm'); start = time.process_time();"
        "find(Budget(usd=1e6, num_devices=64), device=device, usage=Usage(batch_size=512, precision='bf16'),"
        " vocab_size=128_000, context=8192); print(time.process_time() - start);"
        "assert not {'torch', 'scipy', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3
