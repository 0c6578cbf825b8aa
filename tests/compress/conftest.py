"""A trained model of a second, which the tests of whole compressions start from."""

import pytest

_RECIPE = (
    "model.depth=2", "model.width=32", "data.vocab_size=300", "data.context=32", "data.val_frac=0.2", "data.val_tokens=1024",
    "train.num_steps=100", "train.schedule.warmup_steps=4", "train.val_every=100", "parallel.num_threads=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def trained(train_once, small_text):
    """A run of the family gpt."""
    return train_once(*_RECIPE, f"data.source=text:{small_text}")
