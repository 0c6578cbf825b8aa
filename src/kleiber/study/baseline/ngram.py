"""An n-gram language model with interpolated Kneser-Ney back-off, over token ids.

Legend: K order, V vocabulary, n tokens of the training text. A k-gram's number is its rank among the distinct ones of its
length; its key is the number of its first k - 1 tokens times V plus its last token, so that a context's k-grams lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NGram", "fit_ngram"]

_Ids = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """The k-grams of one length."""

    keys: _Ids
    """Distinct ones, rising."""
    discounted: _Floats
    """Count of each, less the discount."""
    totals: _Floats
    """Of each context, by number: counts of all that follow it."""
    reserved: _Floats
    """Of each context: what the discounts leave for the order below."""

    def find(self, keys: _Ids) -> _Ids:
        """Return the numbers of k-grams by their keys, -1 of those that training never saw."""
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == keys, places, -1)


@dataclass(frozen=True)
class NGram:
    """A fitted model."""

    orders: tuple[_Order, ...]
    vocab_size: int

    def probabilities(self, windows_BT: npt.NDArray[np.integer]) -> _Floats:
        """Return the probability of each token but the first of every window, given those before it, [B, T - 1].

        Args:
            windows_BT: Token ids; no window knows another.
        """
        tokens = windows_BT.astype(np.int64)
        targets = tokens[:, 1:]
        result = np.full(targets.shape, 1.0 / self.vocab_size)
        # Numbers of the contexts that end before each target, longer by one token with each order.
        contexts = np.zeros(targets.shape, np.int64)
        for k, order in enumerate(self.orders):
            if k:
                contexts = self._contexts(tokens, k)
            known = contexts >= 0
            context = np.where(known, contexts, 0)
            total = np.where(known, order.totals[context], 0.0)
            known &= total > 0
            place = order.find(context * self.vocab_size + targets)
            count = np.where(place >= 0, order.discounted[place], 0.0)
            mixed = (count + order.reserved[context] * result) / np.where(known, total, 1.0)
            result = np.where(known, mixed, result)
        return result

    def _contexts(self, tokens: _Ids, length: int) -> _Ids:
        """Return the number of the `length` tokens before each target, -1 where there are fewer or they are new."""
        B, T = tokens.shape
        found = np.full((B, T - 1), -1, np.int64)
        if length > T - 1:
            return found
        numbers = np.zeros((B, T - length), np.int64)
        for j in range(length):
            keys = numbers * self.vocab_size + tokens[:, j : T - length + j]
            numbers = np.where(numbers >= 0, self.orders[j].find(keys), -1)
        found[:, length - 1 :] = numbers
        return found


def fit_ngram(tokens: npt.NDArray[np.integer], vocab_size: int, *, order: int = 5) -> NGram:
    """Return the model of a text.

    The highest order counts how often a k-gram occurs, the others how many different tokens stand before it; one
    discount an order, n1 / (n1 + 2 n2), of the k-grams seen once and twice.

    Args:
        tokens: Ids of the training text, at least `order`.
        vocab_size: V.
        order: K, the longest k-gram.

    Source:
        Kneser and Ney 1995; Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling",
        equations 18 to 20.

    Example:
        >>> model = fit_ngram(np.array([0, 1, 2, 0, 1, 2, 0, 1, 3]), 4, order=2)
        >>> rows = np.array([[1, token] for token in range(4)])
        >>> bool(np.isclose(model.probabilities(rows).sum(), 1))
        True
    """
    text = tokens.astype(np.int64)
    grams: list[tuple[_Ids, _Ids, _Ids, _Ids]] = []
    numbers = np.zeros(len(text), np.int64)
    for k in range(1, order + 1):
        keys = numbers[: len(text) - k + 1] * vocab_size + text[k - 1 :]
        distinct, first, numbers, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        grams.append((distinct, first, numbers, counts))
    orders = []
    for k, (distinct, _, shorter, counts) in enumerate(grams, start=1):
        if k < order:
            _, first_longer, _, _ = grams[k]
            # The k-gram that ends where a longer one does begins a token after it.
            counts = np.bincount(shorter[first_longer + 1], minlength=len(distinct))  # noqa: PLW2901 - the other count
        num_contexts = 1 if k == 1 else len(grams[k - 2][0])
        orders.append(_order(distinct, counts, vocab_size, num_contexts))
    return NGram(tuple(orders), vocab_size)


def _order(keys: _Ids, counts: _Ids, vocab_size: int, num_contexts: int) -> _Order:
    seen_once, seen_twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = seen_once / (seen_once + 2 * seen_twice) if seen_once else 0.0
    contexts = keys // vocab_size
    taken = np.minimum(counts, discount)
    return _Order(
        keys=keys,
        discounted=(counts - taken).astype(np.float64),
        totals=np.bincount(contexts, weights=counts, minlength=num_contexts).astype(np.float64),
        reserved=np.bincount(contexts, weights=taken, minlength=num_contexts).astype(np.float64),
    )
