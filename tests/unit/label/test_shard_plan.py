"""Planning shards: order, names, hashes, and what is left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from whisperstill.errors import CorpusError
from whisperstill.label.settings import LabelSettings
from whisperstill.label.shard_plan import ShardSpec, plan_shards
from whisperstill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_size(51864)


@pytest.fixture
def settings(small_corpus: Path, tmp_path: Path) -> LabelSettings:
    return LabelSettings("unused", (str(small_corpus),), tmp_path / "labels", packing_variants=2, shard_windows=2)


def test_every_utterance_is_planned_once_per_variant(settings: LabelSettings) -> None:
    shards, skipped = plan_shards(settings, VOCABULARY)
    assert [shard.name for shard in shards] == [f"{index:05d}" for index in range(len(shards))]
    assert [shard for shard in shards if not len(shard.windows) <= settings.shard_windows] == []
    windows = [window for shard in shards for window in shard.windows]
    first = [utterance.id for window in windows if window.packing_variant == 0 for utterance in window.utterances]
    assert sorted(first) == [f"u{index:02d}" for index in range(14)]
    assert len({window.utterances for window in windows}) == len(windows), "a repeated window adds nothing"
    assert plan_shards(settings, VOCABULARY) == (shards, skipped)


def test_more_variants_keep_the_shards_before_them(settings: LabelSettings) -> None:
    def hashes(plan: tuple[list[ShardSpec], object]) -> list[str]:
        return [shard.windows_hash for shard in plan[0]]

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
            shards, _ = plan_shards(replace(named, label_source=source), VOCABULARY)
            hashes.append([shard.windows_hash for shard in shards])
        assert (hashes[0] == hashes[1]) is equal


def test_unsupported_languages_are_left_out(settings: LabelSettings) -> None:
    with pytest.raises(CorpusError, match=r"none is left: .*language de is not supported by the teacher"):
        manifest = Path(settings.manifest[0]).with_name("german.jsonl")
        manifest.write_text(Path(settings.manifest[0]).read_text().replace('"en"', '"de"'))
        plan_shards(replace(settings, manifest=(str(manifest),)), VOCABULARY)
