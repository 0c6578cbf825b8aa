"""Whatever bytes are given, they are an input or refused in a sentence: nothing else is raised, and nothing is warned of."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import RATE, images_run, opened_classifier, sounds_run

from kleiber.serve import ServeSettings
from kleiber.serve.errors import RefusedError
from kleiber.serve.given import Given, given_in, prepared

SETTINGS = ServeSettings()
IMAGES, SOUNDS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"), ("WAV", "FLAC", "OGG", "AIFF", "AU")


@pytest.fixture(scope="module")
def readers(tmp_path_factory, cache, make_record):
    root = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        image, sound = (opened_classifier(make(root, make_record)) for make in (images_run, sounds_run))
    return dict.fromkeys(IMAGES, image.classifier.reader) | dict.fromkeys(SOUNDS, sound.classifier.reader)


def whole(form):
    """Return a good file of a format."""
    out, rng = io.BytesIO(), np.random.default_rng(0)
    if form in IMAGES:
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(out, form)
    else:
        soundfile.write(out, rng.normal(0, 0.1, RATE // 4), RATE, format=form)
    return out.getvalue()


FILES = {form: whole(form) for form in IMAGES + SOUNDS}


@pytest.mark.parametrize("form", IMAGES + SOUNDS)
def test_every_format_is_read(readers, form):
    assert np.isfinite(prepared(readers[form], Given("x", FILES[form]), SETTINGS)).all()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(IMAGES + SOUNDS), st.randoms(use_true_random=False))
def test_damaged_files(readers, form, random):
    content = FILES[form]
    for _ in range(random.randint(1, 4)):
        place = random.randrange(min(len(content), 200))
        cut = random.choice((0, 1, 1, 1, 20, len(content)))
        content = content[:place] + random.randbytes(random.randrange(4)) + content[place + cut :] or b"x"
    assert _refusal(readers[form], Given("the file 'x'", content)) in (None, ("the file 'x'", 400, "input"))


def _refusal(reader, one):
    """Return how an error begins, its status and its field; None of what is read."""
    try:
        assert np.isfinite(prepared(reader, one, SETTINGS)).all()
    except RefusedError as error:
        return error.message[: len(one.name)], error.status, error.param
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(("PNG", "WAV")), JSON)
def test_any_json(readers, form, value):
    try:
        refusals = [_refusal(readers[form], one) for one in given_in(readers[form], value, SETTINGS)]
    except RefusedError as error:
        refusals = [("", error.status, error.param)]
    assert refusals
    assert {one and one[1:] for one in refusals} <= {None, (400, "input")}
