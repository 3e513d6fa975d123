"""From the tokens of one window to segments, and where decoding has to resume after the window.

The rules are openai/whisper's: two adjacent timestamps separate segments, and two timestamps at the very end open a
segment that is not finished in this window.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from whisperstill.decode.longform.window import MAX_DISTANCE_FROM_SPEECH_S, WindowResult
from whisperstill.decode.output.transcript import Segment, Word, compression_ratio
from whisperstill.decode.whisper_model import WindowTranscript
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.text.vocabulary import Vocabulary

MIN_REMAINDER_S = 1.0
"""Shortest rest of a window that is decoded again."""


def split_into_segments(
    window_transcript: WindowTranscript, start: float, duration: float, tokenizer: Tokenizer, timestamps: bool
) -> list[Segment]:
    """Segments of a window that begins at `start` and holds `duration` seconds of audio.

    With timestamps, tokens are cut between adjacent timestamps; a last segment without an end lasts to the end of the
    window, or is left out if it is decoded again (`unfinished_at`). Without timestamps the window is one segment.
    Segments without text or duration are left out.
    """
    vocabulary, ratio = tokenizer.vocabulary, compression_ratio(window_transcript.text)
    tokens = window_transcript.result.tokens
    cuts = timestamp_pair_indices(tokens, vocabulary) if timestamps else []
    if timestamps and (resume_seconds := unfinished_at(window_transcript, duration, vocabulary)) is not None:
        duration = resume_seconds
    segments: list[Segment] = []
    for first, last in pairwise([0, *cuts, len(tokens)]):
        token_slice = tokens[first:last]
        begin, end = 0.0, duration
        if token_slice and vocabulary.is_timestamp(token_slice[0]):
            begin = vocabulary.timestamp_seconds(token_slice[0])
        if len(token_slice) > 1 and vocabulary.is_timestamp(token_slice[-1]):
            end = vocabulary.timestamp_seconds(token_slice[-1])
        begin, end = min(begin, duration), min(end, duration)  # the padding after the audio holds nothing
        text = tokenizer.decode(token_slice)
        if text.strip() and end > begin:
            segments.append(
                Segment(
                    id=len(segments),
                    seek=round(start * 100),
                    start=round(start + begin, 3),
                    end=round(start + end, 3),
                    text=text,
                    tokens=token_slice,
                    avg_logprob=window_transcript.avg_logprob,
                    compression_ratio=ratio,
                    no_speech_prob=window_transcript.result.no_speech_prob,
                )
            )
    return segments


def attach_words(segments: Sequence[Segment], words: Sequence[Word]) -> list[Segment]:
    """The segments of a window with the window's words; the words' texts joined are the text of the window."""
    word_offsets = list(accumulate((len(word.word) for word in words), initial=0))
    text, search_start = "".join(word.word for word in words), 0
    segments_with_words = []
    for segment in segments:
        match_start = text.find(segment.text, search_start)
        begin, search_start = (
            (match_start, match_start + len(segment.text)) if match_start >= 0 else (search_start, search_start)
        )
        segment_words = tuple(
            word for word, offset in zip(words, word_offsets, strict=False) if begin <= offset < search_start
        )
        segments_with_words.append(replace(segment, words=segment_words))
    return segments_with_words


def unfinished_at(window_transcript: WindowTranscript, duration: float, vocabulary: Vocabulary) -> float | None:
    """Seconds at which the transcript of a window breaks off; None if it reaches the end of the window.

    It breaks off at the last timestamp where a segment is opened but not finished, or where tokens ran out. A rest
    shorter than `MIN_REMAINDER_S` is ignored.
    """
    tokens = window_transcript.result.tokens
    opens_segment = len(tokens) > 1 and vocabulary.is_timestamp(tokens[-1]) and vocabulary.is_timestamp(tokens[-2])
    if not opens_segment and window_transcript.result.ended:
        return None
    last_timestamp = _last_timestamp_seconds(tokens, vocabulary)
    return last_timestamp if last_timestamp > 0 and duration - last_timestamp >= MIN_REMAINDER_S else None


def resume_at(result: WindowResult, vocabulary: Vocabulary) -> float | None:
    """Seconds at which a window decoded with timestamps has to be decoded again; None if it was transcribed to its end.

    That is where the transcript breaks off (`unfinished_at`), or ends although speech goes on.
    """
    window, tokens = result.window, result.window_transcript.result.tokens
    resume_seconds = unfinished_at(result.window_transcript, window.duration, vocabulary)
    # A last segment without an end lasts to the end of the window.
    if resume_seconds is not None or window.speech is None or (tokens and not vocabulary.is_timestamp(tokens[-1])):
        return resume_seconds
    last_timestamp = _last_timestamp_seconds(tokens, vocabulary)
    speech_start = last_timestamp + MAX_DISTANCE_FROM_SPEECH_S
    if (
        last_timestamp < MIN_REMAINDER_S
        or window.duration - last_timestamp < MAX_DISTANCE_FROM_SPEECH_S + MIN_REMAINDER_S
        or window.speech.speech_seconds(speech_start) < MIN_REMAINDER_S
    ):
        return None
    return last_timestamp


def _last_timestamp_seconds(tokens: Sequence[int], vocabulary: Vocabulary) -> float:
    """The last timestamp; 0 if there is none."""
    timestamps = [vocabulary.timestamp_seconds(token) for token in tokens if vocabulary.is_timestamp(token)]
    return timestamps[-1] if timestamps else 0.0


def timestamp_pair_indices(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Indices of the timestamps that directly follow another timestamp."""
    is_timestamp = [vocabulary.is_timestamp(token) for token in tokens]
    return [index for index in range(1, len(tokens)) if is_timestamp[index] and is_timestamp[index - 1]]
