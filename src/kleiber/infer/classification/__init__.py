"""Which class something is of, by a trained run: files become what the run's model was trained on, and its answers probabilities."""

from kleiber.infer.classification.answer import Answer
from kleiber.infer.classification.classifier import Classifier, open_classifier
from kleiber.infer.classification.reading import Reader, Sample, reader_of

__all__ = ["Answer", "Classifier", "Reader", "Sample", "open_classifier", "reader_of"]
