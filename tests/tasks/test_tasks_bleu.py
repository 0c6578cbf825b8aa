import pytest
import sacrebleu

from kleiber.tasks.bleu import bleu, tokenization

SAID = ["the cat sat on the mat", "there is a dog in the garden", "he reads a book by the sea", "no"]
MEANT = ["the cat sat on a mat", "a dog is in the garden", "he reads a book at the sea", "yes , no"]


def test_the_value_is_sacrebleus():
    expected = sacrebleu.corpus_bleu(SAID, [MEANT])
    assert 20 < expected.score < 80
    assert bleu(SAID, MEANT).value == pytest.approx(expected.score, abs=1e-9)


def test_short_and_empty_translations_are_smoothed_as_sacrebleu_does():
    said, meant = ["a cat", "", "no"], ["a cat sat", "dogs", "yes"]
    assert bleu(said, meant).value == pytest.approx(sacrebleu.corpus_bleu(said, [meant]).score, abs=1e-9)


def test_chinese_is_cut_by_characters():
    said, meant = ["我喜欢读书。", "他昨天去了北京。"], ["我喜欢看书。", "他昨天到北京去了。"]
    expected = sacrebleu.corpus_bleu(said, [meant], tokenize="zh")
    assert bleu(said, meant).value == pytest.approx(expected.score, abs=1e-9)
    assert tokenization(meant) == "zh"
    assert tokenization(["Tom 说 hello"]) == "13a"
    assert tokenization([""]) == "13a"


def test_the_interval_is_that_of_bootstrap():
    said, meant = SAID * 25, MEANT * 25
    estimate = bleu(said, meant)
    ours = (estimate.high - estimate.low) / 2
    theirs = sacrebleu.metrics.BLEU().corpus_score(said, [meant], n_bootstrap=1000)._ci
    assert ours == pytest.approx(theirs, rel=0.1)
    assert estimate.low < estimate.value < estimate.high
    assert bleu(said, meant) == estimate  # the draws are the same each time
    perfect = bleu(MEANT, MEANT)
    assert perfect.value == perfect.high == pytest.approx(100)
