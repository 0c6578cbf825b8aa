"""Text to learn from: sources, a split without copies, a tokenizer, packed batches with a cursor."""

from kleiber.data.batches import Batch
from kleiber.data.passages import END_OF_TEXT
from kleiber.data.text_data import MAX_EPOCHS, TextData, open_data, require_tokens, save_tokenizer
from kleiber.data.tokenizer import END_OF_TEXT_ID, load_tokenizer

__all__ = [
    "END_OF_TEXT",
    "END_OF_TEXT_ID",
    "MAX_EPOCHS",
    "Batch",
    "TextData",
    "load_tokenizer",
    "open_data",
    "require_tokens",
    "save_tokenizer",
]
