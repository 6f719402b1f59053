"""Classification of texts and pairs of texts (paper 3.1; fairseq sentence_prediction)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, Integer

from tlc_jax.config import ClassificationConfig, Config, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.data.labelled.examples import TRAIN, TUNING, PackedExamples
from tlc_jax.data.labelled.length_buckets import Buckets, Plan, gather
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.tasks.base import Batch, HostBatch, RowsOf, Sums, prediction_loss


class Classification:
    """`loss` is the summed cross-entropy of examples in nats. Training evaluates on `tuning` only; sets
    without labels can be predicted."""

    def __init__(self, config: Config, settings: ClassificationConfig, examples: PackedExamples):
        self._config, self._settings, self._packed = config, settings, examples
        drop = settings.dropout
        assert isinstance(config.model, ModelConfig)
        self._model = dataclasses.replace(config.model, dropout=drop, attention_dropout=drop)
        self.label_names = tuple(examples.manifest["label_names"])
        _check_fits(config, examples)
        self.tokens_per_step = 0.0
        if examples.trains:  # else the data were read to be evaluated on
            self._train = examples.split(TRAIN)
            self._buckets = Buckets(self._train, config.batch_size, config.data.sequence_length)
            self.tokens_per_step = int(self._train.lengths.sum()) / self._buckets.batches_per_epoch

    def init(self, key: jax.Array) -> Params:
        return init_classifier(self._model, len(self.label_names), key)

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        return prediction_loss(self.logits(params, batch, dropout_key), batch)

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch classes"]:
        return apply_classifier(
            self._model,
            params,
            batch["tokens"],
            classes=len(self.label_names),
            head_dropout=self._settings.head_dropout,
            dropout_key=dropout_key,
        )

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        length, places = self._buckets.of_step(self._config.seed, step)
        return gather(self._train, length, places[rows(len(places))])

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        for length, places in self._buckets.shapes():
            yield gather(self._train, length, places[rows(len(places))])

    def evaluation_sets(self) -> tuple[str, ...]:
        return (TUNING,) if self._packed.trains else ()

    def reported_sets(self) -> tuple[str, ...]:
        return self._packed.reported

    def unlabelled_sets(self) -> tuple[str, ...]:
        """Those that can be predicted only."""
        return self._packed.unlabelled

    def notes(self) -> tuple[str, ...]:
        """What of the data is not used, and what in it contradicts itself."""
        manifest = self._packed.manifest
        doubtful = {name: count for name, count in manifest.get("contradicting", {}).items() if count}
        counts = ", ".join(f"{name} {count:,}" for name, count in doubtful.items())
        return (
            *manifest.get("notes", ()),
            *([f"texts with more than one label: {counts}"] if counts else []),
        )

    def evaluation_size(self, name: str) -> int:
        return self._packed.manifest["examples"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        examples, plan = self._packed.split(name), self.evaluation_plan(name, batch_size)
        for length, places in zip(plan.lengths, plan.places, strict=True):
            yield gather(examples, length, places[rows(len(places))])

    def evaluation_plan(self, name: str, batch_size: int) -> Plan:
        """Which examples are in which of the `evaluation_batches`."""
        return Buckets(self._packed.split(name), batch_size, self._config.data.sequence_length).plan(None)

    def targets(self, name: str) -> Integer[np.ndarray, "examples"]:
        return np.asarray(self._packed.split(name).labels)

    def baseline(self, kind: str, name: str) -> Integer[np.ndarray, "examples"] | None:
        """The classes that 'majority' or 'linear' says of the examples of a set, if there is something to
        train on."""
        return self._packed.baseline(kind, name)

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        return {"loss": sums["loss"] / sums["weight"], "accuracy": sums["correct"] / sums["weight"]}

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        return {}

    def baselines(self) -> dict[str, float]:
        found = self._packed.manifest["baselines"]
        return {f"{name}/{metric}": value for name, own in found.items() for metric, value in own.items()}

    def facts(self) -> dict[str, str]:
        manifest = self._packed.manifest
        return {
            "data": f"{manifest['source']}, identity {manifest['identity'][:16]}",
            "labels": ", ".join(self.label_names),
            "examples": ", ".join(f"{name} {size:,}" for name, size in manifest["examples"].items()),
            "too long, cut": ", ".join(f"{name} {size:,}" for name, size in manifest["truncated"].items()),
            **({"notes": "; ".join(self.notes())} if self.notes() else {}),
            "padding": f"{100 * self._buckets.padding():.0f} % of the tokens computed",
            **{
                f"{name} accuracy": f"majority {own['majority_accuracy']:.4f}, "
                f"bag of words {own['linear_accuracy']:.4f}"
                for name, own in manifest["baselines"].items()
            },
        }

    def epochs(self, step: int) -> float:
        return step / self._buckets.batches_per_epoch


def _check_fits(config: Config, examples: PackedExamples) -> None:
    """UserError where somebody's prepared data are not for the model beside them."""
    for name, wanted in (
        ("vocab_size", config.model.vocab_size),
        ("sequence_length", config.data.sequence_length),
    ):
        if (there := examples.manifest[name]) != wanted:
            raise UserError(
                f"{examples.folder} was prepared with {name} {there}, and the config has {wanted}: put the "
                "run's own data there"
            )
