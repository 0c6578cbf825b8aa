import pytest

from kleiber.runs import Recipe
from kleiber.study.design import LadderDesign


@pytest.fixture
def design(small_text):
    """Three sizes, two seeds, two horizons of a few dozen steps, and a target."""
    base = Recipe().with_values(
        [
            f"data.source=text:{small_text}",
            "data.vocab_size=300",
            "data.context=32",
            "data.val_frac=0.2",
            "data.val_tokens=1024",
            "train.schedule.warmup_steps=4",
            "train.parametrization.name=mup_simple",
            "train.parametrization.base_width=32",
            "train.schedule.cooldown_frac=0.25",
            "train.checkpoint_every=10",
            "train.log_every=4",
            "train.val_every=1000",
        ]
    )
    return LadderDesign.model_validate(
        {
            "base": base.model_dump(),
            "sizes": [{"family": "gpt", "depth": 1, "width": width} for width in (16, 32, 48)],
            "seeds": [0, 1],
            "horizons": [16, 32],
            "target": {
                "model": {"family": "gpt", "depth": 1, "width": 64},
                "num_steps": 48,
                "num_threads": 1,
            },
            "num_workers": 2,
        }
    )
