"""What each augmentation does, against values by hand, NumPy, kornia and SciPy."""

import kornia.enhance
import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from kleiber.data.augment.colour import colour, coloured
from kleiber.data.augment.cutout import cutout
from kleiber.data.augment.draws import Draws
from kleiber.data.augment.flip import flip
from kleiber.data.augment.mixup import mixup, symmetric_beta
from kleiber.data.augment.noise import noise
from kleiber.data.augment.rotate import rotate, rotated
from kleiber.data.augment.scale_crop import cropped, scale_crop
from kleiber.data.augment.shift import moved, shift
from kleiber.data.augment.spec_augment import spec_augment
from kleiber.data.augment.time_shift import time_shift
from kleiber.data.augment.token_delete import token_delete
from kleiber.data.augment.token_mask import MASK_ID, token_mask
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import RecipeError


def draws(num, seed=0):
    return Draws(seed, 0, cursor=0, num=num)


def images(num=6, channels=3, height=8, width=8):
    return np.random.default_rng(0).normal(size=(num, channels, height, width)).astype(np.float32)


def test_half_are_mirrored():
    x = images(400)
    y = flip(x, 1.0, draws(400))
    is_mirrored = (y == x[..., ::-1]).all((1, 2, 3))
    assert (y[~is_mirrored] == x[~is_mirrored]).all()
    assert is_mirrored.mean() == pytest.approx(0.5, abs=0.075)


def test_a_quarter_turn_is_numpys():
    x = images()
    assert rotated(x, np.full(6, 90.0)) == pytest.approx(np.rot90(x, axes=(2, 3)), abs=1e-4)
    assert rotated(x, np.zeros(6)) == pytest.approx(x, abs=1e-4)


def test_turns_are_drawn_between_their_bounds():
    # A white image of 65 pixels, turned by a: a corner is left empty, the middle is not, and 15 degrees empty the most.
    x = np.ones((60, 1, 65, 65), np.float32)
    empty = 1 - rotate(x, 1.0, draws(60)).mean((1, 2, 3))
    most = 1 - rotated(x[:1], np.array([15.0])).mean()
    assert (empty <= most + 1e-3).all()
    assert empty.max() > 0.8 * most
    assert empty.min() < 0.2 * most
    x[..., :32] = 0
    # The right half, turned counter-clockwise, is higher up.
    y = rotate(x, 1.0, draws(60))
    is_up = y[..., :32, :].sum((1, 2, 3)) > y[..., 33:, :].sum((1, 2, 3))
    assert 15 < is_up.sum() < 45


def test_a_crop_is_torchs_interpolation():
    x = images(1, height=9, width=9)
    box = np.array([[2 / 8, 3 / 8, 6 / 8, 7 / 8]])  # columns 2 to 6, rows 3 to 7
    part = torch.from_numpy(x[:, :, 3:8, 2:7])
    expected = functional.interpolate(part, (9, 9), mode="bilinear", align_corners=True).numpy()
    assert cropped(x, box) == pytest.approx(expected, abs=1e-5)
    assert cropped(x, np.array([[0.0, 0.0, 1.0, 1.0]])) == pytest.approx(x, abs=1e-5)


def test_crops_have_their_areas_and_aspects():
    # A ramp across and one down: a crop's slope says which part of the side it took.
    ramp = np.linspace(0, 1, 33, dtype=np.float32)
    x = np.broadcast_to(np.stack([np.tile(ramp, (33, 1)), np.tile(ramp[:, None], (1, 33))]), (300, 2, 33, 33))
    y = scale_crop(x.copy(), 1.0, draws(300))
    width, height = y[:, 0, 5, -1] - y[:, 0, 5, 0], y[:, 1, -1, 5] - y[:, 1, 0, 5]
    assert (width <= 1 + 1e-5).all()
    assert (height <= 1 + 1e-5).all()
    assert (width * height).max() > 0.9
    assert 0.42 < (width * height).min() < 0.55  # 0.5, less where a side was cut to its image's
    assert (width / height).max() <= 4 / 3 + 1e-4
    assert (y >= -1e-6).all()
    assert (y <= 1 + 1e-6).all()


def test_moved_by_hand():
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    assert moved(x, np.array([-1]), axis=3).tolist() == [[[[2, 3, 0], [5, 6, 0]]]]
    assert moved(x, np.array([1]), axis=2, fill=9).tolist() == [[[[9, 9, 9], [1, 2, 3]]]]


def test_shifts_are_those_of_padding_and_cropping():
    x = images(200, 1, 16, 24) + 10
    padded = np.pad(x, [(0, 0), (0, 0), (2, 2), (3, 3)])
    seen = set()
    for index, y in enumerate(shift(x, 1.0, draws(200))):
        windows = [
            (down, across)
            for down in range(5)
            for across in range(7)
            if np.array_equal(padded[index, :, down : down + 16, across : across + 24], y)
        ]
        assert len(windows) == 1
        seen |= set(windows)
    assert len(seen) == 35  # every offset up to an eighth


def test_colours_are_kornias_where_it_clips_nothing():
    x = (images(4) * 0.02 + 0.5).astype(np.float32)
    factors = np.array([0.6, 0.9, 1.1, 1.4])
    zero, one = np.zeros(4), np.ones(4)
    tensor, factor = torch.from_numpy(x), torch.from_numpy(factors)
    contrast = kornia.enhance.adjust_contrast_with_mean_subtraction(tensor, factor).numpy()
    assert coloured(x, zero, factors, one) == pytest.approx(contrast, abs=1e-5)
    saturation = kornia.enhance.adjust_saturation_with_gray_subtraction(tensor, factor).numpy()
    assert coloured(x, zero, one, factors) == pytest.approx(saturation, abs=1e-5)
    brightness = x + 0.3 * x.std((1, 2, 3), keepdims=True)
    assert coloured(x, np.full(4, 0.3), one, one) == pytest.approx(brightness, abs=1e-5)


def test_colours_do_not_depend_on_the_range_of_images():
    x = images(5)
    assert colour(7 * x + 3, 1.0, draws(5)) == pytest.approx(7 * colour(x, 1.0, draws(5)) + 3, abs=1e-4)


def test_grey_images_have_brightness_and_contrast():
    x = images(100, channels=1)
    y = colour(x, 1.0, draws(100))
    shifts = (y.mean((1, 2, 3)) - x.mean((1, 2, 3))) / x.std((1, 2, 3))
    factors = y.std((1, 2, 3)) / x.std((1, 2, 3))
    assert (shifts >= -0.4 - 1e-5).all()
    assert (shifts <= 0.4 + 1e-5).all()
    assert np.ptp(shifts) > 0.7
    assert (factors >= 0.6 - 1e-5).all()
    assert (factors <= 1.4 + 1e-5).all()
    assert np.ptp(factors) > 0.7


def test_cutout_blanks_a_square():
    x = np.ones((500, 2, 16, 20), np.float32)
    y = cutout(x, 1.0, draws(500))
    sizes = (y == 0).sum((2, 3))
    assert (sizes[:, 0] == sizes[:, 1]).all()
    assert sizes.max() == 8 * 8
    assert sizes.min() < 8 * 8  # some reach over the border
    rows = (y[:, 0] == 0).any(2).sum(1)
    columns = (y[:, 0] == 0).any(1).sum(1)
    assert (rows * columns == sizes[:, 0]).all()
    assert (rows >= 4).all()
    assert (y[:, 0] == 0).any(0).all()  # every pixel is cut out at times


def test_mixup_worked_by_hand():
    x = np.array([[0.0], [1.0], [4.0]], np.float32)
    chosen = np.array([True, False, True])
    arrays = {"features": x, "labels": np.array([0, 1, 2])}
    own = Draws(0, 0, cursor=0, num=3, chosen_B=chosen)
    share = symmetric_beta(0.2, Draws(0, 0, cursor=0, num=3, chosen_B=chosen))
    mixed = mixup(arrays, chosen, 1.0, own, num_outputs=3)
    assert mixed["features"] == pytest.approx(
        np.array([[4 * (1 - share[0])], [1], [4 * share[1] + 1 - share[1]]], np.float32)
    )
    expected = [[share[0], 0, 1 - share[0]], [0, 1, 0], [0, 1 - share[1], share[1]]]
    assert mixed["labels"] == pytest.approx(np.array(expected), abs=1e-6)
    assert mixed["labels"].dtype == mixed["features"].dtype == np.float32


def test_mixup_mixes_values_and_labels_twice_over():
    arrays = {"features": np.eye(4, dtype=np.float32), "values": np.arange(4, dtype=np.float32)[:, None]}
    everyone = np.ones(4, bool)
    mixed = mixup(arrays, everyone, 5.0, draws(4), num_outputs=1)
    assert mixed["values"][:, 0] == pytest.approx(mixed["features"] @ np.arange(4), abs=1e-5)
    labelled = {"features": np.eye(4, dtype=np.float32), "labels": np.arange(4)}
    for seed in (0, 1):
        labelled = mixup(labelled, everyone, 5.0, draws(4, seed), num_outputs=4)
    assert labelled["labels"] == pytest.approx(labelled["features"], abs=1e-6)
    assert ((labelled["labels"] > 0).sum(1) == 3).all()


def test_mixup_needs_a_partner():
    with pytest.raises(RecipeError, match=r"mixup needs two samples or more in a micro-batch\. Got 1"):
        mixup(
            {"features": np.ones((1, 2)), "labels": np.zeros(1, int)},
            np.ones(1, bool),
            1.0,
            draws(1),
            num_outputs=2,
        )


@pytest.mark.parametrize("a", [0.02, 0.2, 1.0, 4.0])
def test_shares_are_of_a_beta_distribution(a):
    shares = symmetric_beta(a, draws(3000))
    assert ((shares >= 0) & (shares <= 1)).all()
    inside = shares[(shares > 1e-12) & (shares < 1 - 1e-12)] if a < 0.1 else shares
    if a < 0.1:  # nearly all are at 0 or 1, where the difference to 1 is below what a float says
        assert stats.beta(a, a).cdf(0.01) == pytest.approx((shares < 0.01).mean(), abs=0.03)
        assert len(inside) < 3000
    else:
        assert stats.kstest(shares, stats.beta(a, a).cdf).pvalue > 0.001


def test_the_mask_is_the_byte_that_stands_in_no_text():
    tokenizer = train_tokenizer(["low lower lowest " * 3], 262, source="x")
    assert tokenizer.id_to_token(MASK_ID) == "ÿ"
    assert MASK_ID not in tokenizer.encode("".join(map(chr, range(1, 0x3000)))).ids


def test_tokens_are_hidden_where_there_is_text():
    tokens = np.tile(np.arange(500, 540), (200, 1))
    tokens[:, 30:] = 0
    hidden = token_mask(tokens, 1.0, draws(200))
    is_hidden = hidden == MASK_ID
    assert is_hidden[:, :30].mean() == pytest.approx(0.15, abs=0.015)
    assert (hidden[:, 30:] == 0).all()
    assert (hidden[~is_hidden] == tokens[~is_hidden]).all()


def test_what_is_left_of_a_text_moves_up():
    tokens = np.tile(np.arange(1, 41), (200, 1))
    tokens[:, 30:] = 0
    tokens[0, 1:] = 0
    left = token_delete(tokens, 1.0, draws(200))
    lengths = (left != 0).sum(1)
    assert left.dtype == tokens.dtype
    assert left[0, 0] == 1  # the only token of a text stays
    assert lengths[1:].mean() / 30 == pytest.approx(0.9, abs=0.02)
    for row, length in zip(left, lengths, strict=True):
        assert (np.diff(row[:length]) > 0).all()
        assert (row[length:] == 0).all()


def test_a_text_never_vanishes():
    tokens = np.tile(np.arange(1, 4), (300, 1))
    assert (token_delete(tokens, 9.0, draws(300)) != 0).any(1).all()


def test_sounds_move_and_are_quiet_before_and_after():
    x = images(100, 1, 4, 40)
    y = time_shift(x, 1.0, draws(100))
    seen = set()
    for before, after in zip(x[:, 0], y[:, 0], strict=True):
        quiet = before.min(1, keepdims=True)
        padded = np.concatenate([np.tile(quiet, 4), before, np.tile(quiet, 4)], axis=1)
        found = [start for start in range(9) if np.array_equal(padded[:, start : start + 40], after)]
        assert len(found) == 1
        seen |= set(found)
    assert seen == set(range(9))


def test_noise_has_its_deviation():
    x = images(50)
    added = noise(x, 2.0, draws(50)) - x
    assert (added.mean(), added.std()) == pytest.approx((0, 0.2), abs=0.004)
    assert noise(x, 1.0, draws(50)).dtype == np.float32


def test_bands_of_pitches_and_of_time_are_blank():
    x = np.ones((300, 1, 20, 50), np.float32)
    y = spec_augment(x, 1.0, draws(300))[:, 0]
    pitches = (y == 0).all(2).sum(1)
    frames = (y == 0).all(1).sum(1)
    blank = (y == 0).sum((1, 2))
    assert (blank == pitches * 50 + frames * 20 - pitches * frames).all()
    assert pitches.max() in (7, 8)
    assert frames.max() in (9, 10)
    assert pitches.mean() == pytest.approx(4 * (1 - 1 / 20), abs=0.6)
    # Every pitch and every frame is blank at times.
    assert (y == 0).all(2).any(0).all()
    assert (y == 0).all(1).any(0).all()
