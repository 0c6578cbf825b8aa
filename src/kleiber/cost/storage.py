"""Bytes on disk and on the wire: a training checkpoint, a served model by format, the time to send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kleiber.errors import RecipeError, nearest

__all__ = [
    "LINKS_GBIT_PER_S",
    "RNG_STATE_BYTES",
    "SERVED_FORMATS",
    "ServedFormat",
    "checkpoint_bytes",
    "send_time_s",
    "served_bytes",
]

LINKS_GBIT_PER_S = (1, 10, 100)
"""Of an office, of a server, of a cluster."""

RNG_STATE_BYTES = 5056
"""torch's CPU generator: the Mersenne Twister's state as torch writes it, the same in every version since 1.0."""

_BITS = 8
_Q4 = 8 * (2 + 16) / 32
_Q8 = 8 * (2 + 32) / 32
_Q4_K = 8 * 144 / 256
_Q6_K = 8 * 210 / 256


@dataclass(frozen=True)
class ServedFormat:
    """Bits a weight by what the weight is for; scales and minima of blocks are part of them."""

    matrix_bits: float
    embedding_bits: float
    """Of the input look-up table."""
    output_bits: float
    """Of the matrix that makes the logits; a tied table is one."""
    vector_bits: float
    """Of norms and biases."""


def _plain(bits: int) -> ServedFormat:
    return ServedFormat(bits, bits, bits, bits)


_RAISED_FRAC = 0.145
"""Q4_K_M keeps the value and the down projection of half of the blocks in Q6_K. They are 29% (Llama 3: grouped
queries) to 31% (Llama 2) of a block; half of that is 0.144 to 0.153 of the matrices."""

SERVED_FORMATS: Mapping[str, ServedFormat] = {
    "safetensors-fp32": _plain(32),
    "safetensors-bf16": _plain(16),
    # One scale a row is left out: 4 bytes beside at least 1,024 in a model that is worth quantizing.
    "int8": ServedFormat(8, 8, 8, 16),
    # 32 weights share a 16-bit scale; llama.cpp leaves vectors in fp32 in all its formats.
    "gguf-q8_0": ServedFormat(_Q8, _Q8, _Q8, 32),
    "gguf-q4_0": ServedFormat(_Q4, _Q4, _Q6_K, 32),
    # 256 weights share 144 bytes (Q4_K) or 210 (Q6_K).
    "gguf-q4_k_m": ServedFormat(_Q4_K + _RAISED_FRAC * (_Q6_K - _Q4_K), _Q4_K, _Q6_K, 32),
}
"""Formats by name. Source of the blocks and of what is kept finer: llama.cpp, ggml-common.h and llama-quant.cpp."""


def served_bytes(
    num_params: int,
    format_name: str,
    *,
    num_embedding: int = 0,
    num_output: int = 0,
    num_vectors: int = 0,
) -> int:
    """Return the bytes of a model's weights in a format, without the file's header.

    A header takes about a hundred bytes a tensor (safetensors), with the tokenizer a few megabytes (GGUF).
    Rows that a block of 32 or 256 does not divide go to a coarser block in llama.cpp; that is not followed.

    Args:
        num_params: All weights; shared ones once.
        format_name: A name of `SERVED_FORMATS`.
        num_embedding: Of them in look-up tables that are not the output matrix too.
        num_output: Of them in the output matrix, a tied table included.
        num_vectors: Of them in norms and biases.

    Returns:
        Weights and the scales of their blocks [bytes].

    Raises:
        RecipeError: An unknown format, or parts that exceed the whole.

    Example:
        >>> served_bytes(7_000_000_000, "safetensors-bf16")
        14000000000
        >>> served_bytes(1024, "gguf-q8_0"), served_bytes(1024, "gguf-q4_0")  # 32 blocks of 34 and of 18 bytes
        (1088, 576)
    """
    if format_name not in SERVED_FORMATS:
        raise RecipeError(
            f"unknown format '{format_name}'. {nearest(format_name, SERVED_FORMATS)}",
            hint="--format " + " or ".join(SERVED_FORMATS),
        )
    num_matrices = num_params - num_embedding - num_output - num_vectors
    if min(num_matrices, num_embedding, num_output, num_vectors) < 0:
        raise RecipeError(
            f"embedding, output and vectors must not be negative and together at most the {num_params} parameters.",
            got=(num_embedding, num_output, num_vectors),
        )
    chosen = SERVED_FORMATS[format_name]
    bits = (
        num_matrices * chosen.matrix_bits
        + num_embedding * chosen.embedding_bits
        + num_output * chosen.output_bits
        + num_vectors * chosen.vector_bits
    )
    return round(bits / _BITS)


def checkpoint_bytes(num_params: int, optimizer_state_bytes: int, *, weight_bytes: int = 4) -> int:
    """Return the bytes of a training checkpoint: weights, optimizer state and the generator's state.

    Left out are the header (about a hundred bytes a tensor), counters (AdamW: 4 bytes a tensor) and gradients,
    which no checkpoint between steps holds.

    Args:
        num_params: All weights; shared ones once.
        optimizer_state_bytes: Of `optimizer_cost`, or 4 bytes for each value of `OPTIMIZERS` and each parameter.
        weight_bytes: Of one weight; 4 also where training computes in half precision beside fp32 weights.

    Example:
        >>> checkpoint_bytes(1_000_000, 8_000_000)
        12005056
    """
    return num_params * weight_bytes + optimizer_state_bytes + RNG_STATE_BYTES


def send_time_s(num_bytes: float, gbit_per_s: float) -> float:
    """Return the time to send bytes over a link that carries nothing else [s].

    Args:
        num_bytes: What is sent.
        gbit_per_s: Rate of the link, 1e9 bits a second; protocols cost a few percent more.

    Raises:
        RecipeError: The rate is not positive.

    Example:
        >>> [send_time_s(14e9, rate) for rate in LINKS_GBIT_PER_S]
        [112.0, 11.2, 1.12]
    """
    if not gbit_per_s > 0:
        raise RecipeError("a link's rate must be positive [Gbit/s].", got=gbit_per_s)
    return num_bytes * _BITS / (gbit_per_s * 1e9)
