"""The weights of a module held in another way, and used where the module uses its own.

Modules call `F.linear` and `F.embedding` on their parameters, some on fused ones: which weight a call means is told by the
parameter that it is given, never by the module's class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kleiber.infer.compiled.held import Held, held
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Forms

__all__ = ["Hollow", "Rows", "multiplied"]

Rows: TypeAlias = Literal["one", "many"]


class Hollow(nn.Module):
    """A module without the weights that it multiplies with or looks rows up in; those are held apart.

    Args:
        module: Is left as it was; all other tensors are shared with it.
        forms: How its weights are stored.
        names: Of the parameters that are held apart, as `multiplied` found them.
    """

    def __init__(self, module: FamilyModule, forms: Forms, names: set[str]) -> None:
        super().__init__()
        params = dict(module.named_parameters())
        self._name_of = {name: f"weight_{index}" for index, name in enumerate(sorted(names))}
        self.held = nn.ModuleDict(
            {key: held(params[name].flatten(1), forms.get(name)) for name, key in self._name_of.items()}
        )
        shared: dict[int, Any] = {id(one): one for one in (*params.values(), *module.buffers())}
        empty = {id(params[name]): nn.Parameter(torch.empty(0), requires_grad=False) for name in names}
        self.module: FamilyModule = copy.deepcopy(module, shared | empty)

    @property
    def precision(self) -> str:
        """What its products compute in, the most frequent first."""
        kinds = [one.computed_in for one in self.weights()]
        ordered = sorted(set(kinds), key=kinds.count, reverse=True)
        return ", ".join(kind for kind in ordered if kind != "fp32") or "fp32"

    def weights(self) -> list[Held]:
        """Return the weights that are held apart, by name."""
        return [one for one in self.held.values() if isinstance(one, Held)]

    @contextmanager
    def using(self, *, rows: Rows) -> Iterator[FamilyModule]:
        """Run the module's code with the weights that are held.

        Args:
            rows: What products are of: one row, in a program that is compiled, or many.
        """
        # Looked up anew: whoever traces puts other tensors in their place.
        params = dict(self.module.named_parameters())
        keyed: Mapping[str, Any] = dict(self.held.named_children())
        weights = {id(params[name]): keyed[key] for name, key in self._name_of.items()}
        with _Products(weights, rows):
            yield self.module


class _Products(TorchFunctionMode):
    def __init__(self, weights: Mapping[int, Held], rows: Rows) -> None:
        super().__init__()
        self._weights = weights
        self._rows = rows

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and (weight := self._weights.get(id(_argument(args, kwargs)))) is not None:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            return self._linear(args[0] if args else kwargs["input"], weight, bias)
        if func is F.embedding and (weight := self._weights.get(id(_argument(args, kwargs)))) is not None:
            return weight.rows_at(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Held, bias: Tensor | None) -> Tensor:
        x_NC = x.flatten(0, -2)
        y_NR = weight.one_row(x_NC[0]) if self._rows == "one" else weight.many_rows(x_NC)
        y = y_NR.view(*x.shape[:-1], -1)
        return y if bias is None else y + bias


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("weight")


@torch.no_grad()
def multiplied(module: FamilyModule, run: Callable[[], object]) -> set[str]:
    """Return the names of the parameters that a forward pass uses in `F.linear` and `F.embedding` alone.

    Args:
        module: Its parameters are looked for.
        run: Runs it on an example.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: set[str] = set()
    others: set[str] = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            weight = _argument(args, kwargs) if func in {F.linear, F.embedding} else None
            for one in (*args, *kwargs.values()):
                if (name := names.get(id(one))) is not None:
                    (found if one is weight else others).add(name)
            return func(*args, **kwargs)

    with Watch():
        run()
    return {name for name in found - others if dict(module.named_parameters())[name].ndim > 1}
