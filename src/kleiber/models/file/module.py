"""A user's module under the contract of the families.

Legend: B samples, T tokens, V vocabulary, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError
from kleiber.models.family import FamilyModule
from kleiber.models.file.code import built
from kleiber.models.file.spec import FileSpec
from kleiber.models.file.weights import load_weights_
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.family import example_of
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.initialization import seeded

__all__ = ["FileModule", "build", "require_outputs"]

_BATCH = 2


class FileModule(FamilyModule):
    """What the user's code builds, called as the families are: tensors in, logits or outputs out.

    Args:
        spec: The module, on its data; built with random weights on the current default device.
    """

    def __init__(self, spec: FileSpec) -> None:
        super().__init__()
        self.spec = spec
        self.module = built(spec)

    @property
    def title(self) -> str:
        """As the user typed it."""
        return self.spec.title

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits [B, T, V] of each next token, or outputs [B, K]."""
        output: Tensor = self.module(*inputs)
        return output

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them.

        Tables are embeddings; the head is the last linear layer with as many rows as there are outputs, or tokens.
        """
        named = list(self.named_parameters())
        name_of = {id(param): name for name, param in named}
        parts = list(self.modules())
        tables = {
            name_of[id(part.weight)] for part in parts if isinstance(part, nn.Embedding | nn.EmbeddingBag)
        }
        num_rows = self.spec.shape.num_outputs or self.spec.shape.vocab_size
        heads = [part for part in parts if isinstance(part, nn.Linear) and part.out_features == num_rows]
        head = {name_of[id(part.weight)] for part in heads[-1:]} - tables
        return groups_of(self, embedding=tables, head=head)


def build(spec: FileSpec, *, seed: int = 0) -> FileModule:
    """Return the module [fp32, CPU] with random weights by the seed, or those that the spec names.

    Raises:
        RecipeError: The code fails, the module does not take the data or answers with another shape, or the weights do not fit.
    """
    with seeded(seed):
        module = FileModule(spec)
    if spec.weights is not None:
        load_weights_(module.module, spec.weights)
    require_outputs(module)
    return module


@torch.no_grad()
def require_outputs(module: FileModule) -> None:
    """Raise if a module does not take the data, or does not answer what is asked of it.

    Raises:
        RecipeError: Naming the layer that fails, or both shapes.
    """
    shape, example = module.spec.shape, example_of(module.spec.shape, _BATCH)
    was_training = module.training
    with explained(module.module, example), seeded(0):
        output = module.module.eval()(*example.args)
    module.train(was_training)
    asked = (
        (_BATCH, shape.context, shape.vocab_size)
        if shape.num_outputs is None
        else (_BATCH, shape.num_outputs)
    )
    if not isinstance(output, Tensor) or tuple(output.shape) != asked:
        raise RecipeError(
            f"{module.title} must return one tensor {list(asked)} for {_BATCH} samples of the data.",
            got=list(output.shape) if isinstance(output, Tensor) else type(output).__name__,
            hint="as many outputs as the data has classes or values",
        )
