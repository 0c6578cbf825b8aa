"""Running a trained model: engines, sampling, streaming text."""

from kleiber.infer.engine import Engine
from kleiber.infer.generation.sampling import Sampling, draw, pick
from kleiber.infer.generation.text import TextStream
from kleiber.infer.one_text import generate
from kleiber.infer.torch_engine import TorchEngine

__all__ = ["Engine", "Sampling", "TextStream", "TorchEngine", "draw", "generate", "pick"]
