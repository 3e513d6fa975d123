"""Search the source for a term as a newcomer types it: case, spaces, hyphens and underscores make no difference.

python tests/architecture/find_term.py            every question of newcomer_questions.toml, with its best hits
python tests/architecture/find_term.py "kv cache" one term
"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "src" / "whisperstill"


def pattern_of(term: str) -> re.Pattern[str]:
    """Words of a term in order, with nothing, a space, a hyphen or an underscore between them."""
    words = re.findall(r"[A-Za-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", term))
    joined = r"[\s_-]?".join(map(re.escape, words))
    if len(term) <= 4:  # "ema" is not in "schema"
        joined = rf"(?<![A-Za-z]){joined}(?![a-z])"
    return re.compile(joined, re.IGNORECASE)


def hits(term: str) -> list[tuple[str, int]]:
    """(module, hits) of a term; a module whose name has it comes first, then by the number of hits."""
    pattern, counts = pattern_of(term), Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        count = len(pattern.findall(path.read_text(encoding="utf-8")))
        in_name = 1000 if pattern.search(name) else 0
        if count + in_name:
            counts[name] = count + in_name
    return [(name, count % 1000) for name, count in counts.most_common()]


def main(terms: list[str]) -> None:
    """Print the best hits of each term."""
    if terms:
        searches = [("", term) for term in terms]
    else:
        content = tomllib.loads((HERE / "newcomer_questions.toml").read_text(encoding="utf-8"))
        searches = [(question["question"], question["search"]) for question in content["question"]]
    for question, term in searches:
        places = ", ".join(f"{name} ({count})" for name, count in hits(term)[:4])
        print(f"{question}\n    {term!r}: {places or '-'}")


if __name__ == "__main__":
    main(sys.argv[1:])
