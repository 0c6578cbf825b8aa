"""Text that a language model writes: drawn, streamed, stopped, and drafted where that is faster."""

from kleiber.infer.generation.constraint import Constraint
from kleiber.infer.generation.generator import TextGenerator, generate
from kleiber.infer.generation.prompts import Prompt
from kleiber.infer.generation.request import Finish, Piece, Request
from kleiber.infer.generation.sampling import Sampling, draw, pick, probabilities
from kleiber.infer.generation.speculation import Speculation
from kleiber.infer.generation.text import TextStream

__all__ = [
    "Constraint",
    "Finish",
    "Piece",
    "Prompt",
    "Request",
    "Sampling",
    "Speculation",
    "TextGenerator",
    "TextStream",
    "draw",
    "generate",
    "pick",
    "probabilities",
]
