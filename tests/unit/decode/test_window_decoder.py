"""Window decoder: temperature fallback, several samples, beam search, languages, loops."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.beam_search import BeamSearch
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.longform.window import AudioWindow, DetectedLanguage, SpeechSpans, WindowResult
from whisperstill.decode.longform.window_decoder import WindowDecoder
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, tone

ENGLISH = DetectedLanguage("en")
FULL = tuple(range(1000, 1418))
"""A prompt that leaves room for two dozen tokens: a random network seldom emits the end token."""


def window(
    first: float,
    start: float = 0.0,
    language: DetectedLanguage | None = ENGLISH,
    speech: SpeechSpans | None = None,
    prompt: tuple[int, ...] = (),
    recording_id: int = 0,
) -> AudioWindow:
    return AudioWindow(start, tone(1.0, first), 1.0, language, prompt, recording_id=recording_id, speech=speech)


def decode(model: WhisperModel, windows: Sequence[AudioWindow], options: DecodingOptions) -> list[WindowResult]:
    """Results in the order of the windows."""
    engine = WindowDecoder(model, options, timestamps=False)
    waiting, done = list(windows), list[WindowResult]()
    while waiting or not engine.idle:
        while waiting and engine.num_windows_wanted:
            engine.submit(waiting.pop(0))
        done += engine.step()
    return [next(result for result in done if result.window is wanted) for wanted in windows]


@pytest.fixture(scope="module")
def model(random_checkpoint: Checkpoint) -> WhisperModel:
    return WhisperModel(random_checkpoint, dtype=torch.float32)


def trying(tokenizer: Tokenizer, outcomes: dict[float, list[float]]) -> Scripted:
    """A model with these log-probabilities per temperature and sample; the text is the sample's number."""
    scripted = Scripted(tokenizer, lambda first, language: decoded([]))

    def script(first: float, language: str) -> DecodingResult:
        temperature = scripted.decoded_requests[-1][1].temperature
        tried = sum(job.temperature == temperature for _, job in scripted.decoded_requests)
        text = f" at {temperature:g} number {tried}"
        return decoded(tokenizer.encode(text), logprob=outcomes[temperature][tried - 1])

    scripted.script = script
    return scripted


def test_the_most_probable_sample_is_used(tokenizer: Tokenizer) -> None:
    scripted = trying(tokenizer, {0.0: [-3.0], 0.5: [-0.9, -0.2, -0.5]})
    options = DecodingOptions(temperature=(0.0, 0.5), best_of=3, batch_size=2)
    [result] = decode(scripted, [window(0.5)], options)
    assert result.window_transcript.text == "at 0.5 number 2" and result.temperature == 0.5
    assert len({job.seed for _, job in scripted.decoded_requests}) == len(scripted.decoded_requests) == 4


def test_fallback_ends_with_a_good_result_or_the_last_temperature(tokenizer: Tokenizer) -> None:
    outcomes = {0.0: [-3.0], 0.2: [-2.0], 0.4: [-0.9], 0.6: [-0.1]}
    options = DecodingOptions(temperature=(0.0, 0.2, 0.4, 0.6), best_of=1)
    [result] = decode(trying(tokenizer, outcomes), [window(0.5)], options)
    assert result.temperature == 0.4
    outcomes = {step: [-5.0] for step in outcomes}
    [last] = decode(trying(tokenizer, outcomes), [window(0.5)], options)
    assert last.temperature == 0.6  # the last one, although it fails
    scripted = trying(tokenizer, outcomes)
    [only] = decode(scripted, [window(0.5)], DecodingOptions(temperature=(0.0,)))
    assert only.temperature == 0.0 and len(scripted.decoded_requests) == 1


def test_thresholds_can_be_turned_off(tokenizer: Tokenizer) -> None:
    for options in (
        DecodingOptions(logprob_threshold=None),
        DecodingOptions(logprob_threshold=-6.0),
        DecodingOptions(temperature=(0.0,)),
    ):
        scripted = trying(tokenizer, {0.0: [-5.0]})
        decode(scripted, [window(0.5)], options)
        assert len(scripted.decoded_requests) == 1
    loop = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" la" * 60)))
    decode(loop, [window(0.5)], DecodingOptions(compression_ratio_threshold=None))
    assert len(loop.decoded_requests) == 1


def test_a_loop_at_every_temperature_is_removed(tokenizer: Tokenizer) -> None:
    loop = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" so" + " la la" * 40)))
    options = DecodingOptions(temperature=(0.0, 1.0), best_of=1)
    [result] = decode(loop, [window(0.5)], options)
    assert len(loop.decoded_requests) == 2 and result.temperature == 1.0
    assert len(result.window_transcript.text) < 12 and result.window_transcript.text.startswith("so la")
    assert result.loop_text.count("la") >= 76
    assert (
        len(result.window_transcript.result.token_stats.filtered_logprob)
        == len(result.window_transcript.result.tokens) + 1
    )
    [believed] = decode(loop, [window(0.5)], DecodingOptions(temperature=(0.0,), hallucination_filter=False))
    assert believed.window_transcript.text.count("la") == 80 and not believed.loop_text


def test_windows_without_speech_are_not_decoded(tokenizer: Tokenizer) -> None:
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(f" {first}")))
    windows = [window(0.25, speech=SpeechSpans(())), window(0.5, speech=SpeechSpans(((0.0, 1.0),))), window(0.75)]
    silent, spoken, unknown = decode(scripted, windows, DecodingOptions())
    assert silent.window_transcript.text == "" and len(silent.states) == 0
    result = silent.window_transcript.result
    assert (result.tokens, result.ended, result.no_speech_prob) == ((), True, 1.0)
    assert result.token_stats.hidden.shape == (1, 32) and float(result.token_stats.filtered_logprob.mean()) == 0
    assert (spoken.window_transcript.text, unknown.window_transcript.text) == ("0.5", "0.75")
    assert [first for first, _ in scripted.decoded_requests] == [0.5, 0.75]


def test_language_is_detected_once_per_recording_or_in_every_window(tokenizer: Tokenizer) -> None:
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(f" {language}")))
    firsts = (-0.5, 0.5, -0.25)

    def languages(recording_ids: Sequence[int], options: DecodingOptions) -> list[str]:
        windows = [
            window(first, language=None, recording_id=recording_id)
            for first, recording_id in zip(firsts, recording_ids, strict=True)
        ]
        results = decode(scripted, windows, options)
        assert [result.window_transcript.text for result in results] == [
            result.language.code for result in results if result.language
        ]
        return [result.window_transcript.language for result in results]

    assert languages((0, 0, 0), DecodingOptions()) == ["de", "de", "de"] and scripted.detected == [-0.5]
    assert languages((0, 0, 0), DecodingOptions(batch_size=1)) == ["de", "de", "de"]
    assert languages((0, 1, 1), DecodingOptions()) == ["de", "en", "en"]
    assert languages((0, 0, 0), DecodingOptions(multilingual=True)) == ["de", "en", "de"]


def test_samples_depend_on_seed_and_position_and_not_on_the_batch(model: WhisperModel) -> None:
    def drawn(batch_size: int, seed: int = 0, order: Sequence[int] = (0, 1, 2)) -> list[tuple[int, ...]]:
        windows = [window(0.1, 7.5 * index, prompt=FULL) for index in order]  # the same audio at different positions
        options = DecodingOptions(
            temperature=(1.0,),
            best_of=2,
            batch_size=batch_size,
            seed=seed,
            logprob_threshold=None,
            hallucination_filter=False,
        )
        results = decode(model, windows, options)
        return [
            tokens
            for _, tokens in sorted((result.window.start, result.window_transcript.result.tokens) for result in results)
        ]

    alone = drawn(1)
    assert drawn(4) == alone == drawn(3, order=(2, 0, 1))
    assert len(set(alone)) == 3
    assert drawn(4, seed=1) != alone


def test_beam_search_is_used_at_temperature_zero(model: WhisperModel) -> None:
    options = DecodingOptions(
        beam_size=3, patience=2.0, temperature=(0.0,), logprob_threshold=None, hallucination_filter=False
    )
    windows = [window(0.1, prompt=FULL), window(0.9, prompt=FULL)]
    results = decode(model, windows, options)
    start = (*FULL, *model.vocabulary.sot_sequence("en"))
    rules = model.make_logit_filter(False)
    for result in results:
        expected = BeamSearch(model.network, rules, 3, 2.0).decode(DecodeRequest(result.states, start))
        assert result.window_transcript.result.tokens == expected.tokens
        total, count = float(expected.token_stats.filtered_logprob.sum()), len(expected.tokens) + 1
        assert result.window_transcript.avg_logprob == pytest.approx(total / count)


def test_suppressed_tokens_are_never_emitted(model: WhisperModel) -> None:
    plain = DecodingOptions(temperature=(0.0,), hallucination_filter=False)
    [first] = decode(model, [window(0.1, prompt=FULL)], plain)
    emitted = set(first.window_transcript.result.tokens)
    assert emitted
    barred = DecodingOptions(temperature=(0.0,), hallucination_filter=False, suppress_tokens=(-1, *sorted(emitted)))
    [second] = decode(model, [window(0.1, prompt=FULL)], barred)
    assert not emitted & set(second.window_transcript.result.tokens)


def test_more_samples_than_slots(tokenizer: Tokenizer) -> None:
    """Every window fails at first and then needs five samples, in two slots."""
    scripted = Scripted(tokenizer, lambda first, language: decoded([]))

    def script(first: float, language: str) -> DecodingResult:
        warm = scripted.decoded_requests[-1][1].temperature > 0
        return decoded(tokenizer.encode(f" {first:.2f}"), logprob=-0.1 if warm else -3.0)

    scripted.script = script
    firsts = np.linspace(0.1, 0.9, 17)
    results = decode(
        scripted, [window(first, 30.0 * index) for index, first in enumerate(firsts)], DecodingOptions(batch_size=2)
    )
    assert [result.window_transcript.text for result in results] == [f"{first:.2f}" for first in firsts]
    assert len(scripted.decoded_requests) == 17 * 6
