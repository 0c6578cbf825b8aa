"""The `seq2seq` family: encoder-decoder Transformers in the layout of `PegasusForConditionalGeneration` or `MarianMTModel`."""

from kleiber.models.seq2seq.spec import Seq2SeqSpec

__all__ = ["Seq2SeqSpec"]
