"""The engine `compiled`: a decode step that torch compiles whole, with weights in as few bits as they are stored."""

from kleiber.infer.compiled.stepper import CompiledStepper

__all__ = ["CompiledStepper"]
