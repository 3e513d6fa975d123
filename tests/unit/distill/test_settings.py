"""Settings: all problems in one error."""

from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.distill.settings import DistillationSettings
from whisperstill.errors import SettingsError
from whisperstill.records.augment_settings import AugmentSettings

VALID = DistillationSettings(Path("student"), Path("labels"), Path("output"))


def test_defaults_are_valid() -> None:
    VALID.check()


def test_all_problems_are_in_one_error() -> None:
    invalid = replace(VALID, batch_size=0, learning_rate=0.0, dropout=1.0, augment=AugmentSettings(prob=2.0))
    with pytest.raises(SettingsError) as error:
        invalid.check()
    assert str(error.value).split("; ") == [
        "batch_size must be at least 1, got 0",
        "learning_rate must be above 0, got 0.0",
        "dropout must be 0 to below 1, got 1.0",
        "augment.prob must be 0 to 1, got 2.0",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_weight": 0.0, "ce_weight": 0.0}, "at least one of kl_weight"),
        ({"layer_loss_weight": 1.0}, "need --teacher-targets online"),
        ({"augment": AugmentSettings(epochs_per_version=1)}, "augmented windows have no stored top-k"),
        ({"on_policy_fraction": 0.5, "kl_weight": 0.0}, "on_policy_fraction needs"),
        ({"temperature": 3.0}, "temperature must be 1 or 2 with stored top-k"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1"),
        ({"augment": AugmentSettings(min_snr_db=40.0)}, "must be at most max_snr_db"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_settings_that_exclude_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(VALID, **changes).check()  # type: ignore[arg-type]


def test_teacher_runs_for_online_targets_augmentation_and_on_policy_steps() -> None:
    assert not VALID.needs_online_teacher
    for changes in (
        {"teacher_targets": "online"},
        {"augment": AugmentSettings(epochs_per_version=1)},
        {"on_policy_fraction": 0.1},
    ):
        assert replace(VALID, **changes).needs_online_teacher  # type: ignore[arg-type]
