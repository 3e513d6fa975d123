"""The model card, as read by huggingface_hub."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from whisperstill.errors import NotFoundError
from whisperstill.evaluate.report import render_card

from unit.evaluate.report import builders


def front_matter(card: str) -> dict[str, object]:
    opening, content, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(content)


def test_metadata_has_the_fields_of_the_hub() -> None:
    metadata = front_matter(render_card(builders.full(), "student", license_id="mit"))
    assert metadata["language"] == "en"
    assert metadata["license"] == "mit"
    assert metadata["pipeline_tag"] == "automatic-speech-recognition"
    assert metadata["base_model"] == "openai/whisper-base"
    assert metadata["metrics"] == ["wer"]
    assert {"automatic-speech-recognition", "whisper", "distil-whisper-like"} <= set(metadata["tags"])
    assert "license" not in front_matter(render_card(builders.full(), "student"))


def test_hub_reads_the_results() -> None:
    eval_results = builders.full()
    text = render_card(eval_results, "student")
    name, results = model_index_to_eval_results(front_matter(text)["model-index"])
    assert name == "student"
    own = (
        result
        for result in eval_results.results
        if result.model == "student" and result.measurement in ("short_form", "long_form")
    )
    cells = {(result.dataset, result.decoding): result.wer for result in own}
    read = {result.dataset_name: result.metric_value for result in results}
    for where in builders.SHORT:
        assert read[where] == round(cells[where, "short"], 2)
    for where in builders.LONG:
        assert read[where] == round(cells[where, "chunked"], 2)
    assert {result.metric_type for result in results} == {"wer"}
    assert {result.task_type for result in results} == {"automatic-speech-recognition"}


def test_huggingface_hub_loads_the_card() -> None:
    card = ModelCard(render_card(builders.full(), "student"))
    assert card.data.model_name == "student"
    assert len(card.data.eval_results) == len(builders.SHORT) + len(builders.LONG)
    assert "# student" in card.text
    assert 'model="path/to/student"' in card.text


def test_card_shows_only_the_model_and_its_teacher() -> None:
    text = render_card(builders.full(), "student")
    assert "student-4-layers" not in text and "tiny.en" not in text
    assert "| base |" in text and "is far less accurate" in text


def test_character_error_rate_for_character_units() -> None:
    eval_results = builders.alone()
    sets = tuple(replace(dataset, unit="character", language="ja") for dataset in eval_results.datasets)
    metadata = front_matter(render_card(replace(eval_results, datasets=sets), "student"))
    assert metadata["metrics"] == ["cer"]
    assert metadata["language"] == "ja"
    assert "base_model" not in metadata


def test_local_teacher_is_no_base_model() -> None:
    eval_results = builders.full(models=("base", "student"))
    models = (replace(eval_results.models[0], name="t", source="/data/teacher"), *eval_results.models[1:])
    cells = tuple(result for result in eval_results.results if result.model == "student")
    metadata = front_matter(render_card(replace(eval_results, models=models, results=cells, speculative=()), "student"))
    assert "base_model" not in metadata


def test_unmeasured_model_is_refused() -> None:
    with pytest.raises(NotFoundError, match=r"'large'; measured: base, student"):
        render_card(builders.full(models=("base", "student")), "large")
