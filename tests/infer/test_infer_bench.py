from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benching import SPEC, brief, tiny_model

from kleiber.cost.engine_times import EngineCall, EngineTimes, load_engine_times
from kleiber.cost.measured_call import Limits, WorkingSet
from kleiber.errors import MissingExtraError, UsageError
from kleiber.infer.bench import add_to_ledgers, bench, compared
from kleiber.infer.bench.bench import _names
from kleiber.infer.bench.candidates import PromptShape, open_candidates, prompt_shape
from kleiber.infer.bench.decoder_module import DecoderModule
from kleiber.infer.bench.first_samples import FirstSamples
from kleiber.infer.bench.limits import PeakMeter, ReadMeter, peak_meters, working_sets
from kleiber.infer.bench.model import open_benched
from kleiber.infer.bench.quality import measured_quality
from kleiber.infer.measure import TextCalls
from kleiber.infer.measure.ratio import quantile_estimate
from kleiber.infer.text_model import open_text_model
from kleiber.models import load
from kleiber.runs import Estimate, RunFolder
from kleiber.runs.bench_result import BenchResult, BenchSettings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def result(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = bench([tiny], brief(engines=("torch", "onnxruntime"), precisions=("stored", "int8")))
        assert {(one.engine, one.kind) for one in load_engine_times().calls} == {
            (engine, kind) for engine in ("torch", "onnxruntime") for kind in ("prefill", "decode")
        }
    return found


def test_every_engine_and_precision_has_every_call_at_every_batch(result: BenchResult) -> None:
    assert [row.title for row in result.rows] == [
        "torch stored", "onnxruntime stored", "torch int8", "onnxruntime int8",
    ]  # fmt: skip
    for row in result.rows:
        assert [(call.kind, call.batch, call.num_tokens) for call in row.calls] == [
            ("prefill", 1, 8), ("prefill", 2, 8), ("decode", 1, 4), ("decode", 2, 4),
        ]  # fmt: skip
        assert row.calls[0].num_timed == 2
        assert row.calls[2].num_timed == 8
        for call in row.calls:
            assert 0 < call.p50_s.low <= call.p50_s.value <= call.p95_s.value <= call.p99_s.value
            assert call.limit_s > 0
            assert call.flops > 0
    assert result.reference == "tiny, torch stored"
    reference = result.rows[0].call("decode", 1)
    assert reference is not None
    assert reference.gain == Estimate(value=1.0, low=1.0, high=1.0)


def test_rows_count_in_their_precision_and_the_fastest_is_one_of_each_call(result: BenchResult) -> None:
    read = [row.calls[2].read_bytes for row in result.rows]
    assert read[0] == read[1] > 2 * read[2] == 2 * read[3]
    for kind in ("prefill", "decode"):
        for batch in (1, 2):
            calls = [row.call(kind, batch) for row in result.rows]
            fastest = [one for one in calls if one and one.is_fastest]
            assert len(fastest) == 1
            assert fastest[0].p50_s.value == min(one.p50_s.value for one in calls if one)


def test_a_model_without_a_run_is_measured_without_quality_and_says_so(result: BenchResult) -> None:
    assert all(row.quality == () and row.passes is None for row in result.rows)
    assert "Quality of tiny was not measured: a model without a run has no data." in result.says
    assert any("never calibrated" in sentence for sentence in result.says)
    assert result.models[0].notes == ("Its inputs are made up.",)


def test_the_document_is_read_back(result: BenchResult, tmp_path: Path) -> None:
    result.write(tmp_path / "bench.json")
    assert BenchResult.read(tmp_path / "bench.json") == result


def test_memory_and_load_time_are_of_a_fresh_process(tiny: Path) -> None:
    found = bench([tiny], brief(batches=(1,), has_memory=True)).rows[0]
    assert found.load_s is not None
    assert found.load_s > 0
    assert found.peak_memory_bytes is not None
    assert found.peak_memory_bytes > 4 * SPEC.count().total


def test_tokens_that_do_not_fit_are_refused(tiny: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a prompt of 30 tokens and 4 after it do not fit into a context of 32"
    ):
        bench([tiny], brief(prompt_tokens=30))
    assert prompt_shape(32, BenchSettings(num_threads=1)) == PromptShape(16, 16)
    assert prompt_shape(32, BenchSettings(num_threads=1, new_tokens=4)) == PromptShape(28, 4)


def test_unknown_names_are_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'opnvino'\. Did you mean 'openvino'"):
        bench([tiny], brief(engines=("opnvino",)))
    with pytest.raises(UsageError, match=r"unknown precision 'int9'\. Did you mean 'int"):
        bench([tiny], brief(precisions=("int9",)))
    with pytest.raises(UsageError, match="a benchmark needs a model"):
        bench([], brief())


def test_a_model_is_named_once_and_by_its_path_where_names_are_the_same() -> None:
    assert _names([Path("a/x"), Path("b/y")]) == ("x", "y")
    assert _names([Path("a/x"), Path("b/x")]) == ("a/x", "b/x")
    with pytest.raises(UsageError, match=r"a model is named twice\. Got 'a/x a/x'"):
        _names([Path("a/x"), Path("a/x")])


def test_an_engine_that_is_missing_is_left_out_unless_it_was_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_benched(tiny, name="tiny")
    monkeypatch.setattr("kleiber.infer.bench.candidates.ENGINES", ("torch", "openvino"))

    def refuse(*_: object, engine: str, **__: object) -> object:
        if engine == "openvino":
            raise MissingExtraError.of("openvino", "openvino", "The engine openvino")
        return open_text_model(tiny, engine="torch", num_threads=1)

    monkeypatch.setattr("kleiber.infer.bench.opening.open_text_model", refuse)
    found, left_out = open_candidates([model], brief(engines=()), tmp_path)
    assert [one.title for one in found] == ["tiny, torch stored"]
    assert [(one.engine, one.reason[:35]) for one in left_out] == [
        ("openvino", "The engine openvino needs the packa")
    ]
    with pytest.raises(MissingExtraError, match="The engine openvino needs the package 'openvino'"):
        open_candidates([model], brief(engines=("openvino",)), tmp_path)


def test_an_engine_that_breaks_is_left_out_with_its_reason(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("no kernel\nstack")

    monkeypatch.setattr("kleiber.infer.bench.opening.open_text_model", fail)
    with pytest.raises(UsageError, match="nothing can be measured: the engine torch failed: no kernel"):
        open_candidates([open_benched(tiny, name="tiny")], brief(), tmp_path)


def test_a_decoder_as_a_module_answers_as_the_model_does(tiny: Path) -> None:
    module, _ = load(tiny)
    tokens_BT = torch.from_numpy(np.random.default_rng(0).integers(0, 300, (2, 9)))
    with torch.no_grad():
        expected = module(tokens_BT)
    for engine in ("torch", "onnxruntime"):
        answering = DecoderModule(open_text_model(tiny, engine=engine, num_threads=1).decoder)
        torch.testing.assert_close(answering(tokens_BT), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(answering(tokens_BT[:, :1]), expected[:, :1], atol=1e-4, rtol=1e-4)


def test_calls_are_refused_where_the_context_is_short(tiny: Path) -> None:
    decoder = open_text_model(tiny, engine="torch", num_threads=1).decoder
    with pytest.raises(UsageError, match="30 tokens and 3 after them do not fit into a context of 32"):
        TextCalls(decoder, np.zeros((1, 30), np.int64), 3)


def test_quantiles_of_all_rounds_with_an_interval_of_whole_rounds() -> None:
    times_RN = np.array([[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
    found = quantile_estimate(times_RN, 0.5)
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)


def test_working_sets_are_shared_by_sizes_that_are_near() -> None:
    near = working_sets([1e6, 1.02e6])
    assert len(near) == 1
    assert near[0] == pytest.approx(1e6, rel=0.1)
    assert len(working_sets([1e6, 2e6])) == 2


def test_meters_measure_something() -> None:
    assert ReadMeter(1 << 20, 1).turn() > 1e8
    meters = peak_meters(("torch",), ("fp32",), 1)
    assert list(meters) == [("fp32", "torch")]
    assert meters["fp32", "torch"].turn() > 1e8
    assert PeakMeter.flops == 2 * 3 * 512 * 1024 * 1024


@pytest.fixture(scope="module")
def trained(train_once: Callable[..., Path]) -> Path:
    return train_once(
        "model.family=mlp", "model.depth=1", "model.width=16", "task.name=classification", "data.source=digits",
        "train.batch_size=64", "train.num_steps=30",
    )  # fmt: skip


def test_quality_is_paired_and_what_is_lost_is_gated(trained: Path, tmp_path: Path) -> None:
    settings = brief(engines=("torch", "onnxruntime"), precisions=("stored", "int8"), quality_samples=50)
    model = open_benched(trained, name="digits")
    candidates, _ = open_candidates([model], settings, tmp_path)
    exact, same, rounded, _ = measured_quality(candidates, settings)
    assert exact.loss == Estimate(value=0.0, low=0.0, high=0.0)
    assert exact.changes[0].name == "accuracy"
    assert same.passes
    assert same.loss is not None
    assert same.loss.value == pytest.approx(0.0, abs=1e-9)
    assert rounded.changes[1].difference.value != 0  # of the loss: rounding moves it a little
    harsh = settings.model_copy(update={"max_quality_loss": 1e-12})
    lossy = [one for one in measured_quality(candidates, harsh) if one.loss and one.loss.value > 1e-12]
    assert not any(one.passes for one in lossy)


def test_the_first_samples_end_where_they_are_asked_to(trained: Path) -> None:
    data = open_benched(trained, name="digits").data
    assert data is not None
    few = FirstSamples(data, 10)
    batches = list(few.batches("val", 0, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert batches[-1].cursor == few.meta.num_val_tokens == 10
    whole = next(iter(data.batches("val", 0, 10)))
    joined = (
        np.concatenate([batch.arrays["features"] for batch in batches])
        if "features" in whole.arrays
        else None
    )
    if joined is not None:
        np.testing.assert_array_equal(joined, whole.arrays["features"])


def test_predictions_stand_in_the_ledger_once(result: BenchResult, trained: Path) -> None:
    call = result.rows[0].calls[0].model_copy(update={"predicted_s": 0.5, "predicted_by": "engine"})
    row = result.rows[0].model_copy(update={"calls": (call,)})
    models = (result.models[0].model_copy(update={"path": str(trained)}),)
    told = result.model_copy(update={"rows": (row,), "models": models})
    before = len(RunFolder(trained).read_ledger())
    for _ in range(2):
        assert add_to_ledgers(told) == (RunFolder(trained).ledger_path,)
    entries = RunFolder(trained).read_ledger()
    assert len(entries) == before + 1
    assert (entries[-1].quantity, entries[-1].predicted, entries[-1].subject) == (
        "latency_s", 0.5, "prefill of 8 tokens, torch stored, batch 1",
    )  # fmt: skip
    assert add_to_ledgers(result) == ()


def test_two_benchmarks_side_by_side(result: BenchResult) -> None:
    pairs = compared(result, result)
    assert len(pairs) == 16
    for one in pairs:
        assert one.ratio.value == 1.0
        assert one.ratio.low <= 1.0 <= one.ratio.high
    renamed = result.model_copy(
        update={
            "models": (result.models[0].model_copy(update={"name": "copy"}),),
            "rows": tuple(row.model_copy(update={"model": "copy"}) for row in result.rows[:1]),
        }
    )
    assert [one.engine for one in compared(result, renamed)] == ["torch"] * 4
    with pytest.raises(UsageError, match="have no call in common"):
        compared(result, result.model_copy(update={"rows": ()}))


def engine_call(depth: int, flops: float, read_bytes: float, time_s: float = 0.0) -> EngineCall:
    return EngineCall(
        engine="openvino", precision="fp32", kind="decode", family="gpt", num_threads=1, depth=depth, flops=flops,
        read_bytes=read_bytes, time_s=time_s,
    )  # fmt: skip


def test_engine_times_predict_other_sizes_by_layers_reading_and_products() -> None:
    limits = Limits(
        peak_flops_per_s={"fp32": 1e11}, bandwidth=(WorkingSet(num_bytes=1, bytes_per_s=1e10),), call_s=1e-6
    )

    def truth(depth: int, flops: float, read_bytes: float) -> float:
        return 5e-6 * depth + 1.25 * read_bytes / 1e10 + 2 * flops / 1e11

    shapes = [(2, 1e7, 2e7), (4, 4e7, 5e7), (6, 1e8, 9e7), (12, 2e8, 4e8)]
    times = EngineTimes().with_calls(tuple(engine_call(*one, truth(*one)) for one in shapes[:2]))
    asked = (8, 1.5e8, 1.2e8)
    assert times.time_s(engine_call(*asked), limits) is None  # two sizes say too little
    times = times.with_calls(tuple(engine_call(*one, truth(*one)) for one in shapes))
    assert len(times.calls) == 4
    assert times.time_s(engine_call(*asked), limits) == pytest.approx(truth(*asked), rel=1e-6)
    other = engine_call(*asked).model_copy(update={"engine": "torch"})
    assert times.time_s(other, limits) is None


def test_a_size_is_not_predicted_by_its_own_measurement() -> None:
    limits = Limits(
        peak_flops_per_s={"fp32": 1e11}, bandwidth=(WorkingSet(num_bytes=1, bytes_per_s=1e10),), call_s=1e-6
    )
    shapes = [(2, 1e7, 2e7), (4, 4e7, 5e7), (6, 1e8, 9e7)]
    known = tuple(engine_call(*one, 1.25 * one[2] / 1e10) for one in shapes)
    wrong = engine_call(12, 2e8, 4e8, 99.0)
    times = EngineTimes(calls=(*known, wrong))
    assert times.time_s(engine_call(12, 2e8, 4e8), limits) == pytest.approx(0.05, rel=1e-6)


def test_operations_are_off_by_as_much_as_at_other_sizes() -> None:
    def torch_call(size: float, factor: float, calibrated_at: str = "now") -> EngineCall:
        return engine_call(4, size, size, 2.0 * factor).model_copy(
            update={"engine": "torch", "by_operations_s": 2.0, "calibrated_at": calibrated_at}
        )

    asked = torch_call(2**24, 1.0)
    known = tuple(torch_call(2.0**size, 1.2) for size in (20, 22, 26))
    assert EngineTimes(calls=known[:2]).operations_factor(asked) == 1.0  # two sizes say too little
    assert EngineTimes(calls=known).operations_factor(asked) == pytest.approx(1.2)
    # Its own measurement, those of another calibration and those of other engines are left aside.
    others = (torch_call(2**24, 9.0), torch_call(2**23, 9.0, "then"), engine_call(4, 2**25, 2**25, 9.0))
    assert EngineTimes(calls=(*known, *others)).operations_factor(asked) == pytest.approx(1.2)
    # A size an octave away counts for more than one four octaves away: weights of 1/2, 1/2 and 1/17.
    uneven = (torch_call(2**23, 1.2), torch_call(2**25, 1.2), torch_call(2**20, 1.0))
    assert EngineTimes(calls=uneven).operations_factor(asked) == pytest.approx(1.2 ** (17 / 18))
    # What is off by more was disturbed.
    wild = tuple(torch_call(2.0**size, 3.0) for size in (20, 22, 26))
    assert EngineTimes(calls=wild).operations_factor(asked) == 1.25


def test_more_engines_than_memory_holds_are_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_benched(tiny, name="tiny")
    needed = 2 * 2 * 4 * model.document.num_params  # two engines, two copies of each
    monkeypatch.setattr("kleiber.infer.bench.candidates.free_memory_bytes", lambda: needed - 1)
    with pytest.raises(
        UsageError, match=r"2 engines and precisions are open at once and need about .* are free\."
    ):
        open_candidates([model], brief(engines=("torch", "onnxruntime")), tmp_path)
    monkeypatch.setattr("kleiber.infer.bench.candidates.free_memory_bytes", lambda: needed)
    found, _ = open_candidates([model], brief(engines=("torch", "onnxruntime")), tmp_path)
    assert len(found) == 2


def test_a_file_of_llamacpp_is_no_folder_of_a_model() -> None:
    with pytest.raises(UsageError, match=r"x\.gguf is a file of llama\.cpp, whose calls cannot be counted"):
        open_benched(Path("x.gguf"), name="x")
