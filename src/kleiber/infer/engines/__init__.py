"""Trained models behind the libraries that run them fast."""

from kleiber.infer.engines.module import PredictorModule
from kleiber.infer.engines.open import ENGINES, EngineName, open_predictor

__all__ = ["ENGINES", "EngineName", "PredictorModule", "open_predictor"]
