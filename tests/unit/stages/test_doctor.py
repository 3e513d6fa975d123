"""Estimates of `doctor`: consistent with each other and with the published FLOPs."""

from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill import TrainSettings
from whisperstill.console import NullConsole
from whisperstill.pipeline.cost_estimate import (
    KNOWN_SIZES,
    MachineSpeed,
    augmentation_seconds,
    cross_attention_flops,
    decode_seconds,
    decoder_token_flops,
    encoder_flops,
    model_size,
    train_seconds,
)
from whisperstill.records.augment_settings import AugmentSettings
from whisperstill.stages.doctor import DoctorSettings, estimate_training, run

SPEEDS = MachineSpeed(flops_per_second=50e9, bytes_per_second=10e9)


@pytest.mark.parametrize(
    ("name", "encoder", "cross", "token", "student_cross", "student_token"),
    [
        ("large-v2", 2273, 315, 1.857, 19.7, 0.241),
        ("small", 344, 42.5, 0.336, 7.1, 0.122),
        ("base", 87.4, 9.4, 0.116, 3.15, 0.074),
        ("tiny", 36.9, 3.5, 0.066, 1.77, 0.053),
    ],
)
def test_flops_of_published_models(
    name: str, encoder: float, cross: float, token: float, student_cross: float, student_token: float
) -> None:
    teacher = KNOWN_SIZES[name]
    student = replace(teacher, decoder_layers=2)
    assert encoder_flops(teacher) / 1e9 == pytest.approx(encoder, rel=0.01)
    assert cross_attention_flops(teacher) / 1e9 == pytest.approx(cross, rel=0.02)
    assert decoder_token_flops(teacher) / 1e9 == pytest.approx(token, rel=0.02)
    assert cross_attention_flops(student) / 1e9 == pytest.approx(student_cross, rel=0.02)
    assert decoder_token_flops(student) / 1e9 == pytest.approx(student_token, rel=0.02)


def test_estimates_grow_with_the_work() -> None:
    base, tiny = KNOWN_SIZES["base"], KNOWN_SIZES["tiny"]
    assert decode_seconds(base, 100, SPEEDS) > decode_seconds(tiny, 100, SPEEDS)
    assert decode_seconds(base, 200, SPEEDS) == pytest.approx(2 * decode_seconds(base, 100, SPEEDS))
    student = replace(base, decoder_layers=2)
    stored = train_seconds(student, 600, 12, SPEEDS, online_encoder=False)
    assert train_seconds(student, 600, 12, SPEEDS, online_encoder=True) > 2 * stored


def test_model_size_from_name_or_config(tmp_path: Path) -> None:
    assert model_size("openai/whisper-tiny.en") == model_size("tiny") == KNOWN_SIZES["tiny"]
    assert model_size("unknown") is None
    (tmp_path / "config.json").write_text(
        '{"num_mel_bins": 80, "vocab_size": 51865, "d_model": 512, "encoder_layers": 6, "decoder_layers": 2}'
    )
    assert model_size(str(tmp_path)) == replace(KNOWN_SIZES["base"], decoder_layers=2)


def test_machine_facts() -> None:
    facts = dict(run(DoctorSettings(), NullConsole()).facts)
    assert int(facts["cores"]) >= 1
    assert {"memory", "disk free here", "CUDA", "bfloat16", "local models"} <= facts.keys()


def test_every_stage_of_a_recipe_is_estimated(speech: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    manifest = speech / "librispeech-mini-val" / "manifest.jsonl"
    recipe.write_text(
        f'[label]\nteacher = "base"\nmanifest = ["{manifest}"]\n[filter]\n[init]\n[train]\n'
        f'[evaluate]\nmanifest = ["{manifest}"]\n'
    )
    report = run(DoctorSettings(recipe), NullConsole())
    assert [estimate.verb for estimate in report.estimates] == ["label", "filter", "init", "train", "evaluate"]
    assert [
        estimate for estimate in report.estimates if not (estimate.seconds is not None and estimate.seconds > 0)
    ] == []
    assert report.total_seconds == pytest.approx(sum(estimate.seconds or 0 for estimate in report.estimates))
    by_verb = {estimate.verb: estimate for estimate in report.estimates}
    recipe.write_text(recipe.read_text().replace("[filter]", '[filter]\ntune = "./r.toml"\ntune_seeds = [0, 1]'))
    tuned = run(DoctorSettings(recipe), NullConsole()).estimates[1]
    assert tuned.reason == "10 pilot trainings" and (tuned.seconds or 0) > (by_verb["filter"].seconds or 0)


def test_augmented_windows_cost_a_pass_of_the_teacher() -> None:
    base = KNOWN_SIZES["base"]
    plain = TrainSettings(student=Path(), labels=Path(), output=Path(), num_train_epochs=6)

    def seconds(augment: AugmentSettings) -> float:
        settings = replace(plain, augment=augment)
        estimate = estimate_training(settings, False, base, replace(base, decoder_layers=2), 600, SPEEDS)
        return estimate.seconds or 0.0

    none = seconds(AugmentSettings())
    augmented = seconds(AugmentSettings(epochs_per_version=3)) - none  # epochs 4 to 6 use augmented windows
    assert augmented == pytest.approx(augmentation_seconds(base, 600, SPEEDS))
    assert seconds(AugmentSettings(epochs_per_version=2, prob=0.5)) - none == pytest.approx(augmented)
    assert seconds(AugmentSettings(epochs_per_version=6)) == none  # the run ends before the first augmented epoch
