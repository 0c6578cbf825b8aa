"""The `rnn` family: Elman, GRU and LSTM networks, as language models and as classifiers."""

from kleiber.models.rnn.spec import RNNSpec

__all__ = ["RNNSpec"]
