"""A checkpoint ready to hear."""

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
from whisperstill.model.student_init import make_student
from whisperstill.units import WINDOW_SAMPLES

from unit.decode.scripted import DIMS


@pytest.fixture(scope="module")
def recogniser(random_checkpoint: Checkpoint) -> WhisperModel:
    return WhisperModel(random_checkpoint, dtype=torch.float32)


@pytest.fixture(scope="module")
def english() -> WhisperModel:
    dims = Dims(
        mels=80, vocab_size=51864, width=32, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    return WhisperModel(make_checkpoint(dims, make_tokenizer(50256, 99)), dtype=torch.float32)


@pytest.fixture(scope="module")
def states(recogniser: WhisperModel) -> Tensor:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    return recogniser.encode(noise)


def test_states_of_a_window_do_not_depend_on_the_batch(recogniser: WhisperModel, states: Tensor) -> None:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    assert states.shape == (3, 1500, 32)
    assert torch.equal(recogniser.encode(noise[1:2])[0], states[1])


def test_languages_of_a_batch_may_differ(recogniser: WhisperModel, states: Tensor) -> None:
    together = recogniser.decode(states, ["de", "en", "de"], max_new_tokens=5)
    assert [one.language for one in together] == ["de", "en", "de"]
    alone = [
        recogniser.decode(states[i : i + 1], [code], max_new_tokens=5)[0] for i, code in enumerate(("de", "en", "de"))
    ]
    assert [one.result.tokens for one in together] == [one.result.tokens for one in alone]


def test_unknown_languages_are_detected(recogniser: WhisperModel, states: Tensor) -> None:
    detected = [code for code, _ in recogniser.detect_language(states)]
    assert recogniser.resolve_languages(states, [None, "German", None]) == [detected[0], "de", detected[2]]


def test_a_checkpoint_may_have_a_language_of_its_own(random_checkpoint: Checkpoint) -> None:
    generation = GenerationConfig((), (), (), language="de")
    own = Checkpoint(DIMS, random_checkpoint.state, generation, random_checkpoint.tokenizer_json, "own")
    recogniser = WhisperModel(own, dtype=torch.float32)
    assert recogniser.resolve_language(None) == "de"
    assert recogniser.resolve_language("en") == "en"


def test_an_english_model_says_that_it_is_one(english: WhisperModel) -> None:
    assert english.resolve_language(None) == english.resolve_language("en-GB") == "en"
    with pytest.raises(SettingsError, match="is English-only, got language German"):
        english.resolve_language("German")


def test_a_language_nobody_knows(recogniser: WhisperModel) -> None:
    with pytest.raises(SettingsError, match="expected a language"):
        recogniser.resolve_language("Klingon")


def test_the_prompt_is_the_last_words(recogniser: WhisperModel) -> None:
    assert build_prompt(recogniser.tokenizer, None) == build_prompt(recogniser.tokenizer, "  ") == ()
    prompt = build_prompt(recogniser.tokenizer, "word " * 300)
    assert len(prompt) == 224
    assert prompt[0] == recogniser.vocabulary.start_of_previous
    assert recogniser.tokenizer.decode(prompt[-4:]) == "word"


def test_a_prompt_changes_what_is_heard_and_fits(recogniser: WhisperModel, states: Tensor) -> None:
    prompt = build_prompt(recogniser.tokenizer, "word " * 300)
    start = recogniser.vocabulary.sot_sequence("en")
    generator = recogniser.make_generator(3, logit_filter=recogniser.make_logit_filter(timestamps=False))
    with_prompt, plain = (
        generator.generate([DecodeRequest(state, (*before, *start)) for state in states]) for before in (prompt, ())
    )
    assert [one.tokens for one in with_prompt] != [one.tokens for one in plain]


@pytest.mark.parametrize("timestamps", [False, True])
def test_an_assistant_changes_nothing_that_is_heard(
    random_checkpoint: Checkpoint, recogniser: WhisperModel, timestamps: bool
) -> None:
    noise = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1
    dims = Dims(
        mels=80, vocab_size=51865, width=16, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    stranger = make_checkpoint(dims, random_checkpoint.tokenizer_json, seed=5)
    codes = ["en", "de", "en"]
    states = recogniser.encode(noise)
    expected = recogniser.decode(states, codes, timestamps=timestamps, max_new_tokens=12)
    for checkpoint, shared in ((make_student(random_checkpoint, (1,)), True), (stranger, False)):
        assisted = WhisperModel(random_checkpoint, dtype=torch.float32, assistant=checkpoint)
        assert assisted.assistant is not None
        assert (assisted.assistant.network.encoder is assisted.network.encoder) is shared
        found = assisted.decode(
            states,
            codes,
            timestamps=timestamps,
            max_new_tokens=12,
            draft_encoder_states=assisted.encode_for_draft(noise, states),
        )
        assert [(one.language, one.result.tokens) for one in found] == [
            (one.language, one.result.tokens) for one in expected
        ]
        assert assisted.speculative_stats.tokens == sum(len(one.result.tokens) + one.result.ended for one in found)
        assert assisted.speculative_stats.verifications > 0
    assert recogniser.encode_for_draft(noise, states) is None


def test_a_run_that_fails_leaves_nothing_behind(
    random_checkpoint: Checkpoint, states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser, fresh = (WhisperModel(random_checkpoint, dtype=torch.float32) for _ in range(2))
    languages = ["en"] * 3
    recogniser.decode(states, languages, max_new_tokens=9)
    step = BatchScheduler.step

    def fails(pool: BatchScheduler) -> list[tuple[DecodeRequest, DecodingResult]]:
        step(pool)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(BatchScheduler, "step", fails)
    with pytest.raises(torch.OutOfMemoryError):
        recogniser.decode(states, languages, max_new_tokens=9)
    monkeypatch.undo()
    found, expected = (one.decode(states[:2], languages[:2], max_new_tokens=9) for one in (recogniser, fresh))
    assert [one.result.tokens for one in found] == [one.result.tokens for one in expected]


@pytest.mark.parametrize("assisted", [False, True])
def test_eight_bits_do_not_depend_on_the_batch(random_checkpoint: Checkpoint, states: Tensor, assisted: bool) -> None:
    assistant = make_student(random_checkpoint, (0,)) if assisted else None
    recogniser = WhisperModel(random_checkpoint, int8=True, assistant=assistant)
    heard = torch.cat((states, 20 * states[:1]))  # one is louder than the others
    together = recogniser.decode(heard, ["en"] * 4, max_new_tokens=12)
    alone = [recogniser.decode(state[None], ["en"], max_new_tokens=12)[0] for state in heard]
    assert [one.result.tokens for one in together] == [one.result.tokens for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)


def test_an_assistant_of_another_vocabulary_is_refused(random_checkpoint: Checkpoint) -> None:
    dims = Dims(
        mels=80, vocab_size=51864, width=16, encoder_heads=2, encoder_layers=1, decoder_heads=2, decoder_layers=1
    )
    english = make_checkpoint(dims, make_tokenizer(50256, 99))
    with pytest.raises(SettingsError, match="random has 51864 tokens, random has 51865"):
        WhisperModel(random_checkpoint, assistant=english)


def test_only_a_student_without_timestamps_is_decoded_without(random_checkpoint: Checkpoint) -> None:
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
