"""Predicts the word error rate of pseudo-labels without a reference.

Features are the quality statistics of an utterance, its token log-probabilities, and how far a second opinion (the
transcript by another model: tiny.en, the student) differs. Gradient-boosted trees (scikit-learn, extra `prediction`)
are fitted to the utterances that have a reference. Those are predicted by cross-fitting, grouped by speaker, so their
predictions are as unbiased as the others. The second opinion is by far the strongest feature.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from whisperstill.errors import MissingExtraError, SettingsError, StoreError
from whisperstill.label.filter_rules import reference_wer, wer_percent
from whisperstill.label.store import LabelStore
from whisperstill.records.pseudo_label import LabelQuality, PseudoLabel
from whisperstill.text.edit_distance import count_edits
from whisperstill.text.normalizers import normalize_to_units, split_into_units

FeatureMatrix = npt.NDArray[np.float64]
MIN_TRAINING_UTTERANCES = 40
"""Minimum number of utterances with a reference."""
NUM_FOLDS = 5
"""Folds of the cross-fitting."""
NUM_LEAST_PROBABLE_TOKENS = 5
"""Number of least probable tokens that are averaged."""
MAX_GUESS_LOGPROB = -2.0
"""Log-probability below which a token counts as a guess (`low_logprob_token_ratio`)."""
MAX_WER_PERCENT = 100.0
"""Larger word error rates are clipped to this, per cent."""

SecondOpinions = Mapping[tuple[str, str], str]
"""Transcript of another model by (corpus, utterance id)."""


@dataclass(frozen=True, slots=True)
class WerPrediction:
    """Predicted word error rates."""

    wer: npt.NDArray[np.float64]
    """Per cent, per utterance in the order of the store."""
    num_training_utterances: int
    """Number of utterances with a reference."""
    correlation: float
    """Correlation of predicted and true WER on those, each predicted by trees that were not fitted to it."""


def read_second_opinions(store: LabelStore) -> dict[tuple[str, str], str]:
    """Transcripts in another store; of an utterance in several packing variants, the first."""
    second_opinions: dict[tuple[str, str], str] = {}
    for label in store.read_labels():
        for quality in label.quality:
            second_opinions.setdefault((quality.utterance.corpus, quality.utterance.id), quality.text)
    return second_opinions


def build_features(
    store: LabelStore, labels: Iterable[PseudoLabel], second_opinions: SecondOpinions | None
) -> FeatureMatrix:
    """Features `[utterances, features]`; missing values are NaN.

    Raises `StoreError` when the second opinions lack an utterance.
    """
    features: list[list[float]] = []
    has_topk = bool(store.settings["top_k"])
    for label in labels:
        logprobs = _token_logprobs(store, label) if has_topk else None
        for quality in label.quality:
            second_opinion = None
            if second_opinions is not None:
                key = (quality.utterance.corpus, quality.utterance.id)
                if key not in second_opinions:
                    raise StoreError(
                        f"the second opinion has no label for {'/'.join(key)}: label the same corpora with it"
                    )
                second_opinion = second_opinions[key]
            features.append([*_utterance_features(quality, label.language, logprobs, second_opinion).values()])
    return np.array(features, dtype=np.float64)


def predict_wer(
    features: FeatureMatrix, wer: Sequence[float | None], groups: Sequence[str], seed: int = 0
) -> WerPrediction:
    """Predicted WER of all rows, fitted to those whose `wer` (per cent) is known.

    A group (speaker) is never split between folds. Raises `SettingsError` with fewer than `MIN_TRAINING_UTTERANCES`
    known values, `MissingExtraError` without scikit-learn.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.model_selection import GroupKFold, KFold
    except ImportError as error:
        raise MissingExtraError("predicting word error rates", "prediction") from error

    known_indices = np.array([index for index, value in enumerate(wer) if value is not None], dtype=np.int64)
    if len(known_indices) < MIN_TRAINING_UTTERANCES:
        raise SettingsError(
            f"expected at least {MIN_TRAINING_UTTERANCES} utterances with a reference to train the WER predictor, "
            f"got {len(known_indices)}: label some that have one into the same store"
        )
    true_wer = np.array([min(MAX_WER_PERCENT, float(wer[index] or 0.0)) for index in known_indices])

    def fit_and_predict(
        train_indices: npt.NDArray[np.int64], targets: FeatureMatrix, test_features: FeatureMatrix
    ) -> FeatureMatrix:
        """Predictions for `test_features` by trees fitted to `train_indices`."""
        all_missing = np.isnan(features[train_indices]).all(0)  # scikit-learn refuses a column without values
        tree_params = {"max_iter": 150, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 8}
        regressor = HistGradientBoostingRegressor(**tree_params, l2_regularization=1.0, random_state=seed)
        regressor.fit(np.where(all_missing, 0.0, features[train_indices]), targets)
        predicted: FeatureMatrix = np.clip(
            regressor.predict(np.where(all_missing, 0.0, test_features)), 0, MAX_WER_PERCENT
        )
        return predicted

    # 1. Fit to all utterances with a reference, for those without.
    predicted = fit_and_predict(known_indices, true_wer, features)
    # 2. Replace the predictions of the former by cross-fitted ones.
    known_groups = np.array([groups[index] for index in known_indices])
    if len(set(known_groups)) >= NUM_FOLDS:
        folds = GroupKFold(NUM_FOLDS).split(known_indices, groups=known_groups)
    else:
        folds = KFold(NUM_FOLDS, shuffle=True, random_state=seed).split(known_indices)
    for train, held_out in folds:
        predicted[known_indices[held_out]] = fit_and_predict(
            known_indices[train], true_wer[train], features[known_indices[held_out]]
        )
    min_std = min(predicted[known_indices].std(), true_wer.std())
    correlation = float(np.corrcoef(predicted[known_indices], true_wer)[0, 1]) if min_std > 0 else 0.0
    return WerPrediction(predicted, len(known_indices), correlation)


def _token_logprobs(store: LabelStore, label: PseudoLabel) -> npt.NDArray[np.float64]:
    """Log-probability of each target token of a window; for a token outside the top-k, that of the k-th."""
    topk = store.read_topk(label)
    is_target = topk.ids == topk.tokens[:, None]
    target_logit = topk.logits.masked_fill(~is_target, -np.inf).amax(-1)
    min_logit = topk.logits.amin(-1)
    logprobs: npt.NDArray[np.float64] = (target_logit.where(is_target.any(-1), min_logit) - topk.lse1).double().numpy()
    return logprobs


def _utterance_features(
    quality: LabelQuality, language: str, window_logprobs: npt.NDArray[np.float64] | None, second_opinion: str | None
) -> dict[str, float]:
    text, seconds = quality.text, quality.utterance.audio.duration
    words = split_into_units(text, language)
    letters = [letter for letter in text if letter.isalpha()]
    all_logprobs = np.zeros(0) if window_logprobs is None else window_logprobs
    logprobs = all_logprobs[quality.token_start : quality.token_end]
    next_logprob = float(all_logprobs[quality.token_end]) if quality.token_end < len(all_logprobs) else np.nan
    least_probable = np.sort(logprobs)[:NUM_LEAST_PROBABLE_TOKENS]
    second_opinion_wer = second_opinion_words = np.nan
    if second_opinion is not None:
        edits = count_edits(normalize_to_units(second_opinion, language), normalize_to_units(text, language))
        second_opinion_wer = min(200.0, wer_percent(edits))
        second_opinion_words = (1 + len(words)) / (1 + len(split_into_units(second_opinion, language)))
    return {
        "mean_logprob": quality.mean_logprob,
        "min_logprob": quality.min_logprob,
        "entropy": quality.entropy,
        "no_speech_prob": quality.no_speech_prob,
        "compression_ratio": quality.compression_ratio,
        "ngram_repeats": float(quality.ngram_repeats),
        "tokens_per_second": quality.tokens_per_second,
        "seconds": seconds,
        "words": float(len(words)),
        "characters_per_second": len(text) / seconds,
        "unique_word_ratio": len({word.lower() for word in words}) / len(words) if words else np.nan,
        "uppercase_ratio": sum(letter.isupper() for letter in letters) / len(letters) if letters else np.nan,
        "least_probable_tokens_logprob": float(least_probable.mean()) if len(logprobs) else np.nan,
        "low_logprob_token_ratio": float((logprobs < MAX_GUESS_LOGPROB).mean()) if len(logprobs) else np.nan,
        "next_token_logprob": next_logprob,
        "second_opinion_wer": second_opinion_wer,
        "second_opinion_word_ratio": second_opinion_words,
    }


def predict_store_wer(store: LabelStore, second_opinion: LabelStore | None, seed: int = 0) -> WerPrediction:
    """Predicted word error rates of a store's utterances; `second_opinion` is the label store of another model."""
    labels = list(store.read_labels())
    qualities = [quality for label in labels for quality in label.quality]
    features = build_features(store, labels, None if second_opinion is None else read_second_opinions(second_opinion))
    ids = [f"{quality.utterance.corpus}/{quality.utterance.id}" for quality in qualities]
    groups = [quality.utterance.speaker or name for quality, name in zip(qualities, ids, strict=True)]
    if len({group for group, quality in zip(groups, qualities, strict=True) if quality.edits is not None}) < NUM_FOLDS:
        # Too few speakers: group by utterance, which may be in several packing variants.
        groups = ids
    return predict_wer(features, [reference_wer(quality) for quality in qualities], groups, seed)
