"""The model card, as the hub's own library reads it."""

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


def test_the_front_matter_is_what_the_hub_wants() -> None:
    found = front_matter(render_card(builders.full(), "student", license_id="mit"))
    assert found["language"] == "en"
    assert found["license"] == "mit"
    assert found["pipeline_tag"] == "automatic-speech-recognition"
    assert found["base_model"] == "openai/whisper-base"
    assert found["metrics"] == ["wer"]
    assert {"automatic-speech-recognition", "whisper", "distil-whisper-like"} <= set(found["tags"])
    assert "license" not in front_matter(render_card(builders.full(), "student"))


def test_results_are_read_back() -> None:
    findings = builders.full()
    text = render_card(findings, "student")
    name, results = model_index_to_eval_results(front_matter(text)["model-index"])
    assert name == "student"
    own = (one for one in findings.results if one.model == "student" and one.measurement in ("short_form", "long_form"))
    cells = {(one.dataset, one.decoding): one.wer for one in own}
    read = {one.dataset_name: one.metric_value for one in results}
    for where in builders.SHORT:
        assert read[where] == round(cells[where, "short"], 2)
    for where in builders.LONG:
        assert read[where] == round(cells[where, "chunked"], 2)
    assert {one.metric_type for one in results} == {"wer"}
    assert {one.task_type for one in results} == {"automatic-speech-recognition"}


def test_the_hubs_library_loads_it() -> None:
    card = ModelCard(render_card(builders.full(), "student"))
    assert card.data.model_name == "student"
    assert len(card.data.eval_results) == len(builders.SHORT) + len(builders.LONG)
    assert "# student" in card.text
    assert 'model="path/to/student"' in card.text


def test_only_the_model_and_its_teacher_stand_in_it() -> None:
    text = render_card(builders.full(), "student")
    assert "student-4-layers" not in text and "tiny.en" not in text
    assert "| base |" in text and "hears far worse" in text


def test_a_language_without_spaces_is_counted_in_characters() -> None:
    findings = builders.alone()
    sets = tuple(replace(one, unit="character", language="ja") for one in findings.datasets)
    found = front_matter(render_card(replace(findings, datasets=sets), "student"))
    assert found["metrics"] == ["cer"]
    assert found["language"] == "ja"
    assert "base_model" not in found


def test_a_teacher_of_ones_own_is_no_address_on_the_hub() -> None:
    findings = builders.full(models=("base", "student"))
    models = (replace(findings.models[0], name="t", source="/data/teacher"), *findings.models[1:])
    cells = tuple(one for one in findings.results if one.model == "student")
    found = front_matter(render_card(replace(findings, models=models, results=cells, speculative=()), "student"))
    assert "base_model" not in found


def test_a_model_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(NotFoundError, match=r"'large'; measured: base, student"):
        render_card(builders.full(models=("base", "student")), "large")
