"""Training: a recipe goes in, a run folder comes out."""

from kleiber.train.loop import Progress
from kleiber.train.run import train
from kleiber.train.start import Branch

__all__ = ["Branch", "Progress", "train"]
