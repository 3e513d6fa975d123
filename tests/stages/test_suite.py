"""A suite with every measurement on small models: results, cache, failures in part, and the suite file."""

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
from whisperstill.console import NullConsole
from whisperstill.corpus import read_corpus
from whisperstill.decode import whisper_model
from whisperstill.decode.generate.draft_model import DecodeState, DraftModel
from whisperstill.errors import SettingsError
from whisperstill.evaluate import systems
from whisperstill.evaluate.metrics import Scoring
from whisperstill.evaluate.speculative import compare_speculative, trace_draft
from whisperstill.evaluate.speed import weights_mib
from whisperstill.evaluate.suite.datasets import EvalDataset, sample_evenly, split_into_clips
from whisperstill.evaluate.suite.measurements import condition_labels
from whisperstill.evaluate.suite.spec import DatasetSpec, Noise
from whisperstill.evaluate.suite.suite_file import read_suite
from whisperstill.evaluate.systems import EncoderCache
from whisperstill.records.eval_results import DatasetResult, EvalResults
from whisperstill.records.results_file import read_eval_results
from whisperstill.stages import evaluate
from whisperstill.stages.compare import CompareSettings, run as compare
from whisperstill.stages.evaluate import EvaluateReport, EvaluateSettings

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
    paths = {"teacher": small_teacher, "student": small_student, "corpus": small_corpus}
    paths |= {"long": folder / "long", "street": folder / "street"}
    (folder / "suite.toml").write_text(SUITE.format(**paths))
    return folder / "suite.toml"


@pytest.fixture(scope="module")
def settings(suite: Path) -> EvaluateSettings:
    """In float32: in bfloat16 a block of draft tokens and single tokens round differently, and block lengths vary."""
    output = suite.parent / "out"
    return EvaluateSettings(
        suite=suite, output=output, batch_size=4, bootstrap_resamples=50, language="en", dtype="float32"
    )


@pytest.fixture(scope="module")
def report(settings: EvaluateSettings) -> EvaluateReport:
    return evaluate.run(settings, NullConsole())


@pytest.fixture(scope="module")
def results(settings: EvaluateSettings, report: EvaluateReport) -> EvalResults:
    assert settings.output is not None
    return read_eval_results(settings.output)


def test_full_recordings_are_not_split_into_segments(results: EvalResults) -> None:
    (long,) = [dataset for dataset in results.datasets if dataset.long_form]
    assert (long.name, long.utterances, long.words) == ("long", 1, 6)


def test_utterances_without_reference_are_reported(
    settings: EvaluateSettings, small_corpus: Path, small_teacher: Path, tmp_path: Path
) -> None:
    (spoken,) = read_corpus(str(small_corpus)).utterances[:1]
    rows = [{"id": name, "audio": str(Path(spoken.audio.path).resolve())} for name in "ab"]
    rows[0]["text"] = "some words"
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = f'[models]\nteacher = "{small_teacher}"\n[datasets.half]\nmanifest = "manifest.jsonl"\n[short_form]\n'
    (tmp_path / "suite.toml").write_text(text)
    report = evaluate.run(replace(settings, suite=tmp_path / "suite.toml", output=tmp_path / "out"), NullConsole())
    problems = [(problem.source, problem.reason) for problem in report.problems]
    assert problems == [("half", "1 of 2 utterances have no reference")]


def results_of(results: EvalResults, measurement: str) -> list[DatasetResult]:
    return [result for result in results.results if result.measurement == measurement]


def test_all_measurements_have_results(report: EvaluateReport, results: EvalResults) -> None:
    assert not report.problems and not results.failures
    both = ["teacher", "student"]
    assert [(result.model, result.dataset) for result in results_of(results, "short_form")] == [
        (name, "read") for name in both
    ]
    assert [(result.decoding, result.model) for result in results_of(results, "long_form")] == [
        (strategy, name) for strategy in ("silence", "chunked") for name in both
    ]
    assert [(result.chunk_length, result.model) for result in results_of(results, "chunk_length")] == [(20, "student")]
    assert [result.condition for result in results_of(results, "noise")][::2] == ["white@10", "white@0", "babble@5"]
    silent = results_of(results, "non_speech")
    assert [result.decoding for result in silent] == ["short", "short", "silence", "silence"]
    assert [result for result in silent if not (result.words == 0 and result.hallucination.non_speech_clips == 2)] == []
    assert [(speed.model, speed.batch_size) for speed in results.speeds] == [(name, 1) for name in both]
    assert [speed for speed in results.speeds if not speed.peak_memory_mib > speed.weights_mib > 0] == []


def test_students_are_compared_with_the_teacher(results: EvalResults) -> None:
    for measurement in ("short_form", "long_form", "noise"):
        for result in results_of(results, measurement):
            assert (result.difference_to_teacher is None) == (result.model == "teacher")
            assert len(result.utterance_errors) == result.utterances
    assert {example.dataset for example in results.error_examples} <= {"read", "street"}
    assert [alignment.model for alignment in results.error_examples[0].alignments] == ["teacher", "student"]
    assert (results.datasets[0].in_distribution, results.datasets[1].long_form, results.datasets[2].non_speech) == (
        True,
        True,
        True,
    )


def test_speculative_decoding_gives_the_same_tokens(results: EvalResults) -> None:
    assert [comparison.batch_size for comparison in results.speculative] == [2]
    for comparison in results.speculative:
        assert comparison.identical == comparison.utterances == 2
        assert comparison.tokens_per_step >= 1
    (trace,) = results.draft_traces
    kinds = [token.kind for token in trace.tokens]
    assert set(kinds) <= {"accepted", "corrected", "bonus"}
    assert trace.teacher_passes >= kinds.count("corrected") + kinds.count("bonus")


def test_transcriptions_are_cached(settings: EvaluateSettings, report: EvaluateReport, results: EvalResults) -> None:
    again = evaluate.run(settings, NullConsole())
    assert again.num_decoded == 0 and again.num_cached == report.num_decoded
    assert settings.output is not None
    other = read_eval_results(settings.output)
    assert replace(other, provenance={}) == replace(results, provenance={})
    assert compare(CompareSettings((settings.output, settings.output), resamples=100), NullConsole()).exit_code == 0
    for name in ("report.md", "report.html"):
        assert "student" in (settings.output / name).read_text()


def test_an_interrupted_suite_resumes(
    settings: EvaluateSettings, results: EvalResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe, count = systems.WhisperstillSystem.transcribe_dataset, iter(range(100))

    def interrupt(*args: Any) -> systems.Hypotheses:
        if next(count) == 2:
            raise KeyboardInterrupt
        return transcribe(*args)

    monkeypatch.setattr(systems.WhisperstillSystem, "transcribe_dataset", interrupt)
    few = settings.suite.read_text().split("[long_form]")[0]
    (tmp_path / "few.toml").write_text(few)
    elsewhere = replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(elsewhere, NullConsole())
    assert not (tmp_path / "out" / "results.json").exists()
    monkeypatch.setattr(systems.WhisperstillSystem, "transcribe_dataset", transcribe)
    resumed = evaluate.run(elsewhere, NullConsole())
    resumed_results = read_eval_results(tmp_path / "out").results
    assert [(result.dataset, result.model, result.utterance_errors) for result in resumed_results] == [
        (result.dataset, result.model, result.utterance_errors) for result in results.results[: len(resumed_results)]
    ]
    assert resumed.num_decoded <= len(resumed_results) - 2


def test_missing_models_and_datasets_are_failures(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    broken = suite.read_text().split("[short_form]")[0] + "[short_form]\n"
    broken += '[models.gone]\nmodel = "no-such-model"\n[datasets.missing]\nmanifest = "nowhere.jsonl"\n'
    (tmp_path / "broken.toml").write_text(broken)
    report = evaluate.run(replace(settings, suite=tmp_path / "broken.toml", output=tmp_path / "out"), NullConsole())
    assert sorted(problem.source for problem in report.problems) == ["dataset missing", "model gone"]
    assert [result.model for result in read_eval_results(tmp_path / "out").results] == ["teacher", "student"]
    assert not (tmp_path / "nothing").exists()


def test_a_failing_transcription_is_a_failure(
    settings: EvaluateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe = systems.WhisperstillSystem.transcribe_dataset

    def fail_for_student(self: systems.WhisperstillSystem, *args: Any) -> systems.Hypotheses:
        if self.info.name == "student":
            raise RuntimeError("out of\nluck")
        return transcribe(self, *args)

    monkeypatch.setattr(systems.WhisperstillSystem, "transcribe_dataset", fail_for_student)
    few = settings.suite.read_text().split("[non_speech]")[0] + "[speed]\nbatch_sizes = [1]\nrounds = 1\n"
    (tmp_path / "few.toml").write_text(few)
    report = evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
    assert any(problem.reason == "RuntimeError: out of luck" for problem in report.problems)
    results = read_eval_results(tmp_path / "out")
    assert {result.model for result in results.results} == {"teacher"} and results.speeds


def test_no_result_at_all_is_an_error(
    settings: EvaluateSettings, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems.WhisperstillSystem, "transcribe_dataset", lambda self, *args: 1 / 0)
    (tmp_path / "few.toml").write_text(suite.read_text().split("[short_form]")[0] + "[short_form]\n")
    with pytest.raises(SettingsError, match=r"nothing could be measured: teacher on .* ZeroDivisionError"):
        evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
    none = suite.read_text().split("[datasets.long]")[0] + "[non_speech]\n"
    (tmp_path / "none.toml").write_text(none)
    with pytest.raises(SettingsError, match="nothing could be measured: no dataset fits"):
        evaluate.run(replace(settings, suite=tmp_path / "none.toml", output=tmp_path / "none"), NullConsole())


def test_cached_timings_with_other_threads_are_reported(
    settings: EvaluateSettings, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.toml").write_text(suite.read_text().split("[short_form]")[0] + "[short_form]\n")
    few = replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out")
    evaluate.run(few, NullConsole())
    for path in (tmp_path / "out" / "cache").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": 99}))
    warnings: list[str] = []
    monkeypatch.setattr(NullConsole, "warn", lambda self, text: warnings.append(text))
    evaluate.run(few, NullConsole())
    assert [text.partition(",")[0] for text in warnings] == ["2 cached results were timed with 99 threads"]
    assert read_eval_results(tmp_path / "out").provenance["results_cached_by_threads"] == {"99": 2}


def test_models_on_the_command_line_replace_those_of_the_suite(suite: Path) -> None:
    models = read_suite(suite, ("base", "a", "b")).models
    assert [(name, spec.model, spec.role) for name, spec in models.items()] == [
        ("teacher", "base", "teacher"),
        ("student-1", "a", "student"),
        ("student-2", "b", "student"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[models]\na = 'base'\n", "names no measurement"),
        ("[short_form]\n", "names no model"),
        ("[models]\na = 'base'\n[short_form]\ndatasets = ['x']\n", "expected names of [datasets], got x"),
        (
            "[models]\nteacher = 'base'\n[short_form]\ndatasets = ['teacher']\n",
            "expected names of [datasets], got teacher",
        ),
        ("[models]\na = 'base'\n[short_form]\nset = ['x']\n", "[short_form] has an unknown key 'set'"),
        ("[models]\na = 'base'\n[shortform]\n", "has an unknown key 'shortform'"),
        ("[models]\na = 3\n[short_form]\n", "models.a: expected a table or a string"),
        ("[models]\na = 'base'\n[speculative]\n", "needs a model with the role teacher"),
        ("[models.a]\nmodel = 'b'\nengine = 'kaldi'\n[short_form]\n", "expected one of 'whisperstill'"),
        ("[models]\nteacher = 'base'\n[models.b]\nmodel = 'c'\nrole = 'teacher'\n[short_form]\n", "2 teachers"),
        (
            "[models]\na = 'base'\n[datasets.s]\nmanifest = 'x'\nchunk_seconds = 5.0\n[short_form]\n",
            "chunk_seconds: expected 1 to 30 s",
        ),
        ("[models]\na = 'base'\n[speed]\nbatch_sizes = []\n", "batch_sizes: expected numbers"),
    ],
)
def test_a_suite_is_strict(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "suite.toml").write_text(content)
    with pytest.raises(SettingsError) as error:
        read_suite(tmp_path / "suite.toml")
    assert message in str(error.value)


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models on the command line are relative to the working directory, all else to the suite; names stay."""
    (tmp_path / "suites" / "noise").mkdir(parents=True)
    for name in ("student", "de", "clean"):  # folders with the names of other things
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
    noise = suite.measurements["noise"]
    assert isinstance(noise, Noise) and noise.models == ("student",)
    assert noise.conditions == ("clean", "suites/noise@5", "suites/noise@3", "white@10")
    models = read_suite(path, ("base", "mine")).models
    assert (models["teacher"].model, models["student"].model) == ("base", str(tmp_path / "mine"))


def test_recorded_noises_of_the_same_name_have_distinct_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for index, name in enumerate(("cafe/noise.wav", "street/noise.wav", "bus.wav", "white.wav")):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, sound * (index + 1), 16_000)
    names = ["cafe/noise.wav@5", "street/noise.wav@5", "bus.wav@5", "white.wav@5", "white@5", "clean"]
    conditions = parse_conditions(names)
    assert [condition_labels(conditions)[condition] for condition in conditions] == [
        "cafe/noise.wav@5",
        "street/noise.wav@5",
        "bus@5",
        "white.wav@5",
        "white@5",
        "clean",
    ]
    assert len({condition.noise_recordings_sha256() for condition in conditions[:4]}) == 4
    assert conditions[4].noise_recordings_sha256() == "" == conditions[5].noise_recordings_sha256()


def test_a_dataset_is_long_form_if_most_utterances_are(small_corpus: Path) -> None:
    """One prompt over 30 s does not make a dataset of prompts long-form."""
    utterance = read_corpus(str(small_corpus)).utterances[0]

    def dataset(*seconds: float) -> EvalDataset:
        utterances = [
            replace(utterance, id=str(index), audio=replace(utterance.audio, duration=duration))
            for index, duration in enumerate(seconds)
        ]
        return EvalDataset("s", DatasetSpec("m"), tuple(utterances), Scoring("basic", "word"), "", "en")

    prompts, talks = dataset(5, 31, 30, 4), dataset(5, 31, 40)
    assert not prompts.is_long_form and [short.audio.duration for short in prompts.short_utterances] == [5, 30, 4]
    assert talks.is_long_form and len(talks.short_utterances) == 1


def test_an_external_engine_gets_utterances_over_30_s_as_long_form(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []

    class Engine:
        name, version, dtype, device = "faster-whisper", "1", "float32", "cpu"
        description = SimpleNamespace(sha256="", dims=SimpleNamespace(encoder_layers=1, decoder_layers=1))

        def transcribe(self, waveforms: list[Any], languages: list[Any], *, long_form: bool) -> list[str]:
            calls.append((len(waveforms), long_form))
            return ["words"] * len(waveforms)

    monkeypatch.setattr(systems, "load_engine", lambda *args, **options: Engine())
    short = read_corpus(str(small_corpus)).utterances[0]
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 16_000, np.float32), 16_000)
    long = replace(
        short, id="long", audio=replace(short.audio, path=str(tmp_path / "long.wav"), start=0.0, duration=31.0)
    )
    system = systems.ExternalSystem("peer", "m", "", "faster-whisper", "cpu", "auto", tmp_path)
    hypotheses = system.transcribe_dataset(
        [short, long], systems.DecodeMode(), EncoderCache(shared=False), None, lambda seconds: None
    )
    assert calls == [(1, False), (1, True)] and set(hypotheses.texts) == {short.id, "long"}
    calls.clear()
    system.transcribe_dataset(
        [short, long], systems.DecodeMode("sequential"), EncoderCache(shared=False), None, lambda seconds: None
    )
    assert calls == [(2, True)]


def test_speculative_comparison_skips_unreadable_files(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    teacher = systems.WhisperstillSystem("t", str(small_teacher), "teacher", "cpu", torch.float32, False)
    student = systems.WhisperstillSystem("s", str(small_student), "student", "cpu", torch.float32, False)
    readable, unreadable = read_corpus(str(small_corpus)).utterances[:2]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = replace(unreadable, audio=replace(unreadable.audio, path=str(tmp_path / "broken.wav")))
    comparison = compare_speculative(teacher.model, teacher.build_model(student.checkpoint), [readable, broken], 2)
    assert (comparison.result.utterances, comparison.result.identical) == (1, 1)
    assert list(comparison.skipped) == [f"{broken.corpus}/{broken.id}"]


def test_a_trace_equals_decoding_with_a_fixed_block_size(
    small_teacher: Path, small_student: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teacher passes and proposals are those of decoding in blocks of this size."""
    teacher = systems.WhisperstillSystem("t", str(small_teacher), "teacher", "cpu", torch.float32, False)
    student = systems.WhisperstillSystem("s", str(small_student), "student", "cpu", torch.float32, False)
    proposals: list[list[int]] = []
    propose = DraftModel.propose

    def record_proposals(self: DraftModel, state: DecodeState, count: int) -> torch.Tensor:
        proposals.append(propose(self, state, count)[0].tolist())
        return torch.tensor(proposals[-1:])

    monkeypatch.setattr(DraftModel, "propose", record_proposals)
    monkeypatch.setattr(whisper_model, "BLOCK_SIZES", (4,))
    only_first: tuple[int, ...] = ()
    for _ in range(2):
        proposals.clear()
        assisted = teacher.build_model(student.checkpoint)
        assisted.generation_config = replace(assisted.generation_config, begin_suppress_tokens=only_first)
        trace = trace_draft(assisted, read_corpus(str(small_corpus)).utterances[0], "set", 4)
        decoding, tracing = proposals[: len(proposals) // 2], proposals[len(proposals) // 2 :]
        assert trace.teacher_passes == len(decoding) == len(tracing) > 1
        assert decoding == tracing
        assert [token.kind for token in trace.tokens].count("corrected") > 0
        only_first = tuple(proposed[0] for proposed in decoding[1:])  # suppressed at the beginning only


def test_int8_weights_count_one_byte(small_teacher: Path) -> None:
    """An int8 network stores linear layers in a quarter of the bytes, the rest in full."""
    network = systems.WhisperstillSystem("t", str(small_teacher), "", "cpu", torch.float32, False).model.network
    linear = sum(module.weight.numel() for module in network.modules() if isinstance(module, torch.nn.Linear))
    float_mib = weights_mib(network)
    small = weights_mib(
        systems.WhisperstillSystem("t", str(small_teacher), "", "cpu", torch.float32, False, True).model.network
    )
    assert linear and float_mib - 4.2 * linear / 2**20 < small < float_mib - 2.5 * linear / 2**20


@pytest.mark.parametrize("name", ["quick.toml", "paper.toml"])
def test_the_projects_suites_are_valid(root: Path, name: str) -> None:
    suite = read_suite(root / "suites" / name)
    assert suite.teacher == "teacher" and suite.students == ("student",)
    noise = suite.measurements["noise"]
    assert "short_form" in suite.measurements and isinstance(noise, Noise)
    conditions = [condition for condition in noise.conditions if "/" not in condition]
    assert len(parse_conditions(conditions)) >= len(conditions)


def test_encoder_states_are_shared_within_one_dtype(
    settings: EvaluateSettings, small_teacher: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached states are shared by models with the same encoder and compute type only."""
    ones = read_corpus(str(small_corpus)).utterances[:1]
    encoder_cache, encoded = EncoderCache(shared=True), list[str]()
    for name, int8 in (("a", False), ("b", False), ("c", True)):
        own = systems.WhisperstillSystem(name, str(small_teacher), "", "cpu", torch.float32, False, int8)
        encode = own.model.encode
        monkeypatch.setattr(own.model, "encode", lambda x, e=encode, n=name: encoded.append(n) or e(x))
        own.transcribe_dataset(ones, systems.DecodeMode(), encoder_cache, None, lambda seconds: None)
    assert encoded == ["a", "c"]


def test_the_smaller_limit_applies(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text(suite.read_text().split("[non_speech]")[0])
    evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out", limit=2), NullConsole())
    assert {dataset.name: dataset.utterances for dataset in read_eval_results(tmp_path / "out").datasets}["read"] == 2


def test_a_suite_excludes_manifests(settings: EvaluateSettings) -> None:
    with pytest.raises(SettingsError, match="names its own datasets"):
        evaluate.run(replace(settings, manifest=("x",)), NullConsole())
    with pytest.raises(SettingsError, match="manifest must name at least one dataset; output must name a folder"):
        evaluate.run(EvaluateSettings(model=("base",)), NullConsole())


def test_even_samples_and_clips(small_corpus: Path) -> None:
    utterances = read_corpus(str(small_corpus)).utterances
    assert [utterance.id for utterance in sample_evenly(utterances, 4)] == ["u00", "u03", "u07", "u10"]
    assert sample_evenly(utterances, 99) == list(utterances)
    clips = split_into_clips(utterances[4], 3.0)  # 7 s
    assert [(clip.audio.start, clip.audio.duration) for clip in clips] == [(0.0, 3.0), (3.0, 3.0)]
    assert len({clip.id for clip in clips}) == 2 and split_into_clips(utterances[0], 30.0) == [utterances[0]]
    long = replace(utterances[0], audio=replace(utterances[0].audio, start=1.0, duration=70.0))
    assert [(utterance.audio.start, utterance.audio.duration) for utterance in split_into_clips(long, None)] == [
        (1.0 + index * 70 / 3, 70 / 3) for index in range(3)
    ]
    assert split_into_clips(utterances[0], None) == [utterances[0]]


def test_error_examples_need_outputs(settings: EvaluateSettings, suite: Path, tmp_path: Path) -> None:
    few = suite.read_text().split("[short_form]")[0] + "[error_examples]\n"
    (tmp_path / "few.toml").write_text(few)
    with pytest.raises(SettingsError, match=r"error examples: expected outputs of \[short_form\] or"):
        evaluate.run(replace(settings, suite=tmp_path / "few.toml", output=tmp_path / "out"), NullConsole())
