"""Masked language modelling (paper 2.1; fairseq masked_lm): predict the masked tokens of packed text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int
from rich.console import Console

from tlc_jax.config import Config, DataConfig, MlmConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.data.batches import rows_of_step
from tlc_jax.data.recorded_roles import check_pad
from tlc_jax.data.text.document_subset import DocumentSubset
from tlc_jax.data.text.masking import mask, slots
from tlc_jax.data.text.packed_text import PackedText, Rows
from tlc_jax.data.text.sources import open_source
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.data.text.two_sided_bigram import TwoSidedBigram
from tlc_jax.data.tokenizer import ROBERTA
from tlc_jax.models.electra_flops import electra_update
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.encoder_family import ENCODER
from tlc_jax.models.flops import mlm_update
from tlc_jax.tasks.base import (
    AbstractBatch,
    Batch,
    HostBatch,
    HostSums,
    Objective,
    RowsOf,
    Source,
    TaskKind,
    check_fits,
    few,
    share_of,
)
from tlc_jax.tasks.token_prediction import CountModel, TokenPrediction

_FEW_DOCUMENTS = 20
_TRAIN, _EVALUATE = 0, 1  # streams of masks: the held-out rows are masked the same way in every run


class MlmObjective(Objective):
    """`loss` is the summed cross-entropy of masked tokens in nats."""

    family = ENCODER

    def __init__(self, config: Config):
        self._config = config
        self._model, self._settings = cast(ModelConfig, config.model), cast(MlmConfig, config.task)

    def init(self, key: jax.Array) -> Params:
        return init_mlm(self._model, key)

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch slots vocab"]:
        return apply_mlm(
            self._model,
            params,
            batch["tokens"],
            batch["positions"],
            dropout_key=dropout_key,
            window=batch.get("attention_reach"),
        )

    def largest_batch(self) -> AbstractBatch:
        rows, length = self._config.batch_size, self._config.data.sequence_length
        shape = (rows, slots(length, self._settings.mask_rate))
        ids, weights = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (np.int32, np.float32))
        tokens = jax.ShapeDtypeStruct((rows, length), np.int32)
        return {"tokens": tokens, "positions": ids, "targets": ids, "weights": weights}

    def update_flops(self, batch: AbstractBatch) -> float:
        rows, length = batch["tokens"].shape
        return mlm_update(self._model, rows, length, batch["positions"].shape[1])

    def operations(self) -> dict[str, float]:
        batch = self.largest_batch()
        (rows, length), predicted = batch["tokens"].shape, self._settings.mask_rate
        counted = electra_update(self._model, rows, length, predicted)
        return {"flops": self.update_flops(batch), "electra_flops": counted}


class MaskedLanguageModelling(MlmObjective, TokenPrediction):
    """The objective on packed text; perplexity is exp(loss / weight)."""

    count_model_name = "two_sided_bigram"

    def __init__(self, config: Config, text: PackedText):
        super().__init__(config)
        self._text, self._manifest = text, text.manifest
        check_fits(config, text)
        check_pad(text.roles, self._model.pad_id, f"the data in {text.folder}")
        self._train: Rows | DocumentSubset = text.rows("train")
        if config.data_share < 1:
            tokens = self._manifest["tokens"]["train"]
            self._train = DocumentSubset(self._train, tokens, config.data_share, text.roles)
        held_out = text.rows("held_out")
        limit = config.evaluation.max_rows or len(held_out)
        self._held_out = held_out[
            np.linspace(0, len(held_out), min(limit, len(held_out)), endpoint=False, dtype=int)
        ]
        self.tokens_per_step: float = config.batch_size * config.data.sequence_length

    def token_bytes(self) -> Float32[np.ndarray, "vocab"]:
        return self._text.token_bytes()

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        batch_size, seed = self._config.batch_size, self._config.seed
        local = rows(batch_size)
        chosen = rows_of_step(seed, step, batch_size=batch_size, size=len(self._train), rows=local)
        return self._mask(self._train[chosen], (2 * seed + _TRAIN, step), local.indices(batch_size)[0])

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        yield self.train_batch(0, rows)

    def evaluation_sets(self) -> tuple[str, ...]:
        return ("held_out",)

    def evaluation_size(self, name: str) -> int:
        return len(self._held_out)

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        local = rows(batch_size)
        for start in range(0, len(self._held_out), batch_size):
            shape = (batch_size, self._held_out.shape[1])
            padded = np.full(shape, self._text.roles.pad, self._held_out.dtype)
            real = self._held_out[start : start + batch_size]
            padded[: len(real)] = real
            yield self._mask(padded[local], (_EVALUATE, 0), start + local.indices(batch_size)[0])

    def evaluation_examples(self, name: str, batch_size: int) -> Iterator[Int[np.ndarray, "batch"]]:
        for start in range(0, len(self._held_out), batch_size):
            rows = np.arange(start, start + batch_size)
            yield np.where(rows < len(self._held_out), rows, -1)

    def metrics(self, sums: HostSums) -> dict[str, float]:
        if not sums["weight"]:
            raise UserError(
                "no token was masked: data.held_out keeps too little text to evaluate on, raise it"
            )
        return super().metrics(sums)

    def prepared(self) -> PackedText:
        return self._text

    def count_model(self) -> CountModel:
        return TwoSidedBigram(self._train, self._text.roles, self._settings.mask_rate).nats

    def facts(self) -> dict[str, str]:
        documents, tokens = self._manifest["documents"], self._manifest["tokens"]
        return {
            "data": self._manifest["source"],
            "text": f"{share_of(self._config)}{documents['train']:,} documents ({tokens['train']:,} tokens) "
            "to train on, "
            f"{documents['held_out']:,} ({tokens['held_out']:,}) held out",
        }

    def notes(self) -> tuple[str, ...]:
        documents, share = self._manifest["documents"]["held_out"], self._config.data.held_out
        return few("document", "held out to evaluate on", documents, _FEW_DOCUMENTS, share)

    def epochs(self, step: int) -> float:
        return step * self._config.batch_size / len(self._train)

    def _mask(self, rows: np.ndarray, key: tuple[int, int], first_row: int) -> HostBatch:
        return mask(
            rows,
            key=key,
            first_row=first_row,
            rate=self._settings.mask_rate,
            roles=self._text.roles,
        )


class MlmKind(TaskKind[PackedText]):
    name = "mlm"
    hub_task = "fill-mask"
    next_commands = (
        (
            *("train", "--config", "finetune_sst2", "--data.name", "docs/package"),
            *("--init-from", "{run}", "--workdir", "{run}-finetuned"),
        ),
    )
    config_type = MlmConfig
    data_type = PackedText
    tokenizer_layout = ROBERTA

    def prepare(
        self,
        config: Config,
        console: Console,
        label_names: tuple[str, ...] | None = None,
        *,
        pretrained: bool = False,
    ) -> PackedText:
        data, model = cast(DataConfig, config.data), cast(ModelConfig, config.model)
        to_train, pad = label_names is None, model.pad_id
        return prepare_text(
            data, model.vocab_size, console, to_train=to_train, pretrained=pretrained, pad=pad
        )

    def source(self, config: Config) -> Source:
        return open_source(cast(DataConfig, config.data))

    def objective(self, config: Config, classes: int | None = None) -> MlmObjective:
        return MlmObjective(config)

    def task(self, config: Config, data: PackedText) -> MaskedLanguageModelling:
        return MaskedLanguageModelling(config, data)
