"""Models of transformers, whether a run of ours made them or not, and pictures, recovered."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kleiber.data import open_data
from kleiber.errors import RecipeError
from kleiber.models import load, resolve_spec, save
from kleiber.models.stored import Masked, read_forms, write_forms
from kleiber.runs import Recipe, RunFolder
from kleiber.tasks import task_of
from kleiber.train import train
from kleiber.train.recover.filled import with_donor

LOOP = (
    "train.log_every=4", "train.val_every=50", "train.checkpoint_every=4", "train.schedule.warmup_steps=2",
    "parallel.num_threads=1",
)  # fmt: skip


def pruned(run, folder):
    """Write the model of a run with half of its hidden entries gone."""
    module, spec = load(run / "model")
    forms = {}
    with torch.no_grad():
        for matrix in module.param_groups().hidden:
            param = module.get_parameter(matrix.name)
            forms[matrix.name] = Masked((param.abs() > param.abs().median()).flatten(1))
            param.mul_(forms[matrix.name].is_kept_RC.view_as(param))
    save(module, spec, folder)
    write_forms(folder, module, forms)
    return folder


def loss_of(folder, recipe):
    data = open_data(recipe.data, seed=0, task=recipe.task)
    return task_of(recipe.task, data.meta).evaluate(load(folder)[0], data).loss


def check_zeros(folder):
    module, _ = load(folder)
    forms = read_forms(folder, module)
    assert forms
    for name, form in forms.items():
        assert not module.get_parameter(name).flatten(1)[~form.is_kept_RC].any()


def llama(folder, *, is_tied):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, tie_word_embeddings=is_tied, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def text(small_text):
    return [
        f"data.source=text:{small_text}", "data.vocab_size=300", "data.context=32", "data.val_frac=0.2", "data.val_tokens=1024",
        *LOOP,
    ]  # fmt: skip


@pytest.mark.parametrize("lora_rank", ["null", "2"])
def test_a_llama_that_was_trained_here_comes_back(text, tmp_path, lora_rank):
    path = llama(tmp_path / "llama", is_tied=True)
    values = [*text, "model.family=hf", f"model.path={path}", "train.num_steps=40"]
    train(Recipe().with_values(values), tmp_path / "original")
    donor = pruned(tmp_path / "original", tmp_path / "pruned")
    asked = [
        *text, f"data.tokenizer={tmp_path / 'original' / 'model'}", f"recover.model={donor}", "train.num_steps=16",
        f"recover.teacher={tmp_path / 'original'}", "recover.feature_weight=0.5", "recover.attention_weight=0.5",
        f"recover.lora_rank={lora_rank}",
    ]  # fmt: skip
    recipe = Recipe().with_values(asked)
    record = train(recipe, tmp_path / "whole")
    losses = [line["loss"] for line in RunFolder(tmp_path / "whole").read_metrics()]
    assert losses[-1] < 0.8 * losses[0]
    assert loss_of(tmp_path / "whole" / "model", record.recipe) == pytest.approx(
        record.result.val_loss, abs=1e-6
    )
    check_zeros(tmp_path / "whole" / "model")


def test_a_folder_of_transformers_is_gone_on_from_as_it_is(text, tmp_path):
    train(
        Recipe().with_values([*text, "model.depth=1", "model.width=16", "train.num_steps=2"]),
        tmp_path / "small",
    )
    path = llama(tmp_path / "llama", is_tied=False)
    tokenizer = f"data.tokenizer={tmp_path / 'small' / 'model'}"
    record = train(
        Recipe().with_values([*text, tokenizer, f"recover.model={path}", "train.num_steps=4"]), tmp_path / "a"
    )
    assert (record.recipe.model.size["path"], record.recipe.model.size["pretrained"]) == (str(path), True)
    assert with_donor(record.recipe) == record.recipe
    before = LlamaForCausalLM.from_pretrained(path).state_dict()
    after = load(tmp_path / "a" / "model")[0].model.state_dict()
    moved = [(after[name] - before[name]).abs().max().item() for name in before]
    assert 0 < max(moved) < 0.1  # four steps from there, not from other weights


def test_pictures_with_statistics_of_batches(tmp_path):
    digits = ["task.name=classification", "data.source=digits", "train.batch_size=16", *LOOP]
    model = ["model.family=resnet", "model.depth=8", "model.width=8", "train.num_steps=40"]
    train(Recipe().with_values([*digits, *model]), tmp_path / "original")
    donor = pruned(tmp_path / "original", tmp_path / "pruned")
    asked = [
        *digits, f"recover.model={donor}", f"recover.teacher={tmp_path / 'original'}", "recover.feature_weight=0.1",
        "recover.temperature=4", "train.num_steps=16", "train.optimizer.lr=0.003", "data.augment=[{name: mixup}]",
    ]  # fmt: skip
    recipe = Recipe().with_values(asked)
    record = train(recipe, tmp_path / "whole")
    assert record.result.val_loss < loss_of(donor, record.recipe)
    check_zeros(tmp_path / "whole" / "model")

    def stop(progress):
        if progress.step >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", on_progress=stop)
    train(recipe, tmp_path / "parts")
    whole, parts = (load(tmp_path / name / "model")[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_data_with_other_classes_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "x,y,kind\n" + "".join(f"{n},{n % 3},{'ab'[n % 2]}\n" for n in range(80))
    )
    (tmp_path / "other.csv").write_text(
        "x,y,kind\n" + "".join(f"{n},{n % 3},{'cd'[n % 2]}\n" for n in range(80))
    )
    loop = ["task.name=classification", "train.batch_size=8", "train.num_steps=4", *LOOP]
    model = ["model.family=mlp", "model.depth=1", "model.width=8"]
    train(Recipe().with_values([*loop, *model, f"data.source=csv:{tmp_path / 'rows.csv'}"]), tmp_path / "a")
    for source, message in (
        (
            f"csv:{tmp_path / 'other.csv'}",
            r"was trained on other classes .* Got \(\['a', 'b'\], \['c', 'd'\]\)",
        ),
        ("wine", r"was made for other data than 'wine': num_features is 2, and the data has 13"),
    ):
        recipe = Recipe().with_values([*loop, f"recover.model={tmp_path / 'a'}", f"data.source={source}"])
        with pytest.raises(RecipeError, match=message):
            train(recipe, tmp_path / "b")
        assert not RunFolder(tmp_path / "b").exists()


def test_a_recipe_that_names_the_same_model_is_fine(tmp_path):
    digits = [
        "task.name=classification",
        "data.source=digits",
        "train.batch_size=16",
        "train.num_steps=2",
        *LOOP,
    ]
    model = ["model.family=mlp", "model.depth=1", "model.width=8"]
    train(Recipe().with_values([*digits, *model]), tmp_path / "a")
    donor = f"recover.model={tmp_path / 'a'}"
    named, filled = (with_donor(Recipe().with_values([*digits, *one, donor])) for one in (model, []))
    assert resolve_spec(named) == resolve_spec(filled)
