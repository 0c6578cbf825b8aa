from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kleiber.errors import KleiberError, RecipeError, RunFolderError
from kleiber.models import load, parse_size, resolve_spec, save, size_of
from kleiber.models.file import FileSpec, named
from kleiber.models.file.module import build
from kleiber.models.hf import HFSpec
from kleiber.runs import DataShape, ModelRecipe, Recipe

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)
        self.register_buffer("shift", torch.full((1,), 0.5), persistent=False)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images) + self.shift)).mean((2, 3)))


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, images):
        hidden = self.up(images.flatten(1))
        if hidden.sum() > 0:
            hidden = 2 * hidden
        return self.head(hidden)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.table(tokens))


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, 10))


class Half(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10).half())


class Pair(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, images):
        return super().forward(images), images


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def wrong():
    return nn.Sequential(nn.Flatten(), nn.Linear(65, 10))


def empty():
    return nn.Flatten()
"""
DIGITS = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10)
TEXT = DataShape(inputs="tokens", vocab_size=30, context=5)


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test names its modules itself."""
    monkeypatch.setattr(named, "_named", {})


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(CODE)
    return path


def spec_of(code: Path, name: str = "Net", shape: DataShape = DIGITS, **size: Any) -> FileSpec:
    return FileSpec.of_size({"path": str(code), "name": name, **size}, shape)


def test_a_module_is_counted_as_it_is_built(code: Path) -> None:
    spec = spec_of(code, init={"width": 4})
    module = build(spec)
    # 4 kernels of 9; their norm's 4 + 4; the head's 40 + 10.
    assert spec.count().model_dump(include={"body", "head"}) == {"body": 36 + 8 + 10, "head": 40}
    assert (spec.count().total, spec.depth, spec.width) == (94, 1, 4)
    assert (spec.hidden_shapes(), module.param_groups().head) == ([(4, 9)], ("module.head.weight",))
    # 36 places of 9 x 4 products, and the head's; twice: multiply and add.
    assert spec.flops(3).forward == 3 * 2 * (36 * 36 + 40)
    assert spec.flops(3).backward == 3 * 2 * (36 * 36 + 2 * 40)  # images ask for no gradient
    assert hash(spec) == hash(spec.model_copy())


def test_a_forward_that_depends_on_its_data_is_counted_while_it_runs(code: Path) -> None:
    flops = spec_of(code, "Deciding").flops(4)
    assert (flops.forward, flops.backward) == (4 * 2 * (64 * 16 + 160), 4 * 2 * (64 * 16 + 2 * 160))


def test_the_seed_alone_gives_the_weights(code: Path) -> None:
    one, same, other = (build(spec_of(code), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["module.conv.weight"], other["module.conv.weight"])


def test_lazy_layers_are_sized_by_the_data(code: Path) -> None:
    assert spec_of(code, "Lazy").hidden_shapes() == [(7, 64)]


def test_a_size_gives_itself_again_and_is_typed_shortly(code: Path) -> None:
    spec = spec_of(code, init={"width": 4})
    recipe = Recipe(model=ModelRecipe(**size_of(spec))).with_values(
        ["task.name=classification", "data.source=digits"]
    )
    assert resolve_spec(recipe.with_shape(DIGITS)) == spec
    assert size_of(spec).keys() == {"family", "path", "name", "init", "file_hash"}
    assert size_of(spec_of(code)).keys() == {"family", "path", "name", "file_hash"}
    assert parse_size(f"file:{code}:Net,weights=net.npz").size == {
        "path": str(code),
        "name": "Net",
        "weights": "net.npz",
    }


def test_sizes_that_are_the_default_ones_are_left_out(tmp_path: Path) -> None:
    spec = HFSpec(path="models/bert", shape=TEXT)
    assert size_of(spec) == {"family": "hf", "path": "models/bert", "pretrained": False}
    assert size_of(spec.model_copy(update={"sizes": (("hidden_size", 8),)}))["sizes"] == [["hidden_size", 8]]


def test_what_is_saved_has_the_users_names_and_is_loaded(code: Path, tmp_path: Path) -> None:
    spec = spec_of(code, init={"width": 4})
    module = build(spec, seed=3).eval()
    save(module, spec, tmp_path / "model")
    own = load_file(tmp_path / "model" / "model.safetensors")
    assert own.keys() == module.module.state_dict().keys()
    back, back_spec = load(tmp_path / "model")
    assert back_spec == spec
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(back.eval()(images), module(images))


def test_tied_weights_are_stored_once(code: Path, tmp_path: Path) -> None:
    spec = spec_of(code, "Tied", TEXT)
    module = build(spec)
    assert (spec.count().total, spec.count().is_tied, module.param_groups().head) == (240, True, ())
    save(module, spec, tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == {"table.weight"}
    back, _ = load(tmp_path / "model")
    assert back.get_parameter("module.head.weight") is back.get_parameter("module.table.weight")
    assert torch.equal(back.get_parameter("module.table.weight"), module.get_parameter("module.table.weight"))


def test_code_that_only_a_folder_names_is_not_run(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(code)
    save(build(spec), spec, tmp_path / "model")
    monkeypatch.setattr(named, "_named", {})
    code.write_text(CODE + f"\nopen({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(
        RunFolderError, match=r"my_model\.py:Net, and code that only a folder names"
    ) as caught:
        load(tmp_path / "model")
    assert f"--module {code}:Net" in str(caught.value.hint)
    named.name_module(str(code), "Deciding")
    with pytest.raises(RunFolderError, match="code that only a folder names"):
        load(tmp_path / "model")
    assert not (tmp_path / "was_run").exists()
    # The file may have moved; what the user names is what is run.
    moved = tmp_path / "there" / "my_model.py"
    moved.parent.mkdir()
    moved.write_text(CODE)
    named.name_module(str(moved), "Net")
    assert size_of(load(tmp_path / "model")[1])["path"] == str(moved)
    assert not (tmp_path / "was_run").exists()


def test_a_folder_whose_weights_do_not_fit_the_code(code: Path, tmp_path: Path) -> None:
    spec = spec_of(code)
    save(build(spec), spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["spec"]["init"] = {"width": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        RunFolderError, match=r"model\.safetensors: conv\.weight must be \[5, 1, 3, 3\]\. Got \[6"
    ):
        load(tmp_path)


def test_a_file_that_changed_is_another_recipe(code: Path) -> None:
    settled = size_of(spec_of(code))
    code.write_text(CODE + "\n# changed\n")
    assert spec_of(code).file_hash != settled["file_hash"]
    with pytest.raises(RecipeError, match=r"my_model\.py has changed since the recipe was settled"):
        FileSpec.of_size({key: value for key, value in settled.items() if key != "family"}, DIGITS)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"pathh": "x"}, r"unknown key 'pathh'\. Did you mean 'path'"),
        ({"name": "Net"}, "file needs the path of a module"),
        ({"path": "my_model.py"}, "file needs the name of a module"),
        ({"path": "none.py", "name": "Net"}, r"none\.py cannot be read: No such file"),
        ({"path": "CODE", "name": "Nett"}, r"has no class or function 'Nett'\. Did you mean 'Net'"),
        ({"path": "CODE", "name": "Net", "init": {"widht": 3}}, r"model\.init: .* no argument 'widht'"),
        ({"path": "CODE", "name": "Net", "init": 3}, "init: input should be a valid dictionary"),
        ({"path": "CODE", "name": "Net", "weights": "no.npz"}, r"the weights no\.npz are no file"),
    ],
)
def test_what_names_no_module(code: Path, size: dict[str, Any], message: str) -> None:
    if size.get("path") == "CODE":
        size = {**size, "path": str(code)}
    with pytest.raises(RecipeError, match=message):
        FileSpec.of_size(size, DIGITS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("narrow", r"narrow must return one tensor \[2, 10\] for 2 samples of the data\. Got \[2, 3\]"),
        ("Pair", r"Pair must return one tensor \[2, 10\].* Got 'tuple'"),
        ("wrong", r"1 \(Linear\) .*65"),
        ("Half", r"1\.weight must be float32.* Got 'float16'"),
        ("empty", "empty holds no parameters"),
    ],
)
def test_modules_that_do_not_answer_the_data(code: Path, name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(spec_of(code, name))


def test_a_keras_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    path = tmp_path / "with_keras.py"
    path.write_text(
        "import keras\n\n\ndef net():\n    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
    )
    features = DataShape(inputs="features", num_features=4, num_outputs=2)
    with pytest.raises(RecipeError, match="is a model of Keras, which keeps its weights"):
        build(spec_of(path, "net", features))


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_weights_of_any_float_become_fp32(code: Path, tmp_path: Path, kind: str) -> None:
    state = build(spec_of(code), seed=9).module.state_dict()
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    path = tmp_path / f"net.{kind}"
    if kind == "npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in halves.items()})
    else:
        save_file(halves, path)
    module = build(spec_of(code, weights=str(path)), seed=1).module
    assert all(
        torch.equal(module.state_dict()[name], tensor.to(state[name].dtype))
        for name, tensor in halves.items()
    )
    assert {param.dtype for param in module.parameters()} == {torch.float32}


BROKEN = {
    r"lacks head\.bias": lambda state: state.pop("head.bias"),
    r"the module has no tensor tail\.weight": lambda state: state.update({"tail.weight": np.ones(3)}),
    r"conv\.weight must be \[6, 1, 3, 3\]\. Got \[6, 9\]": lambda state: state.update(
        {"conv.weight": state["conv.weight"].reshape(6, 9)}
    ),
    r"head\.weight must hold float16, bfloat16, float32 or float64\. Got 'int8'": lambda state: state.update(
        {"head.weight": state["head.weight"].astype(np.int8)}
    ),
    r"norm\.num_batches_tracked must hold int64\. Got 'float32'": lambda state: state.update(
        {"norm.num_batches_tracked": np.float32(1)}
    ),
    r"holds something else than arrays of numbers": lambda state: state.update(
        {"head.weight": np.array([{"a": 1}], dtype=object)}
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_weights_that_do_not_fit(code: Path, tmp_path: Path, message: str) -> None:
    state = arrays_of(build(spec_of(code)).module)
    BROKEN[message](state)
    np.savez(tmp_path / "net.npz", **state)  # type: ignore[arg-type] # names are not options of its
    with pytest.raises(RecipeError, match=message):
        build(spec_of(code, weights=str(tmp_path / "net.npz")))


def test_two_names_of_one_tensor_must_not_differ(code: Path, tmp_path: Path) -> None:
    table = torch.randn(30, 8)
    for other, is_fine in ((table.clone(), True), (table + 1, False)):
        save_file({"table.weight": table, "head.weight": other}, tmp_path / "net.safetensors")
        spec = spec_of(code, "Tied", TEXT, weights=str(tmp_path / "net.safetensors"))
        if is_fine:
            assert torch.equal(build(spec).get_parameter("module.table.weight"), table)
        else:
            with pytest.raises(RecipeError, match=r"weight are one tensor of the module, and differ"):
                build(spec)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.pt", r"net\.pt is a pickle, which runs code when it is read"),
        ("net.h5", r"weights are a state dict in a \.safetensors or \.npz file\. Got '.*net\.h5'"),
        ("net.safetensors", r"net\.safetensors is truncated or corrupt"),
        ("net.npz", r"net\.npz is damaged"),
    ],
)
def test_files_that_hold_no_weights(code: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of use")
    with pytest.raises(RecipeError, match=message) as caught:
        build(spec_of(code, weights=str(tmp_path / name)))
    if name == "net.pt":
        assert "save_file(module.state_dict()" in str(caught.value.hint)


def test_a_module_is_written_with_its_file() -> None:
    with pytest.raises(KleiberError, match=r"a module is written FILE\.py:NAME\. Got 'Net'"):
        named.split_module("Net")
