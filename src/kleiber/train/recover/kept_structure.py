"""A module whose weights keep how they are stored while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kleiber.errors import RecipeError
from kleiber.models.family import FamilyModule
from kleiber.models.groups import HiddenMatrix, ParamGroups
from kleiber.models.stored import Forms
from kleiber.runs import RecoverRecipe
from kleiber.train.recover.trained_weights import Directions, TrainedWeight, trained_weight

__all__ = ["KeptStructure"]


class KeptStructure(FamilyModule):
    """Calls a module with weights that are made anew of what is trained, at every pass.

    In the module such a weight is a buffer that no checkpoint holds; all others are trained where they are, and not at all with
    LoRA.

    Args:
        module: Changed in place: it becomes part of this.
        forms: How its weights are stored.
        settings: What stays and what is trained.
        seed: Of where LoRA's directions begin.
        beside: Learnt with it and thrown away in the end, such as maps between the features of two models.

    Raises:
        RecipeError: There is nothing that LoRA could be added to, or a weight inside a recurrent cell has a form.
    """

    def __init__(
        self,
        module: FamilyModule,
        forms: Forms,
        settings: RecoverRecipe,
        *,
        seed: int = 0,
        beside: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._groups, self._forms = module.param_groups(), forms
        directions = None
        if settings.lora_rank is not None:
            generator = torch.Generator().manual_seed(seed)
            directions = Directions(settings.lora_rank, settings.lora_alpha, generator)
        self._is_lora = directions is not None
        self._names = tuple(self._treated_names(module, forms))
        self._shapes = {name: module.get_parameter(name).shape for name in self._names}
        self.treated = nn.ModuleList()
        for name in self._names:
            weight_RC = module.get_parameter(name).detach().flatten(1)
            made = trained_weight(weight_RC, forms.get(name), directions, keeps_zeros=settings.keeps_zeros)
            self.treated.append(made)
        self._owners = {name: _owners(module, name) for name in self._names}
        for name in self._names:
            _to_buffer_(module, self._owners[name], name)
        if self._is_lora:
            module.requires_grad_(requires_grad=False)
        self.inner = module
        self.beside = beside if beside is not None else nn.Module()

    def _treated_names(self, module: FamilyModule, forms: Forms) -> Iterator[str]:
        """Yield the weights that are made anew: those of a form, or with LoRA the hidden matrices."""
        fused = _inside_cells(module)
        if not self._is_lora:
            if inside := sorted(fused & forms.keys()):
                raise RecipeError(
                    f"recover.model stores {inside[0]} of a recurrent cell in few numbers, which cannot be trained."
                )
            yield from (name for name, _ in module.named_parameters() if name in forms)
            return
        names = [matrix.name for matrix in self._groups.hidden if matrix.name not in fused]
        if not names:
            raise RecipeError(
                "recover.lora_rank: the model has no matrix between embedding and head that directions could be added to.",
                hint="--set recover.lora_rank=null   trains all",
            )
        yield from names

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the module returns, with the weights as they stand."""
        weights = {
            name: made().view(self._shapes[name])
            for name, made in zip(self._names, self.treated, strict=True)
        }
        return functional_call(self.inner, weights, inputs)

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the last forward pass in training adds to the task's loss."""
        return self._module.auxiliary_loss()

    @property
    def _module(self) -> FamilyModule:
        inner = self.inner
        assert isinstance(inner, FamilyModule)  # noqa: S101 - torch types submodules as Tensor | Module
        return inner

    @torch.no_grad()
    def merged(self) -> FamilyModule:
        """Return the module with its weights set to what is trained; it is evaluated as any other, and stays part of this."""
        for name, made in zip(self._names, self.treated, strict=True):
            self._module.get_buffer(name).copy_(made().view(self._shapes[name]))
        return self._module

    def finished(self) -> tuple[FamilyModule, Forms]:
        """Return the module as it was given, with what it has learnt, and how its weights are stored; this is of no use afterwards."""
        module = self.merged()
        forms = dict(self._forms)
        for name, made in zip(self._names, self.treated, strict=True):
            assert isinstance(made, TrainedWeight)  # noqa: S101 - a list of modules does not say of which
            _to_parameter_(module, self._owners[name], name)
            if (form := made.stored()) is not None:
                forms[name] = form
        return module.requires_grad_(), forms

    def param_groups(self) -> ParamGroups:
        """Return the names of all that is trained: a part of a weight stands in the weight's group, its scales with the norms."""
        groups = self._groups
        splits = {matrix.name: matrix.row_splits for matrix in groups.hidden}
        parts = {name: list(self._parts(name)) for name in groups.names}
        norms = [part for named in parts.values() for part, param in named if part.endswith("log_gain_RG")]
        norms += [part for name in groups.norms for part, _ in parts[name]]
        beside = [f"beside.{name}" for name, _ in self.beside.named_parameters()]

        def matrices(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(part for name in names for part, _ in parts[name] if part not in norms)

        hidden = tuple(
            HiddenMatrix(part, splits[name] if sum(splits[name]) == len(param) else (len(param),))
            for name in splits
            for part, param in parts[name]
            if part not in norms
        )
        head = (*matrices(groups.head), *beside)
        return ParamGroups(hidden, matrices(groups.embedding), head, tuple(dict.fromkeys(norms)))

    def _parts(self, name: str) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what is trained of a weight."""
        if name in self._names:
            index = self._names.index(name)
            for part, param in self.treated[index].named_parameters():
                yield f"treated.{index}.{part}", param
        elif not self._is_lora:
            yield f"inner.{name}", self._module.get_parameter(name)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # torch has overloads
        """Return what is trained, and buffers; a family decides itself which of its own tensors are saved."""
        del args, kwargs
        return {
            f"{part}.{name}": tensor
            for part in ("inner", "treated", "beside")
            for name, tensor in self.get_submodule(part).state_dict().items()
        }

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Set the tensors to what `state_dict` gave."""
        parts: dict[str, dict[str, Any]] = {"inner": {}, "treated": {}, "beside": {}}
        for name, tensor in state_dict.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        if unknown := sorted(parts.keys() - {"inner", "treated", "beside"}):
            raise RuntimeError(f"unexpected tensors of {unknown[0]}")
        for part, own in parts.items():
            self.get_submodule(part).load_state_dict(own, strict=strict, assign=assign)


_Owners = tuple[tuple[nn.Module, str], ...]


def _owners(module: nn.Module, name: str) -> _Owners:
    """Return the modules that hold a parameter, several where it is tied, and what each calls it."""
    sought = module.get_parameter(name)
    return tuple(
        (part, own)
        for part in module.modules()
        for own, param in part.named_parameters(recurse=False)
        if param is sought
    )


def _to_buffer_(module: nn.Module, owners: _Owners, name: str) -> None:
    tensor = module.get_parameter(name).detach()
    for part, own in owners:
        delattr(part, own)
        part.register_buffer(own, tensor, persistent=False)


def _to_parameter_(module: nn.Module, owners: _Owners, name: str) -> None:
    param = nn.Parameter(module.get_buffer(name))
    for part, own in owners:
        delattr(part, own)
        part.register_parameter(own, param)


def _inside_cells(module: nn.Module) -> set[str]:
    """Return the weights of torch's recurrent cells, which are read where they lie and cannot be put in for a pass."""
    return {
        f"{path}.{name}"
        for path, part in module.named_modules()
        if isinstance(part, nn.RNNBase)
        for name, _ in part.named_parameters()
    }
