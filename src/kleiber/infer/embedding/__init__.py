"""Texts as points: near ones mean alike."""

from kleiber.infer.embedding.embedder import Embedder, open_embedder
from kleiber.infer.embedding.pooling import Pooling

__all__ = ["Embedder", "Pooling", "open_embedder"]
