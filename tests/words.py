"""Text for tests: documents of sentences drawn from a small vocabulary with a strong order of words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

_WORDS = """the a model layer weight large small train prune code step of in with and is was keeps loses
every width depth batch budget second token row mask""".split()


def documents(count: int, seed: int = 0) -> list[str]:
    """`count` documents of 3 to 8 lines; a word is followed by one of three others, mostly."""
    rng = np.random.default_rng(seed)
    follows = rng.integers(0, len(_WORDS), (len(_WORDS), 3))
    found = []
    for number in range(count):
        lines = []
        for _ in range(rng.integers(3, 9)):
            word = int(rng.integers(len(_WORDS)))
            line = []
            for _ in range(rng.integers(5, 15)):
                line.append(_WORDS[word])
                word = (
                    int(follows[word, rng.integers(3)])
                    if rng.random() < 0.9
                    else int(rng.integers(len(_WORDS)))
                )
            lines.append(" ".join(line).capitalize() + ".")
        found.append("\n".join([f"Document {number}", *lines]))
    return found


def write_corpus(folder: Path, count: int = 400) -> Path:
    """The documents spread over a .txt, a .txt.gz and a .jsonl file."""
    texts = documents(count)
    third = count // 3
    (folder / "one.txt").write_text("\n\n".join(texts[:third]) + "\n")
    with gzip.open(folder / "two.txt.gz", "wt") as file:
        file.write("\n\n\n".join(texts[third : 2 * third]))
    lines = [json.dumps({"text": text, "id": i}) for i, text in enumerate(texts[2 * third :])]
    (folder / "three.jsonl").write_text("\n".join(lines) + "\n")
    return folder
