"""Detection and reading of every layout; jsonl and huggingface are tested elsewhere."""

import gzip
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from whisperstill.corpus import LAYOUTS, Corpus, read_corpus
from whisperstill.errors import CorpusError, SettingsError

MakeAudio = Callable[..., Path]


def read(source: Path, layout: str) -> Corpus:
    """Read with the layout named and detected; both must agree."""
    corpus = read_corpus(source, layout=layout)
    assert read_corpus(source) == corpus
    return corpus


def test_librispeech(tmp_path: Path, make_audio: MakeAudio) -> None:
    for name in ("84-1-0000", "84-1-0001", "84-1-0002"):
        make_audio(f"LS/84/1/{name}.flac", 0.4)
    make_audio("LS/9/3/9-3-0000.wav", 0.3, rate=22050)
    (tmp_path / "LS/84/1/84-1.trans.txt").write_text("84-1-0000 GO ON\n84-1-0001 AND THEN\n84-1-0009 NOT THERE\n")
    (tmp_path / "LS/9/3/9-3.trans.txt").write_bytes(b"9-3-0000 IT IS\n9-3-0001 \xff\n")
    corpus = read(tmp_path / "LS", "librispeech")
    assert [(item.id, item.text, item.speaker, item.session) for item in corpus.utterances] == [
        ("84-1-0000", "GO ON", "84", "1"),
        ("84-1-0001", "AND THEN", "84", "1"),
        ("84-1-0002", None, "84", "1"),
        ("9-3-0000", "IT IS", "9", "3"),
    ]
    assert corpus.utterances[0].audio.duration == 0.4
    assert [item.source for item in corpus.skipped] == ["84/1/84-1.trans.txt:3", "9/3/9-3.trans.txt:2"]


def test_ljspeech(tmp_path: Path, make_audio: MakeAudio) -> None:
    make_audio("LJ/wavs/LJ001-0001.wav", rate=22050)
    make_audio("LJ/wavs/LJ001-0002.wav", rate=22050)
    lines = [
        'LJ001-0001|In 1450 "it" began|In fourteen fifty it began',
        "LJ001-0002|so, there",
        "LJ001-0003|gone|gone",
        "x",
    ]
    (tmp_path / "LJ/metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    corpus = read(tmp_path / "LJ", "ljspeech")
    assert [item.text for item in corpus.utterances] == ['In 1450 "it" began', "so, there"]
    assert {(item.speaker, item.session) for item in corpus.utterances} == {("LJ", "LJ001")}
    assert [item.source for item in corpus.skipped] == ["metadata.csv:3", "metadata.csv:4"]


def test_common_voice(tmp_path: Path, make_audio: MakeAudio) -> None:
    for name in "abc":
        make_audio(f"cv/de/clips/{name}.mp3", 1.0, rate=32000)
    table = (
        "client_id\tpath\tsentence\tup_votes\tlocale\n"
        'ff01\ta.mp3\tEr sagte: "Ja.\t2\tde\n'
        "ff02\tb.mp3\t\t2\tde-DE\n"
        "ff02\tmissing.mp3\tWeg\t2\tde\n"
        "ff02\tc.mp3\tzu kurz\n"
    )
    (tmp_path / "cv/de/validated.tsv").write_text(table, encoding="utf-8")
    (tmp_path / "cv/de/clip_durations.tsv").write_text("clip\tduration[ms]\na.mp3\t987\n")
    corpus = read(tmp_path / "cv/de", "commonvoice")
    assert [(item.id, item.text, item.speaker, item.language) for item in corpus.utterances] == [
        ("a", 'Er sagte: "Ja.', "ff01", "de"),
        ("b", None, "ff02", "de"),
    ]
    assert corpus.utterances[0].audio.duration == 0.987
    assert corpus.utterances[1].audio.duration == pytest.approx(1.0, abs=0.1)
    assert [item.source for item in corpus.skipped] == ["validated.tsv:4", "validated.tsv:5"]
    assert read(tmp_path / "cv/de/validated.tsv", "commonvoice").name == "de-validated"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv(delimiter: str, tmp_path: Path, make_audio: MakeAudio) -> None:
    for name in "abcd":
        make_audio(f"t/{name}.wav", 0.5)
    rows = [
        ["File_Name", "Transcription", "speaker_id", "duration"],
        ["a.wav", f'"one{delimiter} two"', "7", ""],
        ["b.wav", "", "8", "0.4"],
        ["c.wav", "wrong", "8", "long"],
        ["d.wav", "short"],
        ["", "no file", "8", "1"],
    ]
    (tmp_path / "t/metadata.csv").write_text("\n".join(map(delimiter.join, rows)), encoding="utf-8-sig")
    corpus = read(tmp_path / "t/metadata.csv", "csv")
    assert read(tmp_path / "t", "csv") == corpus
    assert [(item.id, item.text, item.speaker, item.audio.duration) for item in corpus.utterances] == [
        ("a", f"one{delimiter} two", "7", 0.5),
        ("b", None, "8", 0.4),
    ]
    assert [item.source for item in corpus.skipped] == [f"metadata.csv:{line}" for line in (4, 5, 6)]


def test_a_table_without_audio_column_lists_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sound,text\na.wav,hi\n")
    with pytest.raises(CorpusError, match=r"column named audio.*\['sound', 'text'\]"):
        read_corpus(tmp_path / "a.csv", layout="csv")


def test_csv_rows_with_invalid_utf8_are_skipped(tmp_path: Path, make_audio: MakeAudio) -> None:
    make_audio("t/a.wav")
    (tmp_path / "t/x.csv").write_bytes(b"audio,text\na.wav,gr\xfcn\n" + b"a.wav," + b"x" * 200_000 + b"\na.wav,good\n")
    corpus = read_corpus(tmp_path / "t/x.csv")
    assert [item.text for item in corpus.utterances] == ["good"]
    assert len(corpus.skipped) == 2


def test_folder(tmp_path: Path, make_audio: MakeAudio) -> None:
    make_audio("pile/b.wav", 0.2)
    make_audio("pile/deep/a.flac", 0.3, rate=48000)
    make_audio("pile/deep/a.mp3", 0.3)
    make_audio("pile/.hidden/x.wav")
    make_audio("pile/Loud.OGG", 0.4)
    make_audio("pile/latin.wav")
    (tmp_path / "pile/latin.txt").write_bytes(b"gr\xfcn")
    (tmp_path / "pile/b.txt").write_text("  hello there\n")
    (tmp_path / "pile/junk.mp3").write_bytes(b"no sound at all")
    (tmp_path / "pile/readme.md").write_text("no audio")
    corpus = read(tmp_path / "pile", "folder")
    assert [(item.id, item.text) for item in corpus.utterances] == [
        ("Loud", None),
        ("b", "hello there"),
        ("deep/a", None),
    ]
    assert [item for item in corpus.utterances if not item.speaker is item.session is None] == []
    assert sorted(item.source for item in corpus.skipped) == ["deep/a.mp3", "junk.mp3", "latin.txt"]


def test_a_single_file_is_a_corpus(make_audio: MakeAudio) -> None:
    path = make_audio("talks/talk.wav", 0.7)
    (utterance,) = read(path, "folder").utterances
    assert (utterance.id, utterance.audio.duration) == ("talk", 0.7)


def write_g722(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


TEXTS = b"""; Core sounds

activated: Activated.
colon: Note: this one has a colon.
beep: [a beep]
join: <beep ascending>
silence/1: (1 second of silence)
letters/a: a
gone: Gone.
no colon here
"""


def test_asterisk(tmp_path: Path) -> None:
    for name in ("activated", "colon", "beep", "join", "letters/a", "silence/1"):
        write_g722(tmp_path / f"usr/share/asterisk/sounds/en_US_f_Allison/{name}.g722")
    (tmp_path / "usr/share/doc/asterisk-core-sounds-en").mkdir(parents=True)
    text = tmp_path / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    text.write_bytes(gzip.compress(TEXTS))
    corpus = read(tmp_path / "usr", "asterisk")
    assert [(item.id, item.text) for item in corpus.utterances] == [
        ("activated", "Activated."),
        ("colon", "Note: this one has a colon."),
        ("letters/a", "a"),
    ]
    first = corpus.utterances[0]
    assert (first.language, first.speaker, first.audio.duration) == ("en", "en_US_f_Allison", 0.5)
    assert [item.source.rpartition(":")[2] for item in corpus.skipped] == ["5", "6", "7", "9", "10"]
    installed = read(tmp_path / "usr/share/asterisk/sounds/en_US_f_Allison", "asterisk")
    assert [item.id for item in installed.utterances] == ["activated", "colon", "letters/a"]
    text.write_bytes(gzip.compress(TEXTS)[:-20])
    with pytest.raises(CorpusError, match="cannot unpack"):
        read_corpus(tmp_path / "usr")


def test_an_unknown_layout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CorpusError, match="one of the layouts jsonl"):
            read_corpus(source)
    with pytest.raises(SettingsError, match="layout must be auto or one of"):
        read_corpus(tmp_path, layout="kaldi")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_refuses_other_files(layout: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("none", "empty"):
        with pytest.raises(CorpusError) as caught:
            read_corpus(tmp_path / source, layout=layout)
        assert "\n" not in str(caught.value)
