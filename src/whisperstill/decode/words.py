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

from whisperstill.decode.attention_path import attention_gain, token_starts
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.pauses import fit_to_sound
from whisperstill.decode.recogniser import Recognised, Recogniser
from whisperstill.decode.transcript import Word
from whisperstill.model.whisper import Whisper
from whisperstill.text.tokenizer import Tokenizer, TokenWord
from whisperstill.units import SAMPLE_RATE, SAMPLES_PER_POSITION, TIMESTAMP_SECONDS, WINDOW_POSITIONS

DEFAULT = DecodingOptions()
TOGETHER = 8
"""Windows of similar length that go through the decoder at a time."""


def align_words(
    recogniser: Recogniser,
    states: Float[Tensor, "batch positions width"],
    heard: Sequence[Recognised],
    durations: Sequence[float],
    *,
    waveforms: Float[Tensor, "batch samples"] | None = None,
    options: DecodingOptions = DEFAULT,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Word, ...]]:
    """The words of each window, in order, with start and end in seconds from the window's beginning.

    `heard` is what was decoded from `states`, with or without timestamps; `durations` are the seconds of audio that
    the windows hold (at most 30), which no word exceeds. With the `waveforms` pauses are respected (`fit_to_sound`).
    Of `options` the task counts. `prefixes` are tokens that were said before what was decoded, whose words are none.
    Times never fall from word to word. A word's probability is the mean of its tokens'. A window without text has no
    words.
    """
    vocabulary = recogniser.vocabulary
    texts = [[at for at, token in enumerate(one.decoded.tokens) if vocabulary.is_text(token)] for one in heard]
    results: list[tuple[Word, ...]] = [()] * len(heard)
    order = sorted((row for row, text in enumerate(texts) if text), key=lambda row: len(texts[row]))
    for begin in range(0, len(order), TOGETHER):
        rows = order[begin : begin + TOGETHER]
        start = [vocabulary.start(heard[row].language, options.task) for row in rows]
        before = [list(prefixes[row]) if prefixes else [] for row in rows]
        said = []
        for row, first in zip(rows, before, strict=True):
            said.append([*first, *(heard[row].decoded.tokens[at] for at in texts[row])])
        times = token_times(
            recogniser.network,
            states[rows],
            start,
            said,
            [durations[row] for row in rows],
            recogniser.generation.alignment_heads,
            vocabulary.end_of_text,
        )
        for row, first_tokens, bounds in zip(rows, before, times, strict=True):
            duration, decoded = durations[row], heard[row].decoded
            bounds = bounds[len(first_tokens) :]
            probability = decoded.observed.logprob.exp().tolist()
            place = {at: index for index, at in enumerate(texts[row])}
            words = tuple(
                Word(
                    min(bounds[place[first]], duration),
                    min(bounds[place[last - 1] + 1], duration),
                    word.text,
                    _mean(probability, word),
                )
                for word, first, last in spoken_tokens(
                    recogniser.tokenizer, decoded.tokens, options.written_in(heard[row].language)
                )
            )
            if waveforms is not None:
                sound = waveforms[row, : round(duration * SAMPLE_RATE)].float().cpu().numpy()
                words = fit_to_sound(words, sound)
            results[row] = words
    return results


@torch.inference_mode()
def token_times(
    network: Whisper,
    states: Float[Tensor, "batch positions width"],
    start: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    durations: Sequence[float],
    heads: Sequence[tuple[int, int]],
    end_of_text: int,
) -> list[list[float]]:
    """For each window the second at which each of its text tokens begins, and that at which the last one ends.

    Tokens for which the network has no place any more are where the last one that has ends.
    """
    prompt = len(start[0])
    most = network.dims.tokens - prompt
    lengths, texts = [len(text) for text in texts], [text[:most] for text in texts]
    counts = [len(text) + 1 for text in texts]
    positions = [audible_positions(duration, states.shape[1]) for duration in durations]
    tokens = torch.full((len(texts), prompt + max(counts)), end_of_text, device=network.device)
    for row, text in enumerate(texts):
        tokens[row, : prompt + len(text)] = torch.tensor([*start[row], *text])
    scores = network.decoder.watch(tokens[:, :-1], states, heads)
    gain = scores.new_zeros(len(texts), max(counts), max(positions))
    for row, (count, width) in enumerate(zip(counts, positions, strict=True)):
        rows = attention_gain(scores[row, :, : prompt + count - 1, :width])
        gain[row, :count, :width] = rows[prompt - 1 :]
    starts = token_starts(gain, counts, positions)
    return [
        [row[min(at, count - 1)] * TIMESTAMP_SECONDS for at in range(length + 1)]
        for row, count, length in zip(starts.tolist(), counts, lengths, strict=True)
    ]


def spoken_tokens(tokenizer: Tokenizer, ids: Sequence[int], language: str) -> list[tuple[TokenWord, int, int]]:
    """The words of `ids`, and for each where its tokens `ids[first:last]` begin and end that are spoken.

    Those are the tokens from the first to the last with a letter or digit; all of them in a word that has none.
    """
    found = []
    for word in tokenizer.words(ids, language):
        spoken = [at for at in range(word.first, word.last) if _is_spoken(tokenizer.decode(ids[at : at + 1]))]
        found.append((word, spoken[0], spoken[-1] + 1) if spoken else (word, word.first, word.last))
    return found


def _is_spoken(text: str) -> bool:
    """Whether a token's text has a letter or digit, or a part of a character, which may become one."""
    return any(character.isalnum() or character == "\ufffd" for character in text)


def audible_positions(duration: float, most: int = WINDOW_POSITIONS) -> int:
    """How many positions hold `duration` seconds of audio, at least one."""
    return max(1, min(most, -(-round(duration * SAMPLE_RATE) // SAMPLES_PER_POSITION)))


def _mean(probability: Sequence[float], word: TokenWord) -> float:
    return sum(probability[word.first : word.last]) / (word.last - word.first)
