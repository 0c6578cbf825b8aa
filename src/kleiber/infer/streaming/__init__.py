"""Classifying what arrives in pieces: a recurrent model keeps its state, any other reads the last window."""

from kleiber.infer.streaming.frames import FrameStream
from kleiber.infer.streaming.opening import open_stream
from kleiber.infer.streaming.recurrent import RecurrentReader
from kleiber.infer.streaming.stream import SeriesStream, SoundStream, StreamClassifier, TextClassifierStream
from kleiber.infer.streaming.words import WordStream

__all__ = [
    "FrameStream",
    "RecurrentReader",
    "SeriesStream",
    "SoundStream",
    "StreamClassifier",
    "TextClassifierStream",
    "WordStream",
    "open_stream",
]
