"""A filter rule of your own: drop pseudo-labels of fewer than two words.

    python examples/custom_filter_rule.py labels filtered

Here the rule is added for one run. To make it a part of every run, register it as an entry point
(docs/extending.md).
"""

import sys
from pathlib import Path

import whisperstill as ws
from whisperstill import plugins
from whisperstill.label.filter_rules import RuleSettings
from whisperstill.records import LabelQuality


def too_few_words(quality: LabelQuality, settings: RuleSettings) -> float | None:
    """Drops transcripts of one word. Measures the number of words."""
    words = len(quality.text.split())
    return float(words) if words < 2 else None


if __name__ == "__main__":
    labels, output = map(Path, sys.argv[1:3])
    plugins.registered("filter_rules")["too_few_words"] = too_few_words
    report = ws.filter(ws.FilterSettings(labels=labels, output=output))
    sys.stdout.write(f"kept {report.kept} of {report.utterances} utterances; dropped: {report.dropped}\n")
