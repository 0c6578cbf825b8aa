"""How a study's numbers are written: values in their unit, exponents and factors with the digits that their intervals leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kleiber.report.words import Words
from kleiber.runs import Estimate
from kleiber.study.growing.document import Quantity
from kleiber.study.growing.trend import Trend
from kleiber.units import format_bytes, format_count, format_flops, format_loss, format_seconds

__all__ = [
    "PERCENT",
    "factor_text",
    "factor_texts",
    "signed_text",
    "slope_text",
    "tenfold_text",
    "value_text",
]

_FORMATS: Mapping[Quantity, Callable[[float], str]] = {
    "loss": format_loss,
    "error_frac": lambda value: f"{value:.2%}",
    "mean_absolute_error": lambda value: f"{value:.4g}",
    "train_flops": format_flops,
    "step_time_s": format_seconds,
    "peak_memory_bytes": format_bytes,
    "stored_bytes": format_bytes,
    "packed_bytes": format_bytes,
    "gradient_bytes": format_bytes,
    "packed_gradient_bytes": format_bytes,
    "decode_s": format_seconds,
    "forward_s": format_seconds,
    "gap": format_loss,
    "onset_epoch": lambda value: f"{value:.3g}",
    "highest_rate": lambda value: f"{value:.2g}",
    "spike_frac": lambda value: f"{value:.2%}",
    "noise_scale": format_count,
    "seed_sd": lambda value: f"{100 * value:.3g}%",
}

PERCENT: tuple[Quantity, ...] = ("error_frac", "spike_frac", "seed_sd")
"""Written as shares of a hundred."""
_EXACT_FRAC = 1e-4
"""A narrower interval is that of what is counted."""


def value_text(quantity: Quantity, value: float) -> str:
    """Return a value in its unit.

    Example:
        >>> value_text("peak_memory_bytes", 1.5e6), value_text("error_frac", 0.0312)
        ('1.50 MB', '3.12%')
    """
    return _FORMATS[quantity](value)


def slope_text(slope: float) -> str:
    """Return an exponent.

    Example:
        >>> slope_text(0.7512), slope_text(-0.0312), slope_text(0.00004)
        ('0.75', '-0.031', '0')
    """
    if abs(slope) < 5e-4:
        return "0"
    return f"{slope:.3f}" if abs(slope) < 0.1 else f"{slope:.2f}"


def factor_text(factor: float, digits: int = 2) -> str:
    """Return a factor.

    Example:
        >>> factor_text(5.6234), factor_text(0.8312), factor_text(12345.0), factor_text(10.0)
        ('5.6', '0.83', '12,000', '10')
    """
    if factor >= 10**digits:
        return f"{float(f'{factor:.{digits}g}'):,.0f}" if factor < 1e6 else f"{factor:.{digits}g}"
    return f"{factor:#.{digits}g}".rstrip(".")


def factor_texts(found: Estimate) -> tuple[str, str, str]:
    """Return a factor and its bounds with the digits that tell the bounds apart, two to four.

    Example:
        >>> factor_texts(Estimate(value=0.8912, low=0.8871, high=0.8949))
        ('0.891', '0.887', '0.895')
        >>> factor_texts(Estimate(value=10.0, low=10.0, high=10.0))
        ('10', '10', '10')
    """
    is_exact = found.high - found.low < _EXACT_FRAC * abs(found.value)
    texts = [
        tuple(factor_text(one, digits) for one in (found.value, found.low, found.high))
        for digits in (2, 3, 4)
    ]
    value, low, high = texts[0] if is_exact else next((one for one in texts if len(set(one)) > 2), texts[-1])
    return value, low, high


def signed_text(quantity: Quantity, change: float, words: Words) -> str:
    """Return a change with its sign; that of a share in percentage points.

    Example:
        >>> from kleiber.report.study.words import read_study_words
        >>> signed_text("gap", -0.5, read_study_words("en")), signed_text("spike_frac", 0.0032, read_study_words("en"))
        ('-0.5000', '+0.32 percentage points')
    """
    sign = "-" if change < 0 else "+"
    if quantity in PERCENT:
        return words("points", points=f"{sign}{100 * abs(change):.2f}")
    return f"{sign}{value_text(quantity, abs(change))}"


def tenfold_text(quantity: Quantity, trend: Trend, words: Words) -> tuple[str, str, str]:
    """Return what ten times the parameters do, and the bounds of its interval."""
    found: Estimate = trend.tenfold()
    values = (found.value, found.low, found.high)
    if trend.kind == "per_decade":
        value, low, high = (signed_text(quantity, one, words) for one in values)
        if quantity in PERCENT:  # the unit once, behind the range
            low = f"{100 * found.low:+.2f}"
    else:
        value, low, high = factor_texts(found)
    return value, low, high
