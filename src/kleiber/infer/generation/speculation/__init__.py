"""Speculative decoding: tokens are drafted, and the model judges several at once."""

from kleiber.infer.generation.speculation.accept import verified
from kleiber.infer.generation.speculation.draft_model import DraftModel
from kleiber.infer.generation.speculation.drafter import Draft, Drafter
from kleiber.infer.generation.speculation.lookup import PromptLookup
from kleiber.infer.generation.speculation.pace import Pace
from kleiber.infer.generation.speculation.speculate import speculate
from kleiber.infer.generation.speculation.speculator import Speculation, Speculator

__all__ = [
    "Draft",
    "DraftModel",
    "Drafter",
    "Pace",
    "PromptLookup",
    "Speculation",
    "Speculator",
    "speculate",
    "verified",
]
