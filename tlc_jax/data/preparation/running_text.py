"""Running text to pretrain on: English Wikipedia (of 2023-11-01, or the newest dump that somebody keeps), and
the books of PG-19 (Rae et al. 2020), those of Project Gutenberg before 1919. They take the place of
BookCorpus, which is not distributed any more."""

from __future__ import annotations

from tlc_jax.data.preparation.public_data import TEXT, Part, PublicData
from tlc_jax.data.preparation.row_readers import documents

_OPTIONS = "--config pretrain_small"

WIKIPEDIA = PublicData(
    name="wikipedia",
    kind=TEXT,
    repository="wikimedia/wikipedia",
    parts=(Part("train", ("20231101.en/*.parquet",), documents()),),
    licence="CC-BY-SA-3.0 and GFDL",
    published={"train": 6_407_814},
    options=_OPTIONS,
)
ENWIKI = PublicData(
    name="enwiki",
    kind=TEXT,
    repository="answerdotai/enwiki",
    parts=(Part("train", ("*.parquet",), documents()),),
    licence="CC-BY-SA, as Wikipedia",
    options=_OPTIONS,
)
PG19 = PublicData(
    name="pg19",
    kind=TEXT,
    repository="emozilla/pg19",
    parts=(Part("train", ("data/train-*.parquet",), documents()),),
    licence="Apache-2.0; the books are in the public domain in the US",
    published={"train": 28_602},
    options=_OPTIONS,
)
