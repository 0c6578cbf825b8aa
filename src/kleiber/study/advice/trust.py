"""How far a route goes beyond what its law was fitted to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from kleiber.scaling import Law, PublishedLaw, rule_of_thumb_flops
from kleiber.scaling.points import flops_of
from kleiber.study.advice.search import Plan, sizes_of
from kleiber.study.advice.ways import PUBLISHED_COMPRESSION
from kleiber.units import format_count

__all__ = ["law_warnings", "route_warnings"]

_FAR = 1.5
"""Beyond the rows by this factor is said."""
_MOST_UNREACHED = 0.05
_PUBLISHED_SIZE = 3e9
"""Parameters from which what was published of 7 B is taken as it is."""


def route_warnings(law: Law | PublishedLaw, plan: Plan, unreached_frac: float) -> Iterator[str]:
    """Yield where a route's run lies outside of the law's runs."""
    size, tokens = plan.sized.num_params, plan.tokens
    low, high = sizes_of(law)
    if size > _FAR * high or size < low / _FAR:
        side, factor = (
            ("above the largest", size / high) if size > high else ("below the smallest", low / size)
        )
        yield f"{format_count(size)} parameters are {factor:.3g} times {side} run of the law."
    if isinstance(law, Law):
        yield from _beyond_rows(law, size, tokens)
    if plan.way.start is not None and (isinstance(law, PublishedLaw) or law.eval_hash is None):
        yield f"The donor's loss of {plan.way.start.loss:.4g} is taken to be of the law's text and tokenizer, which the law does not name."
    if unreached_frac > _MOST_UNREACHED:
        yield f"In {unreached_frac:.0%} of the law's draws a model of this size never reaches the loss; a larger one is safer."
    if plan.way is PUBLISHED_COMPRESSION and size < _PUBLISHED_SIZE:
        yield "What 4 bits cost in quality was published of 7 B parameters; one of this size will lose more."


def _beyond_rows(law: Law, size: float, tokens: float) -> Iterator[str]:
    dearest = max(flops_of(row, law.convention) for row in law.rows)
    factor = rule_of_thumb_flops(size, tokens) / dearest
    tested = None if law.average is None else law.average.backtest_factor
    if factor > _FAR:
        beyond = (
            f", and the law was backtested over {tested:.3g}"
            if tested is not None and factor > tested
            else ""
        )
        yield f"Its training takes {factor:.3g} times the compute of the law's dearest run{beyond}."
    ratios = [row.num_tokens / row.num_params.by(law.convention) for row in law.rows]
    if tokens / size > _FAR * max(ratios):
        yield (
            f"{tokens / size:,.0f} tokens a parameter; the law's runs have at most {max(ratios):,.0f}, and laws of short runs "
            "overrate long training (Sardana et al. 2024, arXiv:2401.00448)."
        )


def law_warnings(law: Law | PublishedLaw, loss: float) -> Iterator[str]:
    """Yield what makes the target itself doubtful."""
    if isinstance(law, PublishedLaw):
        yield (
            f"The law is that of {law.title}: its losses are of its own text and tokenizer, and it comes without refits, so that "
            "intervals are of speed, compression and growth alone."
        )
        return
    best, worst = min(row.loss for row in law.rows), max(row.loss for row in law.rows)
    if loss < best:
        yield f"No run of the law has reached {loss:.4g}: the lowest loss is {best:.4g}."
    if loss > worst:
        yield f"All runs of the law are better than {loss:.4g}: the highest loss is {worst:.4g}."
    if law.average is None and "E" in law.coefficients and not law.e_determined:
        low, high = law.intervals["E"]["95"]
        yield f"The rows do not determine the law's floor E (95%: {low:.4g} to {high:.4g}): costs near it are guesses."
