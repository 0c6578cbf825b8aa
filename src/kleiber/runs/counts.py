"""How parameters are counted: by group, and by which convention the groups are added up."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from kleiber.runs.document import Document

__all__ = ["CONVENTIONS", "Convention", "ParamCount"]

Convention = Literal["total", "body", "matmul"]
"""Which parameters the N of a law counts."""

CONVENTIONS: dict[Convention, str] = {
    "total": "every parameter once",
    "body": "without embedding and head",
    "matmul": "weights that multiply activations: body and output head, tied or not",
}


class ParamCount(Document):
    """Parameters of a model by group [count]; the groups add up to the total.

    Example:
        >>> count = ParamCount(embedding=64, body=100, head=0, is_tied=True)
        >>> count.total, count.by("body"), count.by("matmul")
        (164, 100, 164)
    """

    embedding: int
    """Input look-up tables; a tied head is stored here."""
    body: int
    """Everything between embedding and head, norms included."""
    head: int
    """An untied output projection; 0 when tied."""
    is_tied: bool = False
    """The output projection is the embedding table."""

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def total(self) -> int:
        """Every parameter once."""
        return self.embedding + self.body + self.head

    def by(self, convention: Convention) -> int:
        """Return the count by `convention`."""
        if convention == "total":
            return self.total
        if convention == "body":
            return self.body
        return self.body + (self.embedding if self.is_tied else self.head)
