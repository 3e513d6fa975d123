"""Engines compared with each other: the same weights give the same text, whatever file format an engine reads.

Random networks get large weights, so that their output depends on the audio, and emit text tokens only: then all
engines that compute in float32 agree. whisper.cpp rounds to float16 and is compared on tiny.en only.
"""

import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from own_engine import Ours
from small_models import make_checkpoint, make_tokenizer

from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.evaluate.engines import ExternalEngine, load_engine
from whisperstill.evaluate.engines.external_engine import EngineFormat, convert_checkpoint
from whisperstill.export.ctranslate2 import write_ctranslate2
from whisperstill.export.whispercpp import write_whispercpp
from whisperstill.model.checkpoints import Checkpoint, read_special_tokens, write_huggingface
from whisperstill.model.dims import Dims
from whisperstill.text.edit_distance import count_edits
from whisperstill.text.normalizers import get_normalizer
from whisperstill.units import WINDOW_SAMPLES

LIBRARIES = {
    "transformers": ("transformers", "transformers"),
    "faster-whisper": ("faster_whisper", "faster-whisper"),
    "whisper.cpp": ("pywhispercpp.model", "whispercpp"),
}
"""Engine -> (module, extra)."""
ALL = ("whisperstill", *LIBRARIES)
FLOAT32_ENGINES = ("transformers", "faster-whisper")
NUM_TEXT_TOKENS, END_LOGIT_OFFSET = 24, 10.0
MAX_WER_BETWEEN_ENGINES = 0.1

Make = Callable[..., ExternalEngine]

pytestmark = pytest.mark.usefixtures("one_thread")


def random_checkpoint(vocab: int, texts: int) -> Checkpoint:
    """A random network that emits text up to position `NUM_TEXT_TOKENS`, then end-of-text.

    The first dimension of the residual stream is reserved for the position: no layer writes to it.
    """
    dims = Dims(
        mels=80, vocab_size=vocab, width=64, encoder_heads=2, encoder_layers=2, decoder_heads=4, decoder_layers=3
    )
    checkpoint = make_checkpoint(dims, make_tokenizer(texts, 99))
    for name, tensor in checkpoint.state.items():
        if name.endswith("norm.weight"):
            tensor.fill_(1.0)
        elif "layers" in name:
            tensor *= 6 if ".cross." in name else 8
            if name.startswith("decoder") and any(part in name for part in (".out.", ".down.")):
                tensor[0] = 0  # reserved for the position
    special = read_special_tokens(checkpoint.tokenizer_json)
    positions, embedding = checkpoint.state["decoder.positions"], checkpoint.state["decoder.embedding.weight"]
    positions *= 20
    positions[:, 0] = -END_LOGIT_OFFSET
    positions[NUM_TEXT_TOKENS:, 0] = END_LOGIT_OFFSET
    embedding *= 10
    embedding[:, 0] = 0
    embedding[special["<|notimestamps|>"] + 1 :] = 0  # their logits are 0, those of text reach 20
    embedding[special["<|endoftext|>"]] = 0
    embedding[special["<|endoftext|>"], 0] = 10 * END_LOGIT_OFFSET
    suppressed = (
        *checkpoint.generation_config.suppress_tokens,
        *range(special["<|endoftext|>"] + 1, special["<|notimestamps|>"] + 1),
    )
    return replace(checkpoint, generation_config=replace(checkpoint.generation_config, suppress_tokens=suppressed))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)


def wer_between(text: str, other: str) -> float:
    """Word error rate of `other` with `text` as the reference; infinite if `text` has no words."""
    normalize = get_normalizer("english")
    counts = count_edits(normalize(text).split(), normalize(other).split())
    return counts.error_rate if counts.reference_length else float("inf")


def assert_engines_agree(texts: dict[str, str]) -> None:
    """The texts of every two engines differ in a few words at most."""
    rates = {(a, b): wer_between(texts[a], texts[b]) for a, b in combinations(texts, 2)}
    assert {pair: rate for pair, rate in rates.items() if not rate <= MAX_WER_BETWEEN_ENGINES} == {}, texts


@pytest.fixture(scope="module")
def english() -> Checkpoint:
    return random_checkpoint(51864, 50256)


@pytest.fixture(scope="module")
def english_dir(english: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(english, tmp_path_factory.mktemp("english"))


@pytest.fixture(scope="module")
def multilingual_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(random_checkpoint(51865, 50257), tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversions are shared by all tests of the module."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def make(cache: Path) -> Make:
    """Loads an engine once, in float32 if supported; skips the test without its library."""
    made: dict[tuple[str, Path], ExternalEngine] = {}

    def engine_of(name: str, source: Path) -> ExternalEngine:
        if name in LIBRARIES:
            pytest.importorskip(LIBRARIES[name][0])
        if (name, source) not in made:
            dtype = "auto" if name == "whisper.cpp" else "float32"
            made[name, source] = (
                Ours(source) if name == "whisperstill" else load_engine(name, source, cache, dtype=dtype)
            )
        return made[name, source]

    return engine_of


@pytest.fixture(scope="module")
def clips(speech: Path) -> list[np.ndarray]:
    """Read speech, the shortest first."""
    utterances = read_corpus(speech / "librispeech-mini-val" / "manifest.jsonl").utterances
    utterances = sorted(utterances, key=lambda utterance: utterance.audio.duration)
    return [load_utterance_waveform(utterance) for utterance in (*utterances[:2], *utterances[-3:])]


def test_unsupported_dtypes_are_refused(english_dir: Path, tmp_path: Path) -> None:
    for name, dtype in {"transformers": "int8", "whisper.cpp": "float32"}.items():
        pytest.importorskip(LIBRARIES[name][0])
        with pytest.raises(SettingsError, match=f"expected .*dtype .*{name}.*, got {dtype}"):
            load_engine(name, english_dir, tmp_path, dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LIBRARIES)
def test_missing_library_names_its_extra(
    name: str, english_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, extra = LIBRARIES[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"the engine {name} needs .*'whisperstill\[{extra}\]'"):
        load_engine(name, english_dir, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LIBRARIES)
def test_engine_reports_version_device_dtype_and_model(
    name: str, english: Checkpoint, english_dir: Path, make: Make
) -> None:
    engine = make(name, english_dir)
    assert engine.version[0].isdigit()
    assert (engine.device, engine.dtype) == ("cpu", "float16" if name == "whisper.cpp" else "float32")
    assert (engine.description.sha256, engine.description.dims) == (english.sha256, english.dims)
    assert engine.transcribe([], []) == []


@pytest.mark.parametrize("name", FLOAT32_ENGINES)
def test_random_weights_give_our_text(name: str, english_dir: Path, make: Make) -> None:
    windows = [noise(30, seed) for seed in range(2)]
    own, peer = make("whisperstill", english_dir), make(name, english_dir)
    expected = own.transcribe(windows, ["en", None])
    assert peer.transcribe(windows, ["en", None]) == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize("name", FLOAT32_ENGINES)
def test_control_a_changed_weight_changes_the_text(
    name: str, english: Checkpoint, english_dir: Path, make: Make, tmp_path: Path
) -> None:
    weight = "encoder.conv1.bias"
    changed = replace(english, state={**english.state, weight: english.state[weight] + 0.5})
    other = make(name, write_huggingface(changed, tmp_path))
    assert other.transcribe([noise(30)], ["en"]) != make("whisperstill", english_dir).transcribe([noise(30)], ["en"])


def test_each_window_is_decoded_in_its_language(multilingual_dir: Path, make: Make) -> None:
    """transformers decodes windows grouped by language; the order must be kept."""
    windows, languages = [noise(30, seed) for seed in range(3)], ["de", None, "German"]
    own, peer = make("whisperstill", multilingual_dir), make("transformers", multilingual_dir)
    expected = own.transcribe(windows, languages)
    assert peer.transcribe(windows, languages) == expected
    assert own.transcribe(windows, ["es", "es", "es"])[0] != expected[0]


@pytest.mark.parametrize("name", ALL)
def test_unsupported_language_is_refused(name: str, english_dir: Path, multilingual_dir: Path, make: Make) -> None:
    for long in (False, True):
        with pytest.raises(SettingsError, match="is English-only, got language de"):
            make(name, english_dir).transcribe([noise(1)], ["de"], long_form=long)
    with pytest.raises(SettingsError, match="no language 'Cantonese'"):
        make(name, multilingual_dir).transcribe([noise(1)], ["Cantonese"])


@pytest.mark.parametrize("name", ["whisperstill", *FLOAT32_ENGINES])
def test_audio_after_30_seconds_is_ignored_in_short_form(name: str, english_dir: Path, make: Make) -> None:
    engine = make(name, english_dir)
    assert engine.transcribe([noise(31)], ["en"]) == engine.transcribe([noise(31)[:WINDOW_SAMPLES]], ["en"])


@pytest.mark.parametrize("name", ALL)
def test_long_form_accepts_any_length(name: str, english_dir: Path, make: Make) -> None:
    """The text of a random network may be dropped by an engine's thresholds."""
    texts = make(name, english_dir).transcribe([noise(2), noise(33)], ["en", None], long_form=True)
    assert len(texts) == 2
    assert [text for text in texts if not (text == text.strip() and "<|" not in text)] == []


def test_student_without_timestamps_is_decoded_without_them(
    english: Checkpoint, english_dir: Path, make: Make, tmp_path: Path
) -> None:
    student = write_huggingface(replace(english, metadata={"trained_with_timestamps": False}), tmp_path)
    text = make("transformers", student).transcribe([noise(20)], ["en"], long_form=True)[0]
    assert "filler" in text
    calls: list[dict[str, Any]] = []

    def transcribe(waveform: np.ndarray, **kwargs: Any) -> tuple[list[Any], None]:
        calls.append(kwargs)
        return [], None

    for source in (english_dir, student):
        engine: Any = make("faster-whisper", source)
        real, engine.model = engine.model, SimpleNamespace(transcribe=transcribe)
        engine.transcribe([noise(1)], ["en"], long_form=True)
        engine.model = real
    assert [call["without_timestamps"] for call in calls] == [False, True]
    assert [51863 in call["suppress_tokens"] for call in calls] == [False, True]


def test_checkpoint_is_converted_once(english: Checkpoint, tmp_path: Path) -> None:
    written = []

    def write(checkpoint: Checkpoint, path: Path) -> Path:
        written.append(checkpoint)
        path.write_text("so")
        return path

    form, cache = EngineFormat("file", write), tmp_path / "cache"
    place = convert_checkpoint(english, cache, form)
    assert place.parent.parent == cache / english.sha256
    assert convert_checkpoint(replace(english, source="elsewhere"), cache, form) == place
    assert len(written) == 1
    assert [path.name for path in place.parent.iterdir()] == ["file"]
    weight = "decoder.norm.bias"
    others = (
        replace(english, state={**english.state, weight: english.state[weight] + 1}),
        replace(english, generation_config=replace(english.generation_config, suppress_tokens=(1,))),
    )
    assert len({place, *(convert_checkpoint(other, cache, form) for other in others)}) == len(written) == 3


def test_interrupted_conversion_leaves_nothing(english: Checkpoint, tmp_path: Path) -> None:
    def stop(checkpoint: Checkpoint, path: Path) -> Path:
        path.mkdir()
        (path / "half").write_text("so")
        raise KeyboardInterrupt

    def write(checkpoint: Checkpoint, path: Path) -> Path:
        """Meanwhile another process finishes the same conversion."""
        place.mkdir()
        (place / "whole").write_text("peer")
        path.mkdir()
        (path / "whole").write_text("own")
        return path

    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(english, tmp_path, EngineFormat("directory", stop))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "directory"]
    [folder] = (tmp_path / english.sha256).iterdir()
    place = folder / "directory"
    assert convert_checkpoint(english, tmp_path, EngineFormat("directory", write)) == place
    assert [(path.name, path.read_text()) for path in place.iterdir()] == [("whole", "peer")]
    assert list(folder.iterdir()) == [place]


@pytest.mark.parametrize("name", LIBRARIES)
def test_native_format_is_opened_in_place(name: str, english: Checkpoint, english_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip(LIBRARIES[name][0])
    cache, there = tmp_path / "cache", tmp_path / "there"
    writers = {"transformers": write_huggingface, "faster-whisper": write_ctranslate2, "whisper.cpp": write_whispercpp}
    engine = load_engine(name, writers[name](english, there), cache)
    assert not cache.exists()
    assert engine.description.dims == english.dims
    if name == "whisper.cpp":
        return
    wanted, form = {
        "transformers": ("preprocessor_config.json", "huggingface"),
        "faster-whisper": ("vocabulary.json", "ctranslate2-float32"),
    }[name]
    (there / wanted).unlink()
    load_engine(name, there, cache)
    assert [path.name for path in cache.glob("*/*/*")] == [form]


def test_ggml_files_are_checked_before_loading(english: Checkpoint, tmp_path: Path) -> None:
    """whisper.cpp would abort the process."""
    pytest.importorskip("pywhispercpp.model")
    good = write_whispercpp(english, tmp_path / "good.bin")
    for name in LIBRARIES:
        if name != "whisper.cpp":
            with pytest.raises(
                SettingsError, match=f"expected the engine whisper.cpp for the ggml file .*, got {name}"
            ):
                load_engine(name, good, tmp_path)
    with pytest.raises(SettingsError, match=r"expected device cpu for whisper\.cpp, got cuda"):
        load_engine("whisper.cpp", good, tmp_path, device="cuda")
    with pytest.raises(SettingsError, match=r"got float32 in .*single\.bin"):
        load_engine("whisper.cpp", write_whispercpp(english, tmp_path / "single.bin", "float32"), tmp_path)
    content = good.read_bytes()
    bad = tmp_path / "bad.bin"
    for damaged, message in (
        (content[:40], "is truncated"),
        (content[:4] + struct.pack("<i", 7) + content[8:], "expected a Whisper vocabulary"),
        (content[: len(content) // 2], r"cannot load .*bad\.bin"),
    ):
        bad.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=message):
            load_engine("whisper.cpp", bad, tmp_path)


def test_unsupported_dtype_of_a_device_is_refused(english_dir: Path, cache: Path) -> None:
    pytest.importorskip("faster_whisper")
    with pytest.raises(SettingsError, match="dtype that faster-whisper supports on cpu, got float16"):
        load_engine("faster-whisper", english_dir, cache, dtype="float16")
    assert load_engine("faster-whisper", english_dir, cache, dtype="int8").dtype == "int8"


def test_real_weights_agree(tiny_en_dir: Path, clips: list[np.ndarray], make: Make) -> None:
    """transformers gives identical text; the others round or pad differently."""
    texts = {name: make(name, tiny_en_dir).transcribe(clips[:2], ["en", "en"]) for name in ALL}
    assert texts["transformers"] == texts["whisperstill"]
    assert_engines_agree({name: " ".join(clip_texts) for name, clip_texts in texts.items()})
    assert wer_between(*texts["whisperstill"]) > MAX_WER_BETWEEN_ENGINES  # control: texts of different clips


@pytest.mark.slow
def test_real_weights_agree_on_long_recordings(tiny_en_dir: Path, clips: list[np.ndarray], make: Make) -> None:
    recording = np.concatenate(clips[2:])
    assert len(recording) > WINDOW_SAMPLES
    assert_engines_agree(
        {name: make(name, tiny_en_dir).transcribe([recording], ["en"], long_form=True)[0] for name in ALL}
    )
