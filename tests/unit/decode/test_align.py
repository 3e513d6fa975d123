"""Word timestamps by cross-attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from whisperstill.audio.mel import pad_or_trim
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel, WindowTranscript
from whisperstill.decode.word_timestamps.align import align_words, num_audio_positions, token_times
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint

from unit.decode.scripted import decoded

HEADS = ((0, 1), (1, 0))
TEXTS = [" one, two three.", "", " four", " five six: 7 (eight) nine ten eleven", " ...", " zwölf Bären"]
DURATIONS = [6.0, 4.0, 0.01, 30.0, 2.0, 11.13]


@pytest.fixture(scope="module")
def model(random_checkpoint: Checkpoint) -> WhisperModel:
    generation = replace(random_checkpoint.generation_config, alignment_heads=HEADS)
    return WhisperModel(replace(random_checkpoint, generation_config=generation), dtype=torch.float32)


@pytest.fixture(scope="module")
def states() -> Tensor:
    return torch.randn(len(TEXTS), 1500, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def transcripts(model: WhisperModel) -> list[WindowTranscript]:
    results = [decoded(model.tokenizer.encode(text)) for text in TEXTS]
    return [
        WindowTranscript("de" if text == TEXTS[-1] else "en", text.strip(), result)
        for text, result in zip(TEXTS, results, strict=True)
    ]


def test_every_window_has_its_words(model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]) -> None:
    aligned = align_words(model, states, transcripts, DURATIONS)
    assert ["".join(word.word for word in words) for words in aligned] == TEXTS
    assert [word.word for word in aligned[3]] == [" five", " six:", " 7", " (eight)", " nine", " ten", " eleven"]
    for words, duration in zip(aligned, DURATIONS, strict=True):
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert [time for time in times if not 0 <= time <= duration] == []
        assert [word for word in words if word.probability != pytest.approx(np.exp(-0.1), abs=1e-6)] == []
    assert aligned[3][-1].end > aligned[3][0].end


def test_words_do_not_depend_on_the_batch(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    together = align_words(model, states, transcripts, DURATIONS)
    for row, words in enumerate(together):
        alone = align_words(model, states[row : row + 1], transcripts[row : row + 1], DURATIONS[row : row + 1])
        assert alone == [words]


def test_timestamps_change_no_time(model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]) -> None:
    timestamp = model.vocabulary.timestamp_token
    tokens = transcripts[3].result.tokens
    two = model.tokenizer.split_to_word_tokens(tokens, "en")[1].token_end  # after the second word
    timed = decoded((timestamp(0.0), *tokens[:two], timestamp(4.0), timestamp(5.0), *tokens[two:], timestamp(29.0)))
    plain = align_words(model, states[3:4], transcripts[3:4], [30.0])
    with_timestamps = align_words(model, states[3:4], [replace(transcripts[3], result=timed)], [30.0])
    assert [(word.start, word.end, word.word) for word in with_timestamps[0]] == [
        (word.start, word.end, word.word) for word in plain[0]
    ]


def test_prefix_tokens_take_time_and_yield_no_words(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    tokens = transcripts[3].result.tokens
    two = model.tokenizer.split_to_word_tokens(tokens, "en")[1].token_end  # after the second word
    [all_words] = align_words(model, states[3:4], transcripts[3:4], [30.0])
    after = replace(transcripts[3], result=decoded(tokens[two:]))
    [rest] = align_words(model, states[3:4], [after], [30.0], prefixes=[tokens[:two]])
    assert [(word.start, word.end, word.word) for word in rest] == [
        (word.start, word.end, word.word) for word in all_words[2:]
    ]
    assert align_words(model, states[3:4], [after], [30.0]) != [rest]


def test_a_translation_has_english_words(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    spoken = replace(transcripts[3], language="zh")
    [translated] = align_words(model, states[3:4], [spoken], [30.0], options=DecodingOptions(task="translate"))
    [written] = align_words(model, states[3:4], [spoken], [30.0])
    assert [word.word for word in translated] == [" five", " six:", " 7", " (eight)", " nine", " ten", " eleven"]
    assert len(written) > len(translated)


def test_no_word_runs_from_one_segment_into_the_next(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    """Even if the next segment begins without a space, or holds no letter."""
    timestamp, encode = model.vocabulary.timestamp_token, model.tokenizer.encode
    texts = [" He said", "-No.", " ...", " Yes"]
    tokens = [token for n, text in enumerate(texts) for token in (timestamp(n), *encode(text), timestamp(n + 1.0))]
    [words] = align_words(model, states[:1], [WindowTranscript("en", "", decoded(tokens))], [5.0])
    assert [word.word for word in words] == [" He", " said", "-No.", " ...", " Yes"]


def test_a_probability_is_the_mean_of_its_tokens(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    """Timestamps between the tokens do not shift them."""
    timestamp = model.vocabulary.timestamp_token
    result = decoded((timestamp(0.0), *model.tokenizer.encode(" ab"), *model.tokenizer.encode(" c"), timestamp(2.0)))
    result.token_stats.logprob.copy_(torch.tensor([0.0, -1.0, -2.0, -3.0, -4.0, -5.0, 0.0, 0.0]))
    ab, c = align_words(model, states[:1], [WindowTranscript("en", "ab c", result)], [3.0])[0]
    assert ab.probability == pytest.approx(np.exp([-1.0, -2.0, -3.0]).mean())
    assert c.probability == pytest.approx(np.exp([-4.0, -5.0]).mean())


def test_punctuation_takes_no_time(model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]) -> None:
    """A word ends where the comma after it begins."""
    text = model.tokenizer.encode(TEXTS[0])
    start = model.vocabulary.sot_sequence("en")
    times = token_times(model.network, states[:1], [start], [text], [6.0], HEADS, 50257)[0]
    assert len(times) == len(text) + 1
    first, second, _ = align_words(model, states[:1], transcripts[:1], [6.0])[0]
    assert first.word == " one,"
    assert (first.start, first.end) == (times[1], times[4])  # nor does the space before it
    assert second.start == times[6]


def test_more_tokens_than_the_decoder_has_positions(model: WhisperModel, states: Tensor) -> None:
    result = decoded(model.tokenizer.encode(" abcd" * 100))
    words = align_words(model, states[:1], [WindowTranscript("en", "abcd", result)], [20.0])[0]
    assert len(words) == 100
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= 20


def test_positions_that_hold_audio() -> None:
    assert [num_audio_positions(seconds) for seconds in (0.0, 0.01, 0.02, 0.03, 30.0, 31.0)] == [1, 1, 1, 2, 1500, 1500]


def test_words_respect_pauses_of_the_waveform(
    model: WhisperModel, states: Tensor, transcripts: list[WindowTranscript]
) -> None:
    wave = torch.randn(1, 480_000, generator=torch.Generator().manual_seed(5)) * 0.1
    wave[:, : 10 * 16_000] *= 1e-3
    snapped = align_words(model, states[3:4], transcripts[3:4], [30.0], waveforms=wave)[0]
    plain = align_words(model, states[3:4], transcripts[3:4], [30.0])[0]
    assert [word.word for word in snapped] == [word.word for word in plain]
    across = [(a, b) for a, b in zip(plain, snapped, strict=True) if a.start < 10.0 < a.end]
    assert across and all(b.start == pytest.approx(10.0, abs=0.02) for _, b in across)


def test_speech_that_begins_later_is_aligned_later(tiny_en: Path, speech: Path) -> None:
    """Real weights, real speech: two seconds of silence in front move every word by two seconds."""
    model = WhisperModel(load_checkpoint(str(tiny_en)), dtype=torch.float32)
    utterance = next(
        candidate
        for candidate in read_corpus(speech / "librispeech-mini-val").utterances
        if candidate.audio.duration < 9
    )
    wave = load_utterance_waveform(utterance)
    waves = [wave, np.concatenate([np.zeros(32_000, np.float32), wave])]
    batch = torch.from_numpy(np.stack([pad_or_trim(waveform) for waveform in waves]))
    states = model.encode(batch)
    transcripts = model.decode(states, ["en", "en"])
    assert transcripts[0].text == transcripts[1].text
    plain, late = align_words(
        model, states, transcripts, [len(waveform) / 16_000 for waveform in waves], waveforms=batch
    )
    assert len(plain) > 5
    shifts = [b.start - a.start for a, b in zip(plain, late, strict=True)]
    assert np.median(shifts) == pytest.approx(2.0, abs=0.06)
    assert np.max(np.abs(np.array(shifts) - 2)) < 0.5
