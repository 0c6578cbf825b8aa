"""Specs of modules whose code is not ours: what a spec says of itself is read off the module, and off a step of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.runs import DataShape, Document, ParamCount

__all__ = ["TRACED_BATCH", "TracedSpec"]

TRACED_BATCH = 2
"""Samples of the step that is traced; operations are in proportion to them."""


class TracedSpec(Document):
    """A spec that is not counted in closed form: `facts.py` of its family builds the module without memory, and traces a step."""

    if TYPE_CHECKING:  # fields of each family, in an order of its own

        @property
        def family(self) -> str:
            """The folder of the family."""

        @property
        def shape(self) -> DataShape:
            """What is read."""

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix between embedding and head, kernels laid out in their columns."""
        return list(self._facts.facts_of(self).hidden_shapes)

    def count(self) -> ParamCount:
        """Return the parameters by group, of the module built without memory."""
        counted: ParamCount = self._facts.facts_of(self).num_params
        return counted

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` samples: of a traced step, or of a real one where no fake tensors do.

        Args:
            batch: Samples.
            context: Tokens of a text, where it is not that of the data.
            convention: Which part of causal attention is counted.

        Raises:
            RecipeError: The module does not read such data.
        """
        own = self.shape.context
        shape = self.shape.model_copy(update={"context": context}) if context and own else self.shape
        traced = self._facts.traced_flops_of(self.model_copy(update={"shape": shape}), convention)
        forward, backward = (one * batch // TRACED_BATCH for one in traced)
        return FlopCount(forward=forward, backward=backward, convention=convention)

    @property
    def _facts(self) -> Any:
        """The part of the family that imports torch, which takes a second."""
        return importlib.import_module(f"kleiber.models.{self.family}.facts")
