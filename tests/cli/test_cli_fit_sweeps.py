"""`kleiber fit --form hyperparameters`: a drawn sweep's law comes back, and what says nothing is refused."""

from __future__ import annotations

import itertools
import math

import pytest

from kleiber.scaling.hyperparameters import HyperparameterLaws

FIT = ("fit", "sweeps.csv", "--form", "hyperparameters", "--bootstrap", "100")


def rate_of(params, tokens):
    return 2 * params**-0.7 * tokens**0.3


def batch_of(tokens):
    return 0.5 * tokens**0.5


@pytest.fixture
def sweeps(tmp_path):
    lines = ["params,tokens,eta,batch_size,loss"]
    for n, ratio in itertools.product((1e8, 4e8, 1e9), (5, 80)):
        d = ratio * n
        for u, v in itertools.product(range(-3, 4), repeat=2):
            loss = 3 * math.exp(0.002 * u * u + 0.0005 * u * v + 0.001 * v * v)
            rate, batch = rate_of(n, d) * math.exp(u / 2), batch_of(d) * math.exp(v / 2)
            lines.append(f"{n},{d},{rate!r},{batch!r},{loss!r}")
    (tmp_path / "sweeps.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("sweeps")
def test_the_law_behind_the_sweeps_comes_back(cli, tmp_path):
    asked = (*FIT, "--columns", "learning_rate=eta", "--at", "2e9@4e10", "-o", "laws.json")
    document = cli(*asked, "--json").document
    assert (document["num_sweeps"], document["num_surfaces"]) == (6, 6)
    for reading in ("each", "shared"):
        found = document["readings"][reading]["coefficients"]
        assert found["rate_by_size"] == pytest.approx(-0.7, abs=1e-6)
        assert found["rate_by_tokens"] == pytest.approx(0.3, abs=1e-6)
        assert found["batch_by_tokens"] == pytest.approx(0.5, abs=1e-6)
        told = document["predictions"][0][reading]
        assert told["learning_rate"] == pytest.approx(rate_of(2e9, 4e10), rel=1e-6)
        assert told["batch"] == pytest.approx(batch_of(4e10), rel=1e-6)
        assert set(told["intervals"]["batch"]) == {"80", "95"}
    written = HyperparameterLaws.read(tmp_path / "laws.json")
    assert written.shared.coefficients == document["readings"]["shared"]["coefficients"]


@pytest.mark.usefixtures("sweeps")
def test_people_read_both_readings_and_how_far_the_run_is(cli):
    said = cli(*FIT, "--columns", "learning_rate=eta", "--at", "2e9@4e10")
    assert said.code == 0
    assert "over 6 sweeps of 294 runs" in said.stdout
    assert "By each sweep's own best:" in said.stdout
    assert "By one bowl for all sweeps:" in said.stdout
    assert "has 2 times the parameters and 0.5 times the tokens of the largest sweep" in said.stdout


@pytest.mark.usefixtures("sweeps")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "has no column for learning_rate"),
        (("--columns", "learning_rate=rate"), "has no column 'rate', which was named for learning_rate"),
        (("--columns", "learning_rate=eta", "--where", "params < 2e8"), "at least 4 sweeps over two sizes"),
        (("--columns", "learning_rate=eta", "--at", "1e9"), "--at takes PARAMS@TOKENS. Got '1e9'"),
        (("--columns", "learning_rate=eta", "--at", "1e9@x"), "--at"),
        (
            ("--columns", "learning_rate=eta", "--by", "params"),
            "--by has no effect with --form hyperparameters",
        ),
        (("--columns", "learning_rate=eta", "--drop-highest", "3"), "--drop-highest has no effect"),
        (("--columns", "learning_rate=eta", "--vocab-size", "300"), "--vocab-size has no effect"),
        (("--columns", "learning_rate=params"), "tried fewer than three values of the learning rate"),
    ],
)
def test_what_says_nothing_is_refused(cli, options, message):
    said = cli(*FIT, *options)
    assert said.code == 2
    assert message in said.stderr


@pytest.mark.usefixtures("sweeps")
def test_at_is_of_this_form_alone(cli):
    said = cli("fit", "sweeps.csv", "--at", "1e9@2e10")
    assert said.code == 2
    assert "--at has no effect without --form hyperparameters." in said.stderr
