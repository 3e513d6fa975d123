"""When each word was said, read from the network's cross-attention.

The network reads its own transcript once more, all tokens at once, and its alignment heads are watched
(`attention_path`). A word lasts from the beginning of its first token with a letter or digit to the end of its last
one: what stands around it, a comma or a full stop, is where the speaker pauses, and is left out. That the waveform is
held against the words (`pauses`) makes the difference at pauses.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

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
"""Windows of similar length that go through the decoder at a time."""


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
    """The words of each window, in order, with start and end in seconds from the window's beginning.

    `heard` is what was decoded from `states`, with or without timestamps; `durations` are the seconds of audio that
    the windows hold (at most 30), which no word exceeds. With the `waveforms` pauses are respected (`fit_to_sound`).
    Of `options` the task counts. `prefixes` are tokens that were said before what was decoded, whose words are none.
    Times never fall from word to word. A word's probability is the mean of its tokens'. A window without text has no
    words.
    """
    vocabulary = model.vocabulary
    text_indices = [
        [token_index for token_index, token in enumerate(window_transcript.result.tokens) if vocabulary.is_text(token)]
        for window_transcript in window_transcripts
    ]
    results: list[tuple[Word, ...]] = [()] * len(window_transcripts)
    rows_by_length = sorted(
        (row for row, text in enumerate(text_indices) if text), key=lambda row: len(text_indices[row])
    )
    for begin in range(0, len(rows_by_length), WINDOWS_PER_BATCH):
        rows = rows_by_length[begin : begin + WINDOWS_PER_BATCH]
        prompt_tokens = [vocabulary.sot_sequence(window_transcripts[row].language, options.task) for row in rows]
        prefix_tokens = [list(prefixes[row]) if prefixes else [] for row in rows]
        text_tokens = []
        for row, prefix in zip(rows, prefix_tokens, strict=True):
            text_tokens.append(
                [*prefix, *(window_transcripts[row].result.tokens[token_index] for token_index in text_indices[row])]
            )
        token_bounds = token_times(
            model.network,
            states[rows],
            prompt_tokens,
            text_tokens,
            [durations[row] for row in rows],
            model.generation_config.alignment_heads,
            vocabulary.end_of_text,
        )
        for row, row_prefix, bounds in zip(rows, prefix_tokens, token_bounds, strict=True):
            duration, decoded = durations[row], window_transcripts[row].result
            bounds = bounds[len(row_prefix) :]
            probabilities = decoded.token_stats.logprob.exp().tolist()
            position_of_token = {token_index: index for index, token_index in enumerate(text_indices[row])}
            words = tuple(
                Word(
                    min(bounds[position_of_token[first]], duration),
                    min(bounds[position_of_token[last - 1] + 1], duration),
                    word.text,
                    _mean_probability(probabilities, word),
                )
                for word, first, last in spoken_token_spans(
                    model.tokenizer, decoded.tokens, options.output_language(window_transcripts[row].language)
                )
            )
            if waveforms is not None:
                waveform = waveforms[row, : round(duration * SAMPLE_RATE)].float().cpu().numpy()
                words = snap_words_to_speech(words, waveform)
            results[row] = words
    return results


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
    """For each window the second at which each of its text tokens begins, and that at which the last one ends.

    Tokens for which the network has no place any more are where the last one that has ends.
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
    """The words of `ids`, and for each where its tokens `ids[first:last]` begin and end that are spoken.

    Those are the tokens from the first to the last with a letter or digit; all of them in a word that has none.
    """
    spans = []
    for word in tokenizer.split_to_word_tokens(ids, language):
        spoken_indices = [
            index
            for index in range(word.token_start, word.token_end)
            if _is_spoken(tokenizer.decode(ids[index : index + 1]))
        ]
        spans.append(
            (word, spoken_indices[0], spoken_indices[-1] + 1)
            if spoken_indices
            else (word, word.token_start, word.token_end)
        )
    return spans


def _is_spoken(text: str) -> bool:
    """Whether a token's text has a letter or digit, or a part of a character, which may become one."""
    return any(character.isalnum() or character == "\ufffd" for character in text)


def num_audio_positions(duration: float, max_positions: int = WINDOW_POSITIONS) -> int:
    """How many positions hold `duration` seconds of audio, at least one."""
    return max(1, min(max_positions, -(-round(duration * SAMPLE_RATE) // SAMPLES_PER_POSITION)))


def _mean_probability(probabilities: Sequence[float], word: TokenWord) -> float:
    return sum(probabilities[word.token_start : word.token_end]) / (word.token_end - word.token_start)
