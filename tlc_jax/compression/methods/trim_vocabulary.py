"""A vocabulary trimmed to the tokens that a corpus uses.

The rows of all other tokens leave the embedding, the output matrix and its bias. Hidden states and
classifications of the tokens that stay are bit for bit what they were; their logits are so but for the order
of sums in a product with another matrix. The probabilities of a masked language model or a translation rise,
since fewer tokens share them. The tokenizer is trimmed to the same tokens (data/tokenizer_trimming.py), so
that any text of the corpus has the same ones as before.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tlc_jax.compression.steps import Model, Step
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import map_with_path


@dataclass(frozen=True)
class TrimVocabulary(Step):
    """The tokens of the training data stay, or those of --calibration-text, with special tokens and single
    characters."""

    reads_tokens: ClassVar[bool] = True

    def shrink(self, model: Model) -> Model:
        if model.tokens is None:
            raise UserError("TrimVocabulary needs the tokens of a corpus: that takes a run, not --hf")
        if model.keep_tokens is None:
            raise UserError("the family of this model does not say which tables have a row for each token")
        if len(model.tokens) == model.config.vocab_size:
            return model
        config, rows = model.keep_tokens(model.config, model.tokens)

        def gather(path: str, x: Any) -> Any:
            return x[np.asarray(rows[path])] if path in rows else x

        return dataclasses.replace(
            model,
            params=map_with_path(gather, model.params),
            config=config,
            masks={name: gather(name, mask) for name, mask in model.masks.items()},
            tokens=np.arange(len(model.tokens)),
        )
