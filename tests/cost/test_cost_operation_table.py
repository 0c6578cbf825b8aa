"""What a call is: against torch's own counter, and against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn
from torch._higher_order_ops.flex_attention import flex_attention, flex_attention_backward
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import OPERATION_KINDS
from kleiber.cost.trace.operation_kinds import kind_of
from kleiber.cost.trace.operation_table import OperationSketch, describe

aten = torch.ops.aten


class Sketches(TorchDispatchMode):
    """Describe every call by name, views left out."""

    def __init__(self, convention: FlopConvention = "causal") -> None:
        super().__init__()
        self.by_name: dict[str, list[OperationSketch]] = {}
        self.convention: FlopConvention = convention

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sketch = describe(func, args, kwargs, out, convention=self.convention)
        if sketch is not None:
            self.by_name.setdefault(func.__name__.partition(".")[0], []).append(sketch)
        return out

    @property
    def flops(self) -> int:
        return sum(sketch.flops for sketches in self.by_name.values() for sketch in sketches)


def described(
    run: Callable[[], object], convention: FlopConvention = "causal"
) -> dict[str, list[OperationSketch]]:
    with Sketches(convention) as sketches:
        run()
    return sketches.by_name


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


QKV = (meta(2, 4, 16, 8), meta(2, 4, 24, 8), meta(2, 4, 24, 8))
GROUPED = (meta(2, 4, 16, 8), meta(2, 2, 24, 8), meta(2, 2, 24, 8))
LENGTHS = torch.tensor([0, 5, 12], device="meta")
RAGGED = (meta(12, 4, 8), meta(12, 4, 8), meta(12, 4, 8))
CONV = (meta(2, 3, 9, 9), meta(5, 3, 3, 3), None)
CONV_REST = ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)
CONV_OUT = meta(2, 5, 5, 5)
FORWARD = {
    aten.mm.default: ((meta(3, 4), meta(4, 5)), meta(3, 5)),
    aten.addmm.default: ((meta(5), meta(3, 4), meta(4, 5)), meta(3, 5)),
    aten.bmm.default: ((meta(2, 3, 4), meta(2, 4, 5)), meta(2, 3, 5)),
    aten.baddbmm.default: ((meta(2, 3, 5), meta(2, 3, 4), meta(2, 4, 5)), meta(2, 3, 5)),
    aten._scaled_mm.default: ((meta(3, 4), meta(4, 5), meta(1), meta(1)), meta(3, 5)),
    aten.convolution.default: ((*CONV, *CONV_REST), CONV_OUT),
    aten._convolution.default: ((*CONV, *CONV_REST, False, False, False, False), CONV_OUT),
    aten.cudnn_convolution.default: ((*CONV[:2], [1, 1], [2, 2], [1, 1], 1, False, False, False), CONV_OUT),
    aten.convolution_overrideable.default: ((*CONV, *CONV_REST), CONV_OUT),
    aten._slow_conv2d_forward.default: ((*CONV[:2], [3, 3], None, [2, 2], [1, 1]), CONV_OUT),
    aten.convolution_backward.default: (
        (CONV_OUT, *CONV[:2], None, *CONV_REST, [True, True, False]),
        (meta(2, 3, 9, 9), meta(5, 3, 3, 3), None),
    ),
    aten._scaled_dot_product_efficient_attention.default: ((*QKV, None, True), (meta(2, 4, 16, 8),)),
    aten._scaled_dot_product_flash_attention.default: (GROUPED, (meta(2, 4, 16, 8),)),
    aten._scaled_dot_product_cudnn_attention.default: ((*QKV, None, True), (meta(2, 4, 16, 8),)),
    aten._flash_attention_forward.default: (
        (*RAGGED, LENGTHS, LENGTHS, 7, 7, 0.0, False, False),
        (meta(12, 4, 8),),
    ),
    aten._efficient_attention_forward.default: (
        (*(tensor[None] for tensor in RAGGED), None, LENGTHS, LENGTHS, 7, 7, 0.0, 0),
        (meta(1, 12, 4, 8),),
    ),
    flex_attention: (QKV, (meta(2, 4, 16, 8),)),
}
"""One call of each operation that torch counts, and what it returns."""
GRAD = meta(2, 4, 16, 8)
BACKWARD = {
    aten._scaled_dot_product_efficient_attention_backward.default: (GRAD, *QKV, None),
    aten._scaled_dot_product_flash_attention_backward.default: (GRAD, *GROUPED),
    aten._scaled_dot_product_cudnn_attention_backward.default: (GRAD, *QKV),
    aten._flash_attention_backward.default: (RAGGED[0], *RAGGED, RAGGED[0], meta(1), LENGTHS, LENGTHS, 7, 7),
    aten._efficient_attention_backward.default: (
        *(tensor[None] for tensor in (RAGGED[0], *RAGGED)), None, RAGGED[0], LENGTHS, LENGTHS, 7, 7,
    ),
    flex_attention_backward: (*QKV, GRAD, meta(1), GRAD),
}  # fmt: skip


def packet(func: Any) -> Any:
    return getattr(func, "overloadpacket", func)


def test_every_operation_that_torch_counts_is_tested() -> None:
    assert {packet(func) for func in (*FORWARD, *BACKWARD)} == set(flop_registry)


@pytest.mark.parametrize("func", FORWARD, ids=str)
def test_flops_are_those_of_torchs_counter(func: Any) -> None:
    args, out = FORWARD[func]
    sketch = describe(func, args, {}, out, convention="full")
    # Two kernels stand in the registry with the arguments of another, by whose name torch calls them.
    is_kernel = func in {aten.cudnn_convolution.default, aten._slow_conv2d_forward.default}
    counted, by = ((*CONV, *CONV_REST), aten.convolution) if is_kernel else (args, packet(func))
    assert sketch is not None
    assert sketch.flops == flop_registry[by](*counted, out_val=out) > 0


@pytest.mark.parametrize("func", BACKWARD, ids=str)
def test_backward_of_attention_leaves_out_the_scores_computed_again(func: Any) -> None:
    args = BACKWARD[func]
    sketch = describe(func, args, {}, (meta(2, 4, 16, 8), meta(2, 4, 24, 8)), convention="full")
    assert sketch is not None
    # Torch counts five products; four are the gradient's.
    assert sketch.flops * 5 == flop_registry[packet(func)](*args) * 4
    assert sketch.kind == "attention"


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, stride=2), nn.Conv2d(4, 6, 1),
            nn.ConvTranspose2d(6, 2, 3, stride=3, output_padding=1),
        )  # fmt: skip


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(7, 9), nn.GELU(), nn.Linear(9, 2)), (5, 7)),
    "batched mlp": (lambda: nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 2, bias=False)), (3, 5, 7)),
    "convolutions": (Convolutions, (2, 3, 9, 9)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 5, dilation=2), (2, 4, 30)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (1, 2, 5, 5, 5)),
    "gru": (lambda: nn.GRUCell(6, 4), (5, 6)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_step_agrees_with_torchs_counter(name: str) -> None:
    make, shape = MODULES[name]
    module, x = make(), torch.randn(shape, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    with Sketches() as sketches:
        module(x).sum().backward()
    assert sketches.flops == counter.get_total_flops() > 0


@pytest.mark.parametrize("convention", ["causal", "full"])
@pytest.mark.parametrize("is_causal", [True, False])
def test_fused_attention_of_a_cpu(convention: FlopConvention, is_causal: bool) -> None:
    q, k, v = (torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3))
    made = described(
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal).sum().backward(), convention
    )
    square = 2 * 2 * (2 * 4) * 16 * 16 * 8  # two products, 2 per multiply-add, 8 heads in all
    forward = square // 2 if is_causal and convention == "causal" else square
    assert [s.flops for s in made["_scaled_dot_product_flash_attention_for_cpu"]] == [forward]
    assert [s.flops for s in made["_scaled_dot_product_flash_attention_for_cpu_backward"]] == [2 * forward]


def test_attention_spelled_out_agrees_with_torchs_counter_and_with_the_fused_one() -> None:
    q, k, v = (torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3))

    def spelled_out() -> None:
        ((q @ k.mT).softmax(-1) @ v).sum().backward()

    with FlopCounterMode(display=False) as counter:
        spelled_out()
    with Sketches() as products:
        spelled_out()
    with Sketches("full") as fused:
        F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    assert products.flops == fused.flops == counter.get_total_flops()


@pytest.mark.parametrize("groups", [2, 4])
def test_each_gradient_of_a_grouped_convolution_costs_what_the_forward_pass_does(groups: int) -> None:
    module, x = nn.Conv2d(4, 8, 3, groups=groups), torch.randn(2, 4, 8, 8, requires_grad=True)
    made = described(lambda: module(x).sum().backward())
    forward = 2 * 2 * 8 * 6 * 6 * (4 // groups) * 9
    assert made["convolution"][0].flops == forward
    assert made["convolution_backward"][0].flops == 2 * forward
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    assert counter.get_total_flops() == forward * (
        2 + groups
    )  # torch counts the weights' gradient `groups` times


def test_the_first_convolution_has_no_gradient_of_its_input() -> None:
    made = described(lambda: nn.Conv2d(3, 4, 3)(torch.randn(1, 3, 8, 8)).sum().backward())
    assert made["convolution_backward"][0].flops == made["convolution"][0].flops


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_by_hand(cell: Any, gates: int) -> None:
    module, x = cell(6, 5, num_layers=2, bidirectional=True), torch.randn(7, 3, 6, requires_grad=True)
    with Sketches() as sketches:
        module(x)[0].sum().backward()
    forward = 2 * 7 * 3 * 2 * gates * 5 * ((6 + 5) + (10 + 5))  # two directions, two layers
    assert sketches.flops == pytest.approx(
        3 * forward, rel=0.12
    )  # steps apart leave out gradients of a zero state
    assert cell is not nn.LSTM or sketches.flops == 3 * forward
    assert cell is not nn.LSTM or {s.kind for s in sketches.by_name["mkldnn_rnn_layer"]} == {"recurrent"}


def test_fake_tensors_give_what_real_ones_give() -> None:
    def run() -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        layer(torch.randn(2, 5, 8)).sum().backward()

    real = described(run)
    with FakeTensorMode():
        fake = described(run)
    assert {
        name: real[name] for name in ("addmm", "mm", "native_layer_norm", "native_layer_norm_backward")
    } == {name: fake[name] for name in ("addmm", "mm", "native_layer_norm", "native_layer_norm_backward")}


MATMULS: dict[str, tuple[Callable[[], object], tuple[int, ...]]] = {
    "mv": (lambda: torch.randn(3, 4) @ torch.randn(4), (1, 3, 1, 4)),
    "addmv": (lambda: torch.addmv(torch.randn(3), torch.randn(3, 4), torch.randn(4)), (1, 3, 1, 4)),
    "dot": (lambda: torch.dot(torch.randn(9), torch.randn(9)), (1, 1, 1, 9)),
    "mm": (lambda: torch.randn(3, 4) @ torch.randn(4, 5), (1, 3, 5, 4)),
    "bmm": (lambda: torch.randn(2, 3, 4) @ torch.randn(2, 4, 5), (2, 3, 5, 4)),
    "addbmm": (lambda: torch.addbmm(torch.randn(3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)), (1, 3, 5, 8)),
    "_int_mm": (lambda: torch._int_mm(torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8)), (1, 32, 8, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", MATMULS)
def test_shape_of_a_product_tells_its_flops(name: str) -> None:
    run, shape = MATMULS[name]
    (sketch,) = described(run)[name]
    batch, rows, columns, inner = sketch.shape
    assert sketch.kind == "matmul"
    assert sketch.shape == shape
    assert sketch.flops == 2 * batch * rows * columns * inner


@pytest.mark.parametrize(
    ("left", "right", "out", "flops"),
    [
        ((12, 4), (3, 4, 5), (12, 5), 2 * 12 * 4 * 5),  # each of 12 tokens meets one of 3 experts
        ((7, 12), (12, 5), (3, 7, 5), 2 * 7 * 12 * 5),  # the gradients of 3 experts: the tokens are divided
        ((3, 7, 4), (3, 4, 5), (3, 7, 5), 2 * 3 * 7 * 4 * 5),
    ],
)
def test_grouped_products_of_experts(left: Any, right: Any, out: Any, flops: int) -> None:
    sketch = describe(aten._grouped_mm.default, (meta(*left), meta(*right), meta(3)), {}, meta(*out))
    assert sketch is not None
    assert (sketch.kind, sketch.flops) == ("matmul", flops)


INFERENCE: dict[str, tuple[Callable[[], object], int]] = {
    "linear": (lambda: F.linear(torch.randn(2, 3, 4), torch.randn(5, 4)), 2 * 6 * 4 * 5),
    "einsum": (lambda: torch.einsum("abc,abd->acd", torch.randn(5, 3, 4), torch.randn(5, 3, 2)), 2 * 5 * 3 * 4 * 2),
    "conv2d": (lambda: F.conv2d(torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)), 2 * 3 * 9 * 2 * 9),
    "scaled_dot_product_attention": (
        lambda: F.scaled_dot_product_attention(*[torch.randn(1, 2, 4, 8)] * 3, is_causal=True), 2 * 2 * 2 * 16 * 8 // 2,
    ),
    "lstm": (lambda: nn.LSTM(6, 5)(torch.randn(7, 3, 6)), 2 * 21 * 20 * 11),
}  # fmt: skip


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_mode_hands_over_composites_whose_parts_are_counted(name: str) -> None:
    run, flops = INFERENCE[name]
    with torch.inference_mode():
        (sketch,) = described(run)[name]
    assert sketch.flops == flops


def test_fast_path_of_a_transformer_layer() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.inference_mode():
        (sketch,) = described(lambda: layer(torch.randn(2, 4, 8)))["_transformer_encoder_layer_fwd"]
    weights = 3 * 8 * 8 + 8 * 8 + 2 * 8 * 16
    assert sketch.flops == 2 * 8 * weights + 2 * 2 * 2 * 4 * 4 * 8


def test_resnet50_is_four_billion_multiply_adds() -> None:
    transformers = pytest.importorskip("transformers")
    stages = [(3, 64, 256, 56), (4, 128, 512, 28), (6, 256, 1024, 14), (3, 512, 2048, 7)]
    macs, channels, size = 112 * 112 * 64 * 3 * 49 + 2048 * 1000, 64, 56
    for blocks, narrow, wide, new_size in stages:
        macs += new_size**2 * channels * wide  # the shortcut
        for index in range(blocks):
            into = size**2 if index == 0 else new_size**2  # the stride is in the 3x3
            macs += into * channels * narrow + new_size**2 * (9 * narrow * narrow + narrow * wide)
            channels = wide
        size = new_size
    assert macs == 4_089_184_256  # as published: 4.09 G
    with torch.device("meta"), torch.no_grad():
        module = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)).eval()
        with Sketches() as sketches:
            module(torch.empty(1, 3, 224, 224))
    assert sketches.flops == 2 * macs
    assert sum(p.numel() for p in module.parameters()) == 25_557_032


IDLE = {
    "view": lambda x: x.view(-1),
    "transpose": lambda x: x.mT,
    "expand": lambda x: x.expand(3, 2, 4),
    "slice": lambda x: x[:, 1:],
    "detach": lambda x: x.detach(),
    "reshape": lambda x: x.reshape(8),
    "unsafe view": lambda x: aten._unsafe_view(x, [8]),
    "empty": lambda _: torch.empty(4),
    "empty like": torch.empty_like,
    "item": lambda x: x[0, 0].item(),
    "in place": lambda x: x.unsqueeze_(0),
    "split": lambda x: x.chunk(2),
}


@pytest.mark.parametrize("name", IDLE)
def test_views_and_empty_tensors_do_nothing(name: str) -> None:
    x = torch.randn(2, 4)
    assert not described(lambda: IDLE[name](x))


X = torch.randn(8, 4)
BYTES: dict[str, tuple[Callable[[], object], str, str, int]] = {
    "one tensor twice is read once": (lambda: X * X, "mul", "elementwise", 128 + 128),
    "a row expanded is read as a row": (lambda: X * X[:1].expand(8, 4), "mul", "elementwise", 128 + 128),
    "of a large tensor only the row": (lambda: X[:1].expand(8, 4) + 1.0, "add", "elementwise", 16 + 128),
    "another view of the same memory adds nothing": (lambda: X[:, :2] * X[:, 2:], "mul", "elementwise", 128 + 64),
    "a constant expanded": (lambda: X + torch.tensor(1.0).expand(8, 4), "add", "elementwise", 128 + 4 + 128),
    "in place": (lambda: X.clone().mul_(2.0), "mul_", "elementwise", 128 + 128),
    "overwriting does not read": (lambda: torch.empty(8, 4).copy_(X), "copy_", "copy", 128 + 128),
    "filling": (lambda: torch.empty(8, 4).fill_(1.0), "fill_", "copy", 128),
    "a new tensor": (lambda: torch.zeros_like(X), "zeros_like", "copy", 128),
    "another dtype": (X.bfloat16, "_to_copy", "copy", 128 + 64),
    "a sum": (lambda: X.sum(0), "sum", "reduction", 128 + 16),
    "looking up reads the rows": (lambda: F.embedding(torch.tensor([1, 1]), X), "embedding", "lookup", 16 + 32 + 32),
    "scattering": (lambda: X.clone().index_add_(0, torch.tensor([1]), torch.ones(1, 4)), "index_add_", "lookup", 2 * 16 + 8 + 16),
    "picking the loss": (lambda: F.nll_loss(X, torch.zeros(8, dtype=torch.int64)), "nll_loss_forward", "softmax", 32 + 64 + 8),
    "a norm": (lambda: F.layer_norm(X, (4,)), "native_layer_norm", "normalization", 128 + 128 + 2 * 32),
    "pooling": (lambda: F.max_pool2d(X[None, None], 2), "max_pool2d_with_indices", "pooling", 128 + 32 + 64),
    "joining": (lambda: torch.cat([X, X[:1]]), "cat", "copy", 128 + 144),
    "softmax": (lambda: X.softmax(-1), "_softmax", "softmax", 256),
    "many at once": (lambda: torch._foreach_mul_([X.clone(), X.clone()], 2.0), "_foreach_mul_", "elementwise", 512),
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_moved_bytes_and_kind_by_hand(name: str) -> None:
    run, func, kind, num_bytes = BYTES[name]
    sketch = described(run)[func][-1]
    assert (sketch.kind, sketch.moved_bytes) == (kind, num_bytes)
    assert sketch.flops == 0


def test_fused_adamw_reads_four_and_writes_three() -> None:
    weight = nn.Parameter(torch.randn(64, 64))
    weight.grad = torch.randn(64, 64)
    made = described(torch.optim.AdamW([weight], fused=True).step)
    (sketch,) = made["_fused_adamw_"]
    assert (sketch.kind, sketch.flops) == ("optimizer", 0)
    assert sketch.moved_bytes == 7 * 64 * 64 * 4 + 4  # and the number of the step


def test_dtype_and_shape_are_those_of_the_largest_result() -> None:
    (sketch,) = described(lambda: torch.ones(6, 2, dtype=torch.float16).max(0))["max"]
    assert (sketch.dtype, sketch.shape) == ("fp16", (2,))
    assert described(lambda: torch.arange(3))["arange"][0].dtype == "int64"


def test_sparse_tensors_have_bytes_of_their_own() -> None:
    sparse = torch.eye(4).to_sparse()
    assert described(lambda: sparse * 2.0)["mul"][0].moved_bytes > 0


def test_every_operation_of_torch_has_a_kind() -> None:
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")}
    packets = (getattr(aten, name.removeprefix("aten::").partition(".")[0], None) for name in names)
    kinds = {kind_of(getattr(op, overload)) for op in packets if op for overload in op.overloads()}
    assert kinds == set(OPERATION_KINDS)
