"""A suite of everything in a small world: what is found, found again, and what fails without the rest."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from whisperstill.audio.conditions import parse_conditions
from whisperstill.corpus import read_corpus
from whisperstill.decode import whisper_model as recogniser
from whisperstill.decode.generate.draft_model import DecodeState, NetworkDraft
from whisperstill.errors import SettingsError
from whisperstill.evaluate import systems as contenders
from whisperstill.evaluate.encoder_cache import EncoderCache
from whisperstill.evaluate.metrics import Scoring
from whisperstill.evaluate.peak_memory import weights_mib
from whisperstill.evaluate.speculative import compare_speculative as compare_drafts
from whisperstill.evaluate.speculative import trace_draft
from whisperstill.records.eval_results import DatasetResult, EvalResults
from whisperstill.stages import evaluate
from whisperstill.stages.compare import CompareSettings, read_eval_results
from whisperstill.stages.compare import run as compare
from whisperstill.stages.console import NullConsole
from whisperstill.stages.evaluate import EvaluateSettings
from whisperstill.stages.suite import SuiteReport
from whisperstill.stages.suite_datasets import EvalDataset, sample_evenly, split_into_clips
from whisperstill.stages.suite_measurements import condition_labels
from whisperstill.stages.suite_spec import DatasetSpec, read_suite

SUITE = """
name = "small"
[models]
teacher = "{teacher}"
student = "{student}"
[datasets.read]
manifest = "{corpus}"
in_distribution = true
limit = 3
[datasets.long]
manifest = "{long}"
full_recordings = true
[datasets.street]
manifest = "{street}"
non_speech = true
chunk_seconds = 2.0
[short_form]
[non_speech]
[long_form]
strategies = ["silence", "chunked"]
[chunk_length]
lengths = [20]
models = ["student"]
[noise]
datasets = ["read"]
conditions = ["white@10:0:-10", "babble@5"]
limit = 2
[speed]
batch_sizes = [1]
rounds = 1
[speculative]
batch_sizes = [2]
limit = 2
num_traces = 1
[error_examples]
num_examples = 2
[include]
"""


@pytest.fixture(scope="module")
def suite(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    generator = np.random.default_rng(3)
    for name, seconds in (("street", 5), ("long", 32)):
        (folder / name).mkdir()
        sound = generator.normal(0, 0.1, seconds * 16_000).astype(np.float32)
        soundfile.write(folder / name / f"{name}.wav", sound, 16_000)
    segments = [{"start": 0, "end": 20, "text": "some words"}, {"start": 20, "end": 32, "text": "of a long recording"}]
    (folder / "long" / "manifest.jsonl").write_text(json.dumps({"audio": "long.wav", "segments": segments}))
    places = {"teacher": small_teacher, "student": small_student, "corpus": small_corpus}
    places |= {"long": folder / "long", "street": folder / "street"}
    (folder / "suite.toml").write_text(SUITE.format(**places))
    return folder / "suite.toml"


@pytest.fixture(scope="module")
def settings(suite: Path) -> EvaluateSettings:
    return EvaluateSettings(
        suite=suite, output=suite.parent / "out", batch_size=4, bootstrap_resamples=50, language="en"
    )


@pytest.fixture(scope="module")
def report(settings: EvaluateSettings) -> SuiteReport:
    found = evaluate.run(settings, NullConsole())
    assert isinstance(found, SuiteReport)
    return found


@pytest.fixture(scope="module")
def findings(settings: EvaluateSettings, report: SuiteReport) -> EvalResults:
    assert settings.output is not None
    return read_eval_results(settings.output)


def test_a_recording_is_whole_where_it_is_asked_for(findings: EvalResults) -> None:
    (long,) = [one for one in findings.datasets if one.long_form]
    assert (long.name, long.utterances, long.words) == ("long", 1, 6)


def test_a_set_tells_what_has_no_transcript(
    settings: EvaluateSettings, small_corpus: Path, small_teacher: Path, tmp_path: Path
) -> None:
    (spoken,) = read_corpus(str(small_corpus)).utterances[:1]
    rows = [{"id": name, "audio": str(Path(spoken.audio.path).resolve())} for name in "ab"]
    rows[0]["text"] = "some words"
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = f'[models]\nteacher = "{small_teacher}"\n[datasets.half]\nmanifest = "manifest.jsonl"\n[short_form]\n'
    (tmp_path / "suite.toml").write_text(text)
    found = evaluate.run(replace(settings, suite=tmp_path / "suite.toml", output=tmp_path / "out"), NullConsole())
    assert isinstance(found, SuiteReport)
    assert [(one.source, one.reason) for one in found.problems] == [("half", "1 of 2 utterances have no transcript")]


def cells(findings: EvalResults, measurement: str) -> list[DatasetResult]:
    return [one for one in findings.results if one.measurement == measurement]


def test_every_cell_is_there(report: SuiteReport, findings: EvalResults) -> None:
    assert not report.problems and not findings.failures
    both = ["teacher", "student"]
    assert [(one.model, one.dataset) for one in cells(findings, "short_form")] == [(name, "read") for name in both]
    assert [(one.decoding, one.model) for one in cells(findings, "long_form")] == [
        (way, name) for way in ("silence", "chunked") for name in both
    ]
    assert [(one.chunk_length, one.model) for one in cells(findings, "chunk_length")] == [(20, "student")]
    assert [one.condition for one in cells(findings, "noise")][::2] == ["white@10", "white@0", "babble@5"]
    silent = cells(findings, "non_speech")
    assert [one.decoding for one in silent] == ["short", "short", "silence", "silence"]
    assert all(one.words == 0 and one.hallucination.non_speech_clips == 2 for one in silent)
    assert [(one.model, one.batch_size) for one in findings.speeds] == [(name, 1) for name in both]
    assert all(one.peak_memory_mib > one.weights_mib > 0 for one in findings.speeds)


def test_cells_hold_the_student_against_the_teacher(findings: EvalResults) -> None:
    for measurement in ("short_form", "long_form", "noise"):
        for one in cells(findings, measurement):
            assert (one.difference_to_teacher is None) == (one.model == "teacher")
            assert len(one.utterance_errors) == one.utterances
    assert {one.dataset for one in findings.error_examples} <= {"read", "street"}
    assert [one.model for one in findings.error_examples[0].alignments] == ["teacher", "student"]
    assert (findings.datasets[0].in_distribution, findings.datasets[1].long_form, findings.datasets[2].non_speech) == (
        True,
        True,
        True,
    )


def test_a_draft_changes_nothing(findings: EvalResults) -> None:
    assert [one.batch_size for one in findings.speculative] == [2]
    for one in findings.speculative:
        assert one.identical == one.utterances == 2
        assert one.tokens_per_step >= 1
    (shown,) = findings.draft_traces
    kinds = [token.kind for token in shown.tokens]
    assert set(kinds) <= {"accepted", "corrected", "bonus"}
    assert shown.teacher_passes >= kinds.count("corrected") + kinds.count("bonus")


def test_what_was_heard_is_found_again(settings: EvaluateSettings, report: SuiteReport, findings: EvalResults) -> None:
    again = evaluate.run(settings, NullConsole())
    assert isinstance(again, SuiteReport)
    assert again.num_decoded == 0 and again.num_cached == report.num_decoded
    assert settings.output is not None
    other = read_eval_results(settings.output)
    assert replace(other, provenance={}) == replace(findings, provenance={})
    assert compare(CompareSettings((settings.output, settings.output), resamples=100), NullConsole()).exit_code == 0
    for name in ("report.md", "report.html"):
        assert "student" in (settings.output / name).read_text()


def test_a_suite_that_was_stopped_goes_on(
    settings: EvaluateSettings, findings: EvalResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear, count = contenders.WhisperstillSystem.transcribe, iter(range(100))

    def stopped(*given: Any) -> contenders.TimedHypotheses:
        if next(count) == 2:
            raise KeyboardInterrupt
        return hear(*given)

    monkeypatch.setattr(contenders.WhisperstillSystem, "transcribe", stopped)
    few = settings.suite.read_text().split("[long_form]")[0]
    (tmp_path / "few.toml").write_text(few)
    elsewhere = replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(elsewhere, NullConsole())
    assert not (tmp_path / "out" / "results.json").exists()
    monkeypatch.setattr(contenders.WhisperstillSystem, "transcribe", hear)
    resumed = evaluate.run(elsewhere, NullConsole())
    assert isinstance(resumed, SuiteReport)
    found = read_eval_results(tmp_path / "out")
    assert [(one.dataset, one.model, one.utterance_errors) for one in found.results] == [
        (one.dataset, one.model, one.utterance_errors) for one in findings.results[: len(found.results)]
    ]
    whole = len(
        {json.dumps([one.dataset, one.model, one.decoding, one.chunk_length, one.condition]) for one in found.results}
    )
    assert resumed.num_decoded <= whole - 2


def test_what_fails_is_told_and_the_rest_goes_on(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    broken = suite.read_text().split("[short_form]")[0] + "[short_form]\n"
    broken += '[models.gone]\nmodel = "no-such-model"\n[datasets.missing]\nmanifest = "nowhere.jsonl"\n'
    (tmp_path / "broken.toml").write_text(broken)
    report = evaluate.run(replace(settings, suite=tmp_path / "broken.toml", output=tmp_path / "out"), NullConsole())
    assert isinstance(report, SuiteReport)
    assert sorted(one.source for one in report.problems) == ["dataset missing", "model gone"]
    assert [one.model for one in read_eval_results(tmp_path / "out").results] == ["teacher", "student"]
    assert not (tmp_path / "nothing").exists()


def test_a_cell_that_fails_is_told(settings: EvaluateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hear = contenders.WhisperstillSystem.transcribe

    def fails(self: contenders.WhisperstillSystem, *given: Any) -> contenders.TimedHypotheses:
        if self.info.name == "student":
            raise RuntimeError("out of\nluck")
        return hear(self, *given)

    monkeypatch.setattr(contenders.WhisperstillSystem, "transcribe", fails)
    few = settings.suite.read_text().split("[non_speech]")[0] + "[speed]\nbatch_sizes = [1]\nrounds = 1\n"
    (tmp_path / "few.toml").write_text(few)
    report = evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
    assert isinstance(report, SuiteReport)
    assert any(one.reason == "RuntimeError: out of luck" for one in report.problems)
    found = read_eval_results(tmp_path / "out")
    assert {one.model for one in found.results} == {"teacher"} and found.speeds


def test_nothing_that_could_be_measured_is_an_error(
    settings: EvaluateSettings, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders.WhisperstillSystem, "transcribe", lambda self, *given: 1 / 0)
    (tmp_path / "few.toml").write_text(suite.read_text().split("[short_form]")[0] + "[short_form]\n")
    with pytest.raises(SettingsError, match=r"nothing could be measured: teacher on .* ZeroDivisionError"):
        evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
    none = suite.read_text().split("[datasets.long]")[0] + "[non_speech]\n"
    (tmp_path / "none.toml").write_text(none)
    with pytest.raises(SettingsError, match="nothing could be measured: no dataset: is of the kind"):
        evaluate.run(replace(settings, suite=tmp_path / "none.toml", output=tmp_path / "none"), NullConsole())


def test_times_of_other_threads_are_told(
    settings: EvaluateSettings, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.toml").write_text(suite.read_text().split("[short_form]")[0] + "[short_form]\n")
    few = replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out")
    evaluate.run(few, NullConsole())
    for path in (tmp_path / "out" / "cache").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": 99}))
    told: list[str] = []
    monkeypatch.setattr(NullConsole, "warn", lambda self, text: told.append(text))
    evaluate.run(few, NullConsole())
    assert [one.partition(" before")[0] for one in told] == ["2 results were heard with 99 threads"]
    assert read_eval_results(tmp_path / "out").provenance["results_cached_by_threads"] == {"99": 2}


def test_models_of_the_command_line_take_the_place(suite: Path) -> None:
    found = read_suite(suite, ("base", "a", "b"))
    assert [(name, one.model, one.role) for name, one in found.models.items()] == [
        ("teacher", "base", "teacher"),
        ("student-1", "a", "student"),
        ("student-2", "b", "student"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[models]\na = 'base'\n", "asks for nothing"),
        ("[short_form]\n", "names no model"),
        ("[models]\na = 'base'\n[short_form]\ndatasets = ['x']\n", "expected names of [datasets], got x"),
        (
            "[models]\nteacher = 'base'\n[short_form]\ndatasets = ['teacher']\n",
            "expected names of [datasets], got teacher",
        ),
        ("[models]\na = 'base'\n[short_form]\nset = ['x']\n", "[short_form] knows no key 'set'"),
        ("[models]\na = 'base'\n[shortform]\n", "knows no key 'shortform'"),
        ("[models]\na = 3\n[short_form]\n", "models.a: expected a table or a string"),
        ("[models]\na = 'base'\n[speculative]\n", "needs a model with the role teacher"),
        ("[models.a]\nmodel = 'b'\nengine = 'kaldi'\n[short_form]\n", "expected one of 'whisperstill'"),
        ("[models]\nteacher = 'base'\n[models.b]\nmodel = 'c'\nrole = 'teacher'\n[short_form]\n", "2 teachers"),
        (
            "[models]\na = 'base'\n[datasets.s]\nmanifest = 'x'\nchunk_seconds = 5.0\n[short_form]\n",
            "chunk_seconds must be 1 to 30 s",
        ),
        ("[models]\na = 'base'\n[speed]\nbatch_sizes = []\n", "batch_sizes must name numbers"),
    ],
)
def test_a_suite_is_strict(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "suite.toml").write_text(content)
    with pytest.raises(SettingsError) as error:
        read_suite(tmp_path / "suite.toml")
    assert said in str(error.value)


def test_paths_of_a_suite_and_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of the command line are seen from the working directory, everything else from the suite; names stay."""
    (tmp_path / "suites" / "noise").mkdir(parents=True)
    for name in ("student", "de", "clean"):  # folders that only happen to be called so
        (tmp_path / "suites" / name).mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("suites/s.toml")
    path.write_text(
        "[models]\nteacher = 'base'\nstudent = './student'\n[datasets.one]\nmanifest = 'de'\nlanguage = 'de'\n"
        "[noise]\nmodels = ['student']\nconditions = ['clean', 'noise@5', './noise@3', 'white@10']\n"
    )
    suite = read_suite(path)
    assert suite.models["student"].model == "suites/student"
    assert (suite.datasets["one"].manifest, suite.datasets["one"].language) == ("suites/de", "de")
    assert suite.noise is not None and suite.noise.models == ("student",)
    assert suite.noise.conditions == ("clean", "suites/noise@5", "suites/noise@3", "white@10")
    found = read_suite(path, ("base", "mine")).models
    assert (found["teacher"].model, found["student"].model) == ("base", str(tmp_path / "mine"))


def test_recorded_noises_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for at, name in enumerate(("cafe/noise.wav", "street/noise.wav", "bus.wav", "white.wav")):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, sound * (at + 1), 16_000)
    names = ["cafe/noise.wav@5", "street/noise.wav@5", "bus.wav@5", "white.wav@5", "white@5", "clean"]
    found = parse_conditions(names)
    assert [condition_labels(found)[one] for one in found] == [
        "cafe/noise.wav@5",
        "street/noise.wav@5",
        "bus@5",
        "white.wav@5",
        "white@5",
        "clean",
    ]
    assert len({one.noise_recordings_sha256() for one in found[:4]}) == 4
    assert found[4].noise_recordings_sha256() == "" == found[5].noise_recordings_sha256()


def test_a_set_is_long_when_most_of_it_is(small_corpus: Path) -> None:
    """One prompt over 30 s does not make a set of prompts one of recordings."""
    one = read_corpus(str(small_corpus)).utterances[0]

    def corpus(*seconds: float) -> EvalDataset:
        spans = [replace(one, id=str(at), audio=replace(one.audio, duration=each)) for at, each in enumerate(seconds)]
        return EvalDataset("s", DatasetSpec("m"), tuple(spans), Scoring("basic", "word"), "", "en")

    prompts, talks = corpus(5, 31, 30, 4), corpus(5, 31, 40)
    assert not prompts.is_long_form and [each.audio.duration for each in prompts.short_utterances] == [5, 30, 4]
    assert talks.is_long_form and len(talks.short_utterances) == 1


def test_another_engine_hears_an_utterance_over_a_window_whole(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []

    class Engine:
        name, version, dtype, device = "faster-whisper", "1", "float32", "cpu"
        description = SimpleNamespace(sha256="", dims=SimpleNamespace(encoder_layers=1, decoder_layers=1))

        def transcribe(self, sounds: list[Any], languages: list[Any], *, long_form: bool) -> list[str]:
            asked.append((len(sounds), long_form))
            return ["words"] * len(sounds)

    monkeypatch.setattr(contenders, "load_engine", lambda *given, **said: Engine())
    one = read_corpus(str(small_corpus)).utterances[0]
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 16_000, np.float32), 16_000)
    over = replace(one, id="over", audio=replace(one.audio, path=str(tmp_path / "long.wav"), start=0.0, duration=31.0))
    other = contenders.ExternalSystem("theirs", "m", "", "faster-whisper", "cpu", "auto", tmp_path)
    found = other.transcribe(
        [one, over], contenders.DecodeMode(), EncoderCache(shared=False), None, lambda seconds: None
    )
    assert asked == [(1, False), (1, True)] and set(found.texts) == {one.id, "over"}
    asked.clear()
    other.transcribe(
        [one, over], contenders.DecodeMode("sequential"), EncoderCache(shared=False), None, lambda seconds: None
    )
    assert asked == [(2, True)]


def test_a_file_that_cannot_be_read_costs_speculation_no_more_than_itself(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    own = contenders.WhisperstillSystem("t", str(small_teacher), "teacher", "cpu", torch.float32, False)
    student = contenders.WhisperstillSystem("s", str(small_student), "student", "cpu", torch.float32, False)
    one, two = read_corpus(str(small_corpus)).utterances[:2]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = replace(two, audio=replace(two.audio, path=str(tmp_path / "broken.wav")))
    found = compare_drafts(own.model, own.build_model(student.checkpoint), [one, broken], 2)
    assert (found.utterances, found.identical) == (1, 1)
    assert [each.source for each in found.skipped] == [f"{two.corpus}/{two.id}"]


def test_what_is_shown_is_what_a_draft_does(
    small_teacher: Path, small_student: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its passes and proposals are those of a decoding in blocks of this length."""
    own = contenders.WhisperstillSystem("t", str(small_teacher), "teacher", "cpu", torch.float32, False)
    student = contenders.WhisperstillSystem("s", str(small_student), "student", "cpu", torch.float32, False)
    told: list[list[int]] = []
    propose = NetworkDraft.propose

    def listening(self: NetworkDraft, sofar: DecodeState, count: int) -> torch.Tensor:
        told.append(propose(self, sofar, count)[0].tolist())
        return torch.tensor(told[-1:])

    monkeypatch.setattr(NetworkDraft, "propose", listening)
    monkeypatch.setattr(recogniser, "BLOCK_SIZES", (4,))
    only_first: tuple[int, ...] = ()
    for _ in range(2):
        told.clear()
        assisted = own.build_model(student.checkpoint)
        assisted.generation_config = replace(assisted.generation_config, begin_suppress_tokens=only_first)
        found = trace_draft(assisted, read_corpus(str(small_corpus)).utterances[0], "set", 4)
        decoding, showing = told[: len(told) // 2], told[len(told) // 2 :]
        assert found.teacher_passes == len(decoding) == len(showing) > 1
        assert decoding == showing
        assert [one.kind for one in found.tokens].count("corrected") > 0
        only_first = tuple(proposed[0] for proposed in decoding[1:])  # barred at the beginning, not later


def test_eight_bits_are_counted_as_such(small_teacher: Path) -> None:
    """An int8 network holds its linear maps in a quarter of the bytes, and what else it has in full."""
    network = contenders.WhisperstillSystem("t", str(small_teacher), "", "cpu", torch.float32, False).model.network
    linear = sum(one.weight.numel() for one in network.modules() if isinstance(one, torch.nn.Linear))
    whole = weights_mib(network)
    small = weights_mib(
        contenders.WhisperstillSystem("t", str(small_teacher), "", "cpu", torch.float32, False, True).model.network
    )
    assert linear and whole - 4.2 * linear / 2**20 < small < whole - 2.5 * linear / 2**20


@pytest.mark.parametrize("name", ["quick.toml", "paper.toml"])
def test_the_suites_of_the_project_are_valid(root: Path, name: str) -> None:
    suite = read_suite(root / "suites" / name)
    assert suite.teacher == "teacher" and suite.students == ("student",)
    assert suite.short_form is not None and suite.noise is not None
    conditions = [one for one in suite.noise.conditions if "/" not in one]
    assert len(parse_conditions(conditions)) >= len(conditions)


def test_models_of_another_type_hear_for_themselves(
    settings: EvaluateSettings, small_teacher: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States on the shelf are shared by models of one encoder and one type of computation, by no others."""
    ones = read_corpus(str(small_corpus)).utterances[:1]
    shelf, encoded = EncoderCache(shared=True), list[str]()
    for name, int8 in (("a", False), ("b", False), ("c", True)):
        own = contenders.WhisperstillSystem(name, str(small_teacher), "", "cpu", torch.float32, False, int8)
        encode = own.model.encode
        monkeypatch.setattr(own.model, "encode", lambda x, e=encode, n=name: encoded.append(n) or e(x))
        own.transcribe(ones, contenders.DecodeMode(), shelf, None, lambda seconds: None)
    assert encoded == ["a", "c"]


def test_the_smaller_limit_counts(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text(suite.read_text().split("[non_speech]")[0])
    evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out", limit=2), NullConsole())
    assert {one.name: one.utterances for one in read_eval_results(tmp_path / "out").datasets}["read"] == 2


def test_a_suite_names_its_own_sets(settings: EvaluateSettings) -> None:
    with pytest.raises(SettingsError, match="names its own datasets"):
        evaluate.run(replace(settings, manifest=("x",)), NullConsole())
    with pytest.raises(SettingsError, match="manifest must name at least one corpus; output must name a folder"):
        evaluate.run(EvaluateSettings(model=("base",)), NullConsole())


def test_limits_spread_and_pieces_lie_behind_each_other(findings: EvalResults, small_corpus: Path) -> None:
    ones = read_corpus(str(small_corpus)).utterances
    assert [one.id for one in sample_evenly(ones, 4)] == ["u00", "u03", "u07", "u10"]
    assert sample_evenly(ones, 99) == list(ones)
    parts = split_into_clips(ones[4], 3.0)  # 7 s
    assert [(one.audio.start, one.audio.duration) for one in parts] == [(0.0, 3.0), (3.0, 3.0)]
    assert len({one.id for one in parts}) == 2 and split_into_clips(ones[0], 30.0) == [ones[0]]
    long = replace(ones[0], audio=replace(ones[0].audio, start=1.0, duration=70.0))
    assert [(one.audio.start, one.audio.duration) for one in split_into_clips(long, None)] == [
        (1.0 + at * 70 / 3, 70 / 3) for at in range(3)
    ]
    assert split_into_clips(ones[0], None) == [ones[0]]


def test_the_worst_are_of_what_was_heard(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    few = suite.read_text().split("[short_form]")[0] + "[error_examples]\n"
    (tmp_path / "few.toml").write_text(few)
    with pytest.raises(SettingsError, match=r"nothing could be measured: error examples: .* what \[short_form\] or"):
        evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
