"""Which parameters decide the size of the channels that linear layers read: there a scale can be taken back without a trace.

A forward pass is watched: gains of norms and rows of linear layers make channels, which pass through views, slices, products
and ReLU in proportion, until linear layers read them. Anything else that reads them spoils them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kleiber.compress.uses import inputs_of
from kleiber.data import Batch
from kleiber.tasks.evaluation import evaluating

__all__ = ["Fold", "find_folds"]

_VIEWS = {
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "contiguous",
    "to",
    "float",
    "type_as",
    "dropout",
    "relu",
}
"""Keep channels apart and in proportion as long as the last dimension stays; ReLU does for scales above 0."""
_SLICES = {"chunk", "split", "split_with_sizes", "tensor_split"}
_PRODUCTS = {"mul", "multiply", "__mul__", "__rmul__"}
_NORMS = {
    "rms_norm": ("input", "normalized_shape", "weight"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias"),
}
_LINEAR = ("input", "weight", "bias")


class _Channels(NamedTuple):
    """Rows of a weight, or entries of a gain, that the channels of a tensor are in proportion to."""

    name: str
    start: int
    end: int

    def overlaps(self, other: _Channels) -> bool:
        return self.name == other.name and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Fold:
    """Linear layers whose inputs can be made smaller by parameters before them, when their columns are made larger."""

    layers: tuple[str, ...]
    """Names of weights, all that read these channels."""
    sources: tuple[str, ...]
    """Names of the parameters whose rows are divided: a gain and its shift, or a weight and its bias."""
    rows: slice


@dataclass
class _Seen:
    """What a forward pass did."""

    bias_of: dict[str, str] = field(default_factory=dict)
    readers: defaultdict[_Channels, list[str]] = field(default_factory=lambda: defaultdict(list))
    spoiled: set[_Channels] = field(default_factory=set)
    num_uses: Counter[str] = field(default_factory=Counter)


class _Trace(TorchFunctionMode):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.seen = _Seen()
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._channels: dict[int, _Channels] = {}
        self._alive: list[Tensor] = []  # an id is that of one tensor as long as the tensor lives

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = list(_tensors((result,)))
        if outputs:
            self._alive += outputs
            self._follow(func.__name__, args, kwargs, outputs)
        return result

    def _follow(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
    ) -> None:
        """Pass on the channels that the outputs are in proportion to; spoil those of other inputs."""
        inputs = list(_tensors((args, kwargs)))
        self.seen.num_uses.update(self._names[id(one)] for one in inputs if id(one) in self._names)
        if name in _NORMS:
            given = dict(zip(_NORMS[name], args, strict=False)) | kwargs
            self._begin(given.get("weight"), given.get("bias"), outputs[0])
            passed = None
        elif name == "linear":
            passed = self._read(dict(zip(_LINEAR, args, strict=False)) | kwargs, outputs[0])
        elif name in _PRODUCTS:
            passed = self._multiply(inputs, outputs[0])
        elif (name in _VIEWS and outputs[0].shape[-1:] == inputs[0].shape[-1:]) or (
            name in _SLICES and sum(one.shape[-1] for one in outputs) == inputs[0].shape[-1]
        ):
            passed = self._pass_on(inputs[0], outputs)
        else:
            passed = None
        for one in inputs:
            if one is not passed and id(one) in self._channels:
                self.seen.spoiled.add(self._channels[id(one)])

    def _begin(self, weight: Any, bias: Any, output: Tensor) -> None:
        """Begin channels at a parameter that is multiplied by."""
        name = self._names.get(id(weight))
        if name is not None:
            self._channels[id(output)] = _Channels(name, 0, output.shape[-1])
            if bias is not None:
                # A bias that is no parameter cannot be divided: an empty name is none of a parameter.
                self.seen.bias_of[name] = self._names.get(id(bias), "")

    def _read(self, given: dict[str, Any], output: Tensor) -> Tensor | None:
        name = self._names.get(id(given["weight"]))
        if name is None:
            return None
        self._begin(given["weight"], given.get("bias"), output)
        source: Tensor = given["input"]
        if id(source) in self._channels:
            self.seen.readers[self._channels[id(source)]].append(name)
        return source

    def _multiply(self, inputs: list[Tensor], output: Tensor) -> Tensor | None:
        """Take the channels of a gain, else those of the last factor that has any; a square is in proportion to none."""
        if len({id(one) for one in inputs}) < len(inputs):
            return None
        for one in inputs:
            if id(one) in self._names and one.ndim == 1 and one.shape[-1] == output.shape[-1]:
                self._begin(one, None, output)
                return None
        for one in reversed(inputs):
            if id(one) in self._channels and one.shape[-1] == output.shape[-1]:
                return self._pass_on(one, [output])
        return None

    def _pass_on(self, source: Tensor, outputs: list[Tensor]) -> Tensor:
        if id(source) in self._channels:
            name, start, _ = self._channels[id(source)]
            for output in outputs:
                end = start + output.shape[-1]
                self._channels[id(output)] = _Channels(name, start, end)
                start = end if len(outputs) > 1 else start
        return source


def find_folds(module: nn.Module, batch: Batch) -> tuple[Fold, ...]:
    """Return the folds of a module in the order of first use on `batch`.

    What is returned is what the pass suggests; what a module returns beside its logits is not seen here, so a fold is to be
    proved by the outputs.
    """
    with evaluating(module), _Trace(module) as trace:
        module(*inputs_of(batch))
    seen = trace.seen
    return tuple(
        Fold(tuple(readers), _sources(channels.name, seen), slice(channels.start, channels.end))
        for channels, readers in seen.readers.items()
        if _is_free(channels, readers, seen)
    )


def _is_free(channels: _Channels, readers: list[str], seen: _Seen) -> bool:
    """Return whether only these layers see a change of the channels, and nothing else sees a change of the layers."""
    is_shared = any(seen.num_uses[name] != 1 for name in (*_sources(channels.name, seen), *readers))
    others = seen.spoiled | (seen.readers.keys() - {channels})
    return not is_shared and not any(channels.overlaps(other) for other in others)


def _sources(name: str, seen: _Seen) -> tuple[str, ...]:
    return (name, seen.bias_of[name]) if name in seen.bias_of else (name,)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
