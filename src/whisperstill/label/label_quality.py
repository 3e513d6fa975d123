"""From a teacher output to a `PseudoLabel`: the tokens of each utterance, and quality statistics on them."""

from itertools import pairwise

import numpy as np

from whisperstill.decode.generate.token_stats import TokenStats
from whisperstill.decode.output.transcript import compression_ratio
from whisperstill.label.teacher import TeacherOutput
from whisperstill.label.utterance_alignment import split_hypothesis, split_without_reference
from whisperstill.records import LabelQuality, PseudoLabel, Utterance, Window
from whisperstill.text.edit_distance import count_edits
from whisperstill.text.normalizers import error_rate_unit, normalize_to_units
from whisperstill.text.repetition import count_text_repeats
from whisperstill.text.tokenizer import Tokenizer, TokenWord
from whisperstill.text.vocabulary import Vocabulary


def build_pseudo_label(
    window: Window,
    teacher_output: TeacherOutput,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    *,
    timestamps: bool,
    shard: str,
) -> PseudoLabel:
    """The pseudo-label of a window, with its tokens assigned to utterances.

    Words are assigned by alignment with the references; without references by timestamps, or else by duration.
    """
    tokens = teacher_output.result.tokens
    words = tokenizer.split_to_word_tokens(list(tokens), teacher_output.language)
    # 1. Assign words to utterances, and with them contiguous ranges of tokens.
    word_ranges = _assign_words(window, words, tokens, teacher_output.language, vocabulary)
    token_cuts = _token_boundaries(words, word_ranges, len(tokens))
    # 2. Compute the quality statistics of each utterance.
    qualities = []
    for utterance, (first, last), (start, stop) in zip(
        window.utterances, word_ranges, pairwise(token_cuts), strict=True
    ):
        text = "".join(word.text for word in words[first:last]).strip()
        qualities.append(_measure_quality(utterance, text, start, stop, teacher_output, vocabulary))
    return PseudoLabel(
        window=window,
        language=teacher_output.language,
        tokens=tokens,
        text=tokenizer.decode(list(tokens)).strip(),
        ended=teacher_output.result.ended,
        timestamps=timestamps,
        quality=tuple(qualities),
        shard=shard,
    )


def _assign_words(
    window: Window, words: list[TokenWord], tokens: tuple[int, ...], language: str, vocabulary: Vocabulary
) -> list[tuple[int, int]]:
    if len(window.utterances) == 1:
        return [(0, len(words))]
    if window.has_text:
        by_character = error_rate_unit(language) == "character"
        references = [utterance.text or "" for utterance in window.utterances]
        return split_hypothesis([w.text for w in words], references, by_character=by_character)
    word_times = None
    if any(vocabulary.is_timestamp(token) for token in tokens):
        word_times, current_time, token_index = [], 0.0, 0
        for word in words:
            while token_index < word.token_start:
                if vocabulary.is_timestamp(tokens[token_index]):
                    current_time = vocabulary.timestamp_seconds(tokens[token_index])
                token_index += 1
            word_times.append(current_time)
    return split_without_reference(
        len(words), [utterance.audio.duration for utterance in window.utterances], word_times
    )


def _token_boundaries(words: list[TokenWord], word_ranges: list[tuple[int, int]], num_tokens: int) -> list[int]:
    """First token of each utterance, and the number of tokens; the ranges between cover all tokens."""
    cuts = [0]
    for _, last in word_ranges[:-1]:
        cuts.append(max(cuts[-1], words[last].token_start if last < len(words) else num_tokens))
    cuts.append(num_tokens)
    return cuts


def _measure_quality(
    utterance: Utterance, text: str, start: int, stop: int, teacher_output: TeacherOutput, vocabulary: Vocabulary
) -> LabelQuality:
    stats: TokenStats = teacher_output.result.token_stats
    num_tokens = stop - start
    num_text_tokens = sum(not vocabulary.is_timestamp(token) for token in teacher_output.result.tokens[start:stop])
    logprob = stats.logprob[start:stop].numpy()
    entropy = stats.entropy[start:stop].numpy()
    edits, language = None, teacher_output.language
    if utterance.text is not None:
        edits = count_edits(normalize_to_units(utterance.text, language), normalize_to_units(text, language))
    return LabelQuality(
        utterance=utterance,
        token_start=start,
        token_end=stop,
        text=text,
        mean_logprob=float(np.mean(logprob)) if num_tokens else 0.0,
        min_logprob=float(np.min(logprob)) if num_tokens else 0.0,
        entropy=float(np.mean(entropy)) if num_tokens else 0.0,
        no_speech_prob=teacher_output.result.no_speech_prob,
        compression_ratio=compression_ratio(text),
        ngram_repeats=count_text_repeats(text, language),
        tokens_per_second=num_text_tokens / utterance.audio.duration,
        edits=edits,
    )
