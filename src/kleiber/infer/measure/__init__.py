"""Latency, throughput and memory of models behind engines, side by side on this machine."""

from kleiber.infer.measure.calls import SampleCalls, TextCalls, TextTimes
from kleiber.infer.measure.figures import EngineFigures
from kleiber.infer.measure.memory import Fresh, fresh_process, peak_memory_bytes
from kleiber.infer.measure.opening import Opening
from kleiber.infer.measure.side_by_side import measure
from kleiber.infer.measure.staged import staged_decode, staged_forward
from kleiber.infer.measure.work import DecodeWork, ForwardWork, Work

__all__ = [
    "DecodeWork",
    "EngineFigures",
    "ForwardWork",
    "Fresh",
    "Opening",
    "SampleCalls",
    "TextCalls",
    "TextTimes",
    "Work",
    "fresh_process",
    "measure",
    "peak_memory_bytes",
    "staged_decode",
    "staged_forward",
]
