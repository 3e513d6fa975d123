"""Labelling and training on a small scale: a store that resumes, and training that is the same stored and online."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from whisperstill.atomic_io import file_sha256
from whisperstill.console import NullConsole
from whisperstill.distill import save_student
from whisperstill.distill.metrics import read_metrics
from whisperstill.distill.training_checkpoint import Checkpoints
from whisperstill.distill.validation import Validation
from whisperstill.errors import AudioError, CorpusError, NotFoundError, SettingsError, StoreError, TrainingError
from whisperstill.label.store import Shard, open_labels
from whisperstill.label.store_writer import LabelStoreWriter
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint
from whisperstill.records import EditCounts
from whisperstill.stages import filter as filtering, init, label, train
from whisperstill.stages.filter import FilterSettings
from whisperstill.stages.init import InitSettings
from whisperstill.stages.label import LabelSettings
from whisperstill.stages.train import TrainSettings


@pytest.fixture(scope="module")
def settings(small_teacher: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelSettings:
    return LabelSettings(
        teacher=str(small_teacher),
        manifest=(str(small_corpus),),
        output=tmp_path_factory.mktemp("store") / "labels",
        encoder_states="float32",
        batch_size=2,
        shard_windows=2,
        max_new_tokens=12,
        top_k=8,
    )


@pytest.fixture(scope="module")
def labels(settings: LabelSettings) -> Path:
    label.run(settings, NullConsole())
    return settings.output


@pytest.fixture
def training(small_student: Path, labels: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        student=small_student,
        labels=labels,
        output=tmp_path / "trained",
        num_train_epochs=3,
        batch_size=2,
        warmup_steps=1,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=2,
        teacher_targets="hidden",
    )


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl") if "loss" in line]


def hashes(directory: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted(directory.iterdir()) if path.name != "report.json"}


def test_every_window_is_labelled_once(settings: LabelSettings, labels: Path) -> None:
    report = label.run(settings, NullConsole())
    assert report.encoder_windows == 0
    assert report.resumed_windows == report.windows == sum(shard.num_windows for shard in open_labels(labels).shards)
    fresh = json.loads((labels / "manifest.json").read_text())
    assert sum(shard["num_windows"] for shard in fresh["shards"]) == report.windows


def test_store_holds_topk_states_and_quality_of_every_window(labels: Path) -> None:
    store = open_labels(labels)
    store.verify()
    windows = list(store.read_labels())
    assert sum(len(pseudo_label.quality) for pseudo_label in windows) == 14
    for pseudo_label in windows:
        top, states, hidden = (
            store.read_topk(pseudo_label),
            store.read_encoder_states(pseudo_label),
            store.read_hidden_states(pseudo_label),
        )
        targets = pseudo_label.tokens + ((50257,) if pseudo_label.ended else ())
        assert tuple(top.tokens.tolist()) == targets
        assert top.ids.shape == top.logits.shape == (len(targets), 8)
        assert states.shape == (1500, 32)
        assert hidden.shape == (len(targets), 32)
        assert pseudo_label.quality[0].token_start == 0
        assert pseudo_label.quality[-1].token_end == len(pseudo_label.tokens)
        log_p = top.logits - top.lse1[:, None]
        assert (log_p.exp().sum(-1) <= 1 + 1e-5).all()


def test_parquet_files_are_readable_by_pandas(labels: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(labels / "labels-00000.parquet")
    assert list(frame.quality[0][0]["utterance"])[:2] == ["id", "corpus"]
    top = pandas.read_parquet(labels / "topk-00000.parquet")
    assert len(top.top_ids[0]) == top.k[0] * len(top.tokens[0])


def test_interrupted_labelling_gives_the_same_store(settings: LabelSettings, labels: Path, tmp_path: Path) -> None:
    """Stopped after each shard in turn, with a partial file left behind."""

    class Stop(Exception):
        pass

    class Interrupts(NullConsole):
        def progress(self, name: str, total: float, unit: str):  # type: ignore[no-untyped-def]
            shards = 0

            class Bar:
                def __enter__(self) -> "Bar":
                    return self

                def __exit__(self, *_: object) -> None:
                    pass

                def advance(self, amount: float, **fields: str) -> None:
                    nonlocal shards
                    shards += 1
                    if shards == 2:
                        raise Stop

            return Bar()

    again = replace(settings, output=tmp_path / "labels")
    for _ in range(10):
        try:
            label.run(again, Interrupts())
            break
        except Stop:
            (again.output / ".states-00009.safetensors.part").write_bytes(b"half")
    assert hashes(again.output) == hashes(labels)


def test_store_of_other_settings_is_refused(settings: LabelSettings, labels: Path) -> None:
    with pytest.raises(StoreError, match="other settings"):
        label.run(replace(settings, top_k=4), NullConsole())


def test_changed_transcripts_invalidate_only_reference_labels(
    settings: LabelSettings, small_corpus: Path, tmp_path: Path
) -> None:
    """With label_source reference another transcript makes another store; with teacher it does not matter."""
    rows = [json.loads(line) for line in small_corpus.read_text().splitlines()[:2]]
    manifest = tmp_path / "manifest.jsonl"

    def write(text: str) -> None:
        lines = [{**row, "audio": str(small_corpus.parent / row["audio"]), "text": text} for row in rows]
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))

    for source in ("reference", "teacher"):
        changed = replace(
            settings, manifest=(str(manifest),), output=tmp_path / source, label_source=source, language="en"
        )
        write("a word")
        assert label.run(changed, NullConsole()).encoder_windows > 0
        write("an other")
        if source == "reference":
            with pytest.raises(StoreError):
                label.run(changed, NullConsole())
        else:
            assert label.run(changed, NullConsole()).encoder_windows == 0


def test_larger_corpus_labels_only_new_windows(
    settings: LabelSettings, labels: Path, tmp_path: Path, small_corpus: Path
) -> None:
    directory = tmp_path / "labels"
    shutil.copytree(labels, directory)
    report = label.run(replace(settings, output=directory, packing_variants=2), NullConsole())
    assert report.encoder_windows == report.windows - report.resumed_windows > 0
    assert {pseudo_label.window.packing_variant for pseudo_label in open_labels(directory).read_labels()} == {0, 1}


def test_unreadable_audio_is_skipped_and_listed(
    settings: LabelSettings, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not audio, an empty one, and one that fails only when it is decoded."""
    from whisperstill.corpus import loading
    from whisperstill.errors import AudioError

    corpus = tmp_path / "corpus"
    shutil.copytree(small_corpus.parent, corpus)
    (corpus / "03.wav").write_bytes(b"not audio at all")
    (corpus / "13.wav").write_bytes(b"")
    original = loading.load_audio

    def breaks(path: str, start: float, duration: float) -> object:
        if path.endswith("05.wav"):
            raise AudioError("broken in the middle")
        return original(path, start, duration)

    monkeypatch.setattr(loading, "load_audio", breaks)
    report = label.run(
        replace(settings, manifest=(str(corpus / "manifest.jsonl"),), output=tmp_path / "labels"), NullConsole()
    )
    assert len(report.problems) == 3
    assert any("broken in the middle" in problem.reason for problem in report.problems)
    ids = [
        quality.utterance.id
        for pseudo_label in open_labels(tmp_path / "labels").read_labels()
        for quality in pseudo_label.quality
    ]
    assert sorted(ids) == sorted(f"u{index:02d}" for index in range(14) if index not in (3, 5, 13))
    assert len((tmp_path / "labels" / "skipped.jsonl").read_text().splitlines()) == 3


def test_stored_targets_give_the_losses_of_online_targets(
    training: TrainSettings, small_teacher: Path, tmp_path: Path
) -> None:
    """With stored states and hidden states the encoder does not run at all."""
    stored = train.run(training, NullConsole())
    live = train.run(
        replace(
            training,
            output=tmp_path / "live",
            teacher_targets="online",
            encoder_states="online",
            teacher=str(small_teacher),
        ),
        NullConsole(),
    )
    assert stored.encoder_windows == 0
    assert live.encoder_windows == live.windows * 3
    assert losses(tmp_path / "live") == pytest.approx(losses(training.output), rel=1e-4)
    assert losses(training.output)[-1] < losses(training.output)[0]


def test_stored_hidden_states_use_the_teachers_embedding(
    training: TrainSettings, small_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student whose embedding was trained before is trained again: the teacher's embedding is loaded."""
    first = replace(training, output=tmp_path / "first", learning_rate=0.1)
    train.run(first, NullConsole())
    again = replace(training, student=first.output, output=tmp_path / "again")
    train.run(again, NullConsole())
    train.run(
        replace(again, output=tmp_path / "live", teacher_targets="online", teacher=str(small_teacher)), NullConsole()
    )
    assert losses(again.output)[0] == pytest.approx(losses(tmp_path / "live")[0], rel=1e-4)
    with pytest.raises(NotFoundError):
        train.run(replace(again, output=tmp_path / "gone", teacher=str(tmp_path / "gone")), NullConsole())
    # the same for a student of that student: the labels are not its teacher's
    init.run(InitSettings(str(first.output), tmp_path / "second", decoder_layers=1), NullConsole())
    second = replace(training, student=tmp_path / "second", output=tmp_path / "second-hidden")
    train.run(second, NullConsole())
    train.run(
        replace(second, output=tmp_path / "second-live", teacher_targets="online", teacher=str(small_teacher)),
        NullConsole(),
    )
    assert losses(second.output)[0] == pytest.approx(losses(tmp_path / "second-live")[0], rel=1e-4)
    # negative control: the student's embedding in place of the teacher's
    monkeypatch.setattr(Checkpoint, "embedding_sha256", load_checkpoint(str(small_teacher)).embedding_sha256)
    train.run(replace(again, output=tmp_path / "own"), NullConsole())
    assert losses(tmp_path / "own")[0] != pytest.approx(losses(again.output)[0], rel=5e-4)


def test_bfloat16_states_change_losses_by_less_than_a_thousandth(
    training: TrainSettings, settings: LabelSettings, tmp_path: Path
) -> None:
    loss_curves = []
    for states in ("float32", "bfloat16"):  # computing in bfloat16 would round both alike
        labelling = replace(settings, encoder_states=states, dtype="float32", output=tmp_path / states)
        label.run(labelling, NullConsole())
        trained = replace(training, labels=labelling.output, dtype="float32", output=tmp_path / f"trained-{states}")
        train.run(trained, NullConsole())
        loss_curves.append(losses(trained.output))
    assert loss_curves[1] == pytest.approx(loss_curves[0], rel=1e-3)
    assert loss_curves[1] != loss_curves[0]


def test_packing_variants_select_windows(training: TrainSettings, settings: LabelSettings, tmp_path: Path) -> None:
    packed = replace(settings, packing_variants=2, min_packed_seconds=5.0, output=tmp_path / "packed")
    report = label.run(packed, NullConsole())
    short = replace(training, labels=packed.output, max_steps=1)
    everything = train.run(replace(short, output=tmp_path / "all"), NullConsole())
    first = train.run(replace(short, packing_variants=1, output=tmp_path / "first"), NullConsole())
    assert first.windows < everything.windows == report.windows
    with pytest.raises(SettingsError, match="packing_variants must be at least 1"):
        train.run(replace(short, packing_variants=0), NullConsole())
    with pytest.raises(SettingsError, match="min_packed_seconds must be"):
        label.run(replace(packed, min_packed_seconds=31.0), NullConsole())


def test_topk_kl_is_below_the_full_kl(training: TrainSettings, tmp_path: Path) -> None:
    train.run(training, NullConsole())
    train.run(replace(training, teacher_targets="topk", output=tmp_path / "top"), NullConsole())
    full = [line["kl"] for line in read_metrics(training.output / "metrics.jsonl") if "kl" in line]
    bound = [line["kl"] for line in read_metrics(tmp_path / "top" / "metrics.jsonl") if "kl" in line]
    assert bound[0] < full[0]


def test_kl_of_the_teacher_itself_is_zero_with_prompts(
    training: TrainSettings, small_teacher: Path, labels: Path, tmp_path: Path
) -> None:
    """Teacher and student decode the same batch, prompts included."""
    from whisperstill.stages import init

    copy = tmp_path / "same"
    init.run(init.InitSettings(teacher=str(small_teacher), output=copy, decoder_layers=3), NullConsole())
    train.run(
        replace(
            training,
            student=copy,
            teacher_targets="online",
            teacher=str(small_teacher),
            ce_weight=0.0,
            condition_on_prev_probability=1.0,
            learning_rate=1e-12,
            num_train_epochs=1,
        ),
        NullConsole(),
    )
    for line in read_metrics(training.output / "metrics.jsonl"):
        assert abs(line["kl"]) < 1e-5


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop a run after `after` steps, as SIGTERM does."""
    from whisperstill.distill.trainer import Trainer

    original = Trainer.run

    def run(self: Trainer, stop: Callable[[], bool], *rest: object) -> object:
        steps = iter(range(1, 1000))
        return original(self, lambda: next(steps) >= after, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", run)


@pytest.mark.parametrize("after", [1, 2, 5])
def test_resumed_training_ends_with_the_same_bits(
    training: TrainSettings, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_settings = {"dropout": 0.1, "decoder_input_noise": 0.1, "encoder_mask_prob": 0.1, "ema_decay": 0.9}
    undisturbed = replace(training, **random_settings, batch_size=2, micro_batch_size=1)
    train.run(undisturbed, NullConsole())
    parts = replace(undisturbed, output=tmp_path / "parts")
    with monkeypatch.context() as patch:
        stopping(patch, after)
        assert not train.run(parts, NullConsole()).finished
    report = train.run(parts, NullConsole())
    assert report.finished and report.resumed_from == after
    assert file_sha256(parts.output / "model.safetensors") == file_sha256(undisturbed.output / "model.safetensors")
    assert (parts.output / "metrics.jsonl").read_text() == (undisturbed.output / "metrics.jsonl").read_text()
    # negative control: another seed gives other bits
    train.run(replace(undisturbed, output=tmp_path / "seed", seed=1), NullConsole())
    assert file_sha256(tmp_path / "seed" / "model.safetensors") != file_sha256(undisturbed.output / "model.safetensors")


def test_best_weights_of_a_killed_run_are_validated_again(
    training: TrainSettings, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 was best and saved, then the run was killed before its checkpoint; validated again, it is not the best."""
    settings = replace(
        training, lr_scheduler_type="constant", validation=(str(small_corpus),), eval_steps=1, max_steps=5
    )
    edit_counts = [30, 20, 10, 25, 40, 50]
    monkeypatch.setattr(Validation, "compute_edits", lambda self: EditCounts(100, edit_counts.pop(0), 0, 0))

    class Killed(Exception):
        pass

    save_best = Checkpoints.save_best

    def save_and_kill(self: Checkpoints, step: int) -> None:
        save_best(self, step)
        if step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_best", save_and_kill)
        with pytest.raises(Killed):
            train.run(settings, NullConsole())
    assert (settings.output / "checkpoints" / "best-00000003.safetensors").exists()
    report = train.run(settings, NullConsole())
    assert (report.resumed_from, report.best_step, round(report.best_wer or 0)) == (2, 2, 17)
    two = replace(settings, output=tmp_path / "two", validation=(), max_steps=2)
    train.run(two, NullConsole())
    assert file_sha256(settings.output / "model.safetensors") == file_sha256(two.output / "model.safetensors")
    assert [path.name for path in (settings.output / "checkpoints").glob("best-*")] == ["best-00000002.safetensors"]
    (settings.output / "checkpoints" / "best-00000002.safetensors").unlink()
    with pytest.raises(StoreError, match=r"best weights .* cannot be read"):
        train.run(settings, NullConsole())
    with pytest.raises(StoreError, match="validation_sha256 was"):
        train.run(replace(settings, validation_limit=2), NullConsole())


def test_result_is_the_moving_average(training: TrainSettings, small_corpus: Path, tmp_path: Path) -> None:
    """Compared with an average of the weights after each step; validation in between changes nothing."""
    runs = []
    for steps in (0, 1, 2, 3):
        if steps:
            train.run(
                replace(training, output=tmp_path / f"{steps}", max_steps=steps, lr_scheduler_type="constant"),
                NullConsole(),
            )
        folder = tmp_path / f"{steps}" if steps else training.student
        runs.append(load_file(folder / "model.safetensors"))
    averaged = replace(training, output=tmp_path / "average", max_steps=3, lr_scheduler_type="constant", ema_decay=0.25)
    train.run(replace(averaged, validation=(str(small_corpus),), validation_limit=1, eval_steps=1), NullConsole())
    average = load_file(averaged.output / "last" / "model.safetensors")
    trained = [name for name in average if not torch.equal(runs[0][name], runs[3][name])]
    assert len(trained) > 10
    for name in trained:
        expected = runs[0][name]
        for step, weights in enumerate(runs[1:], 1):
            expected = torch.lerp(expected, weights[name], 1 - min(0.25, step / (step + 9)))
        torch.testing.assert_close(average[name], expected, rtol=1e-5, atol=1e-6)
    assert not any(torch.allclose(average[name], runs[3][name], atol=1e-6) for name in trained)


def test_finished_training_is_not_repeated(training: TrainSettings) -> None:
    first = train.run(training, NullConsole())
    before = file_sha256(training.output / "model.safetensors")
    again = train.run(training, NullConsole())
    assert again.resumed_from == again.steps == first.steps
    assert file_sha256(training.output / "model.safetensors") == before


def test_training_with_other_settings_is_not_resumed(training: TrainSettings) -> None:
    train.run(training, NullConsole())
    with pytest.raises(StoreError, match=r"learning_rate was 0\.001, is 0\.01"):
        train.run(replace(training, learning_rate=1e-2), NullConsole())


def test_training_with_other_filter_decisions_is_not_resumed(training: TrainSettings, tmp_path: Path) -> None:
    """As many windows, but other weights of the filter in the same directory."""
    rules = {"max_wer": None, "min_logprob": None, "max_tokens_per_second": None, "max_compression_ratio": None}
    rules |= {"max_ngram_repeats": None, "drop_empty": False, "drop_all_caps": False}
    filter_settings = FilterSettings(labels=training.labels, output=tmp_path / "filtered", **rules)
    filtering.run(filter_settings, NullConsole())
    filtered = replace(training, labels=filter_settings.output, max_steps=2)
    train.run(filtered, NullConsole())
    assert train.run(filtered, NullConsole()).resumed_from == 2
    table = pq.read_table(filter_settings.output / "filter_decisions.parquet")
    lighter = table.set_column(table.column_names.index("weight"), "weight", pa.array([0.5] * len(table)))
    pq.write_table(lighter, filter_settings.output / "filter_decisions.parquet")
    summary = json.loads((filter_settings.output / "filter.json").read_text())
    summary["decisions_sha256"] = file_sha256(filter_settings.output / "filter_decisions.parquet")
    (filter_settings.output / "filter.json").write_text(json.dumps(summary))
    with pytest.raises(StoreError, match="belongs to another run"):
        train.run(filtered, NullConsole())


def test_max_steps_zero_is_refused(training: TrainSettings) -> None:
    with pytest.raises(SettingsError, match="max_steps must be at least 1, got 0"):
        train.run(replace(training, max_steps=0), NullConsole())


def test_damaged_checkpoint_falls_back_to_the_previous_one(training: TrainSettings, tmp_path: Path) -> None:
    train.run(training, NullConsole())
    good = file_sha256(training.output / "model.safetensors")
    newest = sorted((training.output / "checkpoints").glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    (training.output / "model.safetensors").unlink()
    (training.output / "whisperstill.json").unlink(missing_ok=True)
    report = train.run(training, NullConsole())
    assert report.resumed_from < report.steps
    assert file_sha256(training.output / "model.safetensors") == good


def test_checkpoints_of_an_older_version_are_refused(training: TrainSettings) -> None:
    folder = training.output / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('[{"step": 2, "file": "step-00000002.safetensors", "sha256": "0"}]')
    with pytest.raises(StoreError, match=r"written before 0\.1\.0"):
        train.run(training, NullConsole())


def test_loss_that_is_not_finite_names_the_step_and_can_be_resumed(
    training: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisperstill.distill.encoder_states import StoredStates, WindowStates

    original = StoredStates.load
    calls = iter(range(1000))

    def load(self: StoredStates, *rest: object) -> list[WindowStates]:
        windows = original(self, *rest)  # type: ignore[arg-type]
        return [WindowStates(window.states * torch.nan) for window in windows] if next(calls) == 4 else windows

    monkeypatch.setattr(StoredStates, "load", load)
    with pytest.raises(TrainingError, match="at step 5, batch"):
        train.run(training, NullConsole())
    monkeypatch.undo()
    report = train.run(training, NullConsole())
    assert report.resumed_from == 4 and report.finished


def test_invalid_settings_are_listed_in_one_error(training: TrainSettings) -> None:
    with pytest.raises(
        SettingsError, match="num_train_epochs must be at least 1, got 0; learning_rate must be above 0"
    ):
        train.run(replace(training, num_train_epochs=0, learning_rate=0.0), NullConsole())


def heads_of(output: Path) -> list[list[int]]:
    heads: list[list[int]] = json.loads((output / "generation_config.json").read_text())["alignment_heads"]
    return heads


def test_result_gets_its_own_alignment_heads(training: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[int], list[str]]] = []

    def fake(student: Checkpoint, waveforms: list[np.ndarray], languages: list[str], **_: object) -> Checkpoint:
        calls.append(([len(waveform) for waveform in waveforms], languages))
        return replace(student, generation_config=replace(student.generation_config, alignment_heads=((1, 0), (1, 1))))

    monkeypatch.setattr(save_student, "with_alignment_heads", fake)
    train.run(replace(training, max_steps=1), NullConsole())
    assert heads_of(training.output) == [[1, 0], [1, 1]]
    [(lengths, languages)] = calls
    assert len(lengths) == len(languages) > 1
    assert [length for length in lengths if not 16_000 <= length <= 480_000] == []
    assert max(lengths) < 480_000  # without padding, whose silence would count as a pause


def test_student_is_built_once_if_the_last_step_is_the_best(
    training: TrainSettings, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Checkpoint] = []

    def fake(student: Checkpoint, *_: object, **__: object) -> Checkpoint:
        built.append(student)
        return student

    monkeypatch.setattr(save_student, "with_alignment_heads", fake)
    train.run(replace(training, max_steps=1, validation=(str(small_corpus),)), NullConsole())
    assert len(built) == 1
    last, best = (output / "model.safetensors" for output in (training.output / "last", training.output))
    assert last.read_bytes() == best.read_bytes()


def test_alignment_heads_are_unchanged_if_the_audio_is_gone(
    training: TrainSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_: object) -> np.ndarray:
        raise AudioError("no such file")

    monkeypatch.setattr(save_student, "load_window_waveform", gone)
    train.run(replace(training, max_steps=1), NullConsole())
    assert heads_of(training.output) == heads_of(training.student)
    assert "no such file" in caplog.text


def test_reference_labels_can_be_trained_on(
    settings: LabelSettings, training: TrainSettings, small_corpus: Path, tmp_path: Path
) -> None:
    reading = replace(settings, output=tmp_path / "read", label_source="reference", max_new_tokens=200)
    report = label.run(reading, NullConsole())
    assert report.wer is None  # the label is the reference
    for pseudo_label in open_labels(reading.output).read_labels():
        assert pseudo_label.text == " ".join(quality.utterance.text or "" for quality in pseudo_label.quality)
        assert [quality.text for quality in pseudo_label.quality] == [
            quality.utterance.text for quality in pseudo_label.quality
        ]
        assert [
            quality for quality in pseudo_label.quality if not quality.mean_logprob < -5
        ] == []  # random weights give low probabilities
    assert train.run(replace(training, labels=reading.output, max_steps=2), NullConsole()).finished

    lines = [json.loads(line) for line in small_corpus.read_text().splitlines()]
    del lines[0]["text"]
    silent = small_corpus.with_name("silent.jsonl")
    silent.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = label.run(replace(reading, manifest=(str(silent),), output=tmp_path / "less"), NullConsole())
    assert any(
        str(lines[0]["id"]) in problem.source and "no transcript" in problem.reason for problem in report.problems
    )


def test_labelling_under_torchrun_is_refused(
    settings: LabelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="by --workers"):
        label.run(replace(settings, output=tmp_path), NullConsole())


def test_reference_labels_with_timestamps_are_refused(settings: LabelSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="timestamps need label_source teacher"):
        label.run(replace(settings, output=tmp_path, timestamps=True, label_source="reference"), NullConsole())


def test_audio_that_was_missing_is_labelled_later(
    settings: LabelSettings, labels: Path, small_corpus: Path, tmp_path: Path
) -> None:
    """Audio that had to be skipped is tried again by the next run."""
    corpus = tmp_path / small_corpus.parent.name
    shutil.copytree(small_corpus.parent, corpus)
    away = replace(settings, manifest=(str(corpus / small_corpus.name),), output=tmp_path / "labels")
    hidden = corpus / "03.wav"
    hidden.rename(tmp_path / "03.wav")
    with pytest.MonkeyPatch.context() as patch:  # the durations of the manifest are used
        patch.setattr("whisperstill.corpus.reading.has_audio_signature", lambda path: True)
        report = label.run(away, NullConsole())
        assert "u03" in report.problems[0].source
        assert label.run(away, NullConsole()).encoder_windows == 0  # negative control: still missing
        (tmp_path / "03.wav").rename(hidden)
        again = label.run(away, NullConsole())
    assert not again.problems and 0 < again.encoder_windows <= settings.shard_windows
    assert [pseudo_label.tokens for pseudo_label in open_labels(away.output).read_labels()] == [
        pseudo_label.tokens for pseudo_label in open_labels(labels).read_labels()
    ]


def test_utterances_in_unknown_languages_are_skipped(
    settings: LabelSettings, small_corpus: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in small_corpus.read_text().splitlines()]
    lines[2]["language"], lines[5]["language"] = "ga", "und"
    manifest = small_corpus.parent / "irish.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    label_settings = replace(settings, manifest=(str(manifest),), output=tmp_path / "labels")
    report = label.run(label_settings, NullConsole())
    assert [problem.source.split()[-1] for problem in report.problems] == ["u02", "u05"]
    assert "language ga is not supported by the teacher" in report.problems[0].reason
    assert report.windows > 0
    with pytest.raises(CorpusError, match=r"none is left.*ga"):
        manifest.write_text("".join(json.dumps({**line, "language": "ga"}) + "\n" for line in lines))
        label.run(replace(label_settings, output=tmp_path / "none"), NullConsole())


def test_labelling_resumes_with_a_smaller_batch_size(settings: LabelSettings, tmp_path: Path) -> None:
    first = replace(settings, output=tmp_path / "labels")
    with pytest.MonkeyPatch.context() as patch:
        original, shards_before_failure = LabelStoreWriter.add_shard, [1]

        def add(self: LabelStoreWriter, shard: Shard) -> None:
            if not shards_before_failure[0]:
                raise MemoryError
            shards_before_failure[0] -= 1
            original(self, shard)

        patch.setattr(LabelStoreWriter, "add_shard", add)
        with pytest.raises(MemoryError):
            label.run(first, NullConsole())
    report = label.run(replace(first, batch_size=1), NullConsole())
    assert report.resumed_windows == settings.shard_windows < report.windows
    with pytest.raises(StoreError, match=r"top_k 8, now 4"):  # negative control: top_k is part of the identity
        label.run(replace(first, top_k=4), NullConsole())


def test_corpora_in_directories_of_the_same_name_are_distinct(
    settings: LabelSettings, small_corpus: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name / "train" for name in ("podcasts", "calls")]
    for folder, seed in zip(folders, (1, 2), strict=True):
        shutil.copytree(small_corpus.parent, folder)
        sound = np.random.default_rng(seed).normal(0, 0.1, 48_000).astype(np.float32)
        soundfile.write(folder / "00.wav", sound, 16_000)
    label_settings = replace(settings, manifest=tuple(map(str, folders)), output=tmp_path / "labels", shard_windows=8)
    label.run(label_settings, NullConsole())
    qualities = [
        quality for labelled in open_labels(label_settings.output).read_labels() for quality in labelled.quality
    ]
    assert {quality.utterance.corpus for quality in qualities} == {"train", "calls-train"}
    assert len({(quality.utterance.corpus, quality.utterance.id) for quality in qualities}) == len(qualities) == 28
    twice = replace(
        label_settings, manifest=(str(folders[0]), f"{folders[1]}/../../podcasts/train"), output=tmp_path / "twice"
    )
    with pytest.raises(SettingsError, match=r"manifest names .*podcasts/train twice"):
        label.run(twice, NullConsole())


def test_training_without_the_timestamps_of_the_labels_warns(
    training: TrainSettings, settings: LabelSettings, tmp_path: Path
) -> None:
    """The store has no teacher targets without timestamps, so only the pseudo-labels would be trained on."""
    timed = replace(settings, timestamps=True, output=tmp_path / "timed")
    label.run(timed, NullConsole())
    train_settings = replace(training, labels=timed.output, max_steps=1, num_train_epochs=1)
    with pytest.raises(SettingsError, match=r"100% of the windows.*timestamp_probability 1"):
        train.run(train_settings, NullConsole())
    warned: list[str] = []
    console = NullConsole()
    console.warn = warned.append  # type: ignore[method-assign]
    train.run(replace(train_settings, timestamp_probability=0.5), console)
    assert "50% of the windows" in warned[0]
    warned.clear()
    train.run(replace(train_settings, timestamp_probability=1.0, output=tmp_path / "all"), console)
    assert not [line for line in warned if "timestamps" in line]
