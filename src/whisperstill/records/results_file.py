"""Reads and writes `results.json`, the file of an `EvalResults`."""

import json
from dataclasses import asdict
from pathlib import Path

from whisperstill.errors import NotFoundError, SettingsError
from whisperstill.records.eval_results import FORMAT_VERSION, EvalResults
from whisperstill.records.serialization import from_dict, write_json

RESULTS_FILE = "results.json"


def write_eval_results(results: EvalResults, folder: Path) -> None:
    """Writes `results.json` into a folder."""
    write_json(folder / RESULTS_FILE, asdict(results))


def read_eval_results(path: Path) -> EvalResults:
    """Results from a `results.json`, or from its folder.

    Raises `NotFoundError` without such a file, `SettingsError` for another kind of file or another format.
    """
    results_file = path / RESULTS_FILE if path.is_dir() else path
    if not results_file.is_file():
        raise NotFoundError(f"expected results.json of `whisperstill evaluate`, found no {results_file}")
    try:
        content = json.loads(results_file.read_text("utf-8"))
        version = content["format"]
        if version != FORMAT_VERSION:
            writer, advice = "by a newer whisperstill", "upgrade whisperstill"
            if version < FORMAT_VERSION:
                writer, advice = "before 0.1.0", "evaluate again; docs/glossary.md lists what was renamed"
            expected = f"(format {version}, expected {FORMAT_VERSION})"
            raise SettingsError(f"{results_file} was written {writer} {expected}: {advice}")
        return from_dict(EvalResults, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{results_file} is no results.json of `whisperstill evaluate`: {error}") from error
