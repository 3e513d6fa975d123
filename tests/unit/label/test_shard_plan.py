"""Planning shards: order, names, hashes, and what is left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.errors import CorpusError
from whisperstill.label.settings import LabelSettings
from whisperstill.label.shard_plan import ShardPlan, plan_shards
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_size(51864)


@pytest.fixture
def settings(small_corpus: Path, tmp_path: Path) -> LabelSettings:
    return LabelSettings("unused", (str(small_corpus),), tmp_path / "labels", packing_variants=2, shard_windows=2)


def test_every_utterance_is_planned_once_per_variant(settings: LabelSettings) -> None:
    plan = plan_shards(settings, VOCABULARY)
    assert [shard.name for shard in plan.shards] == [f"{index:05d}" for index in range(len(plan.shards))]
    assert all(len(shard.windows) <= settings.shard_windows for shard in plan.shards)
    windows = [window for shard in plan.shards for window in shard.windows]
    assert plan.num_windows == len(windows) and plan.hours == sum(window.duration for window in windows) / 3600
    first = [utterance.id for window in windows if window.packing_variant == 0 for utterance in window.utterances]
    assert sorted(first) == [f"u{index:02d}" for index in range(14)]
    assert len({window.utterances for window in windows}) == len(windows), "a repeated window adds nothing"
    assert plan_shards(settings, VOCABULARY) == plan


def test_more_variants_keep_the_shards_before_them(settings: LabelSettings) -> None:
    def hashes(plan: ShardPlan) -> list[str]:
        return [shard.windows_hash for shard in plan.shards]

    shorter = hashes(plan_shards(replace(settings, packing_variants=1), VOCABULARY))
    assert hashes(plan_shards(settings, VOCABULARY))[: len(shorter)] == shorter
    reshuffled = hashes(plan_shards(replace(settings, seed=1), VOCABULARY))
    assert reshuffled[: len(shorter)] == shorter and reshuffled != hashes(plan_shards(settings, VOCABULARY))


def test_the_hash_includes_transcripts_only_if_they_are_the_labels(settings: LabelSettings) -> None:
    manifest = Path(settings.manifest[0]).with_name("other_text.jsonl")
    manifest.write_text(Path(settings.manifest[0]).read_text().replace("alpha", "omega"))
    named = replace(settings, manifest=(str(manifest),))
    for source, equal in (("teacher", True), ("reference", False)):
        hashes = []
        for text in ("alpha", "omega"):
            manifest.write_text(manifest.read_text().replace("alpha", text).replace("omega", text))
            plan = plan_shards(replace(named, label_source=source), VOCABULARY)
            hashes.append([shard.windows_hash for shard in plan.shards])
        assert (hashes[0] == hashes[1]) is equal


def test_unsupported_languages_are_left_out(settings: LabelSettings) -> None:
    with pytest.raises(CorpusError, match=r"none is left: .*language de is not supported by the teacher"):
        manifest = Path(settings.manifest[0]).with_name("german.jsonl")
        manifest.write_text(Path(settings.manifest[0]).read_text().replace('"en"', '"de"'))
        plan_shards(replace(settings, manifest=(str(manifest),)), VOCABULARY)
