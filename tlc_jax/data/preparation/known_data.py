"""The list of public data sets. A new one is a record in a file of its own and a line here."""

from __future__ import annotations

import difflib

from tlc_jax.core.errors import UserError
from tlc_jax.data.preparation.glue_archives import GLUE
from tlc_jax.data.preparation.public_data import KINDS, PublicData
from tlc_jax.data.preparation.running_text import ENWIKI, PG19, WIKIPEDIA
from tlc_jax.data.preparation.wmt14 import WMT14_FR_EN

KNOWN: tuple[PublicData, ...] = (*GLUE, WMT14_FR_EN, WIKIPEDIA, ENWIKI, PG19)
_GONE = {
    "bookcorpus": "BookCorpus is not distributed any more; pg19, books of Project Gutenberg, takes its place",
    "glue/stsb": "glue/stsb is a regression, and the tasks here are classifications",
    "glue/ax": "glue/ax has no training set",
}


def find_known(name: str) -> PublicData | None:
    """The record of a data set; None for a kind of the user's own data. UserError if there is neither."""
    if name in KINDS:
        return None
    for data in KNOWN:
        if data.name == name:
            return data
    if name.partition("/")[0] == "bookcorpus" or name in _GONE:
        raise UserError(_GONE.get(name, _GONE["bookcorpus"]))
    names = [*(data.name for data in KNOWN), *KINDS]
    near = "".join(f"; perhaps {near}" for near in difflib.get_close_matches(name, names, n=1))
    raise UserError(
        f"{name} is no data set that prepare knows{near}; it knows {', '.join(names[: -len(KINDS)])}, and "
        f"{', '.join(KINDS)} for other data, which --input names"
    )
