"""Language models behind every engine, token by token."""

from kleiber.infer.decoding.decoder import Decoder, Stepper
from kleiber.infer.decoding.open import StepModel, open_decoder, step_model
from kleiber.infer.decoding.with_cache import WithCache

__all__ = ["Decoder", "StepModel", "Stepper", "WithCache", "open_decoder", "step_model"]
