"""`kleiber study`: what is asked wrongly costs one sentence."""

import pytest

from kleiber.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["gpt", "--params", "1e6..1e4"],
            "--params takes the smallest and the largest number of parameters.",
        ),
        (["gpt", "--params", "1e6"], "--params takes the smallest and the largest number of parameters."),
        (["gpt", "--sizes", "2"], "--sizes must be a whole number from 3 to 40."),
        (["gpt", "--seeds", "0"], "--seeds must be a whole number from 1 to 20."),
        (["gpt", "--budget-s", "-5"], "--budget-s must be a positive number."),
        (["nonsense"], "nonsense"),
        (["missing.yaml"], "missing.yaml cannot be read"),
        (["gpt", "--set", "train.nothing=1"], "unknown key 'train.nothing'"),
        (["mlp", "--preset", "fast"], "preset fast is of the family gpt, got 'mlp'"),
        (["gpt", "--preset", "quick"], "preset must be one of fast, plain, got 'quick'"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())
