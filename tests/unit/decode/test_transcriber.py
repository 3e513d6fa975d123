"""Public API: `whisperstill.load(...).transcribe(...)`."""

from pathlib import Path

import pytest
import soundfile

import whisperstill
from whisperstill.decode.transcriber import Transcriber, load
from whisperstill.errors import AudioError, NotFoundError, SettingsError
from whisperstill.model.checkpoints import Checkpoint, write_huggingface

from unit.decode.scripted import tone


@pytest.fixture(scope="module")
def transcriber(random_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    directory = write_huggingface(random_checkpoint, tmp_path_factory.mktemp("model"))
    return load(directory, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(path, tone(2, 0.1), 16_000)
    return path


def test_load_is_public() -> None:
    assert whisperstill.load is load


def test_transcribe(transcriber: Transcriber, wav: Path) -> None:
    transcript = transcriber.transcribe(wav, language="en", without_timestamps=True)
    assert transcript.duration == 2.0
    assert transcript.language == "en"
    assert [segment for segment in transcript.segments if not segment.end <= 2.0] == []


def test_transcribe_many(transcriber: Transcriber, wav: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    results = dict(transcriber.transcribe_many([wav, missing], language="en"))
    assert isinstance(results[missing], AudioError)
    assert results[wav] == transcriber.transcribe(wav, language="en")


def test_user_errors(transcriber: Transcriber, wav: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="got nothing"):
        transcriber.transcribe(tmp_path / "missing.wav")
    with pytest.raises(SettingsError, match="task"):
        transcriber.transcribe(wav, language="en", task="sing")
    with pytest.raises(SettingsError, match="expected dtype"):
        load("tiny.en", dtype="fp8")
    with pytest.raises(NotFoundError):
        load(str(tmp_path / "nowhere"))
