"""The `inception` family: blocks of parallel convolutions, like GoogLeNet."""

from kleiber.models.inception.spec import InceptionSpec

__all__ = ["InceptionSpec"]
