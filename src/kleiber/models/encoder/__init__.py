"""The `encoder` family: bidirectional Transformers in the layout of transformers' `BertForSequenceClassification`."""

from kleiber.models.encoder.spec import EncoderSpec

__all__ = ["EncoderSpec"]
