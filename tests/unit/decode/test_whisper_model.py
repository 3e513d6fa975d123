"""WhisperModel and prompts."""

import copy
from dataclasses import replace

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer
from torch import Tensor

from whisperstill.decode.generate.batch_scheduler import BatchScheduler, DecodeRequest
from whisperstill.decode.generate.token_stats import DecodingResult
from whisperstill.decode.prompts import build_prompt
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import SettingsError
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.dims import Dims
from whisperstill.model.generation_config import GenerationConfig
from whisperstill.model.student_init import init_student
from whisperstill.units import WINDOW_SAMPLES

from unit.decode.scripted import DIMS


@pytest.fixture(scope="module")
def model(random_checkpoint: Checkpoint) -> WhisperModel:
    return WhisperModel(random_checkpoint, dtype=torch.float32)


@pytest.fixture(scope="module")
def english_model() -> WhisperModel:
    dims = Dims(
        mels=80, vocab_size=51864, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    return WhisperModel(make_checkpoint(dims, make_tokenizer(50256, 99)), dtype=torch.float32)


@pytest.fixture(scope="module")
def states(model: WhisperModel) -> Tensor:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    return model.encode(noise)


def test_encoder_states_do_not_depend_on_batch(model: WhisperModel, states: Tensor) -> None:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    assert states.shape == (3, 1500, 32)
    torch.testing.assert_close(model.encode(noise[1:2])[0], states[1], rtol=0, atol=0)


def test_batch_of_several_languages(model: WhisperModel, states: Tensor) -> None:
    together = model.decode(states, ["de", "en", "de"], max_new_tokens=5)
    assert [transcript.language for transcript in together] == ["de", "en", "de"]
    alone = [model.decode(states[i : i + 1], [code], max_new_tokens=5)[0] for i, code in enumerate(("de", "en", "de"))]
    assert [transcript.result.tokens for transcript in together] == [transcript.result.tokens for transcript in alone]


def test_unknown_languages_are_detected(model: WhisperModel, states: Tensor) -> None:
    detected = [code for code, _ in model.detect_language(states)]
    assert [
        (code, p)
        for code, p in model.detect_language(states)
        if not (code in model.vocabulary.languages and 0 < p <= 1)
    ] == []
    assert model.resolve_languages(states, [None, "German", None]) == [detected[0], "de", detected[2]]


def test_default_language_of_checkpoint(random_checkpoint: Checkpoint) -> None:
    generation = GenerationConfig((), (), (), language="de")
    checkpoint = Checkpoint(DIMS, random_checkpoint.state, generation, random_checkpoint.tokenizer_json, "checkpoint")
    model = WhisperModel(checkpoint, dtype=torch.float32)
    assert model.resolve_language(None) == "de"
    assert model.resolve_language("en") == "en"


def test_english_only_model_refuses_other_languages(english_model: WhisperModel) -> None:
    assert english_model.resolve_language(None) == english_model.resolve_language("en-GB") == "en"
    with pytest.raises(SettingsError, match="is English-only, got language German"):
        english_model.resolve_language("German")


def test_unknown_language_raises(model: WhisperModel) -> None:
    with pytest.raises(SettingsError, match="expected a language"):
        model.resolve_language("Klingon")


def test_prompt_keeps_the_last_tokens(model: WhisperModel) -> None:
    assert build_prompt(model.tokenizer, None) == build_prompt(model.tokenizer, "  ") == ()
    prompt = build_prompt(model.tokenizer, "word " * 300)
    assert len(prompt) == 224
    assert prompt[0] == model.vocabulary.start_of_previous
    assert model.tokenizer.decode(prompt[-4:]) == "word"


def test_full_prompt_changes_the_result(model: WhisperModel, states: Tensor) -> None:
    prompt = build_prompt(model.tokenizer, "word " * 300)
    start = model.vocabulary.sot_sequence("en")
    scheduler = model.make_scheduler(3, model.make_logit_filter(timestamps=False))
    with_prompt, plain = (
        scheduler.generate([DecodeRequest(state, (*before, *start)) for state in states]) for before in (prompt, ())
    )
    assert [result.tokens for result in with_prompt] != [result.tokens for result in plain]


@pytest.mark.parametrize("timestamps", [False, True])
def test_assistant_does_not_change_transcripts(
    random_checkpoint: Checkpoint, model: WhisperModel, timestamps: bool
) -> None:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    dims = Dims(
        mels=80, vocab_size=51865, width=16, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    unrelated = make_checkpoint(dims, random_checkpoint.tokenizer_json, seed=5)
    codes = ["en", "de", "en"]
    states = model.encode(noise)
    expected = model.decode(states, codes, timestamps=timestamps, max_new_tokens=12)
    for checkpoint, shared in ((init_student(random_checkpoint, (1,)), True), (unrelated, False)):
        assisted = WhisperModel(random_checkpoint, dtype=torch.float32, assistant=checkpoint)
        assert assisted.assistant is not None
        assert (assisted.assistant.network.encoder is assisted.network.encoder) is shared
        transcripts = assisted.decode(
            states,
            codes,
            timestamps=timestamps,
            max_new_tokens=12,
            draft_encoder_states=assisted.encode_for_draft(noise),
        )
        assert [(transcript.language, transcript.result.tokens) for transcript in transcripts] == [
            (transcript.language, transcript.result.tokens) for transcript in expected
        ]
        [scheduler] = assisted._schedulers.values()
        assert scheduler.speculative_stats.tokens == sum(
            len(transcript.result.tokens) + transcript.result.ended for transcript in transcripts
        )
        assert scheduler.speculative_stats.verifications > 0
    assert model.encode_for_draft(noise) is None


def test_failed_decode_leaves_no_state(
    random_checkpoint: Checkpoint, states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, fresh = (WhisperModel(random_checkpoint, dtype=torch.float32) for _ in range(2))
    languages = ["en"] * 3
    model.decode(states, languages, max_new_tokens=9)
    step = BatchScheduler.step

    def fails(scheduler: BatchScheduler) -> list[tuple[DecodeRequest, DecodingResult]]:
        step(scheduler)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(BatchScheduler, "step", fails)
    with pytest.raises(torch.OutOfMemoryError):
        model.decode(states, languages, max_new_tokens=9)
    monkeypatch.undo()
    transcripts, expected = (used.decode(states[:2], languages[:2], max_new_tokens=9) for used in (model, fresh))
    assert [transcript.result.tokens for transcript in transcripts] == [
        transcript.result.tokens for transcript in expected
    ]


def test_another_network_or_generation_config_gets_another_scheduler(
    random_checkpoint: Checkpoint, states: Tensor
) -> None:
    model = WhisperModel(random_checkpoint, dtype=torch.float32)

    def scheduler() -> BatchScheduler:
        model.decode(states, ["en"] * 3, max_new_tokens=2)
        [scheduler] = model._schedulers.values()
        return scheduler

    first = scheduler()
    assert scheduler() is first
    model.network = copy.deepcopy(model.network)
    second = scheduler()
    assert second is not first
    model.generation_config = replace(model.generation_config, begin_suppress_tokens=(5,))
    assert scheduler() is not second


@pytest.mark.parametrize("assisted", [False, True])
def test_int8_does_not_depend_on_batch(random_checkpoint: Checkpoint, states: Tensor, assisted: bool) -> None:
    assistant = init_student(random_checkpoint, (0,)) if assisted else None
    model = WhisperModel(random_checkpoint, int8=True, assistant=assistant)
    scaled_states = torch.cat((states, 20 * states[:1]))  # one has larger values
    together = model.decode(scaled_states, ["en"] * 4, max_new_tokens=12)
    alone = [model.decode(state[None], ["en"], max_new_tokens=12)[0] for state in scaled_states]
    assert [transcript.result.tokens for transcript in together] == [transcript.result.tokens for transcript in alone]
    for transcript, other in zip(together, alone, strict=True):
        assert transcript.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)


def test_assistant_with_other_vocabulary_raises(random_checkpoint: Checkpoint) -> None:
    dims = Dims(
        mels=80, vocab_size=51864, width=16, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    english_checkpoint = make_checkpoint(dims, make_tokenizer(50256, 99))
    with pytest.raises(SettingsError, match="random has 51864 tokens, random has 51865"):
        WhisperModel(random_checkpoint, assistant=english_checkpoint)


def test_trained_without_timestamps(random_checkpoint: Checkpoint) -> None:
    parts = (
        DIMS,
        random_checkpoint.state,
        random_checkpoint.generation_config,
        random_checkpoint.tokenizer_json,
        "student",
    )
    for value, expected in ((False, True), (True, False)):
        student = Checkpoint(*parts, {"trained_with_timestamps": value})
        assert WhisperModel(student, dtype=torch.float32).trained_without_timestamps is expected
    assert WhisperModel(random_checkpoint, dtype=torch.float32).trained_without_timestamps is False
