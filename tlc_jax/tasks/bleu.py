"""BLEU as the paper's community reports it, and as sacrebleu does (paper 3.1; T2T get_ende_bleu.sh)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import sacrebleu
from sacrebleu.metrics.bleu import BLEU


def scores(hypotheses: Sequence[str], references: Sequence[str], language: str) -> dict[str, float | str]:
    """Of whole sets, in percent:

    bleu               sacrebleu as its command line gives it, detokenized (13a); `signature` says how
    bleu_intl          with international tokenization: t2t-bleu
    bleu_tokenized     of Moses tokens
    bleu_compounds     of Moses tokens with compounds split at their hyphens: the paper's
    chrf               chrF2
    """
    metric = BLEU()
    whole = metric.corpus_score(hypotheses, [references])
    tokens = [[tokenized(line, language) for line in lines] for lines in (hypotheses, references)]
    split = [[compounds_split(line) for line in lines] for lines in tokens]
    return {
        "bleu": whole.score,
        "bleu_intl": BLEU(tokenize="intl").corpus_score(hypotheses, [references]).score,
        "bleu_tokenized": plain_bleu(*tokens),
        "bleu_compounds": plain_bleu(*split),
        "chrf": sacrebleu.corpus_chrf(hypotheses, [references]).score,
        "signature": str(metric.get_signature()),
    }


def sacrebleu_score(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """What sacrebleu's command line prints, in percent."""
    return BLEU().corpus_score(hypotheses, [references]).score


def plain_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """multi-bleu.perl: what is between spaces is a token, nothing is smoothed."""
    metric = BLEU(tokenize="none", force=True, smooth_method="none")
    return metric.corpus_score(hypotheses, [references]).score


def known_languages() -> list[str]:
    """Those of which Moses' tokenizer knows the abbreviations; of others it takes the English ones."""
    from sacremoses.corpus import NonbreakingPrefixes

    return sorted(set(NonbreakingPrefixes().available_langs.values()))


def tokenized(line: str, language: str) -> str:
    """Moses tokens, after its unicode punctuation was replaced."""
    tokenizer, normalizer = _moses(language)
    return str(tokenizer.tokenize(normalizer.replace_unicode_punct(line), return_str=True, escape=True))


def compounds_split(line: str) -> str:
    """A hyphen between two characters becomes a token. On bytes, as perl does it without -C: of
    `c'est-à-dire` both hyphens are split because `à` is two bytes."""
    split = re.sub(rb"(\S)-(\S)", rb"\1 ##AT##-##AT## \2", line.encode())
    return split.decode("utf-8", "surrogateescape")


@functools.cache
def _moses(language: str):
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    return MosesTokenizer(lang=language), MosesPunctNormalizer(lang=language)
