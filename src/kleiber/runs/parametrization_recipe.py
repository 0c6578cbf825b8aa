"""How rates and weights at the start follow from those of a smaller model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kleiber.runs.document import Document

__all__ = ["ParametrizationRecipe"]


class ParametrizationRecipe(Document):
    """What the optimizer's rates were tuned at, and the rule by which they carry over to this run.

    The forward pass has no multiplier of its own: a trained model is of the same layout whatever the rule.

    Example:
        >>> ParametrizationRecipe(base_tokens=1e6, token_exponent=0.5).rate_scale(4e6)
        0.5
    """

    name: Literal["standard", "mup_simple", "completep"] = "standard"
    """`standard`: the same rates at all sizes. `mup_simple`: the rate of hidden matrices falls with the width (Wortsman et al.
    2023, arXiv:2309.14322). `completep`: weights at the start, rates, eps and decay of every group follow width and depth (Dey et al.
    2025, arXiv:2505.01618, alpha = 1), those of muon's matrices so that a step's spectral norm does not (Yang et al. 2023,
    arXiv:2310.17813)."""
    base_width: int | None = Field(default=None, strict=True, ge=1, le=10**6)
    """Width at which the rates were tuned."""
    base_depth: int | None = Field(default=None, strict=True, ge=1, le=10**4)
    """Of completep: depth at which they were tuned; None lets only the width count."""
    base_tokens: float | None = Field(default=None, gt=0, lt=1e18)
    """Tokens of the run at which they were tuned, samples where a sample is the unit; None lets no rate depend on the horizon."""
    token_exponent: float = Field(default=0.32, ge=0, lt=2)
    """The rates fall with the tokens to this power (Bjorck et al. 2024, arXiv:2409.19913)."""
    horizon_tokens: float | None = Field(default=None, gt=0, lt=1e18)
    """Tokens that count as the run's horizon; None are its own. Branches of one trunk must agree on them."""

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if self.name == "standard" and (self.base_width or self.base_depth):
            raise ValueError("base_width and base_depth have no effect on standard, only on completep")
        if self.name != "standard" and self.base_width is None:
            raise ValueError(
                f"{self.name} needs base_width, the width at which the rates were tuned: base_width: 64"
            )
        if self.name == "mup_simple" and self.base_depth:
            raise ValueError(
                f"base_depth has no effect on mup_simple, only on completep; got {self.base_depth}"
            )
        if self.horizon_tokens and not self.base_tokens:
            raise ValueError(f"horizon_tokens has no effect without base_tokens, got {self.horizon_tokens:g}")
        return self

    def rate_scale(self, num_tokens: float) -> float:
        """Return the factor on all rates of a run of so many tokens."""
        if self.base_tokens is None:
            return 1.0
        return float(((self.horizon_tokens or num_tokens) / self.base_tokens) ** -self.token_exponent)
