from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kleiber.data import normalization
from kleiber.data.normalization import chunks, fit_normalization
from kleiber.data.source import ArraySamples


@given(hnp.arrays(np.float32, (12, 3), elements=st.floats(-1000, 1000, width=32)))
def test_standard_has_mean_zero_and_deviation_one_where_a_column_varies(features):
    fitted = fit_normalization(ArraySamples({"features": features}), "standard")["features"]
    normalized = fitted.apply(features).astype(np.float64)
    for column in range(3):
        spread = features[:, column].astype(np.float64).std()
        if spread > 1e-3 * (1 + np.abs(features[:, column]).max()):
            assert abs(normalized[:, column].mean()) < 1e-2
            assert normalized[:, column].std() == pytest.approx(1, abs=1e-2)
    np.testing.assert_allclose(fitted.undo(fitted.apply(features)), features, rtol=1e-4, atol=1e-2)


def test_it_equals_numpy_over_many_chunks(monkeypatch):
    monkeypatch.setattr(normalization, "_CHUNK_BYTES", 5 * 2 * 4 * 4)
    images = np.random.default_rng(0).integers(0, 256, (33, 2, 4, 4)).astype(np.uint8)
    samples = ArraySamples({"images": images})
    assert [len(indices) for indices, _ in chunks(samples)] == [5] * 6 + [3]
    fitted = fit_normalization(samples, "standard")["images"]
    np.testing.assert_allclose(fitted.offset, images.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(fitted.scale, images.std((0, 2, 3)), rtol=1e-6)


def test_series_are_normalized_by_column():
    series = np.stack([np.arange(6.0), 10 * np.arange(6.0)], -1).reshape(2, 3, 2).astype(np.float32)
    fitted = fit_normalization(ArraySamples({"series": series}), "standard")["series"]
    np.testing.assert_allclose(fitted.offset, [2.5, 25])
    np.testing.assert_allclose(fitted.apply(series).std((0, 1)), 1, rtol=1e-6)


def test_unit_goes_from_zero_to_one_and_none_changes_the_type_alone():
    images = np.array([16, 4, 0, 8], np.uint8).reshape(1, 1, 2, 2)
    samples = ArraySamples({"images": images})
    unit = fit_normalization(samples, "unit")["images"].apply(images)
    assert unit.ravel().tolist() == [1, 0.25, 0, 0.5]
    same = fit_normalization(samples, "none")["images"].apply(images)
    assert same.dtype == np.float32
    assert same.ravel().tolist() == [16, 4, 0, 8]


@pytest.mark.parametrize("kind", ["standard", "unit"])
def test_a_column_that_never_changes_is_zero(kind):
    features = np.full((4, 1), 7e5, np.float32)
    fitted = fit_normalization(ArraySamples({"features": features}), kind)["features"]
    assert fitted.apply(features).tolist() == [[0]] * 4


def test_texts_are_not_normalized():
    assert fit_normalization(ArraySamples({"tokens": np.ones((2, 3), np.int64)}), "standard") == {}
