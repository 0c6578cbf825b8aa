"""Training: a recipe goes in, a run folder comes out."""

from kleiber.train.loop import Progress
from kleiber.train.run import Branch, train

__all__ = ["Branch", "Progress", "train"]
