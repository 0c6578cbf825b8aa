import pytest

from kleiber.runs import Recipe


@pytest.fixture
def recipe(small_text):
    """A model that trains for 20 steps in a second."""
    return Recipe().with_values(
        [
            "model.depth=1",
            "model.width=16",
            f"data.source=text:{small_text}",
            "data.vocab_size=300",
            "data.context=32",
            "data.val_frac=0.2",
            "data.val_tokens=1024",
            "train.num_steps=20",
            "train.schedule.warmup_steps=4",
            "train.checkpoint_every=5",
            "train.val_every=10",
            "train.log_every=5",
            "parallel.num_threads=1",
        ]
    )
