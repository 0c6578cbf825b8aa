"""Operations of calls that are traced, against what the spec counts."""

import numpy as np
from benching import SPEC

from kleiber.infer.bench.traced_calls import forward_operations, text_operations
from kleiber.models.mlp import MLPSpec
from kleiber.runs import DataShape

HIDDEN = sum(rows * columns for rows, columns in SPEC.hidden_shapes())
HEAD = SPEC.vocab_size * SPEC.width


def products(operations, kind="matmul"):
    return sum(one.total_flops for one in operations if one.kind == kind)


def test_a_token_multiplies_by_every_matrix_once():
    found = text_operations(SPEC, 3, num_before=10, num_new=1)
    assert products(found) == 3 * 2 * (HIDDEN + HEAD)
    assert products(found, "attention") == 3 * SPEC.depth * 4 * 32 * 11


def test_a_prompt_has_its_head_on_the_last_token_alone():
    found = text_operations(SPEC, 2, num_before=0, num_new=8)
    assert products(found) == 2 * 2 * (8 * HIDDEN + HEAD)


def test_a_cache_stands_before_the_call():
    moved = sum(one.total_moved_bytes for one in text_operations(SPEC, 1, num_before=0, num_new=1))
    later = sum(one.total_moved_bytes for one in text_operations(SPEC, 1, num_before=31, num_new=1))
    # What more is moved is keys and values of what was read, not a cache that is made.
    assert 0 < later - moved <= 4 * 2 * SPEC.depth * 32 * 31 * 4


def test_samples_are_called_as_the_module_is():
    spec = MLPSpec.of_size(
        {"depth": 1, "width": 8}, DataShape(inputs="features", num_features=4, num_outputs=2)
    )
    found = forward_operations(spec, [np.zeros((1, 4), np.float32)], 5)
    assert products(found) == spec.flops(5).forward
