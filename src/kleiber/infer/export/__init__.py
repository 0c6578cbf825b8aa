"""Models in the formats of others, each with a proof that it is the same model."""

from kleiber.infer.export.original import Original, open_original
from kleiber.infer.export.run import FORMATS, export_model

__all__ = ["FORMATS", "Original", "export_model", "open_original"]
