"""Numbers with units: reading what people type, printing what people read."""

from __future__ import annotations

import math
import re

from kleiber.errors import UsageError

__all__ = [
    "format_accuracy",
    "format_bytes",
    "format_count",
    "format_flops",
    "format_loss",
    "format_measure",
    "format_seconds",
    "parse_count",
]

_PREFIXES = (("", 1.0), ("K", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12))
_SI_PREFIXES = (
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Z", 1e21),
    ("Y", 1e24),
)
_COUNT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kKmMbBtT]?)\s*")


def parse_count(text: str, name: str, *, maximum: float = 1e30) -> float:
    """Return the positive number that a person typed as `2e9`, `2.6B`, `124M` or `512`.

    Args:
        text: What was typed.
        name: The option's name, for the error.
        maximum: Largest sensible value; above it the number is refused.

    Raises:
        UsageError: Not a number, not finite, not positive, or above `maximum`.

    Example:
        >>> parse_count("2.6B", "--tokens")
        2600000000.0
    """
    match = _COUNT.fullmatch(text)
    value = float(match[1]) * dict(_PREFIXES)[match[2].upper()] if match else math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"{name} must be a positive number.", got=text, hint=f"{name} 2e9   (or 2B, 350M, 4096)"
        )
    if value > maximum:
        raise UsageError(f"{name} must be at most {maximum:.3g}.", got=text, hint=f"{name} 2e9")
    return value


def _with_prefix(value: float, prefixes: tuple[tuple[str, float], ...]) -> str:
    # The prefix is chosen of the rounded value: 999,600 is 1.00 M and not 1000 K.
    exponent = max(0, int(f"{value:.2e}".partition("e")[2]))
    thousands = min(exponent // 3, len(prefixes) - 1)
    symbol, scale = prefixes[thousands]
    is_whole = thousands == 0 and value == int(value)
    digits = 0 if is_whole else max(0, 2 - (exponent - 3 * thousands))
    return f"{value / scale:.{digits}f} {symbol}".rstrip()


def format_count(value: float) -> str:
    """Return a count with three digits and a prefix.

    Example:
        >>> format_count(124_439_808), format_count(812)
        ('124 M', '812')
    """
    return _with_prefix(value, _PREFIXES)


def format_flops(value: float) -> str:
    """Return a number of operations.

    Example:
        >>> format_flops(3.1e15)
        '3.10 PFLOP'
    """
    text = _with_prefix(value, _SI_PREFIXES)
    return f"{text}FLOP" if text[-1].isalpha() else f"{text} FLOP"


def format_bytes(value: float) -> str:
    """Return a number of bytes in decimal units.

    Example:
        >>> format_bytes(1_500_000), format_bytes(12)
        ('1.50 MB', '12 B')
    """
    text = _with_prefix(value, _SI_PREFIXES)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def format_seconds(value: float) -> str:
    """Return a duration that a person reads at a glance.

    Example:
        >>> format_seconds(0.0123), format_seconds(75), format_seconds(7380), format_seconds(3e6)
        ('12.3 ms', '1 min 15 s', '2 h 03 min', '34.7 days')
        >>> format_seconds(59e-6), format_seconds(0)
        ('59 µs', '0 s')
    """
    # Units are chosen of the rounded value: 0.9999 s is 1 s and not 1e+03 ms.
    rounded = float(f"{value:.3g}")
    if rounded < 1e-3:
        return f"{value * 1e6:.3g} µs" if value else "0 s"
    if rounded < 1:
        return f"{value * 1e3:.3g} ms"
    if rounded < 60:
        return f"{rounded:g} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days = value / 86_400
    return f"{days:.3g} days" if days < 999.5 else f"{days:,.0f} days"


def format_loss(value: float) -> str:
    """Return a loss with four decimals, the digits that seed noise leaves meaningful."""
    return f"{value:.4f}"


def format_accuracy(value: float) -> str:
    """Return a part of 1 as a percentage with two decimals.

    Example:
        >>> format_accuracy(0.97134)
        '97.13%'
    """
    return f"{value:.2%}"


def format_measure(value: float) -> str:
    """Return a measure of quality, such as an accuracy or a perplexity, with the digits that a comparison needs.

    Example:
        >>> format_measure(0.98765), format_measure(23.456), format_measure(1234.5)
        ('0.9877', '23.46', '1,234.5')
    """
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 1000 else f"{value:,.1f}"
