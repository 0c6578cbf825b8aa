"""Language models behind every engine, token by token."""

from kleiber.infer.decoding.decoder import Decoder, Stepper
from kleiber.infer.decoding.open import StepModel, open_decoder, step_model

__all__ = ["Decoder", "StepModel", "Stepper", "open_decoder", "step_model"]
