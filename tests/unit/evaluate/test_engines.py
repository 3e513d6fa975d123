"""Engines beside each other: the same texts from the same weights, whatever file each of them opens.

Random networks are strong, so that what they say follows what they hear, and say text alone: then every engine that
computes in float32 says the same. whisper.cpp rounds to f16 and is held against the others on tiny.en alone.
"""

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from own_engine import Ours
from small_models import make_checkpoint, make_tokenizer

from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.errors import CheckpointError, MissingExtraError, SettingsError
from whisperstill.evaluate.engines import ENGINE_NAMES, ExternalEngine, conversion, load_engine
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
"""Engine -> its module, its extra."""
ALL = ("whisperstill", *ENGINE_NAMES)
EXACT = ("transformers", "faster-whisper")
"""Peers that compute in float32."""
SAID, AWAY = 24, 10.0
BOUND = 0.1
"""Most word edits per word between two engines."""

Make = Callable[..., ExternalEngine]


def strong(vocab: int, texts: int) -> Checkpoint:
    """A random network that says text, and from position `SAID` on its end: a direction of its own tells it where."""
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
                tensor[0] = 0  # no layer writes there
    special = read_special_tokens(checkpoint.tokenizer_json)
    positions, embedding = checkpoint.state["decoder.positions"], checkpoint.state["decoder.embedding.weight"]
    positions *= 20
    positions[:, 0] = -AWAY
    positions[SAID:, 0] = AWAY
    embedding *= 10
    embedding[:, 0] = 0
    embedding[special.no_timestamps + 1 :] = 0  # their logits are 0, the greatest of text reach 20
    embedding[special.end_of_text] = 0
    embedding[special.end_of_text, 0] = 10 * AWAY
    barred = (*checkpoint.generation_config.suppress_tokens, *range(special.end_of_text + 1, special.no_timestamps + 1))
    return replace(checkpoint, generation_config=replace(checkpoint.generation_config, suppress_tokens=barred))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)


def agree(one: str, other: str) -> bool:
    """Whether two texts are the same but for a few words."""
    clean = get_normalizer("english")
    counts = count_edits(clean(one).split(), clean(other).split())
    return counts.reference_length > 0 and counts.error_rate <= BOUND


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def english() -> Checkpoint:
    return strong(51864, 50256)


@pytest.fixture(scope="module")
def english_dir(english: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(english, tmp_path_factory.mktemp("english"))


@pytest.fixture(scope="module")
def multilingual_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(strong(51865, 50257), tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the module: what is converted serves all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def make(cache: Path) -> Make:
    """An engine in float32 where it has that; skips without its library."""
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
    utterances = sorted(utterances, key=lambda one: one.audio.duration)
    return [load_utterance_waveform(one) for one in (*utterances[:2], *utterances[-3:])]


def test_what_cannot_be_is_said(english_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"out of transformers, faster-whisper, whisper\.cpp, got 'wh'"):
        load_engine("wh", english_dir, tmp_path)
    with pytest.raises(SettingsError, match="out of auto, float32, bfloat16, float16, int8, got 'fp8'"):
        load_engine("transformers", english_dir, tmp_path, dtype="fp8")
    for name, dtype in {"transformers": "int8", "whisper.cpp": "float32"}.items():
        pytest.importorskip(LIBRARIES[name][0])
        with pytest.raises(SettingsError, match=f"{name} computes in .*, got {dtype}"):
            load_engine(name, english_dir, tmp_path, dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_its_library(name: str, english_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = LIBRARIES[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"the engine {name} needs .*'whisperstill\[{extra}\]'"):
        load_engine(name, english_dir, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_an_engine_says_what_it_is(name: str, english: Checkpoint, english_dir: Path, make: Make) -> None:
    one = make(name, english_dir)
    assert one.name == name
    assert one.version[0].isdigit()
    assert (one.device, one.dtype) == ("cpu", "float16" if name == "whisper.cpp" else "float32")
    assert (one.description.sha256, one.description.dims) == (english.sha256, english.dims)
    assert one.transcribe([], []) == []


@pytest.mark.parametrize("name", EXACT)
def test_random_weights_say_what_they_say_in_ours(name: str, english_dir: Path, make: Make) -> None:
    windows = [noise(30, seed) for seed in range(2)]
    ours, theirs = make("whisperstill", english_dir), make(name, english_dir)
    before = (ours.num_tokens, theirs.num_tokens)
    expected = ours.transcribe(windows, ["en", None])
    assert theirs.transcribe(windows, ["en", None]) == expected
    assert expected[0] != expected[1]
    assert ours.num_tokens - before[0] == theirs.num_tokens - before[1] == 2 * (SAID - 1)


@pytest.mark.parametrize("name", EXACT)
def test_control_another_weight_says_something_else(
    name: str, english: Checkpoint, english_dir: Path, make: Make, tmp_path: Path
) -> None:
    weight = "encoder.conv1.bias"
    changed = replace(english, state={**english.state, weight: english.state[weight] + 0.5})
    other = make(name, write_huggingface(changed, tmp_path))
    assert other.transcribe([noise(30)], ["en"]) != make("whisperstill", english_dir).transcribe([noise(30)], ["en"])


def test_languages_are_heard_each_as_its_own(multilingual_dir: Path, make: Make) -> None:
    """Grouped for transformers, and in order again."""
    windows, languages = [noise(30, seed) for seed in range(3)], ["de", None, "German"]
    ours, theirs = make("whisperstill", multilingual_dir), make("transformers", multilingual_dir)
    expected = ours.transcribe(windows, languages)
    assert theirs.transcribe(windows, languages) == expected
    assert ours.transcribe(windows, ["es", "es", "es"])[0] != expected[0]


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_language_is_refused(name: str, english_dir: Path, multilingual_dir: Path, make: Make) -> None:
    for long in (False, True):
        with pytest.raises(SettingsError, match="is English-only, got language de"):
            make(name, english_dir).transcribe([noise(1)], ["de"], long_form=long)
    with pytest.raises(SettingsError, match="has no language 'Cantonese'"):
        make(name, multilingual_dir).transcribe([noise(1)], ["Cantonese"])


@pytest.mark.parametrize("name", ["whisperstill", *EXACT])
def test_behind_a_window_nothing_is_heard(name: str, english_dir: Path, make: Make) -> None:
    one = make(name, english_dir)
    assert one.transcribe([noise(31)], ["en"]) == one.transcribe([noise(31)[:WINDOW_SAMPLES]], ["en"])


@pytest.mark.parametrize("name", ALL)
def test_recordings_of_any_length(name: str, english_dir: Path, make: Make) -> None:
    """Random networks may say nothing that an engine believes."""
    texts = make(name, english_dir).transcribe([noise(2), noise(33)], ["en", None], long_form=True)
    assert len(texts) == 2
    assert all(text == text.strip() and "<|" not in text for text in texts)


def test_a_student_without_timestamps_is_not_asked_for_any(
    english: Checkpoint, english_dir: Path, make: Make, tmp_path: Path
) -> None:
    student = write_huggingface(replace(english, metadata={"trained_with_timestamps": False}), tmp_path)
    text = make("transformers", student).transcribe([noise(20)], ["en"], long_form=True)[0]
    assert "filler" in text
    asked: list[dict[str, Any]] = []

    def transcribe(waveform: np.ndarray, **how: Any) -> tuple[list[Any], None]:
        asked.append(how)
        return [], None

    for source in (english_dir, student):
        one: Any = make("faster-whisper", source)
        real, one._model = one._model, SimpleNamespace(transcribe=transcribe)
        one.transcribe([noise(1)], ["en"], long_form=True)
        one._model = real
    assert [how["without_timestamps"] for how in asked] == [False, True]
    assert [51863 in how["suppress_tokens"] for how in asked] == [False, True]


def test_a_file_is_made_once(english: Checkpoint, tmp_path: Path) -> None:
    written = []

    def write(checkpoint: Checkpoint, path: Path) -> Path:
        written.append(checkpoint)
        path.write_text("so")
        return path

    form, cache = conversion.EngineFormat("file", write), tmp_path / "cache"
    place = conversion.convert_checkpoint(english, cache, form)
    assert place.parent.parent == cache / english.sha256
    assert conversion.convert_checkpoint(replace(english, source="elsewhere"), cache, form) == place
    assert len(written) == 1
    assert [path.name for path in place.parent.iterdir()] == ["file"]
    weight = "decoder.norm.bias"
    others = (
        replace(english, state={**english.state, weight: english.state[weight] + 1}),
        replace(english, generation_config=replace(english.generation_config, suppress_tokens=(1,))),
    )
    assert len({place, *(conversion.convert_checkpoint(other, cache, form) for other in others)}) == len(written) == 3


def test_what_is_not_finished_is_not_there(english: Checkpoint, tmp_path: Path) -> None:
    def stop(checkpoint: Checkpoint, path: Path) -> Path:
        path.mkdir()
        (path / "half").write_text("so")
        raise KeyboardInterrupt

    def write(checkpoint: Checkpoint, path: Path) -> Path:
        """While somebody else finishes the same."""
        place.mkdir()
        (place / "whole").write_text("theirs")
        path.mkdir()
        (path / "whole").write_text("ours")
        return path

    with pytest.raises(KeyboardInterrupt):
        conversion.convert_checkpoint(english, tmp_path, conversion.EngineFormat("directory", stop))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "directory"]
    [folder] = (tmp_path / english.sha256).iterdir()
    place = folder / "directory"
    assert conversion.convert_checkpoint(english, tmp_path, conversion.EngineFormat("directory", write)) == place
    assert [(path.name, path.read_text()) for path in place.iterdir()] == [("whole", "theirs")]
    assert list(folder.iterdir()) == [place]


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_can_be_opened_is_opened_where_it_lies(
    name: str, english: Checkpoint, english_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip(LIBRARIES[name][0])
    cache, there = tmp_path / "cache", tmp_path / "there"
    writers = {"transformers": write_huggingface, "faster-whisper": write_ctranslate2, "whisper.cpp": write_whispercpp}
    one = load_engine(name, writers[name](english, there), cache)
    assert not cache.exists()
    assert one.description.dims == english.dims
    if name == "whisper.cpp":
        return
    wanted, form = {
        "transformers": ("preprocessor_config.json", "huggingface"),
        "faster-whisper": ("vocabulary.json", "ctranslate2-float32"),
    }[name]
    (there / wanted).unlink()
    load_engine(name, there, cache)
    assert [path.name for path in cache.glob("*/*/*")] == [form]


def test_whispercpp_files_are_looked_at_before(english: Checkpoint, tmp_path: Path) -> None:
    """whisper.cpp would end the process."""
    pytest.importorskip("pywhispercpp.model")
    good = write_whispercpp(english, tmp_path / "good.bin")
    for name in ENGINE_NAMES:
        if name != "whisper.cpp":
            with pytest.raises(SettingsError, match=f"got the engine {name}: only whisper.cpp opens it"):
                load_engine(name, good, tmp_path)
    with pytest.raises(SettingsError, match="on the CPU here, got device cuda"):
        load_engine("whisper.cpp", good, tmp_path, device="cuda")
    with pytest.raises(SettingsError, match=r"single\.bin is of f32"):
        load_engine("whisper.cpp", write_whispercpp(english, tmp_path / "single.bin", "f32"), tmp_path)
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


def test_a_type_that_is_not_there_is_refused(english_dir: Path, cache: Path) -> None:
    pytest.importorskip("faster_whisper")
    with pytest.raises(SettingsError, match="faster-whisper cannot compute in float16 on cpu"):
        load_engine("faster-whisper", english_dir, cache, dtype="float16")
    assert load_engine("faster-whisper", english_dir, cache, dtype="int8").dtype == "int8"


def test_real_weights_agree(tiny_en_dir: Path, clips: list[np.ndarray], make: Make) -> None:
    """transformers to the letter; the others round, or pad, in their own way."""
    texts = {name: make(name, tiny_en_dir).transcribe(clips[:2], ["en", "en"]) for name in ALL}
    assert texts["transformers"] == texts["whisperstill"]
    for one, other in combinations(map(" ".join, texts.values()), 2):
        assert agree(one, other)
    assert not agree(*texts["whisperstill"])  # control: texts of different clips do not


@pytest.mark.slow
def test_real_weights_agree_on_recordings(tiny_en_dir: Path, clips: list[np.ndarray], make: Make) -> None:
    recording = np.concatenate(clips[2:])
    assert len(recording) > WINDOW_SAMPLES
    texts = [make(name, tiny_en_dir).transcribe([recording], ["en"], long_form=True)[0] for name in ALL]
    assert all(agree(one, other) for one, other in combinations(texts, 2)), texts
