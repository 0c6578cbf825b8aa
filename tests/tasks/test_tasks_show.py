import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from kleiber.data import open_data
from kleiber.runs import DataRecipe, TaskRecipe
from kleiber.tasks.evaluation import gathered
from kleiber.tasks.png import png_base64
from kleiber.tasks.show import pictures, sample_fields, written, wrong_first


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@given(hnp.arrays(np.uint8, st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))))
def test_pillow_reads_our_png(image):
    read = pixels(png_base64(image))
    np.testing.assert_array_equal(read if read.ndim == 3 else read[..., None], image.transpose(1, 2, 0))


def test_of_other_channels_the_first_is_shown():
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(pixels(png_base64(image)), image[0])


def test_pictures_share_one_black_and_one_white():
    images = np.float32([[[[-1.0, 0.0]]], [[[1.0, 3.0]]]])
    first, second = map(pixels, pictures(images))
    assert first.tolist() == [[0, 64]]
    assert second.tolist() == [[128, 255]]
    assert pixels(pictures(np.zeros((1, 1, 1, 1)))[0]).tolist() == [[0]]


def test_a_digit_is_shown_as_it_was(cache):
    recipe = DataRecipe(source="digits", val_frac=0.2)
    data = open_data(recipe, seed=0, task=TaskRecipe(name="classification"), cache=cache)
    chosen = [5, 0, 200]
    arrays = gathered(data, "val", chosen)
    raw = data.parts["val"].samples.gather(np.array(chosen))["images"]
    assert arrays["images"].min() < 0  # normalized
    shown = sample_fields({"images": arrays["images"]}, data)
    for one, image in zip(shown, raw, strict=True):
        np.testing.assert_allclose(pixels(one["image_png"]), image[0].astype(float) * 255 / 16, atol=0.51)


def test_a_table_is_shown_in_its_own_units(cache):
    data = open_data(DataRecipe(source="wine"), seed=0, task=TaskRecipe(name="classification"), cache=cache)
    arrays = gathered(data, "val", [1])
    raw = data.parts["val"].samples.gather(np.array([1]))["features"][0]
    text = sample_fields({"features": arrays["features"]}, data)[0]["text"]
    assert text.startswith("… ")
    numbers = [float(number) for number in text[2:].split(", ")]
    np.testing.assert_allclose(numbers, raw[-12:], rtol=1e-4)


@given(is_right=hnp.arrays(bool, st.integers(1, 60)), num=st.integers(1, 20))
def test_half_of_what_is_shown_is_wrong_where_it_can_be(is_right, num):
    chosen = wrong_first(is_right, num)
    assert len(chosen) == min(num, len(is_right)) == len(set(chosen))
    order = [bool(is_right[index]) for index in chosen]
    assert order == sorted(order)
    num_wrong = order.count(False)
    assert num_wrong == max(min((num + 1) // 2, int((~is_right).sum())), len(chosen) - int(is_right.sum()))


def test_numbers_that_are_many_are_cut():
    assert written(np.arange(14)) == "… 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13"
    assert written(np.array([1e-9])) == pytest.approx("1e-09")
