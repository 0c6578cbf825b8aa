"""Weights that become zero, and stay so."""

from kleiber.compress.prune.prune import Prune

__all__ = ["Prune"]
