"""A package registers a corpus reader, a filter rule, a loss and a tracker by entry points."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from whisperstill import plugins
from whisperstill.corpus import read_corpus
from whisperstill.distill.divergence import divergence
from whisperstill.distill.settings import DIVERGENCES
from whisperstill.distill.trainer import TrackerFactory
from whisperstill.errors import SettingsError
from whisperstill.label.filter_rules import RULES, active_rules

MODULE = """
from whisperstill.corpus import jsonl
from whisperstill.corpus.reading import Layout


def can_read(path):
    return path.suffix == ".mine"


def read_entries(path):
    return jsonl.read_entries(path)


mine = Layout(can_read, read_entries)


def too_short(quality, settings):
    return float(len(quality.text)) if len(quality.text) < 3 else None


def half_tv(log_p, log_q, p, q):
    difference = q - p
    return difference.abs().sum(-1) / 4, q * difference.sign() / 4


class Tracker:
    def __init__(self, output, resume_step):
        self.path = output / "tracked.txt"

    def log(self, step, values):
        self.path.write_text(f"{step}")

    def close(self):
        pass
"""
ENTRY_POINTS = """
[whisperstill.corpus_readers]
mine = my_extension:mine
[whisperstill.filter_rules]
too_short = my_extension:too_short
[whisperstill.losses]
half-tv = my_extension:half_tv
[whisperstill.trackers]
file = my_extension:Tracker
"""


def install(folder: Path, entry_points: str) -> None:
    """A package as pip installs it: a module, and its metadata."""
    (folder / "my_extension.py").write_text(MODULE)
    metadata = folder / "my_extension-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-extension\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    install(tmp_path, ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._load_group.cache_clear()
    yield tmp_path
    plugins._load_group.cache_clear()
    sys.modules.pop("my_extension", None)


def test_without_extensions_nothing_is_registered() -> None:
    assert plugins.PluginGroup("filter_rules").load() == {}
    assert active_rules() == RULES


def test_a_registered_corpus_reader_is_detected(extension: Path, speech: Path) -> None:
    manifest = speech / "librispeech-mini-val" / "manifest.jsonl"
    line = manifest.read_text().splitlines()[0]
    (extension / "corpus.mine").write_text(line.replace('"audio": "', f'"audio": "{manifest.parent}/') + "\n")
    assert len(read_corpus(extension / "corpus.mine").utterances) == 1
    assert len(read_corpus(extension / "corpus.mine", layout="mine").utterances) == 1


def test_a_registered_filter_rule_runs_before_the_word_error_rate(extension: Path) -> None:
    names = [name for name, _ in active_rules()]
    assert names[-2:] == ["too_short", "wer"]


def test_a_registered_loss_is_a_divergence(extension: Path) -> None:
    log_p, log_q = torch.randn(2, 3, 5, dtype=torch.float64).log_softmax(-1)
    value, gradient = divergence("half-tv", log_p, log_q)
    expected, expected_gradient = divergence("tv", log_p, log_q)
    torch.testing.assert_close(value, expected / 2, rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected_gradient / 2, rtol=0, atol=0)
    assert "half-tv" not in DIVERGENCES and plugins.registered_names("losses") == ["half-tv"]


def test_a_registered_tracker_receives_metrics(extension: Path, tmp_path: Path) -> None:
    tracker = plugins.PluginGroup[TrackerFactory]("trackers").load()["file"](tmp_path, 0)
    tracker.log(3, {"loss": 1.0})
    assert (tmp_path / "tracked.txt").read_text() == "3"


def test_a_broken_extension_is_named(extension: Path) -> None:
    install(extension, "[whisperstill.filter_rules]\nbroken = my_extension:missing\n")
    with pytest.raises(SettingsError, match="cannot load my_extension:missing, which registers 'broken'"):
        active_rules()
