"""From a visit to a `Labelled` window: which tokens belong to which utterance, and how sure the teacher was."""

from itertools import pairwise

import numpy as np

from whisperstill.decode.observed import Observed
from whisperstill.decode.transcript import compression_ratio
from whisperstill.label.alignment import split_hypothesis, split_without_reference
from whisperstill.label.repeats import most_repeated
from whisperstill.label.teacher import Visit
from whisperstill.records import EditCounts, Labelled, Utterance, UtteranceEvidence, Window
from whisperstill.text.edits import count_edits
from whisperstill.text.normalise import scored_units, unit_for
from whisperstill.text.tokenizer import Tokenizer, TokenWord
from whisperstill.text.vocabulary import Vocabulary


def labelled(
    window: Window, visit: Visit, tokenizer: Tokenizer, vocabulary: Vocabulary, *, timestamps: bool, shard: str
) -> Labelled:
    """Attribute the teacher's tokens to the window's utterances and gather the evidence on each.

    With references the words are aligned to them; without, they are shared out by timestamps, or by duration.
    """
    tokens = visit.decoded.tokens
    words = tokenizer.words(list(tokens), visit.language)
    ranges = _word_ranges(window, words, tokens, visit.language, vocabulary)
    cuts = _token_cuts(words, ranges, len(tokens))
    evidence = []
    for utterance, (first, last), (start, stop) in zip(window.utterances, ranges, pairwise(cuts), strict=True):
        text = "".join(word.text for word in words[first:last]).strip()
        evidence.append(_evidence(utterance, text, start, stop, visit, vocabulary))
    return Labelled(
        window=window,
        language=visit.language,
        tokens=tokens,
        text=tokenizer.decode(list(tokens)).strip(),
        ended=visit.decoded.ended,
        timestamps=timestamps,
        evidence=tuple(evidence),
        shard=shard,
    )


def _word_ranges(
    window: Window, words: list[TokenWord], tokens: tuple[int, ...], language: str, vocabulary: Vocabulary
) -> list[tuple[int, int]]:
    if len(window.utterances) == 1:
        return [(0, len(words))]
    if window.has_text:
        by_character = unit_for(language) == "character"
        references = [u.text or "" for u in window.utterances]
        return split_hypothesis([w.text for w in words], references, by_character=by_character)
    times = None
    if any(vocabulary.is_timestamp(token) for token in tokens):
        times, now, at = [], 0.0, 0
        for word in words:
            while at < word.first:
                if vocabulary.is_timestamp(tokens[at]):
                    now = vocabulary.timestamp_seconds(tokens[at])
                at += 1
            times.append(now)
    return split_without_reference(len(words), [u.audio.duration for u in window.utterances], times)


def _token_cuts(words: list[TokenWord], ranges: list[tuple[int, int]], total: int) -> list[int]:
    """Where each utterance's tokens begin, and the end: contiguous, all tokens covered."""
    cuts = [0]
    for _, last in ranges[:-1]:
        cuts.append(max(cuts[-1], words[last].first if last < len(words) else total))
    cuts.append(total)
    return cuts


def _evidence(
    utterance: Utterance, text: str, start: int, stop: int, visit: Visit, vocabulary: Vocabulary
) -> UtteranceEvidence:
    seen: Observed = visit.decoded.observed
    count = stop - start
    spoken = sum(not vocabulary.is_timestamp(token) for token in visit.decoded.tokens[start:stop])
    logprob = seen.logprob[start:stop].numpy()
    entropy = seen.entropy[start:stop].numpy()
    return UtteranceEvidence(
        utterance=utterance,
        first_token=start,
        last_token=stop,
        text=text,
        mean_logprob=float(np.mean(logprob)) if count else 0.0,
        min_logprob=float(np.min(logprob)) if count else 0.0,
        entropy=float(np.mean(entropy)) if count else 0.0,
        no_speech=visit.decoded.no_speech,
        compression_ratio=compression_ratio(text),
        longest_repeat=most_repeated(text, visit.language),
        tokens_per_second=spoken / utterance.audio.duration,
        edits=_edits(utterance, text, visit.language),
    )


def _edits(utterance: Utterance, text: str, language: str) -> EditCounts | None:
    if utterance.text is None:
        return None
    return count_edits(scored_units(utterance.text, language), scored_units(text, language))
