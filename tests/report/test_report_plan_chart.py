"""The picture of a plan: made by hand, and of a traced model."""

from __future__ import annotations

import html
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kleiber.cost import MemoryBytes
from kleiber.cost.trace.lifetimes import ROLES
from kleiber.cost.usage import Usage
from kleiber.errors import StorageError, UsageError
from kleiber.models.foreign import open_subject
from kleiber.report.plan_chart import write_plan_chart
from kleiber.report.plan_memory import held_parts, memory_chart, role_says
from kleiber.report.plan_shares import kinds_chart, module_shares, modules_chart, short_path, time_chart
from kleiber.report.theme import DARK, LIGHT, chart_config, plan_styles
from kleiber.study.cost_document import (
    CostPlan,
    PlannedDisk,
    PlannedFlops,
    PlannedKind,
    PlannedModule,
    PlannedMoment,
    PlannedParams,
)
from kleiber.study.cost_plan import plan_cost
from kleiber.study.job import Job
from kleiber.study.model_cost import costed_subject
from kleiber.study.place import here

HOSTILE = "</script><img src=x onerror=stolen=1>.py:Net"
RESNET = Path(__file__).parents[2] / "examples" / "resnet.py"


def module(path: str, forward: int, type_name: str = "Linear") -> PlannedModule:
    return PlannedModule(
        path=path, type_name=type_name, num_params=1, forward_flops=forward, backward_flops=2 * forward,
        activation_bytes=0,
    )  # fmt: skip


def moment(name: str, **held_bytes: int) -> PlannedMoment:
    return PlannedMoment(name=name, held_bytes=held_bytes)


MOMENTS = (
    moment("forward of fc1", weights=100, optimizer=200, gradients=0, activations=50, temporary=0),
    moment("forward of fc2", weights=100, optimizer=200, gradients=0, activations=150, temporary=0),
    moment("backward of fc2", weights=100, optimizer=200, gradients=60, activations=150, temporary=10),
    moment("optimizer of the model", weights=100, optimizer=200, gradients=100, activations=0, temporary=40),
)


def made(**changes: Any) -> CostPlan:
    plan: dict[str, Any] = {
        "model": "net.py:Net", "spec": None, "usage": Usage(batch_size=8), "context": None, "device": "a100-80gb",
        "dtype": "fp32", "num_devices": 1, "layout": "ddp=1",
        "num_params": PlannedParams(
            total=25, trainable=25, active=25, embedding=0, body=25, head=0, is_tied=False
        ),
        "flops": PlannedFlops(
            forward=1_000_000, backward=2_000_000, convention="causal", by_kind={"matmul": 3_000_000, "copy": 0}
        ),
        "memory_bytes": MemoryBytes(weights=100, gradients=100, optimizer=200, activations=150, peak=520),
        "fullest_moment": "backward of fc2", "memory_limit_bytes": 1000.0, "fits": True, "kv_cache_bytes": None,
        "disk": PlannedDisk(checkpoint_bytes=1, served_bytes={}, send_time_s={}),
        "num_steps": None, "num_samples": None, "num_tokens": None, "train_flops": None, "step_time_s": 0.25,
        "time_by_kind": (
            PlannedKind(kind="matmul", time_s=0.2, bound="compute"),
            PlannedKind(kind="copy", time_s=0.05, bound="bandwidth"),
        ),
        "communication_s": 0.0, "bubble_frac": 0.0, "total_time_s": None, "energy_kwh": None, "usd": None,
        "modules": (module("", 1_000_000, "Net"), module("fc1", 600_000), module("fc2", 300_000)),
        "moments": MOMENTS, "assumptions": ("Time is assumed.",),
    }  # fmt: skip
    return CostPlan(**(plan | changes))


def rows(chart: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    assert chart is not None
    found: list[dict[str, Any]] = chart["datasets"][name]
    return found


def closed(moment: str, peak: float, *, accumulation: int = 1) -> CostPlan:
    memory = MemoryBytes(weights=100, gradients=100, optimizer=200, activations=150, peak=peak)
    usage = Usage(batch_size=8, accumulation=accumulation)
    return made(moments=(), memory_bytes=memory, fullest_moment=moment, usage=usage)


def test_the_area_stacks_what_is_held() -> None:
    chart = memory_chart(made())
    held = rows(chart, "memory")
    # Weights, state, gradients, activations and temporary stand on each other; nothing holds inputs or libraries.
    assert [(row["role"], row["low"], row["high"]) for row in held if row["at"] == 2] == [
        ("weights", 0, 100),
        ("optimizer", 100, 300),
        ("gradients", 300, 360),
        ("activations", 360, 510),
        ("temporary", 510, 520),
    ]
    assert {row["at"] for row in held} == {0, 1, 2, 3, 4}  # the last moment has a width too
    assert {row["role"] for row in held} <= ROLES.keys()
    assert rows(chart, "peak") == [{"at": 2, "held": 520, "top": 1160, "text": "peak 520 B, backward of fc2"}]


def test_phases_are_marked() -> None:
    chart = memory_chart(made())
    assert [row["at"] for row in rows(chart, "phases")] == [2, 3]
    label = json.dumps(chart)
    for middle, name in ((1.0, "forward"), (2.5, "backward"), (3.5, "optimizer")):
        assert f"datum.value == {middle} ? '{name}'" in label


@pytest.mark.parametrize(
    ("limit", "is_shown"), [(259, False), (261, True), (1039, True), (1041, False), (None, False)]
)
def test_the_limit_is_drawn_where_it_is_near(limit: float | None, is_shown: bool) -> None:
    for plan in (
        made(memory_limit_bytes=limit),
        closed("optimizer step", 520).model_copy(update={"memory_limit_bytes": limit}),
    ):
        shown = rows(memory_chart(plan), "limit")
        assert bool(shown) is is_shown
        assert all("a100-80gb" in row["text"] for row in shown)


@pytest.mark.parametrize(
    ("moment", "peak", "accumulation", "rest"),
    [
        ("optimizer step", 430, 1, {"gradients": 100, "temporary": 30}),
        ("forward of the loss", 470, 1, {"activations": 150, "temporary": 20}),
        ("backward of the loss", 470, 1, {"activations": 150, "temporary": 20}),
        ("backward of the loss", 570, 4, {"gradients": 100, "activations": 150, "temporary": 20}),
        ("validation", 420, 1, {"activations": 120}),
        ("backward of the first block", 470, 1, {"gradients, activations, temporary": 170}),
    ],
)
def test_parts_of_the_fullest_moment(
    moment: str, peak: float, accumulation: int, rest: dict[str, float]
) -> None:
    plan = closed(moment, peak, accumulation=accumulation)
    assert held_parts(plan) == {"weights": 100, "optimizer": 200} | rest
    bars = rows(memory_chart(plan), "memory")
    assert [(row["low"], row["high"]) for row in bars[:2]] == [(0, 100), (100, 300)]
    assert bars[-1]["high"] == peak
    assert role_says(plan) == ""


def test_moments_of_the_whole_model_are_not_those_of_a_share() -> None:
    memory = MemoryBytes(weights=50, gradients=50, optimizer=100, activations=150, peak=300)
    chart = memory_chart(
        made(memory_bytes=memory, num_devices=2, layout="fsdp=2", fullest_moment="optimizer step")
    )
    assert [row["role"] for row in rows(chart, "memory")] == [
        "weights",
        "optimizer",
        "gradients",
        "temporary",
    ]


def test_roles_are_explained() -> None:
    assert role_says(made()).startswith("weights: parameters and buffers; gradients: ")
    assert "libraries" not in role_says(made())


def test_innermost_modules_share_the_operations() -> None:
    tree = [module("", 100, "Net"), module("a", 60), module("a.x", 40), module("a.y", 10), module("ab", 30)]
    assert module_shares(tree) == [
        ("a.x", (40, 80)),
        ("ab", (30, 60)),
        ("a.y", (10, 20)),
        ("others", (20, 40)),  # 10 of `a` itself, 10 of the model itself
    ]
    assert module_shares([module("", 5, "Net")]) == [("Net", (5, 10))]
    assert module_shares([module("", 0, "Net")]) == []
    assert modules_chart(made(modules=(module("", 0),))) is None


def test_eighty_modules_become_a_dozen_and_others() -> None:
    many = [module(f"blocks.{i}.mlp", i) for i in range(80)]
    shares = module_shares([module("", sum(range(80)), "Net"), *many])
    assert [name for name, _ in shares] == [f"blocks.{i}.mlp" for i in range(79, 67, -1)] + ["others"]
    assert sum(forward for _, (forward, _) in shares) == sum(range(80))


@pytest.mark.parametrize("length", [10, 26, 60])
def test_short_paths_keep_their_numbers(length: int) -> None:
    path = "encoder.layers_of_attention.17.self_attention.output_projection"
    short = short_path(path, length)
    assert ".17." in short
    assert len(short) <= max(length, 22)  # names keep three letters
    assert short_path("a.b", length) == "a.b"


def test_kinds_and_times() -> None:
    assert [row["name"] for row in rows(kinds_chart(made()), "kinds")] == ["matmul"]
    times = time_chart(made(communication_s=0.1, num_devices=2))
    assert [row["text"] for row in rows(times, "times-notes")] == [
        "57% · 200 ms · compute",
        "29% · 100 ms · network",
        "14% · 50 ms · bandwidth",
    ]
    assert time_chart(made(time_by_kind=(), communication_s=0.1)) is None
    small = PlannedKind(kind="copy", time_s=1e-5, bound="launch")
    assert rows(time_chart(made(time_by_kind=(*made().time_by_kind, small))), "times-notes")[-1][
        "text"
    ].startswith("<1% ")


def test_an_svg_says_what_where_and_how_much(tmp_path: Path) -> None:
    svg = write_plan_chart(made(), tmp_path / "plan.svg").read_text()
    assert svg.startswith("<svg")
    for text in (
        "net.py:Net", "training · batch 8 · fp32 · adamw · a100-80gb",
        "25 parameters · 3.00 MFLOP and 250 ms a step · 520 B at the peak", "peak 520 B, backward of fc2",
        "forward", "backward", "optimizer", "weights", "activations", "temporary", "fc1", "fc2", "others",
        "60% · 1.80 MFLOP", "80% · 200 ms · compute", "20% · 50 ms · bandwidth",
    ):  # fmt: skip
        assert f">{text}<" in svg, text
    assert LIGHT.accent in svg


def test_a_png_of_serving_on_many_devices(tmp_path: Path) -> None:
    usage = Usage(mode="infer", batch_size=4, precision="bf16")
    plan = made(usage=usage, num_devices=8, layout="tp=8", context=4096, model="x" * 200)
    png = write_plan_chart(plan, tmp_path / "plan.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24])[0] > 1800
    svg = write_plan_chart(plan, tmp_path / "plan.svg").read_text()
    assert "serving · batch 4 · 4096 tokens each · bf16 · 8 × a100-80gb, tp=8" in svg
    assert f">…{'x' * 80}<" in svg


def test_columns_of_a_picture_do_not_overlap(tmp_path: Path) -> None:
    few = made(moments=(), fullest_moment="optimizer step", modules=(module("", 1_000_000, "Net"),))
    for plan in (made(), few):
        svg = write_plan_chart(plan, tmp_path / "plan.svg").read_text()
        # The right column's plots start where 920 - 380 px say.
        starts = {int(x) for x in re.findall(r"translate\((\d+),0\)", svg)}
        assert 540 in starts


def test_a_page_needs_no_network(tmp_path: Path) -> None:
    plan = made(model=HOSTILE, assumptions=(HOSTILE,))
    page = write_plan_chart(plan, tmp_path / "plan.html").read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.split("<script>")[0])
    assert "default-src 'none'" in html.unescape(page)
    assert HOSTILE not in page
    text = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert text
    charts = json.loads(text[1])
    assert list(charts["specs"]) == ["kinds", "memory", "modules", "times"]
    assert not re.search(r"#[0-9a-f]{6}", json.dumps(charts["specs"]))
    assert charts["themes"]["dark"]["range"]["category"][0] == DARK.accent


def test_every_style_is_one_of_the_theme() -> None:
    charts = [
        memory_chart(made()),
        memory_chart(closed("optimizer step", 520)),
        kinds_chart(made()),
        modules_chart(made()),
    ]
    named = set(re.findall(r'"style": "([\w-]+)"', json.dumps(charts)))
    assert named == set(plan_styles(LIGHT))
    assert not named & set(chart_config(LIGHT, num_sizes=1)["style"])


def test_other_suffixes_are_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--chart writes \.svg, \.png or \.html\. Got 'plan\.pdf'"
    ) as caught:
        write_plan_chart(made(), tmp_path / "plan.pdf")
    assert caught.value.hint == "--chart plan.svg"
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StorageError, match="cannot write"):
        write_plan_chart(made(), tmp_path / "file" / "plan.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_traced_model(tmp_path: Path) -> None:
    subject = open_subject(f"{RESNET}:ResNet18", inputs=("2x3x32x32",))
    plan = plan_cost(costed_subject(subject), Usage(batch_size=2), here(None), Job(), module_depth=2)
    chart = memory_chart(plan)
    most = max(row["high"] for row in rows(chart, "memory"))
    assert most == plan.memory_bytes.peak == rows(chart, "peak")[0]["held"]
    assert (
        sum(row["value"] for row in rows(modules_chart(plan), "modules-notes"))
        == plan.flops.forward + plan.flops.backward
    )
    svg = write_plan_chart(plan, tmp_path / "plan.svg").read_text()
    assert ">convolution<" in svg
    assert ">stages.0<" in svg
    assert "this machine" in svg


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; import kleiber.report.plan_chart;"
        "print([name for name in ('torch', 'scipy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
