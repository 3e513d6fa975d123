"""Steps of the setup, one by one."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from whisperstill.distill import setup
from whisperstill.distill.encoder_states import OnlineStates, StoredStates
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import DistillationSettings
from whisperstill.errors import SettingsError, StoreError
from whisperstill.label.store import LabelStore
from whisperstill.model.checkpoints import Checkpoint
from whisperstill.model.student_init import with_encoder_layers


@pytest.fixture
def settings(small_world: Path, tmp_path: Path) -> DistillationSettings:
    return DistillationSettings(small_world / "student", small_world / "labels", tmp_path / "run")


@pytest.fixture
def labels(small_world: Path) -> LabelStore:
    return setup.open_training_labels(small_world / "labels")[0]


def with_label_settings(labels: LabelStore, **changes: object) -> LabelStore:
    """The same labels, described by other label settings."""
    store = copy.copy(labels)
    store.manifest = {**store.manifest, "settings": {**store.settings, **changes}}  # type: ignore[dict-item]
    return store


def test_unfinished_labels_are_refused(labels: LabelStore, tmp_path: Path) -> None:
    for path in labels.directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["planned_shards"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="are not finished"):
        setup.open_training_labels(tmp_path)


def test_student_with_a_compressed_encoder_has_its_own(
    settings: DistillationSettings, labels: LabelStore, student: Checkpoint
) -> None:
    assert not setup.has_own_encoder(settings, student, labels)
    compressed = with_encoder_layers(student, (0,))
    assert setup.has_own_encoder(settings, compressed, labels)
    for changes in ({"encoder_states": "store"}, {"teacher_targets": "online"}, {"on_policy_fraction": 0.5}):
        with pytest.raises(SettingsError, match="has its own encoder"):
            setup.has_own_encoder(replace(settings, **changes), compressed, labels)  # type: ignore[arg-type]


def test_student_of_another_teacher_is_refused(
    settings: DistillationSettings, labels: LabelStore, student: Checkpoint
) -> None:
    state = {name: 2 * tensor for name, tensor in student.state.items()}
    with pytest.raises(SettingsError, match="does not share its encoder"):
        setup.has_own_encoder(settings, replace(student, state=state, metadata={}), labels)


@pytest.mark.parametrize(
    ("label_settings", "changes", "message"),
    [
        ({"encoder_states": "none"}, {"encoder_states": "store"}, "holds no encoder states"),
        ({"encoder_states": "none"}, {"teacher_targets": "hidden"}, "holds no hidden states"),
        ({"encoder_states": "none"}, {"hidden_loss_weight": 1.0}, "holds no hidden states"),
        ({"top_k": 0}, {}, "holds no top-k"),
    ],
    ids=["encoder states", "hidden targets", "hidden loss", "top-k"],
)
def test_labels_without_what_the_losses_need_are_refused(
    settings: DistillationSettings,
    labels: LabelStore,
    label_settings: dict[str, object],
    changes: dict[str, object],
    message: str,
) -> None:
    setup.check_label_contents(settings, labels)
    with pytest.raises(SettingsError, match=message):
        setup.check_label_contents(replace(settings, **changes), with_label_settings(labels, **label_settings))  # type: ignore[arg-type]


def test_windows_trained_without_the_timestamps_of_the_labels_warn(
    settings: DistillationSettings, labels: LabelStore
) -> None:
    timed, warnings = with_label_settings(labels, timestamps=True), list[str]()
    setup.check_timestamps(replace(settings, timestamp_probability=1.0), timed, warnings.append)
    setup.check_timestamps(replace(settings, teacher_targets="online"), timed, warnings.append)
    setup.check_timestamps(settings, labels, warnings.append)
    assert not warnings
    setup.check_timestamps(replace(settings, timestamp_probability=0.5), timed, warnings.append)
    assert "50% of the windows" in warnings[0]
    with pytest.raises(SettingsError, match="100% of the windows"):
        setup.check_timestamps(settings, timed, warnings.append)


def test_packing_variants_select_examples(labels: LabelStore) -> None:
    everything = setup.select_examples(labels, None, 50257, None)
    first = setup.select_examples(labels, None, 50257, 1)
    assert {example.label.window.packing_variant for example in everything} == {0, 1}
    assert {example.label.window.packing_variant for example in first} == {0}


def test_frozen_parameters_require_no_gradient(settings: DistillationSettings, student: Checkpoint) -> None:
    network = setup.build_student(replace(settings, freeze_embed_tokens=True, dropout=0.1), student, "cpu")
    trainable = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert "decoder.embedding.weight" not in trainable and "decoder.positions" in trainable
    assert not any(name.startswith("encoder.") for name in trainable)
    assert network.decoder.dropout == 0.1


def test_teacher_is_loaded_only_if_it_runs_or_the_embedding_was_trained(
    settings: DistillationSettings, labels: LabelStore, student: Checkpoint, teacher: Checkpoint
) -> None:
    network = setup.build_student(settings, student, "cpu")
    stored = setup.build_teacher(settings, student, network, labels)
    assert stored.network is None
    torch.testing.assert_close(stored.embedding, network.decoder.embedding.weight, rtol=0, atol=0)
    assert stored.embedding.data_ptr() != network.decoder.embedding.weight.data_ptr()  # the student's is trained
    online = setup.build_teacher(replace(settings, teacher_targets="online"), student, network, labels)
    assert online.network is not None
    state = {**student.state, "decoder.embedding.weight": 2 * student.state["decoder.embedding.weight"]}
    trained = replace(student, state=state)
    hidden = setup.build_teacher(replace(settings, teacher_targets="hidden"), trained, network, labels)
    assert hidden.network is None
    torch.testing.assert_close(hidden.embedding, teacher.state["decoder.embedding.weight"], rtol=0, atol=0)
    with pytest.raises(SettingsError, match="did not make the labels"):
        other = replace(settings, teacher_targets="online", teacher=str(settings.student))
        setup.build_teacher(other, student, network, labels)


def test_encoder_states_come_from_the_store_if_it_has_them(
    settings: DistillationSettings, labels: LabelStore, student: Checkpoint
) -> None:
    network = setup.build_student(settings, student, "cpu")

    def source(labels: LabelStore, own_encoder: bool = False, **changes: object) -> object:
        return setup.build_state_source(replace(settings, **changes), labels, network, own_encoder)  # type: ignore[arg-type]

    assert isinstance(source(labels), StoredStates)
    assert isinstance(source(labels, own_encoder=True), OnlineStates)
    assert isinstance(source(labels, encoder_states="online"), OnlineStates)
    assert isinstance(source(with_label_settings(labels, encoder_states="none")), OnlineStates)


def test_layer_losses_need_recorded_layers(settings: DistillationSettings, student: Checkpoint) -> None:
    online = replace(settings, teacher_targets="online", layer_loss_weight=1.0)
    assert setup.recorded_teacher_layers(online, student) == (0, 2)
    metadata = {name: value for name, value in student.metadata.items() if name != "layers"}
    with pytest.raises(SettingsError, match="does not record which of the teacher's layers"):
        setup.recorded_teacher_layers(online, replace(student, metadata=metadata))


def test_identity_ignores_settings_that_do_not_decide_the_weights(
    settings: DistillationSettings, labels: LabelStore, student: Checkpoint
) -> None:
    identity = setup.run_identity(settings, student, labels, None)
    for changes in ({"output": Path("x")}, {"logging_steps": 3}, {"micro_batch_size": 1}, {"device": "cpu"}):
        assert setup.run_identity(replace(settings, **changes), student, labels, None) == identity  # type: ignore[arg-type]
    for changes in ({"seed": 1}, {"kl_weight": 0.5}, {"dropout": 0.1}):
        assert setup.run_identity(replace(settings, **changes), student, labels, None) != identity  # type: ignore[arg-type]


def test_setup_builds_a_trainer(settings: DistillationSettings) -> None:
    trainer, _, examples = setup.build_distillation(replace(settings, max_steps=1), ProcessGroup(), warn=pytest.fail)
    assert trainer.total_steps == 1 and trainer.validation is None
    assert len(examples) > 4
