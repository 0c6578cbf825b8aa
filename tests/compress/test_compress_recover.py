import dataclasses

import pytest
import torch

from kleiber.compress.calibration import calibration_of
from kleiber.compress.recover import Recover
from kleiber.compress.subject import Subject
from kleiber.data import open_data
from kleiber.errors import RecipeError
from kleiber.models import load
from kleiber.models.stored import Activations, Masked
from kleiber.runs import RunFolder
from kleiber.tasks import task_of

RECIPE = (
    "model.depth=1", "model.width=16", "data.vocab_size=300", "data.context=32", "data.val_frac=0.2", "data.val_tokens=1024",
    "train.num_steps=150", "train.schedule.warmup_steps=4", "train.val_every=150", "parallel.num_threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def original(train_once, small_text):
    """A run of the family gpt."""
    return train_once(*RECIPE, f"data.source=text:{small_text}")


@pytest.fixture
def subject(original):
    """The run with seven in ten of its hidden entries gone."""
    recipe = RunFolder(original).read_record().recipe
    data = open_data(recipe.data, seed=0, task=recipe.task)
    module, spec = load(original / "model")
    forms = {}
    for name in ("blocks.0.qkv", "blocks.0.gate_up", "blocks.0.mlp_down"):
        param = module.get_parameter(name)
        forms[name] = Masked(param.detach().abs() > param.detach().abs().quantile(0.7))
        with torch.no_grad():
            param.mul_(forms[name].is_kept_RC)
    return Subject(module.eval(), spec, recipe, data, task_of(recipe.task, data.meta), forms=forms)


def recovered(step, subject, folder, original):
    return step.apply(subject, calibration_of(subject.data, 4), folder=folder, original=original)


def loss_of(subject):
    return subject.task.evaluate(subject.module, subject.data).loss


def test_a_pruned_model_comes_back_with_its_zeros_and_is_not_trained_twice(subject, original, tmp_path):
    before = loss_of(subject)
    seen = dataclasses.replace(
        subject, activations=Activations(input_ranges={"embedding": (-1.0, 1.0)}), notes=("first",)
    )
    after = recovered(Recover(frac=0.2), seen, tmp_path, original)
    assert loss_of(subject) == before
    assert loss_of(after) < before - 0.02
    record = RunFolder(tmp_path / "train").read_record()
    assert record.recipe.train.num_steps == 30
    assert record.recipe.train.optimizer.lr == pytest.approx(0.3 * subject.recipe.train.optimizer.lr)
    assert record.recipe.recover.teacher == str(original)
    assert record.result.val_loss == pytest.approx(loss_of(after), abs=1e-6)
    assert after.forms.keys() == subject.forms.keys()
    for name, form in subject.forms.items():
        assert torch.equal(after.forms[name].is_kept_RC, form.is_kept_RC)
        assert not after.module.get_parameter(name)[~form.is_kept_RC].any()
    assert after.notes[0] == "first"
    assert after.notes[1].startswith("Ranges of inputs are those from before")
    assert after.notes[2].startswith("Recovered on 3,840 tokens of 'text:")
    again = recovered(Recover(frac=0.2), subject, tmp_path, original)
    assert RunFolder(tmp_path / "train").read_record() == record
    assert loss_of(again) == loss_of(after)


def test_another_model_in_the_folder_is_another_recovery(subject, original, tmp_path):
    step = Recover(steps=2, teacher=None)
    recovered(step, subject, tmp_path, original)
    with torch.no_grad():
        subject.module.get_parameter("final_norm").mul_(2)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        recovered(step, subject, tmp_path, original)


def test_it_learns_from_texts_that_the_teacher_writes(subject, original, tmp_path):
    step = Recover(steps=40, is_data_free=True, keeps_zeros=False, lr=0.003)
    after = recovered(step, subject, tmp_path, original)
    assert loss_of(after) < loss_of(subject)
    recipe = RunFolder(tmp_path / "train").read_record().recipe
    assert recipe.data.source == f"text:{tmp_path / 'samples.jsonl'}"
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) >= 40 * 4


def test_lengths(subject):
    named = {"steps": 7, "tokens": 7 * 128 + 3, "frac": 7 / 150}
    found = {Recover(**{key: value})._num_steps(subject.recipe) for key, value in named.items()}
    assert found == {7}
    assert Recover()._num_steps(subject.recipe) == 8  # a twentieth of 150, rounded to even


def test_a_model_that_was_cut_learns_at_the_rate_of_its_original(subject, original, tmp_path):
    plain = dataclasses.replace(subject, forms={}, is_cut=True)
    after = recovered(Recover(steps=1), plain, tmp_path, original)
    rate = RunFolder(tmp_path / "train").read_record().recipe.train.optimizer.lr
    assert rate == pytest.approx(subject.recipe.train.optimizer.lr)
    assert not after.is_cut


def test_smaller_batches_are_more_steps_on_the_same_tokens(subject, original, tmp_path):
    whole, small = Recover(frac=0.04), Recover(frac=0.04, batch_size=1)
    assert small.num_tokens(subject.recipe) == whole.num_tokens(subject.recipe) == 6 * 128
    recovered(small, subject, tmp_path, original)
    train = RunFolder(tmp_path / "train").read_record().recipe.train
    assert (train.batch_size, train.num_steps) == (1, 24)
    assert Recover(steps=7, batch_size=1).num_tokens(subject.recipe) == 7 * 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frac": 0.1, "steps": 3}, r"recover: takes one of frac, tokens and steps, got \{'frac': 0\.1, 'steps': 3\}"),
        ({"teacher": None, "is_data_free": True}, r"recover: is_data_free needs a teacher"),
        ({"teacher": None, "temperature": 2.0}, r"temperature has no effect without a teacher"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recover.of(settings, "recover", RecipeError)


def test_what_it_needs_is_said(subject, original, tmp_path):
    calibration = calibration_of(subject.data, 4)
    with pytest.raises(RecipeError, match="recover trains, and needs a folder"):
        Recover().apply(subject, calibration, original=original)
    with pytest.raises(RecipeError, match=r"no folder of it is known\.\n  try: recover:teacher=FOLDER"):
        Recover().apply(subject, calibration, folder=tmp_path)
    pictures = subject.recipe.with_values(["task.name=classification", "data.source=digits"])
    subject = dataclasses.replace(subject, recipe=pictures)
    with pytest.raises(RecipeError, match=r"only a model of text writes .* Got 'classification'"):
        recovered(Recover(is_data_free=True), subject, tmp_path, original)
