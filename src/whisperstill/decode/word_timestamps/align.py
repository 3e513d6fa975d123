"""Word timestamps from cross-attention.

The decoder reads its own transcript once more, all tokens at once, and the scores of its alignment heads give the start
of each token (`dtw`). A word lasts from its first to its last token with a letter or digit: punctuation around it falls
into the pauses of the speaker and is left out. Matching words with the sound of the waveform (`snap_to_speech`) makes
the difference at pauses.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.output.transcript import Word
from whisperstill.decode.whisper_model import WhisperModel, WindowTranscript
from whisperstill.decode.word_timestamps.dtw import alignment_matrix, token_starts
from whisperstill.decode.word_timestamps.snap_to_speech import snap_words_to_speech
from whisperstill.model.whisper import Whisper
from whisperstill.text.tokenizer import Tokenizer, TokenWord
from whisperstill.units import SAMPLE_RATE, SAMPLES_PER_POSITION, TIMESTAMP_STEP_SECONDS, WINDOW_POSITIONS

DEFAULT_OPTIONS = DecodingOptions()
WINDOWS_PER_BATCH = 8
"""Windows of similar length per decoder pass."""


def align_words(
    model: WhisperModel,
    states: Float[Tensor, "batch positions width"],
    window_transcripts: Sequence[WindowTranscript],
    durations: Sequence[float],
    *,
    waveforms: Float[Tensor, "batch samples"] | None = None,
    options: DecodingOptions = DEFAULT_OPTIONS,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Word, ...]]:
    """Words of each window, with start and end in seconds from the start of the window.

    `window_transcripts` were decoded from `states`, with or without timestamps; `durations` are the seconds of audio in
    each window (at most 30), an upper bound of all times. With `waveforms`, words are matched with the sound
    (`snap_to_speech`). `prefixes` are tokens before each transcript, which take time and yield no words. Of `options`
    only the task matters. Times are monotone; a word's probability is the mean of its tokens'.
    """
    vocabulary, prefixes = model.vocabulary, prefixes or [()] * len(window_transcripts)
    tokens = [window_transcript.result.tokens for window_transcript in window_transcripts]
    text_indices = [[i for i, token in enumerate(row) if vocabulary.is_text(token)] for row in tokens]
    results: list[tuple[Word, ...]] = [()] * len(tokens)
    rows_with_text = [row for row, indices in enumerate(text_indices) if indices]
    rows_by_length = sorted(rows_with_text, key=lambda row: len(text_indices[row]))
    for begin in range(0, len(rows_by_length), WINDOWS_PER_BATCH):
        # 1. Align the text tokens of windows of similar length.
        rows = rows_by_length[begin : begin + WINDOWS_PER_BATCH]
        token_bounds = token_times(
            model.network,
            states[rows],
            [vocabulary.sot_sequence(window_transcripts[row].language, options.task) for row in rows],
            [[*prefixes[row], *(tokens[row][i] for i in text_indices[row])] for row in rows],
            [durations[row] for row in rows],
            model.generation_config.alignment_heads,
            vocabulary.end_of_text,
        )
        # 2. Join them to words, and match the words with the sound.
        for row, bounds in zip(rows, token_bounds, strict=True):
            decoded, spoken_language = window_transcripts[row].result, window_transcripts[row].language
            language = options.output_language(spoken_language)
            bounds_by_token = dict(zip(text_indices[row], pairwise(bounds[len(prefixes[row]) :]), strict=True))
            words = _join_tokens(model.tokenizer, decoded, language, bounds_by_token, durations[row])
            if waveforms is not None:
                waveform = waveforms[row, : round(durations[row] * SAMPLE_RATE)].float().cpu().numpy()
                words = snap_words_to_speech(words, waveform)
            results[row] = words
    return results


def _join_tokens(
    tokenizer: Tokenizer,
    decoded: DecodingResult,
    language: str,
    bounds_by_token: Mapping[int, tuple[float, float]],
    duration: float,
) -> tuple[Word, ...]:
    """Words of a window from the start and end, in seconds, of each text token (by its index)."""
    probabilities = decoded.token_stats.logprob.exp().tolist()
    return tuple(
        Word(
            min(bounds_by_token[first][0], duration),
            min(bounds_by_token[last - 1][1], duration),
            word.text,
            sum(probabilities[word.token_start : word.token_end]) / (word.token_end - word.token_start),
        )
        for word, first, last in spoken_token_spans(tokenizer, decoded.tokens, language)
    )


@torch.inference_mode()
def token_times(
    network: Whisper,
    states: Float[Tensor, "batch positions width"],
    prompt_tokens: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    durations: Sequence[float],
    alignment_heads: Sequence[tuple[int, int]],
    end_of_text: int,
) -> list[list[float]]:
    """For each window the start of each text token in seconds, and the end of the last one.

    Tokens beyond the decoder's maximum length start and end where the last aligned token ends.
    """
    prompt_length = len(prompt_tokens[0])
    max_text_tokens = network.dims.max_target_positions - prompt_length
    lengths, texts = [len(text) for text in texts], [text[:max_text_tokens] for text in texts]
    counts = [len(text) + 1 for text in texts]
    positions = [num_audio_positions(duration, states.shape[1]) for duration in durations]
    tokens = torch.full((len(texts), prompt_length + max(counts)), end_of_text, device=network.device)
    for row, text in enumerate(texts):
        tokens[row, : prompt_length + len(text)] = torch.tensor([*prompt_tokens[row], *text])
    attention_scores = network.decoder.cross_attention_scores(tokens[:, :-1], states, alignment_heads)
    alignment = attention_scores.new_zeros(len(texts), max(counts), max(positions))
    for row, (count, width) in enumerate(zip(counts, positions, strict=True)):
        window_alignment = alignment_matrix(attention_scores[row, :, : prompt_length + count - 1, :width])
        alignment[row, :count, :width] = window_alignment[prompt_length - 1 :]
    starts = token_starts(alignment, counts, positions)
    return [
        [row[min(index, count - 1)] * TIMESTAMP_STEP_SECONDS for index in range(length + 1)]
        for row, count, length in zip(starts.tolist(), counts, lengths, strict=True)
    ]


def spoken_token_spans(tokenizer: Tokenizer, ids: Sequence[int], language: str) -> list[tuple[TokenWord, int, int]]:
    """The words of `ids`, each with the range `ids[first:last]` of its spoken tokens.

    Those are the tokens from the first to the last with a letter or digit; all tokens if the word has none.
    """
    spans = []
    for word in tokenizer.split_to_word_tokens(ids, language):
        indices = range(word.token_start, word.token_end)
        spoken = [index for index in indices if _is_spoken(tokenizer.decode(ids[index : index + 1]))] or indices
        spans.append((word, spoken[0], spoken[-1] + 1))
    return spans


def _is_spoken(text: str) -> bool:
    """Whether a token's text has a letter, a digit, or part of a multi-byte character."""
    return any(character.isalnum() or character == "\ufffd" for character in text)


def num_audio_positions(duration: float, max_positions: int = WINDOW_POSITIONS) -> int:
    """Encoder positions that hold `duration` seconds of audio, at least one."""
    return max(1, min(max_positions, -(-round(duration * SAMPLE_RATE) // SAMPLES_PER_POSITION)))
