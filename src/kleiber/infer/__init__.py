"""Running a trained model: engines, sampling, streaming text."""

from kleiber.infer.engine import Engine
from kleiber.infer.generation import generate
from kleiber.infer.sampling import Sampling, pick
from kleiber.infer.text import TextStream
from kleiber.infer.torch_engine import TorchEngine

__all__ = ["Engine", "Sampling", "TextStream", "TorchEngine", "generate", "pick"]
