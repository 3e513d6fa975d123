"""`evaluate --model --manifest`: files that it writes, the cache, skipped utterances, messages."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jiwer
import pytest
import soundfile

from whisperstill.console import NullConsole
from whisperstill.errors import SettingsError
from whisperstill.records.results_file import read_eval_results
from whisperstill.stages import evaluate
from whisperstill.stages.evaluate import EvaluateReport, EvaluateSettings
from whisperstill.text.normalizers import get_normalizer


@pytest.fixture(scope="module")
def settings(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> EvaluateSettings:
    output = tmp_path_factory.mktemp("evaluated") / "results"
    return EvaluateSettings((str(small_teacher), str(small_student)), (str(small_corpus),), output, limit=3)


@pytest.fixture(scope="module")
def report(settings: EvaluateSettings) -> EvaluateReport:
    return evaluate.run(settings, NullConsole())


def test_results_json_holds_what_scripts_read(settings: EvaluateSettings, report: EvaluateReport) -> None:
    assert settings.output is not None
    content = json.loads((settings.output / "results.json").read_text())
    assert [result["model"] for result in content["results"]] == list(settings.model)
    for result, model, speed in zip(content["results"], content["models"], content["speeds"], strict=True):
        assert result["dataset"] == content["datasets"][0]["name"]
        assert result["wer_low"] <= result["wer"] <= result["wer_high"]
        assert result["cer_low"] <= result["cer"] <= result["cer_high"]
        assert (result["utterances"], result["words"]) == (3, 2 + 3 + 4)
        assert (model["name"], model["source"]) == (result["model"], result["model"])
        assert speed["decoder_ms_per_token"] > 0 and speed["peak_memory_mib"] == 0
    assert (content["datasets"][0]["manifest"], content["datasets"][0]["normalizer"]) == (
        settings.manifest[0],
        "english",
    )
    assert content["models"][0]["parameters"] > content["models"][1]["parameters"]
    assert "| " in (settings.output / "report.md").read_text()
    assert report.num_decoded == 2 and report.num_cached == 0 and not report.problems


def test_wer_equals_jiwer(settings: EvaluateSettings, report: EvaluateReport) -> None:
    clean = get_normalizer("english")
    files = sorted(settings.output.rglob("*.jsonl"))
    assert len(files) == 2
    rates = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rates.append(100 * jiwer.wer([clean(r["reference"]) for r in rows], [clean(r["hypothesis"]) for r in rows]))
    assert sorted(rates) == pytest.approx(sorted(result.wer for result in report.results))


def test_transcriptions_are_cached_and_scored_anew(settings: EvaluateSettings, report: EvaluateReport) -> None:
    again = evaluate.run(settings, NullConsole())
    assert (again.num_decoded, again.num_cached) == (0, 2)
    assert again.results == report.results
    other_seed = evaluate.run(replace(settings, seed=1, measure_speed=False), NullConsole())
    assert (other_seed.num_decoded, other_seed.num_cached) == (0, 2)
    assert [result.wer for result in other_seed.results] == [result.wer for result in report.results]
    assert not read_eval_results(Path(other_seed.output)).speeds
    other_batch = evaluate.run(replace(settings, batch_size=1, measure_speed=False), NullConsole())
    assert other_batch.num_decoded == 2


def test_unreadable_utterances_are_listed(small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
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
    assert [result.utterances for result in report.results] == [1]
    reasons = [problem.reason for problem in report.problems]
    assert len(reasons) == 2
    assert "cannot decode" in reasons[0] and "1 of 2 utterances have no reference" in reasons[1]


def test_a_dataset_without_references_is_an_error(small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
    row = json.loads(small_corpus.read_text().splitlines()[0])
    del row["text"]
    row["audio"] = str(small_corpus.parent / row["audio"])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps(row) + "\n")
    with pytest.raises(SettingsError, match=r"nothing could be measured: .* expected references"):
        evaluate.run(EvaluateSettings((str(small_student),), (str(manifest),), tmp_path / "out"), NullConsole())


def test_one_error_lists_all_problems_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError) as caught:
        evaluate.run(EvaluateSettings((), (), tmp_path / "file", batch_size=0), NullConsole())
    for word in ("model", "manifest", "batch_size", "output"):
        assert word in str(caught.value)


def test_datasets_of_the_same_name_and_size_are_kept_apart(
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
    assert [result.dataset for result in report.results] == list(manifests)
    assert len(list(out.glob("hypotheses-*.jsonl"))) == 2


def test_a_missing_model_is_an_error(small_student: Path, small_corpus: Path, tmp_path: Path) -> None:
    """Models of a suite may fail one by one; those on the command line may not."""
    settings = EvaluateSettings((str(small_student), "no-such-model"), (str(small_corpus),), tmp_path / "out")
    with pytest.raises(SettingsError, match="model no-such-model: "):
        evaluate.run(settings, NullConsole())


def test_limit_takes_the_first_utterances(settings: EvaluateSettings, report: EvaluateReport) -> None:
    assert settings.output is not None
    for path in settings.output.glob("hypotheses-*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["id"] for row in rows] == ["u00", "u01", "u02"]
        assert set(rows[0]) == {"id", "reference", "hypothesis", "edits"}
