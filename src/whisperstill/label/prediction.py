"""How wrong is a label that has no reference? Predicted from how sure the teacher was, and from what another heard.

Evidence is turned into some twenty figures an utterance; gradient-boosted trees (scikit-learn, extra `prediction`)
learn on the utterances that have a reference what word error rate goes with them. Those utterances themselves are
predicted by trees that did not see them (cross-fitting by speaker where there are several), so that what is said of
them is as honest as what is said of the others. Errors above 100 % count as 100.

The strongest figure by far is a second opinion: the words of another model (tiny.en, the student) for the same audio.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from whisperstill.errors import MissingExtraError, SettingsError, StoreError
from whisperstill.label.rules import wer_percent
from whisperstill.label.store import LabelStore
from whisperstill.records.labelled import Labelled, UtteranceEvidence
from whisperstill.text.edits import count_edits
from whisperstill.text.normalise import scored_units, spoken_units

Rows = npt.NDArray[np.float64]
FEWEST = 40
"""Utterances with a reference that are needed to learn from."""
PARTS = 5
"""Of the cross-fitting."""
WORST = 5
"""Least probable tokens that are looked at together."""
UNSURE = -2.0
"""Log-probability below which a token counts as a guess."""
MOST = 100.0
"""Per cent: what is worse teaches nothing more."""
FIGURES = (
    "mean_logprob",
    "min_logprob",
    "entropy",
    "no_speech",
    "compression_ratio",
    "longest_repeat",
    "tokens_per_second",
    "seconds",
    "words",
    "characters_per_second",
    "share_of_different_words",
    "share_of_capitals",
    "worst_tokens",
    "share_of_guesses",
    "logprob_of_what_follows",
    "proxy_wer",
    "proxy_words",
)
"""What the trees look at, in this order."""

Opinions = Mapping[tuple[str, str], str]
"""Corpus, utterance -> what another model heard."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted word error rates, per cent, utterance by utterance in the order of the store."""

    wer: npt.NDArray[np.float64]
    calibrated_on: int
    """Utterances with a reference."""
    correlation: float
    """Of prediction and truth on those, each predicted unseen."""


def opinions(store: LabelStore) -> dict[tuple[str, str], str]:
    """What the teacher of another store heard; of an utterance in several packings, in the first one."""
    found: dict[tuple[str, str], str] = {}
    for labelled in store.labelled():
        for seen in labelled.evidence:
            found.setdefault((seen.utterance.corpus, seen.utterance.id), seen.text)
    return found


def figures(store: LabelStore, labels: Iterable[Labelled], others: Opinions | None) -> Rows:
    """`[utterances, figures]`; what is not known is NaN. Raises `StoreError` where `others` lack an utterance."""
    found: list[list[float]] = []
    with_top = bool(store.settings["top"])
    for labelled in labels:
        logprobs = _logprobs(store, labelled) if with_top else None
        for seen in labelled.evidence:
            heard = None
            if others is not None:
                key = (seen.utterance.corpus, seen.utterance.id)
                if key not in others:
                    raise StoreError(f"the proxy did not hear {'/'.join(key)}: label the same corpora with it")
                heard = others[key]
            found.append(_figures(seen, labelled.language, logprobs, heard))
    return np.array(found, dtype=np.float64).reshape(-1, len(FIGURES))


def predict(rows: Rows, wer: Sequence[float | None], groups: Sequence[str], seed: int = 0) -> Prediction:
    """Word error rates of all rows, learnt on those whose `wer` (per cent) is known.

    `groups` (speakers) are not torn apart by the cross-fitting. Raises `SettingsError` with fewer than `FEWEST` known
    ones, `MissingExtraError` without scikit-learn.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.model_selection import GroupKFold, KFold
    except ImportError as error:
        raise MissingExtraError("predicting word error rates", "prediction") from error

    known = np.array([index for index, value in enumerate(wer) if value is not None], dtype=np.int64)
    if len(known) < FEWEST:
        raise SettingsError(
            f"a prediction needs at least {FEWEST} utterances with a reference to learn from, found {len(known)}: "
            "label some that have one into the same store"
        )
    truth = np.array([min(MOST, float(wer[index] or 0.0)) for index in known])

    def learnt(some: npt.NDArray[np.int64], values: Rows, wanted: Rows) -> Rows:
        """Predictions for `wanted` of trees that saw `some` rows."""
        unknown = np.isnan(rows[some]).all(0)  # a figure that none of them has, which the library cannot take
        few = {"max_iter": 150, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 8}
        trees = HistGradientBoostingRegressor(**few, l2_regularization=1.0, random_state=seed)
        trees.fit(np.where(unknown, 0.0, rows[some]), values)
        predicted: Rows = np.clip(trees.predict(np.where(unknown, 0.0, wanted)), 0, MOST)
        return predicted

    predicted = learnt(known, truth, rows)
    names = np.array([groups[index] for index in known])
    if len(set(names)) >= PARTS:
        parts = GroupKFold(PARTS).split(known, groups=names)
    else:
        parts = KFold(PARTS, shuffle=True, random_state=seed).split(known)
    for seen, unseen in parts:
        predicted[known[unseen]] = learnt(known[seen], truth[seen], rows[known[unseen]])
    spread = min(predicted[known].std(), truth.std())
    correlation = float(np.corrcoef(predicted[known], truth)[0, 1]) if spread > 0 else 0.0
    return Prediction(predicted, len(known), correlation)


def known_wer(seen: UtteranceEvidence) -> float | None:
    """Word error rate against the reference, per cent; None without."""
    return None if seen.edits is None else wer_percent(seen.edits)


def _logprobs(store: LabelStore, labelled: Labelled) -> npt.NDArray[np.float64]:
    """Log-probability of each token of a window and of the end; outside the top-k, no more than the least of it."""
    top = store.top(labelled)
    same = top.ids == top.tokens[:, None]
    logit = top.logits.masked_fill(~same, -np.inf).amax(-1)
    least = top.logits.amin(-1)
    found: npt.NDArray[np.float64] = (logit.where(same.any(-1), least) - top.lse1).double().numpy()
    return found


def _figures(
    seen: UtteranceEvidence, language: str, logprobs: npt.NDArray[np.float64] | None, heard: str | None
) -> list[float]:
    text, seconds = seen.text, seen.utterance.audio.duration
    words = spoken_units(text, language)
    letters = [letter for letter in text if letter.isalpha()]
    own = np.zeros(0) if logprobs is None else logprobs[seen.first_token : seen.last_token]
    after = np.nan if logprobs is None or seen.last_token >= len(logprobs) else float(logprobs[seen.last_token])
    proxy_wer = proxy_words = np.nan
    if heard is not None:
        edits = count_edits(scored_units(heard, language), scored_units(text, language))
        proxy_wer = min(200.0, wer_percent(edits))
        proxy_words = (1 + len(words)) / (1 + len(spoken_units(heard, language)))
    return [
        seen.mean_logprob,
        seen.min_logprob,
        seen.entropy,
        seen.no_speech,
        seen.compression_ratio,
        float(seen.longest_repeat),
        seen.tokens_per_second,
        seconds,
        float(len(words)),
        len(text) / seconds,
        len({word.lower() for word in words}) / len(words) if words else np.nan,
        sum(letter.isupper() for letter in letters) / len(letters) if letters else np.nan,
        float(np.sort(own)[:WORST].mean()) if len(own) else np.nan,
        float((own < UNSURE).mean()) if len(own) else np.nan,
        after,
        proxy_wer,
        proxy_words,
    ]


def predict_store(store: LabelStore, proxy: LabelStore | None, seed: int = 0) -> Prediction:
    """Predicted word error rates of a store's utterances, in their order; `proxy` holds a second opinion."""
    labels = list(store.labelled())
    seen = [one for labelled in labels for one in labelled.evidence]
    rows = figures(store, labels, None if proxy is None else opinions(proxy))
    groups = [one.utterance.speaker or f"{one.utterance.corpus}/{one.utterance.id}" for one in seen]
    if len({group for group, one in zip(groups, seen, strict=True) if one.edits is not None}) < PARTS:
        groups = [f"{one.utterance.corpus}/{one.utterance.id}" for one in seen]  # an utterance may be in more packings
    return predict(rows, [known_wer(one) for one in seen], groups, seed)
