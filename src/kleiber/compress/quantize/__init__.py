"""Weights in few bits: round-to-nearest, GPTQ, AWQ, HQQ, and how many bits each layer gets."""
