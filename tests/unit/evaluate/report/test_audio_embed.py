"""Sound in the page: mp3, of the right length, and what is said where there is none."""

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from whisperstill.evaluate.report import audio_examples, render_page
from whisperstill.evaluate.report.audio_embed import encode_audio_data_uri
from whisperstill.evaluate.report.view import ResultsView
from whisperstill.records.eval_results import EvalResults

from unit.evaluate.report import builders
from unit.evaluate.report.page_reader import read

KIND = "data:audio/mpeg;base64,"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Three seconds of a tone that rises in the second one."""
    at = np.arange(3 * 44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * np.where(at < 1, 300, 600) * at)
    soundfile.write(tmp_path / "tone.flac", tone, 44_100)
    return str(tmp_path / "tone.flac")


def decoded(address: str) -> tuple[np.ndarray, int, str, int]:
    assert address.startswith(KIND)
    with av.open(io.BytesIO(base64.b64decode(address.removeprefix(KIND), validate=True))) as container:
        (stream,) = container.streams.audio
        name, channels = stream.codec_context.name, stream.codec_context.channels
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        return np.concatenate(parts, axis=1)[0], stream.codec_context.sample_rate, name, channels


def test_a_stretch_is_an_mp3_of_its_length(recording: str) -> None:
    address = encode_audio_data_uri(recording, 1.0, 1.5)
    sound, rate, name, channels = decoded(address)
    assert (rate, channels) == (16_000, 1)
    assert name.startswith("mp3")
    assert abs(len(sound) / rate - 1.5) < 0.12  # mp3 has a frame or two around
    assert len(address) < 1.5 * 5_600 + 1_500
    spectrum = np.abs(np.fft.rfft(sound[4_000:20_000]))
    assert abs(spectrum.argmax() - 600) <= 1


def test_the_page_holds_it(recording: str) -> None:
    (sound, *_) = (node for node in read(render_page(worst(recording))).all("audio"))
    assert "controls" in sound.attributes
    assert sound.attributes["aria-label"]
    assert abs(len(decoded(sound.attributes["src"])[0]) / 16_000 - 2.0) < 0.12


def test_it_may_be_left_out(recording: str) -> None:
    assert not list(read(render_page(worst(recording), audio=False)).all("audio"))


def test_a_recording_that_is_gone_is_said() -> None:
    page = read(render_page(worst("gone.flac")))
    assert not list(page.all("audio"))
    assert "was not there" in page.text


def test_there_is_a_limit_to_the_sound_in_a_page(recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_examples, "MAX_EMBEDDED_AUDIO_BYTES", 5_000)
    findings = worst(recording)
    found = audio_examples.build_audio_examples(
        ResultsView(EvalResults("some", {}, error_examples=findings.error_examples * 3)), audio=True
    )
    assert [bool(one.audio_uri) for one in found] == [True, False, False]
    assert "too large" in found[1].note


def worst(audio: str) -> EvalResults:
    return EvalResults("worst", {}, error_examples=(builders.worst(audio),))
