"""`evaluate`: what is written, what is found again, what is skipped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jiwer
import pytest
import soundfile

from whisperstill.errors import CorpusError, SettingsError
from whisperstill.stages import evaluate
from whisperstill.stages.console import NullConsole
from whisperstill.stages.evaluate import EvaluateSettings
from whisperstill.text.normalizers import get_normalizer


@pytest.fixture(scope="module")
def settings(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> EvaluateSettings:
    output = tmp_path_factory.mktemp("evaluated") / "results"
    return EvaluateSettings((str(small_teacher), str(small_student)), (str(small_corpus),), output, limit=3)


@pytest.fixture(scope="module")
def report(settings: EvaluateSettings) -> evaluate.EvaluateReport:
    return evaluate.run(settings, NullConsole())


def test_results_hold_what_scripts_rely_on(settings: EvaluateSettings, report: evaluate.EvaluateReport) -> None:
    results = json.loads((settings.output / "results.json").read_text())
    assert [result["model"] for result in results] == list(settings.model)
    for result in results:
        assert result["manifest"] == settings.manifest[0]
        assert result["wer_low"] <= result["wer"] <= result["wer_high"]
        assert (result["utterances"], result["words"], result["normalizer"]) == (3, 2 + 3 + 4, "english")
        assert result["decoder_ms_per_token"] > 0
    assert results[0]["parameters"] > results[1]["parameters"]
    assert "| " in (settings.output / "results.md").read_text()
    assert report.num_decoded == 2 and report.num_cached == 0 and not report.problems


def test_the_rate_is_jiwers(settings: EvaluateSettings, report: evaluate.EvaluateReport) -> None:
    clean = get_normalizer("english")
    files = sorted(settings.output.rglob("*.jsonl"))
    assert len(files) == 2
    rates = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rates.append(100 * jiwer.wer([clean(r["reference"]) for r in rows], [clean(r["hypothesis"]) for r in rows]))
    assert sorted(rates) == pytest.approx(sorted(result["wer"] for result in report.results))


def test_what_was_decoded_is_found_again(settings: EvaluateSettings, report: evaluate.EvaluateReport) -> None:
    again = evaluate.run(settings, NullConsole())
    assert (again.num_decoded, again.num_cached) == (0, 2)
    assert again.results == report.results
    other = evaluate.run(replace(settings, seed=1, measure_speed=False), NullConsole())  # another draw of the intervals
    assert other.num_decoded == 2


def test_utterances_that_cannot_be_read_are_listed(small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(small_corpus.parent, copy)
    (copy / "01.wav").write_bytes(b"junk")
    rows = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()[:3]]
    del rows[2]["text"]
    (copy / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = EvaluateSettings(
        (str(small_student),), (str(copy / "manifest.jsonl"),), tmp_path / "out", measure_speed=False
    )
    report = evaluate.run(settings, NullConsole())
    assert [result["utterances"] for result in report.results] == [1]
    reasons = [problem.reason for problem in report.problems]
    assert len(reasons) == 2
    assert "cannot decode" in reasons[0] and "1 of 2 utterances have no reference" in reasons[1]


def test_a_set_without_references_is_an_error(small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
    row = json.loads(small_corpus.read_text().splitlines()[0])
    del row["text"]
    row["audio"] = str(small_corpus.parent / row["audio"])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps(row) + "\n")
    with pytest.raises(CorpusError, match="expected references"):
        evaluate.run(EvaluateSettings((str(small_student),), (str(manifest),), tmp_path / "out"), NullConsole())


def test_all_problems_with_settings_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError) as caught:
        evaluate.run(EvaluateSettings((), (), tmp_path / "file", batch_size=0), NullConsole())
    for word in ("model", "manifest", "batch_size", "output"):
        assert word in str(caught.value)


def test_sets_of_one_name_and_of_one_size_are_told_apart(
    small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    """A clean and a noisy copy: the same ids, texts, lengths and names of files."""
    for name, gain in (("clean/test", 1.0), ("noisy/test", 0.5)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        row = json.loads(small_corpus.read_text().splitlines()[0])
        sound, rate = soundfile.read(small_corpus.parent / row["audio"])
        soundfile.write(folder / "a.wav", gain * sound, rate)
        (folder / "manifest.jsonl").write_text(json.dumps({"id": "a", "audio": "a.wav", "text": row["text"]}))
    manifests = tuple(str(tmp_path / name / "test") for name in ("clean", "noisy"))
    out = tmp_path / "out"
    report = evaluate.run(EvaluateSettings((str(small_student),), manifests, out, measure_speed=False), NullConsole())
    assert report.num_decoded == 2
    assert [one["dataset"] for one in report.results] == list(manifests)
    assert len(list(out.glob("hypotheses-*.jsonl"))) == 2
