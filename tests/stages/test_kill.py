"""The test of `tests/kill_resume.py --kills 20` with fewer kills."""

from pathlib import Path

from kill_resume import check


def test_killed_and_resumed_stages_end_with_the_same_bits(
    small_teacher: Path, small_student: Path, small_corpus: Path, tmp_path: Path
) -> None:
    hits = check(tmp_path, small_teacher, small_student, small_corpus, kills=2, seed=1)
    assert sum(hits.values()) >= 1
