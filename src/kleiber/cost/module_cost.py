"""What each module of a model costs, as a tree to any depth. Pure Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kleiber.cost.operations import Operation

__all__ = ["ModuleCost", "ModuleParams", "fold_modules"]


@dataclass(frozen=True)
class ModuleParams:
    """A module's own parameters, without its children's; shared ones stand at their first owner."""

    path: str
    """Dotted; empty is the model itself."""
    type_name: str
    num_params: int
    num_trainable: int


@dataclass(frozen=True)
class ModuleCost:
    """A module with all that is inside it; what its children do not have is its own."""

    path: str
    type_name: str
    num_params: int
    num_trainable: int
    forward_flops: int
    """Of one step [FLOP]."""
    backward_flops: int
    """Of one step [FLOP]; running forward again included."""
    activation_bytes: int
    """Held at the fullest moment."""
    children: tuple[ModuleCost, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path.

        Example:
            >>> ModuleCost("blocks.0.mlp", "MLP", 0, 0, 0, 0, 0).name
            'mlp'
        """
        return self.path.rpartition(".")[2]

    def walk(self) -> Iterator[ModuleCost]:
        """Yield this module and everything inside, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


_AMOUNTS = ("num_params", "num_trainable", "forward_flops", "backward_flops", "activation_bytes")
"""What adds up from children to parents."""


def fold_modules(
    modules: Sequence[ModuleParams],
    operations: Iterable[Operation] = (),
    activations: Mapping[str, int] | None = None,
    *,
    depth: int | None = None,
) -> ModuleCost:
    """Return the tree of modules with what each one costs.

    Work of a path that is no module belongs to the nearest module around it.

    Args:
        modules: All modules, each after its parent; the first is the model.
        operations: Of one step; those of the optimizer are nobody's.
        activations: Bytes by the path of the module that made them.
        depth: Levels below the model that are shown; what is deeper counts in its ancestor. None is all.

    Raises:
        ValueError: There is no module, or the first is not the model.

    Example:
        >>> layers = [ModuleParams("", "Net", 0, 0), ModuleParams("fc", "Linear", 6, 6)]
        >>> work = Operation("mm", "matmul", "forward", "fc", (1, 8, 2, 3), 96, 136)
        >>> tree = fold_modules(layers, [work])
        >>> tree.num_params, tree.forward_flops, [child.name for child in tree.children]
        (6, 96, ['fc'])
    """
    if not modules or modules[0].path:
        raise ValueError("the first module must be the model itself, whose path is empty")
    own = {
        module.path: ModuleCost(
            module.path, module.type_name, module.num_params, module.num_trainable, 0, 0, 0
        )
        for module in modules
    }
    for operation in operations:
        if operation.phase != "optimizer":
            _add(own, operation.module, f"{operation.phase}_flops", operation.total_flops)
    for path, num_bytes in (activations or {}).items():
        _add(own, path, "activation_bytes", num_bytes)
    return _cut(_sum_up(own), depth)


def _add(own: dict[str, ModuleCost], path: str, name: str, amount: int) -> None:
    while path not in own:
        path = path.rpartition(".")[0]
    own[path] = replace(own[path], **{name: getattr(own[path], name) + amount})


def _sum_up(own: dict[str, ModuleCost]) -> ModuleCost:
    """Build the tree from its leaves: children come after their parents, so the last ones are ready first."""
    children: dict[str, list[ModuleCost]] = {path: [] for path in own}
    for path in reversed(own):
        inside = children[path][::-1]
        amounts = {
            name: getattr(own[path], name) + sum(getattr(c, name) for c in inside) for name in _AMOUNTS
        }
        node = replace(own[path], **amounts, children=tuple(inside))
        if not path:
            return node
        children[_parent(path, own)].append(node)
    raise AssertionError("the model itself is the last that is reached")


def _parent(path: str, own: Mapping[str, object]) -> str:
    path = path.rpartition(".")[0]
    while path not in own:
        path = path.rpartition(".")[0]
    return path


def _cut(node: ModuleCost, depth: int | None) -> ModuleCost:
    if depth is None:
        return node
    kept = tuple(_cut(child, depth - 1) for child in node.children) if depth > 0 else ()
    return replace(node, children=kept)
