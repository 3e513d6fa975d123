"""WER prediction separates bad labels from good ones without a reference."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from whisperstill.errors import SettingsError
from whisperstill.label import wer_prediction as prediction
from whisperstill.label.store import LabelStore
from whisperstill.label.wer_prediction import FeatureMatrix, predict_wer
from whisperstill.records import AudioSpan, LabelQuality, PseudoLabel, Utterance

from unit.label.builders import make_label, make_quality

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra prediction)")


NUM_FEATURES = 17


def synthetic(count: int, seed: int = 0) -> tuple[FeatureMatrix, list[float]]:
    """Features of which two follow the word error rate with noise, and the word error rates."""
    random = np.random.default_rng(seed)
    wer = np.where(random.random(count) < 0.3, random.uniform(40, 120, count), random.uniform(0, 20, count))
    rows = random.normal(size=(count, NUM_FEATURES))
    rows[:, 0] = -wer / 50 + random.normal(scale=0.2, size=count)
    rows[:, -2] = wer + random.normal(scale=20, size=count)
    return rows, wer.tolist()


def roc_auc(scores: Sequence[float], bad: Sequence[bool]) -> float:
    """Area under the ROC curve: how often a bad utterance has a higher score than a good one."""
    pairs = [(a > b) + (a == b) / 2 for a, x in zip(scores, bad, strict=True) if x
             for b, y in zip(scores, bad, strict=True) if not y]  # fmt: skip
    return float(np.mean(pairs))


def test_wer_of_utterances_without_reference_is_predicted() -> None:
    rows, wer = synthetic(400)
    known = [value if index < 200 else None for index, value in enumerate(wer)]
    predicted = predict_wer(rows, known, [str(index // 4) for index in range(400)])
    assert predicted.num_training_utterances == 200 and predicted.correlation > 0.8
    assert roc_auc(predicted.wer[200:].tolist(), [value > 40 for value in wer[200:]]) > 0.95
    assert predicted.wer.min() >= 0 and predicted.wer.max() <= 100
    again = predict_wer(rows, known, [str(index // 4) for index in range(400)])
    np.testing.assert_array_equal(predicted.wer, again.wer)


def test_cross_fitting_does_not_leak() -> None:
    """Features are noise: only trees fitted to the tested utterances would correlate with their WER."""
    rows, wer = synthetic(200)
    noise = np.random.default_rng(1).normal(size=rows.shape)
    predicted = predict_wer(noise, wer, [str(index) for index in range(200)])
    assert abs(predicted.correlation) < 0.3


def test_a_speaker_is_in_one_fold() -> None:
    """The only feature is the speaker, and the WER is constant per speaker."""
    speakers = np.repeat(np.arange(10), 30)
    level = np.random.default_rng(2).permutation(10) * 10.0
    rows = np.full((300, NUM_FEATURES), np.nan)
    rows[:, 0] = speakers
    wer = level[speakers].tolist()
    apart = predict_wer(rows, wer, [str(speaker) for speaker in speakers])
    torn = predict_wer(rows, wer, [str(index) for index in range(300)])
    assert torn.correlation > 0.9 > 0.5 > apart.correlation


def test_too_few_references_are_an_error() -> None:
    rows, wer = synthetic(100)
    known = [value if index < 30 else None for index, value in enumerate(wer)]
    with pytest.raises(SettingsError, match=r"at least 40 utterances with a reference .* got 30"):
        predict_wer(rows, known, ["a"] * 100)


def test_features_reflect_errors() -> None:
    def features_of(text: str, second_opinion: str | None) -> dict[str, float]:
        utterance = Utterance("u", "c", AudioSpan("x.wav", 0.0, 2.0), None, "en", None, None)
        quality = LabelQuality(utterance, 0, 3, text, -0.1, -0.3, 0.2, 0.0, 1.0, 1, 2.0, None)
        logprobs = np.array([-0.1, -3.0, -0.2, -4.0])
        return prediction._utterance_features(quality, "en", logprobs, second_opinion)

    equal, other = features_of("One two three.", "one two three"), features_of("ONE one one", "four five six seven")
    assert equal["second_opinion_wer"] == 0 and other["second_opinion_wer"] == 100
    assert equal["unique_word_ratio"] == 1 and other["unique_word_ratio"] == pytest.approx(1 / 3)
    assert equal["low_logprob_token_ratio"] == pytest.approx(1 / 3) and equal["next_token_logprob"] == -4.0
    assert other["uppercase_ratio"] > equal["uppercase_ratio"]
    assert np.isnan(features_of("", None)["unique_word_ratio"])


def test_groups_are_speakers_or_else_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few speakers, folds keep the packing variants of an utterance together; with many, the speaker."""
    groups_by_call: list[list[str]] = []
    monkeypatch.setattr(prediction, "build_features", lambda store, labels, others: np.zeros((0, NUM_FEATURES)))

    def predicted(rows: FeatureMatrix, wer: object, groups: Sequence[str], seed: int) -> prediction.WerPrediction:
        groups_by_call.append(list(groups))
        return prediction.WerPrediction(np.zeros(0), 0, 0.0)

    monkeypatch.setattr(prediction, "predict_wer", predicted)

    class Store(LabelStore):
        def __init__(self, speakers: int) -> None:
            self.speakers = speakers

        def read_labels(self) -> Iterator[PseudoLabel]:
            pseudo_labels = []
            for index in range(12):
                quality = make_quality(f"u{index % 6}")
                speaker = str(index % 6 % self.speakers)
                pseudo_labels.append(
                    make_label(f"w{index}", replace(quality, utterance=replace(quality.utterance, speaker=speaker)))
                )
            return iter(pseudo_labels)

    for speakers in (1, 6):
        prediction.predict_store_wer(Store(speakers), None)
    assert groups_by_call[0] == [f"corpus/u{index % 6}" for index in range(12)]
    assert groups_by_call[1] == [str(index % 6) for index in range(12)]
