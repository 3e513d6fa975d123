"""Hypotheses for a dataset: skipped recordings."""

from pathlib import Path

import pytest
import soundfile
from small_models import make_tokenizer

from whisperstill.evaluate.systems import DecodeMode, decode_utterances
from whisperstill.records import AudioSpan, Utterance
from whisperstill.text.tokenizer import Tokenizer

from unit.decode.scripted import Scripted, decoded, detect_speech_everywhere, tone


def test_a_truncated_recording_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its missing part would count as deletions."""
    detect_speech_everywhere(monkeypatch)
    tokenizer = Tokenizer.from_bytes(make_tokenizer(50257, 99), 51865)
    scripted = Scripted(tokenizer, lambda first, language: decoded(tokenizer.encode(" so")))
    for name in ("whole", "broken"):
        soundfile.write(tmp_path / f"{name}.flac", tone(60.0, 0.5), 16_000)
    content = (tmp_path / "broken.flac").read_bytes()
    (tmp_path / "broken.flac").write_bytes(content[: len(content) // 2])
    utterances = [
        Utterance(name, "set", AudioSpan(str(tmp_path / f"{name}.flac"), 0.0, 60.0), "so", "en", None, None)
        for name in ("whole", "broken")
    ]
    result = decode_utterances(
        scripted,
        utterances,
        DecodeMode(batch_size=2),
        lambda batch, waveforms: (scripted.encode(waveforms), 0.0),
        None,
        print,
    )
    assert set(result.texts) == {"whole"}
    assert [problem.source for problem in result.skipped] == ["set/broken"]
