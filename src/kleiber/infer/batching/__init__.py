"""Many requests at once: continuous batching behind one interface."""

from kleiber.infer.batching.backend import Backend, Job
from kleiber.infer.batching.batched_text import BatchedText, BatchStats, QueueFullError
from kleiber.infer.batching.handle import Heard, TextHandle
from kleiber.infer.batching.open import BATCH_ENGINES, BatchEngine, open_batched_text
from kleiber.infer.batching.pages import Pages
from kleiber.infer.batching.slots import Slots
from kleiber.infer.batching.speaker import Speaker

__all__ = [
    "BATCH_ENGINES",
    "Backend",
    "BatchEngine",
    "BatchStats",
    "BatchedText",
    "Heard",
    "Job",
    "Pages",
    "QueueFullError",
    "Slots",
    "Speaker",
    "TextHandle",
    "open_batched_text",
]
