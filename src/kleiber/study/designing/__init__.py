"""Optimal design: which rungs of a ladder tell most about one run to come, for what they cost."""
