"""The data that a transformers config was made for."""

from __future__ import annotations

from kleiber.models.foreign.transformers_config import open_config
from kleiber.models.foreign.transformers_inputs import default_context, image_size
from kleiber.models.hf.files import folder_of
from kleiber.runs import DataShape

__all__ = ["usual_shape"]


def usual_shape(path: str) -> DataShape:
    """Return images of the config's size, or text of its vocabulary at the largest power of two up to 1,024 positions.

    Raises:
        RecipeError: A config that cannot be read.
    """
    architecture = open_config(folder_of(path))
    config, text = architecture.config, architecture.text_config
    if str(architecture.model_class.main_input_name) == "pixel_values":
        channels, height, width = image_size(config)
        return DataShape(
            inputs="images", channels=channels, height=height, width=width, num_outputs=config.num_labels
        )
    context = default_context(architecture, None)
    if getattr(config, "is_encoder_decoder", False):
        return DataShape(inputs="pairs", vocab_size=text.vocab_size, context=context)
    classifies = architecture.model_class.__name__.endswith("ForSequenceClassification")
    return DataShape(
        inputs="tokens",
        vocab_size=text.vocab_size,
        context=context,
        num_outputs=config.num_labels if classifies else None,
    )
