"""Translation (paper 2.1; Tensor2Tensor): every target token from those before it and the source."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from rich.console import Console

from tlc_jax.config import Config, EncoderDecoderConfig, PairsConfig, TranslationConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.progress import stage
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.bucketing import EMPTY, Buckets, Indices, Plan
from tlc_jax.data.pairs.languages import is_language, language
from tlc_jax.data.pairs.packed_pairs import PackedPairs
from tlc_jax.data.pairs.pair_batches import gather, pair_buckets, rows_of_batch
from tlc_jax.data.pairs.pair_packing import prepare_pairs
from tlc_jax.data.pairs.pair_source import TRAIN
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.pairs.row_packing import gather_packed
from tlc_jax.data.pairs.target_bigram import TargetBigram
from tlc_jax.data.token_bytes import token_bytes
from tlc_jax.data.tokenizer import TRANSLATION
from tlc_jax.models.electra_flops import electra_translation_update
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.models.encoder_decoder_family import ENCODER_DECODER
from tlc_jax.models.flops import translation_update
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.tasks.base import (
    AbstractBatch,
    Batch,
    HostBatch,
    Objective,
    RowsOf,
    Source,
    Sums,
    TaskKind,
    at_targets,
    check_fits,
    prediction_loss,
    share_of,
)
from tlc_jax.tasks.bleu import check_language, sacrebleu_score, scores
from tlc_jax.tasks.decoder import Decoder
from tlc_jax.tasks.token_prediction import CountModel, TokenPrediction

_EVALUATION_SHAPES = 3  # compiling more would cost more than the padding
_FEW_SHAPES, _UPDATES_A_SHAPE = 8, 3  # a rare shape is not worth its compilation


class TranslationObjective(Objective):
    """`loss` is the summed cross-entropy of target tokens in nats, </s> among them. The training loss is that
    against smoothed labels, without its constant part; the plain one is reported."""

    family = ENCODER_DECODER

    def __init__(self, config: Config):
        self._config, self._settings = config, cast(TranslationConfig, config.task)
        self._model = cast(EncoderDecoderConfig, config.model)

    def init(self, key: jax.Array) -> Params:
        return init_encoder_decoder(self._model, key)

    def loss_of_logits(
        self, logits: Float[Array, "batch length vocab"], batch: Batch, *, training: bool
    ) -> tuple[Float[Array, ""], Sums]:
        total, sums = prediction_loss(logits, batch)
        if not training:
            return total, sums
        return total + smoothing(logits, batch, self._settings.label_smoothing), sums

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch length vocab"]:
        sides = (batch["source"], batch["targets"])
        segments = (batch.get("source_segments"), batch.get("target_segments"))
        return apply_encoder_decoder(self._model, params, *sides, *segments, dropout_key=dropout_key)

    def largest_batch(self) -> AbstractBatch:
        data = cast(PairsConfig, self._config.data)
        rows = rows_of_batch(self._config.batch_size, data.row_length, self._settings.row_multiple)
        shape = (rows, data.row_length)
        ids, weights = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (np.int32, np.float32))
        segments = {"source_segments": ids, "target_segments": ids} if data.packing else {}
        return {"source": ids, "targets": ids, "weights": weights, **segments}

    def update_flops(self, batch: AbstractBatch) -> float:
        (rows, source), (_, target) = batch["source"].shape, batch["targets"].shape
        return translation_update(self._model, rows, source, target)

    def operations(self) -> dict[str, float]:
        if not cast(PairsConfig, self._config.data).packing:
            return {}
        batch = self.largest_batch()
        (rows, source), (_, target) = batch["source"].shape, batch["targets"].shape
        counted = electra_translation_update(self._model, rows, source, target)
        return {"flops": self.update_flops(batch), "electra_flops": counted}


class Translation(TranslationObjective, TokenPrediction):
    """The objective on cleaned pairs, and BLEU."""

    count_model_name = "target_bigram"

    def __init__(self, config: Config, packed: PackedPairs):
        super().__init__(config)
        check_fits(config, packed)
        self.packed, self._train = packed, packed.pairs(TRAIN)
        if self._settings.bleu_sentences:
            check_language(packed.manifest["languages"][1])  # before the first evaluation needs it
        self._decoder: Decoder | None = None
        self.tokens_per_step = 0.0
        if len(self._train):  # else the data were read to be evaluated on
            self._plan()

    def _plan(self) -> None:
        config, packed = self._config, self.packed
        size, multiple = config.batch_size, self._settings.row_multiple
        if cast(PairsConfig, config.data).packing:
            shape, packed_rows = packed.row_shape(), packed.rows()
            rows = {shape: rows_of_batch(size, max(shape), multiple)}
            lengths = packed_rows.lengths(self._train.lengths)
            stretches = packed.stretches("rows", config.data_share)
            self._batches = Buckets(lengths, rows, stretches=stretches)
            self._gather = functools.partial(gather_packed, self._train, packed_rows)
            self._pairs_of = packed_rows.pairs_of
        else:
            updates = packed.manifest["tokens"][TRAIN]["target"] // size
            shapes = packed.shapes()[: max(_FEW_SHAPES, updates // _UPDATES_A_SHAPE)]
            stretches = packed.stretches("pairs", config.data_share)
            self._batches = pair_buckets(self._train, shapes, size, multiple, stretches)
            self._gather = functools.partial(gather, self._train)
            self._pairs_of = lambda pairs: pairs
        plan = self._batches.epoch(config.seed, 0)
        self._tokens = self._batches.tokens(plan).tolist()  # of the sources, of the targets
        self._batches_per_epoch = len(plan)
        self.tokens_per_step = self._tokens[1] / self._batches_per_epoch

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        shape, indices = self._batches.of_step(self._config.seed, step)
        return _batch(self._gather(shape, indices[rows(len(indices))]))

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        for shape, size in zip(self._batches.shapes, self._batches.rows, strict=True):
            yield _batch(self._gather(shape, np.full(size, EMPTY)[rows(size)]))

    def evaluation_sets(self) -> tuple[str, ...]:
        return tuple(self.packed.manifest["validation"])

    def reported_sets(self) -> tuple[str, ...]:
        return tuple(self.packed.manifest["test"])

    def evaluation_size(self, name: str) -> int:
        return self.packed.manifest["pairs"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        pairs, plan = self.packed.pairs(name), self._evaluation_plan(name, batch_size)
        for shape, indices in plan:
            yield _batch(gather(pairs, shape, indices[rows(len(indices))]))

    def evaluation_examples(self, name: str, batch_size: int) -> Iterator[Indices]:
        return (indices for _, indices in self._evaluation_plan(name, batch_size))

    def _evaluation_plan(self, name: str, batch_size: int) -> Plan:
        shapes = self.packed.shapes()[:_EVALUATION_SHAPES]
        return pair_buckets(self.packed.pairs(name), shapes, batch_size, self._settings.row_multiple).plan()

    def prepared(self) -> PackedPairs:
        return self.packed

    def count_model(self) -> CountModel | None:
        if not len(self._train):
            return None
        train = self._train
        if self._config.data_share < 1:
            train = train.take(self._pairs_of(self._batches.used()))
        model = TargetBigram(train, self._model.vocab_size)
        return lambda batch: model.nats(batch["targets"])

    def token_bytes(self) -> Float32[np.ndarray, "vocab"]:
        return token_bytes(self.packed.tokenizer(), TRANSLATION)

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        count = self._settings.bleu_sentences
        if not count or name != self.evaluation_sets()[0]:
            return {}
        pairs = self.texts(name)[:count]
        if self._decoder is None:  # one for all evaluations of a run: it compiles
            self._decoder = self.decoder(beams=1)
        translations = self._decoder.translate(params, [source for source, _ in pairs])
        references = [target for _, target in pairs]
        language = self.packed.manifest["languages"][1]
        return {"greedy_bleu": sacrebleu_score([best[0].text for best in translations], references, language)}

    def text_metrics(self, params: Params, name: str, console: Console) -> dict[str, Any]:
        """BLEU with a beam of 4."""
        language = self.packed.manifest["languages"][1]
        check_language(language)
        sources, references = zip(*self.texts(name), strict=True)
        with stage(console, f"translating {name}", len(sources), "sentences") as advance:
            translations = self.decoder(beams=4).translate(params, sources, advance)
        return scores([best[0].text for best in translations], [references], language)

    def decoder(self, beams: int) -> Decoder:
        longest = self._config.data.sequence_length
        mesh = make_mesh(self._config.mesh)
        return Decoder(self._model, self.packed.tokenizer(), mesh, longest=longest, beams=beams)

    def texts(self, name: str) -> list[tuple[str, str]]:
        """The lines of a set, source and reference."""
        return self.packed.texts(name)

    def facts(self) -> dict[str, str]:
        manifest = self.packed.manifest
        left_out = sum(sum(source["left out"].values()) for source in manifest["sources"])
        sources = [
            f"{source['pairs']:,} of {source['name']}"
            + (f" (share {source['share']:g})" if source["share"] else "")
            for source in manifest["sources"]
        ]
        sets = [*manifest["validation"], *manifest["test"]]
        padding, shapes = 100 * self._batches.padding(self._config.seed), len(self._batches.shapes)
        return {
            "pairs": f"{' to '.join(manifest['languages'])}, {first_of(sources, 4)}; {left_out:,} left out",
            "evaluated": ", ".join(f"{name} {manifest['pairs'][name]:,}" for name in sets),
            "epoch": f"{share_of(self._config)}{self._batches_per_epoch:,} updates, "
            f"{sum(self._tokens):,} tokens; "
            f"{padding:.1f} % padding in {shapes} shape{'s' if shapes > 1 else ''}",
        }

    def epochs(self, step: int) -> float:
        return step / self._batches_per_epoch


def smoothing(logits: Float[Array, "batch length vocab"], batch: Batch, share: float) -> Float[Array, ""]:
    """What label smoothing adds to the cross-entropy: `share` of the probability is spread over all tokens
    but the target (T2T; fairseq label_smoothed_cross_entropy)."""
    vocab, targets = logits.shape[-1], batch["targets"]
    picked = at_targets(logits, targets)
    others = (jnp.sum(logits, axis=-1) - picked) / (vocab - 1)
    return share * jnp.sum(batch["weights"] * (picked - others))


def _batch(arrays: HostBatch) -> HostBatch:
    targets = arrays.pop("target")
    return {**arrays, "targets": targets, "weights": (targets != PAD).astype(np.float32)}


def _check_rows(config: Config) -> None:
    """UserError where a batch does not hold the rows that pairs are packed into."""
    rows, length = (
        cast(TranslationConfig, config.task).row_multiple,
        cast(PairsConfig, config.data).row_length,
    )
    if config.batch_size < rows * length:
        raise UserError(
            f"batch_size {config.batch_size} tokens do not hold task.row_multiple {rows} rows of {length}, "
            f"into which sentences of at most {config.data.sequence_length} tokens are packed: give a "
            f"batch_size of at least {rows * length}, or --data.no-packing"
        )


class TranslationKind(TaskKind[PackedPairs]):
    name = "translation"
    hub_task = "translation"
    uses = ("translate . < LINES", "evaluate . --data.dir DATA")
    python_use = 'print(model.translate(["one line", "another line"]))'
    config_type = TranslationConfig
    data_type = PackedPairs
    tokenizer_layout = TRANSLATION
    translates = True
    most_at_once = 1 << 15  # tokens

    def source(self, config: Config) -> Source:
        return open_pairs(cast(PairsConfig, config.data))

    def prepare(
        self,
        config: Config,
        console: Console,
        label_names: tuple[str, ...] | None = None,
        *,
        pretrained: bool = False,
    ) -> PackedPairs:
        if label_names is None:
            _check_rows(config)
        return prepare_pairs(
            cast(PairsConfig, config.data), config.model.vocab_size, console, to_train=label_names is None
        )

    def languages(self, config: Config) -> tuple[str, ...]:
        data = cast(PairsConfig, config.data)
        return tuple(language(name)[0] for name in (data.source, data.target) if is_language(name))

    def objective(self, config: Config, classes: int | None = None) -> TranslationObjective:
        return TranslationObjective(config)

    def task(self, config: Config, data: PackedPairs) -> Translation:
        return Translation(config, data)

    def bounded(self, config: Config, examples: int) -> Config:
        if config.batch_size <= self.most_at_once:
            return config
        longest, devices, size = config.data.sequence_length, jax.device_count(), config.at_once
        if longest > self.most_at_once:
            raise UserError(
                f"the model's config has a data.sequence_length of {longest:,}, and at most "
                f"{self.most_at_once:,} tokens are computed at once: correct its config.json"
            )
        if size > self.most_at_once:
            size = min(longest << max(0, examples - 1).bit_length(), self.most_at_once)
        task = replace(cast(TranslationConfig, config.task), row_multiple=devices)
        return replace(config, batch_size=max(size, devices * longest), micro_batch=None, task=task)
