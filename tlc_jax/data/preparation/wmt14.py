"""WMT14 English and French: 40.8 million pairs to train on, newstest2013 and newstest2014 to evaluate on."""

from __future__ import annotations

from tlc_jax.data.preparation.public_data import PAIRS, Part, Publication, PublicData
from tlc_jax.data.preparation.row_readers import columns, parallel_lines

_ROWS = columns({"en": "translation.en", "fr": "translation.fr"})
_LINES = parallel_lines(("en", "fr"))


def _corpus(url: str, one: str, other: str, sha256: str | None = None, split: str = "train") -> Publication:
    parts = (Part(split, (one, other), _LINES),)
    return Publication(name=url.rpartition("/")[2], url=url, parts=parts, sha256=sha256)


_NEWSTEST = Publication(
    name="dev.tgz",
    url="http://data.statmt.org/wmt19/translation-task/dev.tgz",
    sha256="7a7deccf82ebb05ba508dba5eb21356492224e8f630ec4f992132b029b4b25e7",
    parts=(
        Part("validation", ("dev/newstest2013.en", "dev/newstest2013.fr"), _LINES),
        Part("test", ("dev/newstest2014-fren-ref.en.sgm", "dev/newstest2014-fren-src.fr.sgm"), _LINES),
    ),
)

WMT14_FR_EN = PublicData(
    name="wmt14_translate/fr-en",
    kind=PAIRS,
    repository="wmt/wmt14",
    parts=tuple(
        Part(split, (f"fr-en/{split}-*.parquet",), _ROWS) for split in ("train", "validation", "test")
    ),
    licence="not stated; the corpora are those of the WMT14 translation task",
    archives=(
        _corpus(
            "http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
            "training/europarl-v7.fr-en.en",
            "training/europarl-v7.fr-en.fr",
            "0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
        ),
        _corpus(
            "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
            "commoncrawl.fr-en.en",
            "commoncrawl.fr-en.fr",
            "c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
        ),
        _corpus(
            "http://www.statmt.org/wmt13/training-parallel-un.tgz",
            "un/undoc.2000.fr-en.en",
            "un/undoc.2000.fr-en.fr",
        ),
        _corpus(
            "http://www.statmt.org/wmt14/training-parallel-nc-v9.tgz",
            "training/news-commentary-v9.fr-en.en",
            "training/news-commentary-v9.fr-en.fr",
            "cb8953f292298e6877ae433c98912b927cb0766b303f4540512ddd286c748485",
        ),
        _corpus(
            "http://www.statmt.org/wmt10/training-giga-fren.tar",
            "giga-fren.release2.fixed.en.gz",
            "giga-fren.release2.fixed.fr.gz",
        ),
        _NEWSTEST,
    ),
    languages=("en", "fr"),
    options="--config translate",
    published={"train": 40_836_715, "validation": 3000, "test": 3003},
)
