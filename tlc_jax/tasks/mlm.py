"""Masked language modelling (paper 2.1; fairseq masked_lm): predict the masked tokens of packed text."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

from tlc_jax.config import Config, MlmConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.batches import rows_of_step
from tlc_jax.data.text.masking import mask, slots
from tlc_jax.data.text.packing import PackedText
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.tasks.base import AbstractBatch, Batch, HostBatch, RowsOf, Sums, prediction_loss

_TRAIN, _EVALUATE = 0, 1  # streams of masks: the held-out rows are masked the same way in every run


class MlmObjective:
    """`loss` is the summed cross-entropy of masked tokens in nats."""

    def __init__(self, config: Config, settings: MlmConfig):
        assert isinstance(config.model, ModelConfig)
        self._config, self._settings, self._model = config, settings, config.model

    def init(self, key: jax.Array) -> Params:
        return init_mlm(self._model, key)

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        return prediction_loss(self.logits(params, batch, dropout_key), batch)

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch places vocab"]:
        return apply_mlm(
            self._model,
            params,
            batch["tokens"],
            batch["positions"],
            dropout_key=dropout_key,
            reach=batch.get("attention_reach"),
        )

    def largest_batch(self) -> AbstractBatch:
        rows, length = self._config.batch_size, self._config.data.sequence_length
        count = slots(length, self._settings.mask_rate)
        tokens, places = jax.ShapeDtypeStruct((rows, length), np.int32), (rows, count)
        ids, weights = (jax.ShapeDtypeStruct(places, dtype) for dtype in (np.int32, np.float32))
        return {"tokens": tokens, "positions": ids, "targets": ids, "weights": weights}


class MaskedLanguageModelling(MlmObjective):
    """The objective on packed text; perplexity is exp(loss / weight)."""

    def __init__(self, config: Config, settings: MlmConfig, text: PackedText):
        super().__init__(config, settings)
        self._manifest = text.manifest
        for name, size in (
            ("sequence_length", config.data.sequence_length),
            ("vocab_size", config.model.vocab_size),
        ):
            if self._manifest[name] != size:
                raise UserError(
                    f"{text.folder} was packed with {name} {self._manifest[name]:,}, and the model has "
                    f"{size:,}: put back the data of this run"
                )
        self._train = text.rows("train")
        held_out = text.rows("held_out")
        limit = config.evaluation.max_rows or len(held_out)
        self._held_out = held_out[
            np.linspace(0, len(held_out), min(limit, len(held_out)), endpoint=False, dtype=int)
        ]
        self.tokens_per_step: float = config.batch_size * config.data.sequence_length

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        batch_size, seed = self._config.batch_size, self._config.seed
        own = rows(batch_size)
        places = rows_of_step(seed, step, batch_size=batch_size, size=len(self._train), rows=own)
        first = own.indices(batch_size)[0]
        return self._mask(self._train[places], (2 * seed + _TRAIN, step), first)

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        yield self.train_batch(0, rows)

    def evaluation_sets(self) -> tuple[str, ...]:
        return ("held_out",)

    def reported_sets(self) -> tuple[str, ...]:
        return ()

    def evaluation_size(self, name: str) -> int:
        return len(self._held_out)

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        own = rows(batch_size)
        for start in range(0, len(self._held_out), batch_size):
            chosen = np.full((batch_size, self._held_out.shape[1]), PAD, self._held_out.dtype)
            real = self._held_out[start : start + batch_size]
            chosen[: len(real)] = real
            yield self._mask(chosen[own], (_EVALUATE, 0), start + own.indices(batch_size)[0])

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        if not sums["weight"]:
            raise UserError(
                "no token was masked: data.held_out keeps too little text to evaluate on, raise it"
            )
        loss = sums["loss"] / sums["weight"]
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss": loss, "perplexity": perplexity, "accuracy": sums["correct"] / sums["weight"]}

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        return {}

    def baselines(self) -> dict[str, float]:
        return {f"held_out/{name}": value for name, value in self._manifest["baselines"].items()}

    def facts(self) -> dict[str, str]:
        manifest = self._manifest
        baselines, digest = manifest["baselines"], manifest["tokenizer_sha256"]

        def size(split: str) -> str:
            rows, tokens, documents = (manifest[what][split] for what in ("rows", "tokens", "documents"))
            return f"{rows:,} rows, {tokens:,} tokens, {documents:,} documents"

        return {
            "data": f"{manifest['source']}, identity {manifest['identity'][:16]}",
            "train": size("train"),
            "held out": size("held_out"),
            "tokenizer": f"byte-level BPE, {manifest['vocab_size']:,} entries, {digest[:16]}",
            "held-out perplexity": f"unigram {baselines['unigram_perplexity']:.1f}, "
            f"bigram {baselines['bigram_perplexity']:.1f} (Witten-Bell)",
        }

    def epochs(self, step: int) -> float:
        return step * self._config.batch_size / len(self._train)

    def _mask(self, rows: np.ndarray, key: tuple[int, int], first_row: int) -> HostBatch:
        return mask(
            rows,
            key=key,
            first_row=first_row,
            rate=self._settings.mask_rate,
            vocab_size=self._model.vocab_size,
        )
