import numpy as np
import pytest
import torch

from kleiber.errors import RecipeError
from kleiber.infer import fastest_predictor as fastest
from kleiber.infer.choice import SampleRequest
from kleiber.models import build
from kleiber.models.mlp import MLPSpec
from kleiber.runs import DataShape

SHAPE = DataShape(inputs="features", num_features=5, num_outputs=2)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Engines that are slow or missing, by name; which were opened."""
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    names = []
    real = fastest.open_predictor

    def opener(name, module, inputs, **given):
        names.append(name)
        if name != "torch":
            raise RecipeError(f"{name} does not take it.")
        return real(name, module, inputs, **given)

    monkeypatch.setattr(fastest, "open_predictor", opener)
    return names


def test_what_runs_it_is_chosen_and_the_others_are_told(opened):
    module, rows = build(MLPSpec.of_size({"depth": 1, "width": 8}, SHAPE)).eval(), torch.randn(3, 5)
    predictor, choice = fastest.fastest_predictor(module, [rows], num_threads=1)
    assert opened == ["torch", "compiled", "onnxruntime", "openvino"]
    assert choice.request == SampleRequest()
    assert choice.left_out["openvino"] == "openvino does not take it."
    assert np.allclose(predictor(rows.numpy()), module(rows).detach().numpy())
    opened.clear()
    fastest.fastest_predictor(module, [rows], num_threads=1)
    assert opened == ["torch"]
    fastest.fastest_predictor(module, [rows], num_threads=1, request=SampleRequest(batch=2))
    assert len(opened) == 5
