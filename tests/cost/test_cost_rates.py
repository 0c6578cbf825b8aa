"""Times of calls and steps from measured rates: by hand, and by properties."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost import Calibration, load_calibration
from kleiber.cost.call_time import CallTimes
from kleiber.cost.measured_call import Limits, MeasuredCall, WorkingSet
from kleiber.cost.operations import OPERATION_KINDS, Operation
from kleiber.cost.rates import DiskRates, ProcessorRates, Rates, fresh_bytes, mean_moved_bytes
from kleiber.errors import RunFolderError, UsageError

# 1e11 FLOP/s in fp32, twice that in bf16; 1e10 B/s whatever the working set; a microsecond a call.
LIMITS = Limits(
    peak_flops_per_s={"fp32": 1e11, "bf16": 2e11},
    bandwidth=(WorkingSet(num_bytes=1, bytes_per_s=1e10),),
    call_s=1e-6,
)


def product(rows, columns, inner, *, batch=1, dtype="fp32", phase="forward", name="mm", num_calls=1):
    flops = 2 * batch * rows * columns * inner
    moved = 4 * batch * (rows * inner + inner * columns + rows * columns)
    return Operation(
        name, "matmul", phase, "fc", (batch, rows, columns, inner), flops, moved, dtype, num_calls
    )


def add(num_values, *, name="add", num_calls=1, phase="forward"):
    return Operation(
        name, "elementwise", phase, "act", (num_values,), 0, 12 * num_values, num_calls=num_calls
    )


def slowed(operations, slowness):
    """Return measurements of calls that took `slowness` times what the limits suggest."""
    return [MeasuredCall.timed(op, slowness * LIMITS.least_s(op)) for op in operations]


def test_limits_by_hand():
    # 2 * 1000^3 / 1e11 = 20 ms of arithmetic, 12 MB / 1e10 = 1.2 ms of memory.
    assert LIMITS.parts(product(1000, 1000, 1000)) == pytest.approx((0.02, 0.0012, 1e-6))
    assert LIMITS.least_s(product(1000, 1000, 1000)) == pytest.approx(0.020001)
    assert LIMITS.least_s(product(1000, 1000, 1000, dtype="bf16")) == pytest.approx(0.010001)
    # A product of two vectors is bound by memory: 4 * (1000 + 1000 + 1e6) / 1e10.
    assert LIMITS.least_s(product(1000, 1000, 1)) == pytest.approx(0.0004008 + 1e-6)
    assert LIMITS.least_s(add(0)) == pytest.approx(1e-6)


def test_a_dtype_that_was_not_measured_takes_the_slowest():
    assert LIMITS.peak("fp64") == 1e11


def test_bandwidth_lies_between_the_measured_ones():
    sets = tuple(
        WorkingSet(num_bytes=10**n, bytes_per_s=rate) for n, rate in ((4, 4e10), (6, 1e10), (8, 5e9))
    )
    limits = Limits(peak_flops_per_s={"fp32": 1e11}, bandwidth=sets, call_s=1e-6)
    rates = [limits.bandwidth_at(10.0**n) for n in (1, 4, 5, 6, 7, 8, 12)]
    assert rates == pytest.approx([4e10, 4e10, 2e10, 1e10, 5e9 * math.sqrt(2), 5e9, 5e9])


def test_a_measured_call_takes_what_it_took():
    operation = product(64, 256, 128)
    assert CallTimes(LIMITS, [MeasuredCall.timed(operation, 0.5)]).time_s(operation) == pytest.approx(0.5)


def test_a_call_of_an_unknown_kind_takes_what_the_limits_suggest():
    times = CallTimes(LIMITS, slowed([product(64, 64, 64)], 3))
    assert times.time_s(add(1000)) == pytest.approx(LIMITS.least_s(add(1000)))


def test_an_operation_is_like_itself_and_not_like_its_kind():
    calls = [
        *slowed([add(10_000, name="slow")], 50),
        *slowed([add(n, name="quick") for n in range(1000, 9000)], 1),
    ]
    times = CallTimes(LIMITS, calls[:200])
    assert times.time_s(add(8000, name="slow")) == pytest.approx(50 * LIMITS.least_s(add(8000)))
    assert times.time_s(add(8000, name="quick")) == pytest.approx(LIMITS.least_s(add(8000)))
    # One that was never seen takes after its neighbours.
    assert LIMITS.least_s(add(8000)) < times.time_s(add(8000, name="new")) < 50 * LIMITS.least_s(add(8000))


def test_products_of_one_shape_differ_by_phase():
    shapes = [(64, 64, 64), (128, 128, 128), (256, 256, 256)]
    calls = slowed([product(*shape) for shape in shapes], 1.0)
    calls += slowed([product(*shape, phase="backward") for shape in shapes], 4.0)
    times = CallTimes(LIMITS, calls)
    there, back = product(100, 100, 100), product(100, 100, 100, phase="backward")
    assert times.time_s(there) / LIMITS.least_s(there) < 2 < times.time_s(back) / LIMITS.least_s(back)


def test_a_trend_over_shapes_is_followed_between_measurements():
    # Slowness falls by a factor of two with every octave of the inner size.
    inner = [16, 64, 256, 1024]
    calls = [
        MeasuredCall.timed(product(512, 512, k), 1024 / k * LIMITS.least_s(product(512, 512, k)))
        for k in inner
    ]
    found = CallTimes(LIMITS, calls)
    for k in (32, 128, 512):
        operation = product(512, 512, k)
        assert found.time_s(operation) == pytest.approx(1024 / k * LIMITS.least_s(operation), rel=0.25)


def test_far_from_all_measurements_nothing_is_slower_or_quicker_than_they_were():
    calls = [
        MeasuredCall.timed(product(512, 512, k), 1024 / k * LIMITS.least_s(product(512, 512, k)))
        for k in (256, 1024)
    ]
    times = CallTimes(LIMITS, calls)
    small, large = product(512, 512, 1), product(512, 512, 10**6)
    assert times.time_s(small) <= 4.001 * LIMITS.least_s(small)
    assert times.time_s(large) >= 0.999 * LIMITS.least_s(large)


SIZES = st.integers(1, 4096)


@given(st.lists(st.tuples(SIZES, SIZES, SIZES), min_size=1, max_size=8), st.tuples(SIZES, SIZES, SIZES))
def test_what_is_evenly_slow_is_predicted_evenly_slow(shapes, asked):
    times = CallTimes(LIMITS, slowed([product(*shape) for shape in shapes], 2.5))
    assert times.time_s(product(*asked)) == pytest.approx(2.5 * LIMITS.least_s(product(*asked)))


SHAPES = {
    "matmul": (2, 8, 8, 8),
    "attention": (2, 4, 64, 16),
    "convolution": (2, 24, 10, 10),
    "recurrent": (16, 4, 32),
}


@pytest.mark.parametrize("kind", OPERATION_KINDS)
@pytest.mark.parametrize("shape", [None, (), (3,)])
def test_every_kind_has_a_time_whatever_its_shape(kind, shape):
    operation = Operation("f", kind, "forward", "", SHAPES.get(kind, (8, 8)), 4096, 512)
    odd = Operation("f", kind, "backward", "", SHAPES.get(kind, (9, 8)) if shape is None else shape, 0, 0)
    times = CallTimes(LIMITS, [MeasuredCall.timed(operation, 1e-4)])
    assert 0 < times.time_s(odd) < 1


def test_a_small_call_among_large_ones_is_slow_where_those_were():
    sizes = [100, 1000, 10_000]
    calls = [MeasuredCall.timed(add(n), LIMITS.least_s(add(n)), 10**3) for n in sizes]
    calls += [MeasuredCall.timed(add(n), 5 * LIMITS.least_s(add(n)), 10**7) for n in sizes]
    times = CallTimes(LIMITS, calls)
    slowness = [times.time_s(add(500), among) / LIMITS.least_s(add(500)) for among in (10**3, 10**5, 10**7)]
    assert slowness == sorted(slowness)
    assert slowness[0] < 1.6
    assert slowness[2] > 3.2
    # A step tells its calls what they are among.
    processor = PROCESSOR.model_copy(update={"calls": tuple(calls), "work_factor": 1.0})
    (alone,) = processor.step_time([add(500)]).by_kind
    assert alone.time_s == pytest.approx(times.time_s(add(500), 6000))
    large = product(1000, 1000, 1000)
    among = processor.step_time([add(500), large]).by_kind
    assert among[1].time_s == pytest.approx(times.time_s(add(500), 6_003_000))


def test_what_calls_move_in_the_mean():
    assert mean_moved_bytes([(add(1), 3), (add(5), 1)]) == 24
    assert mean_moved_bytes([]) == 0


def test_causal_attention_is_like_causal_attention():
    def attention(tokens, *, is_causal):
        flops = 4 * 8 * tokens * tokens * 64 // (2 if is_causal else 1)
        return Operation(
            "flash", "attention", "forward", "", (1, 8, tokens, 64), flops, 4 * 8 * tokens * 64 * 4
        )

    calls = slowed([attention(n, is_causal=True) for n in (128, 256, 512)], 3)
    calls += slowed([attention(n, is_causal=False) for n in (128, 256, 512)], 1)
    times = CallTimes(LIMITS, calls)
    for is_causal, slowness in ((True, 3), (False, 1)):
        asked = attention(300, is_causal=is_causal)
        assert times.time_s(asked) / LIMITS.least_s(asked) == pytest.approx(slowness, rel=0.15)


def test_a_measured_call_is_a_line_that_people_read():
    call = MeasuredCall.timed(product(512, 256, 128, name="addmm"), 0.000271234)
    line = call.model_dump(mode="json")
    assert (
        line == "matmul addmm forward fp32 1x512x256x128: 33554432 FLOP, 917504 B among 917504 B, 0.0002712 s"
    )
    assert MeasuredCall.model_validate(line) == call.model_copy(update={"time_s": 0.0002712})
    scalar = MeasuredCall.timed(Operation("div", "elementwise", "forward", "", (), 0, 8), 1e-6)
    assert MeasuredCall.model_validate(scalar.model_dump()) == scalar
    assert scalar.operation == Operation("div", "elementwise", "forward", "", (), 0, 8)


PROCESSOR = ProcessorRates(
    title="A processor, 2 threads",
    limits=LIMITS,
    fresh_page_s_per_byte=1e-10,
    work_factor=1.5,
    gap_s=1e-6,
    check_errors={"a": -0.1, "b": 0.3, "c": 0.02},
    calls=tuple(slowed([product(1000, 1000, 1000)], 2)),
)
RATES = Rates(
    measured_at="2026-01-02T03:04:05.678+00:00",
    torch_version="2",
    cpu={1: PROCESSOR.model_copy(update={"calls": ()}), 4: PROCESSOR},
    disk=DiskRates(write_bytes_per_s=1e9, read_bytes_per_s=2e9),
)


def test_a_step_by_hand():
    operations = [product(1000, 1000, 1000, num_calls=3), add(100_000, num_calls=2), add(1, phase="backward")]
    found = PROCESSOR.step_time(operations)
    # 3 products at twice 20.001 ms; sums of 0.12 ms and a microsecond, and one of a call alone; all 1.5 times.
    products_s = 1.5 * 3 * 2 * 0.020001
    sums_s = 1.5 * (2 * 0.000121 + 1e-6 + 12e-10)
    assert [part.kind for part in found.by_kind] == ["matmul", "elementwise"]
    assert [part.time_s for part in found.by_kind] == pytest.approx([products_s, sums_s])
    assert [part.bound for part in found.by_kind] == ["compute", "bandwidth"]
    # Six calls of 20 ms in the mean; a microsecond and 20 ms have the geometric mean of 141 microseconds.
    between_s = 6 * math.sqrt(1e-6 * (products_s + sums_s) / 1.5 / 6)
    assert found.between_calls_s == pytest.approx(between_s)
    assert found.fresh_pages_s == 0
    assert found.step_time_s == pytest.approx(products_s + sums_s + between_s)


def test_a_kind_of_small_calls_is_bound_by_their_launch():
    (part,) = PROCESSOR.step_time([add(1, num_calls=1000)]).by_kind
    assert part.bound == "launch"


def test_fresh_pages_are_those_of_results_above_the_threshold():
    # Results of 4 MB (twice), 40 MB, 4 MB in place, and one number a tensor of 400 MB.
    operations = [product(1000, 1000, 1000, num_calls=2), add(10**7)]
    operations += [add(10**6, name="add_"), add(10**8, name="_foreach_norm")]
    assert fresh_bytes(operations, 1 << 25) == 4 * 10**7
    assert fresh_bytes(operations, 1 << 16) == 4 * 10**7 + 8 * 10**6
    kept = PROCESSOR.step_time(operations)
    returned = PROCESSOR.step_time(operations, kept_block_bytes=1 << 16)
    assert kept.fresh_pages_s == pytest.approx(4e-3)
    assert returned.step_time_s - kept.step_time_s == pytest.approx(0.8e-3)


@pytest.mark.parametrize(("dtype", "num_bytes"), [("fp32", 4), ("bf16", 2), ("int64", 8), ("bool", 1)])
def test_fresh_pages_count_the_bytes_of_a_dtype(dtype, num_bytes):
    operation = Operation("clone", "copy", "forward", "", (10, 100), 0, 0, dtype)
    assert fresh_bytes([operation], 1) == 1000 * num_bytes


def test_the_gap_between_calls_is_a_geometric_mean():
    assert PROCESSOR.gap_between(1e-4) == pytest.approx(1e-5)


def test_a_step_of_nothing_takes_no_time():
    found = PROCESSOR.step_time([])
    assert (found.step_time_s, found.by_kind) == (0, ())


def test_the_check_is_the_median_of_the_errors():
    assert PROCESSOR.check_error_frac == 0.1
    assert PROCESSOR.model_copy(update={"check_errors": {}}).check_error_frac is None


@pytest.mark.parametrize(("asked", "taken"), [(None, 4), (1, 1), (2, 1), (3, 4), (4, 4), (64, 4)])
def test_of_threads_that_were_not_measured_the_nearest_are_taken(asked, taken):
    assert RATES.processor(asked) is RATES.cpu[taken]
    operation = product(1000, 1000, 1000, num_calls=5)
    slowness = 2 if taken == 4 else 1
    assert RATES.operation_time_s(operation, asked) == pytest.approx(5 * slowness * 0.020001)
    assert RATES.step_time([operation], asked) == RATES.cpu[taken].step_time([operation])


def test_an_answer_reads_its_weights_from_where_the_whole_model_lies():
    sets = (
        WorkingSet(num_bytes=100_000, bytes_per_s=1e11),
        WorkingSet(num_bytes=1_000_000, bytes_per_s=1e10),
    )
    limits = LIMITS.model_copy(update={"bandwidth": sets, "peak_flops_per_s": {"fp32": 1e12}})
    answers = ProcessorRates(title="", limits=limits, is_streamed=True)
    row, small = product(1, 100, 100), add(100)
    # 40.8 KB a product: ten of them come from the cache, a hundred (4 MB) from memory; what is small stays in the caches.
    for count, rate in ((2, 1e11), (100, 1e10)):
        found = answers.step_time([replace(row, num_calls=count), small])
        times_s = {part.kind: part.time_s for part in found.by_kind}
        assert times_s == pytest.approx(
            {"matmul": count * (40_800 / rate + 1e-6), "elementwise": 1200 / 1e11 + 1e-6}
        )
    rates = RATES.model_copy(update={"cpu_answers": {1: answers}})
    assert rates.processor(4, mode="infer") is answers
    assert rates.processor(4) is PROCESSOR
    assert rates.step_time([row], 4, mode="infer") == answers.step_time([row])
    # A calibration of training alone predicts answers by training.
    assert RATES.processor(4, mode="infer") is PROCESSOR


def test_a_matrix_by_a_vector_is_unlike_other_products():
    rows = [product(2, 512 + n, 512) for n in range(30)]
    times = CallTimes(LIMITS, [*slowed([product(1, 512, 512)], 1), *slowed(rows, 5)])
    # Thirty that are an octave away say less than the one of its own kind.
    assert times.time_s(product(1, 400, 400)) < 1.5 * LIMITS.least_s(product(1, 400, 400))
    assert times.time_s(product(2, 400, 400)) > 4 * LIMITS.least_s(product(2, 400, 400))


def test_a_gpu_is_asked_for_by_name():
    rates = RATES.model_copy(update={"gpus": {"cuda:0": PROCESSOR}})
    assert rates.processor(gpu="cuda:0") is PROCESSOR
    assert rates.step_time([add(8)], gpu="cuda:0") == PROCESSOR.step_time([add(8)])
    with pytest.raises(UsageError, match=r"the GPU 'cuda:1' was not calibrated; known: cuda:0\.") as error:
        rates.processor(gpu="cuda:1")
    assert error.value.hint == "kleiber calibrate, where the GPU is"
    with pytest.raises(UsageError, match=r"the GPU 'cuda:0' was not calibrated; known: none\."):
        RATES.processor(gpu="cuda:0")


def test_the_device_local_is_what_was_measured():
    device = RATES.device(4, memory_bytes=16e9)
    assert (device.name, device.title, device.per) == ("local", "A processor, 2 threads", "machine")
    assert device.peak("bf16") == ("bf16", 2e11)
    assert (device.memory_bytes, device.bandwidth_bytes_per_s) == (16e9, 1e10)
    assert (device.source, device.date, device.is_checked) == ("kleiber calibrate", "2026-01", True)


def test_rates_are_kept_in_the_calibration(tmp_path):
    path = tmp_path / "machine.json"
    Calibration(measured_at="then", peak_flops_per_s={1: 1e10}, rates=RATES).write(path)
    text = path.read_text()
    assert (
        '"matmul mm forward fp32 1x1000x1000x1000: 2000000000 FLOP, 12000000 B among 12000000 B, 0.04 s"'
        in text
    )
    found = load_calibration(path)
    assert found is not None
    assert found.rates is not None
    (call,) = found.rates.cpu[4].calls
    assert call.time_s == pytest.approx(0.040002, rel=1e-3)
    assert found.rates.disk == RATES.disk


def test_a_calibration_without_rates_is_still_read(tmp_path):
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"measured_at": "then", "peak_flops_per_s": {"2": 1e11}, "probes": []}))
    found = load_calibration(path)
    assert found is not None
    assert found.rates is None
    assert found.peak(2) == 1e11


def test_a_line_that_is_no_call_is_said(tmp_path):
    path = tmp_path / "machine.json"
    raw = json.loads(Calibration(measured_at="then", peak_flops_per_s={1: 1e10}, rates=RATES).to_json())
    raw["rates"]["cpu"]["4"]["calls"] = ["mm: fast"]
    path.write_text(json.dumps(raw))
    with pytest.raises(RunFolderError, match=r"a measured call is written 'matmul mm .*', not 'mm: fast'"):
        load_calibration(path)


def test_rates_of_another_version_are_refused(tmp_path):
    path = tmp_path / "rates.json"
    path.write_text(RATES.to_json().replace('"version": 1', '"version": 2'))
    with pytest.raises(RunFolderError, match="version"):
        Rates.read(path)
