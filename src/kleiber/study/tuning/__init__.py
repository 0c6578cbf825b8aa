"""Rates that carry over from a small model: found by a bounded search, checked by how activations move with width and depth."""
