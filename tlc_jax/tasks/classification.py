"""Classification of texts and pairs of texts (paper 3.1; fairseq sentence_prediction)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlc_jax.config import ClassificationConfig, Config
from tlc_jax.core.tree import Params
from tlc_jax.data.buckets import Buckets, gather
from tlc_jax.data.examples import EncodedExamples, PackedExamples
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.tasks.base import Batch, HostBatch, Sums, cross_entropy

TUNING = "tuning"


class Classification:
    """`loss` is the summed cross-entropy of examples in nats. Training evaluates on `tuning` only."""

    def __init__(self, config: Config, settings: ClassificationConfig, examples: PackedExamples):
        self._config, self._settings, self._packed = config, settings, examples
        drop = settings.dropout
        self._model = dataclasses.replace(config.model, dropout=drop, attention_dropout=drop)
        self.label_names = tuple(examples.manifest["label_names"])
        self._train = _first(examples.split("train"), settings.max_examples)
        self._buckets = Buckets(self._train, config.batch_size, config.data.sequence_length)
        self.tokens_per_step = int(self._train.lengths.sum()) / self._buckets.batches_per_epoch

    def init(self, key: jax.Array) -> Params:
        return init_classifier(self._model, len(self.label_names), key)

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        logits = apply_classifier(
            self._model,
            params,
            batch["tokens"],
            classes=len(self.label_names),
            head_dropout=self._settings.head_dropout,
            dropout_key=dropout_key,
        )
        weights, targets = batch["weights"], batch["targets"]
        total = jnp.sum(weights * cross_entropy(logits, targets))
        correct = jnp.sum(weights * (jnp.argmax(logits, axis=-1) == targets))
        return total, {"loss": total, "correct": correct, "weight": jnp.sum(weights)}

    def train_batch(self, step: int, rows: slice) -> HostBatch:
        length, places = self._buckets.of_step(self._config.seed, step)
        return gather(self._train, length, places[rows])

    def sample_batches(self, rows: slice) -> Iterator[HostBatch]:
        for length, places in self._buckets.shapes():
            yield gather(self._train, length, places[rows])

    def evaluation_sets(self) -> tuple[str, ...]:
        return (TUNING,)

    def reported_sets(self) -> tuple[str, ...]:
        return tuple(self._packed.manifest["reported"])

    def evaluation_size(self, name: str) -> int:
        return self._packed.manifest["examples"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: slice) -> Iterator[HostBatch]:
        examples = self._packed.split(name)
        plan = Buckets(examples, batch_size, self._config.data.sequence_length).plan(None)
        for length, places in zip(plan.lengths, plan.places, strict=True):
            yield gather(examples, length, places[rows])

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        return {"loss": sums["loss"] / sums["weight"], "accuracy": sums["correct"] / sums["weight"]}

    def baselines(self) -> dict[str, float]:
        found = self._packed.manifest["baselines"]
        return {f"{name}/{metric}": value for name, own in found.items() for metric, value in own.items()}

    def facts(self) -> dict[str, str]:
        manifest = self._packed.manifest
        sizes = {**manifest["examples"], "train": len(self._train.labels)}
        return {
            "data": f"{manifest['source']}, identity {manifest['identity'][:16]}",
            "labels": ", ".join(self.label_names),
            "examples": ", ".join(f"{name} {size:,}" for name, size in sizes.items()),
            "too long, cut": ", ".join(f"{name} {size:,}" for name, size in manifest["truncated"].items()),
            "padding": f"{100 * self._buckets.padding():.0f} % of the tokens computed",
            **{
                f"{name} accuracy": f"majority {own['majority_accuracy']:.4f}, "
                f"bag of words {own['linear_accuracy']:.4f}"
                for name, own in manifest["baselines"].items()
            },
        }

    def epochs(self, step: int) -> float:
        return step / self._buckets.batches_per_epoch


def _first(examples: EncodedExamples, limit: int | None) -> EncodedExamples:
    """The first `limit` examples; the file's order is by hash, so that they are a random sample."""
    if limit is None or limit >= len(examples.labels):
        return examples
    return EncodedExamples(examples.ids, examples.offsets[: limit + 1], examples.labels[:limit])
