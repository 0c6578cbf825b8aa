"""Running a trained model: engines, and what they write."""

from kleiber.infer.generation import (
    Constraint,
    Piece,
    Request,
    Sampling,
    Speculation,
    TextGenerator,
    TextStream,
    draw,
    generate,
    pick,
)
from kleiber.infer.text_model import TextModel, open_text_model

__all__ = [
    "Constraint",
    "Piece",
    "Request",
    "Sampling",
    "Speculation",
    "TextGenerator",
    "TextModel",
    "TextStream",
    "draw",
    "generate",
    "open_text_model",
    "pick",
]
