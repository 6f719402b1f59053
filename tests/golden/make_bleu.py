"""Writes bleu.json: French lines, what Moses' tokenizer (sacremoses) makes of them, what perl's own
substitution makes of that (get_ende_bleu.sh of Tensor2Tensor), and their BLEU by its formula (Papineni et al.
2002).

pip install sacremoses && python tests/golden/make_bleu.py (needs perl)
"""

from __future__ import annotations

import collections
import json
import math
import subprocess
from pathlib import Path

HYPOTHESES = [
    "Le chat est assis sur le tapis.",
    "C'est-à-dire que l’homme a vu « deux » porte-avions…",  # noqa: RUF001
    "Il pleut aujourd'hui, mais demain il fera beau !",
    "La vice-présidente (élue en 2012) a dit : “non”.",
    "Un garçon joue au foot-ball dans la rue-là.",
    "Ils ont payé 1 234,50 € pour 3.5 kg.",
]
REFERENCES = [
    "Le chat est assis sur le petit tapis.",
    "C'est-à-dire que l'homme a vu « trois » porte-avions...",
    "Il pleut aujourd'hui mais il fera beau demain !",
    'La vice-présidente (élue en 2012) a dit : "non".',
    "Un garçon joue au football dans la rue.",
    "Ils ont payé 1 234,50 € pour 3,5 kg.",
]
SPLIT = r"s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g"


def moses(lines: list[str]) -> list[str]:
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    tokenizer, normalizer = MosesTokenizer(lang="fr"), MosesPunctNormalizer(lang="fr")
    return [
        tokenizer.tokenize(normalizer.replace_unicode_punct(line), return_str=True, escape=True)
        for line in lines
    ]


def perl(lines: list[str]) -> list[str]:
    """Without -C, so on bytes."""
    text = "".join(f"{line}\n" for line in lines).encode()
    found = subprocess.run(["perl", "-ple", SPLIT], input=text, capture_output=True, check=True).stdout
    return found.decode().splitlines()


def bleu(hypotheses: list[str], references: list[str]) -> float:
    """In percent, of what is between spaces, without smoothing."""
    right, there = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        one, other = hypothesis.split(), reference.split()
        for n in range(4):
            ours, theirs = (
                collections.Counter(tuple(words[i : i + n + 1]) for i in range(len(words) - n))
                for words in (one, other)
            )
            right[n] += sum(min(count, theirs[gram]) for gram, count in ours.items())
            there[n] += sum(ours.values())
    lengths = [sum(len(line.split()) for line in lines) for lines in (hypotheses, references)]
    brevity = min(0.0, 1 - lengths[1] / lengths[0])
    return 100 * math.exp(brevity + sum(math.log(a / b) for a, b in zip(right, there, strict=True)) / 4)


if __name__ == "__main__":
    tokens = [moses(lines) for lines in (HYPOTHESES, REFERENCES)]
    split = [perl(lines) for lines in tokens]
    found = {
        "hypotheses": HYPOTHESES,
        "references": REFERENCES,
        "tokens": tokens,
        "split": split,
        "bleu_tokenized": bleu(*tokens),
        "bleu_compounds": bleu(*split),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    Path(__file__).with_name("bleu.json").write_text(f"{text}\n")
