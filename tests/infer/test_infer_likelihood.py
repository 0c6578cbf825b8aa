"""Of a decoder whose logits are known: each token makes its successor likelier than all others."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benching import tiny_model

from kleiber.errors import DataError, MissingExtraError, UsageError
from kleiber.infer.bench.evaluation import evaluate
from kleiber.infer.bench.likelihood import continuation_likelihood, text_likelihood
from kleiber.infer.bench.lm_eval_tasks import harness_model, run_tasks
from kleiber.infer.text_model import open_text_model
from kleiber.models import load

V, GAIN = 8, 2.0


class Successor:
    """Numbers that count: the logit of the next one is 2, all others 0."""

    context = 4

    def __init__(self) -> None:
        self.read: list[list[int]] = []

    def prefill(self, tokens_BT: np.ndarray) -> np.ndarray:
        self.read.append(tokens_BT[0].tolist())
        return self._logits(tokens_BT)[:, -1]

    def extend(self, tokens_BT: np.ndarray) -> np.ndarray:
        self.read[-1] += tokens_BT[0].tolist()
        return self._logits(tokens_BT)

    def _logits(self, tokens_BT: np.ndarray) -> np.ndarray:
        return GAIN * np.eye(V, dtype=np.float32)[(tokens_BT + 1) % V]


class Digits:
    """A tokenizer whose tokens are the digits of a text; spaces have one of their own."""

    end_id = 0
    backend: Any

    def __init__(self) -> None:
        self.backend = self

    def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(ids=[0 if char == " " else int(char) for char in text])


def model(**changes: Any) -> Any:
    return SimpleNamespace(decoder=Successor(), tokenizer=Digits(), start_ids=(), **changes)


LIKELY = GAIN - math.log(math.exp(GAIN) + V - 1)
UNLIKELY = LIKELY - GAIN


def test_a_continuation_is_as_likely_as_its_tokens() -> None:
    found = continuation_likelihood(model(), "1", "23")
    assert found.logprob == pytest.approx(2 * LIKELY)
    assert found.is_greedy
    found = continuation_likelihood(model(), "1", "25")
    assert found.logprob == pytest.approx(LIKELY + UNLIKELY)
    assert not found.is_greedy


def test_without_a_context_a_text_begins_as_texts_do() -> None:
    asked = model()
    assert continuation_likelihood(asked, "", "12").logprob == pytest.approx(2 * LIKELY)  # after the end, 0
    assert asked.decoder.read == [[0, 1]]
    asked = model()
    asked.start_ids = (4,)
    assert continuation_likelihood(asked, "", "5").logprob == pytest.approx(LIKELY)


def test_spaces_at_the_end_belong_to_the_continuation() -> None:
    found = continuation_likelihood(model(), "7 ", "1")  # 7, then the space, 0, then 1
    assert found.logprob == pytest.approx(2 * LIKELY)


def test_of_a_long_text_the_last_tokens_are_read() -> None:
    asked = model()
    assert continuation_likelihood(asked, "123", "4567").logprob == pytest.approx(4 * LIKELY)
    assert asked.decoder.read == [[3, 4, 5, 6]]


def test_a_text_is_read_in_windows_that_ask_about_every_token_once() -> None:
    asked = model()
    assert text_likelihood(asked, "1234567").logprob == pytest.approx(7 * LIKELY)
    assert asked.decoder.read == [[0, 1, 2, 3], [4, 5, 6]]
    assert text_likelihood(asked, "").logprob == 0.0


def test_likelihoods_are_those_of_the_model(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    opened = open_text_model(folder, engine="torch", num_threads=1)
    module, _ = load(folder)
    ids = opened.tokenizer.backend.encode("low lower lowest", add_special_tokens=False).ids
    num_before = len(opened.tokenizer.backend.encode("low lower", add_special_tokens=False).ids)
    start = list(opened.start_ids) or [opened.tokenizer.end_id]
    read = torch.tensor([[*start, *ids]])
    with torch.no_grad():
        logprobs_TV = module(read).log_softmax(-1)[0]
    expected = sum(float(logprobs_TV[len(start) + at - 1, ids[at]]) for at in range(num_before, len(ids)))
    assert continuation_likelihood(opened, "low lower", " lowest").logprob == pytest.approx(
        expected, abs=1e-3
    )


def test_the_harness_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="--lm-eval needs the package 'lm-eval'"):
        run_tasks(model(), ["hellaswag"])


def test_tasks_of_the_harness_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    pytest.importorskip("lm_eval")
    asked = harness_model(model())
    request = SimpleNamespace(args=("1", "23"))
    assert asked.loglikelihood([request]) == [(pytest.approx(2 * LIKELY), True)]
    assert asked.loglikelihood_rolling([SimpleNamespace(args=("12",))]) == [pytest.approx(2 * LIKELY)]
    with pytest.raises(UsageError, match=r"lm-eval has no task 'helaswag'\. Did you mean"):
        run_tasks(model(), ["helaswag"])
    with pytest.raises(DataError, match="--lm-eval: the data of hellaswag is not at hand"):
        run_tasks(model(), ["hellaswag"])


TASK = """
task: last_digit
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{last}}}}"
target_delimiter: ""
metric_list: [{{metric: {metric}, aggregation: {aggregation}, higher_is_better: true}}]
"""


@pytest.mark.parametrize(
    ("metric", "aggregation", "value"),
    [("acc", "mean", 0.5), ("perplexity", "perplexity", math.exp(-(LIKELY + UNLIKELY) / 2))],
)
def test_tasks_of_ones_own_are_asked_of_text_that_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, aggregation: str, value: float
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    pytest.importorskip("lm_eval")
    data = tmp_path / "data.jsonl"
    # After 1 comes 2, and after 2 comes 3: the second answer is another.
    data.write_text('{"context": "1", "last": "2"}\n{"context": "2", "last": "1"}\n')
    task = TASK.format(data=data, metric=metric, aggregation=aggregation)
    (tmp_path / "last_digit.yaml").write_text(task)
    (found,) = run_tasks(model(), ["last_digit"], own_tasks=tmp_path)
    assert (found.task, found.num_samples) == ("last_digit", 2)
    assert found.metrics[metric].value == pytest.approx(value, rel=1e-5)
    assert found.metrics[metric].low >= 0 or metric == "acc"
    with pytest.raises(UsageError, match="is no folder with tasks of lm-eval"):
        run_tasks(model(), ["last_digit"], own_tasks=data)


def test_an_evaluation_needs_data_and_known_names(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    with pytest.raises(UsageError, match="is a model without a run: its task and data must be said"):
        evaluate(folder)
    with pytest.raises(UsageError, match=r"unknown engine 'torhc'\. Did you mean 'torch'"):
        evaluate(folder, engine="torhc")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"unknown precision 'int5'\. Did you mean 'int"):
        evaluate(folder, precision="int5")  # type: ignore[arg-type]
