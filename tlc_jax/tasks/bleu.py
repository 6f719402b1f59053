"""BLEU as the paper's community reports it, and as sacrebleu does (paper 2.1; T2T get_ende_bleu.sh).

sacrebleu is imported where something is scored: the first update does not wait for it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.data.pairs import languages

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

# languages without spaces between words, for which scores of words split at spaces mean nothing
_NOT_OF_SPACES = {"ja", "ko", "zh", "yue", "lzh", "wuu", "nan", "hak", "th", "lo", "km", "my", "bo", "dz"}


def scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> dict[str, float | str]:
    """Scores of whole sets, in percent, against one or several references for each line. Regions are ignored:
    zh_CN is scored as zh.

    bleu               sacrebleu as its command line gives it for the language, detokenized; `signature` says
                       how (13a; zh, ja-mecab and ko-mecab for Chinese, Japanese and Korean)
    bleu_intl          with international tokenization: t2t-bleu
    bleu_tokenized     of Moses tokens; a language whose abbreviations Moses does not know has those of
                       English, as in Moses' own tokenizer
    bleu_compounds     of Moses tokens with compounds split at their hyphens: the paper's
    chrf               chrF2
    left_out           which of these do not apply to the language and are missing
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metric = _sacrebleu(language)
    results: dict[str, float | str] = {
        "bleu": metric.corpus_score(hypotheses, references).score,
        "chrf": CHRF().corpus_score(hypotheses, references).score,
        "signature": str(metric.get_signature()),
    }
    if languages.language(language)[0] in _NOT_OF_SPACES:
        names = "bleu_intl, bleu_tokenized and bleu_compounds"
        return {**results, "left_out": f"{names} split at spaces, which do not separate words in {language}"}
    tokens = [[tokenized(line, language) for line in lines] for lines in (hypotheses, *references)]
    split = [[compounds_split(line) for line in lines] for lines in tokens]
    return {
        **results,
        "bleu_intl": BLEU(tokenize="intl").corpus_score(hypotheses, references).score,
        "bleu_tokenized": plain_bleu(tokens[0], tokens[1:]),
        "bleu_compounds": plain_bleu(split[0], split[1:]),
    }


def sacrebleu_score(hypotheses: Sequence[str], references: Sequence[str], language: str) -> float:
    """What sacrebleu's command line prints for translations into the language, in percent."""
    return _sacrebleu(language).corpus_score(hypotheses, [references]).score


def plain_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of multi-bleu.perl: tokens are separated by spaces, nothing is smoothed."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", force=True, smooth_method="none")
    return metric.corpus_score(hypotheses, references).score


def check_language(language: str) -> None:
    """UserError where the package that splits the language into words is not installed."""
    if languages.language(language)[0] in _NOT_OF_SPACES:  # the others need no package
        _sacrebleu(language)


def _sacrebleu(language: str) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    code, _ = languages.language(language)
    try:
        return BLEU(trg_lang=code)
    except RuntimeError as error:  # how sacrebleu reports an extra that is not installed
        raise UserError(
            f"BLEU of {language} needs a package that splits its sentences into words: pip install "
            f"'sacrebleu[{code}]'"
        ) from error


def tokenized(line: str, language: str) -> str:
    """Moses tokens, after its unicode punctuation was replaced."""
    tokenizer, normalizer = _moses(languages.language(language)[0])
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
