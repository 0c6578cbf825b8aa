"""Data to learn from: sources, splits without copies, tokenizers, batches with a cursor."""

from kleiber.data.batches import Batch
from kleiber.data.data import Data, Samples, Split
from kleiber.data.model_tokenizer import with_model_tokenizer
from kleiber.data.opening import open_data
from kleiber.data.passages import END_OF_TEXT
from kleiber.data.text_data import MAX_EPOCHS, TextData, require_tokens, save_tokenizer
from kleiber.data.tokenizer import END_OF_TEXT_ID, load_tokenizer
from kleiber.runs.data_shape import PAD_ID

__all__ = [
    "END_OF_TEXT",
    "END_OF_TEXT_ID",
    "MAX_EPOCHS",
    "PAD_ID",
    "Batch",
    "Data",
    "Samples",
    "Split",
    "TextData",
    "load_tokenizer",
    "open_data",
    "require_tokens",
    "save_tokenizer",
    "with_model_tokenizer",
]
