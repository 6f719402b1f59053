"""The package as a library: what the commands do, as functions.

`tlc_jax` has these names, and imports them at their first use.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlc_jax.config.compression import OF_FOLDERS, CompressConfig
from tlc_jax.core.errors import UserError

if TYPE_CHECKING:  # jax is imported only when it is needed
    from tlc_jax.core.console import SafeConsole
    from tlc_jax.inference.text_classifier import Classifier, Prediction
    from tlc_jax.inference.translator import Translator
    from tlc_jax.runs.load import TrainedModel


def load(reference: str | Path) -> Model:
    """The model of a run directory (its newest checkpoint), RUN@MARK, RUN@lastN (the mean of its newest N)
    or an artifact. UserError where there is none, or where its files are damaged."""
    from tlc_jax.runs.load import load_model

    return Model(str(reference), load_model(str(reference)))


def compress_folder(
    folder: str | Path, out: str | Path, config: CompressConfig = OF_FOLDERS, **options: Any
) -> Mapping[str, Any]:
    """Compress a folder of .safetensors files of any model to the new folder `out`, as `compress --hf` does,
    and return the manifest. `options` are fields of CompressConfig, such as bits=4."""
    from tlc_jax.recipes.compress_folder import compress_folder
    from tlc_jax.storage.claim import claimed
    from tlc_jax.storage.paths import parse_path

    path = parse_path(str(out))
    with claimed(path):
        return compress_folder(Path(folder), _with(config, options), path, _console())


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model, and what can be done with it. Every method raises UserError with one sentence where it
    cannot be done: a model that classifies does not translate."""

    reference: str
    """What it was loaded by."""
    trained: TrainedModel = dataclasses.field(repr=False)
    """Config, parameters and mesh."""

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The label of each text, or pair of texts, and the probability of each class."""
        return self._classifier([(text,) if isinstance(text, str) else tuple(text) for text in texts])

    def translate(self, lines: Sequence[str], beams: int = 4, alpha: float = 0.6) -> list[str]:
        """The best translation of each line; `alpha` is the length penalty."""
        from tlc_jax.inference.translator import Translator, check_options

        check_options(beams, alpha, None)
        translator = self._translators.setdefault(
            (beams, alpha), Translator(self.trained, _console(), beams=beams, alpha=alpha)
        )
        return [hypotheses[0].text for hypotheses in translator(list(lines))]

    def evaluate(self, data_dir: str | Path | None = None) -> dict[str, Any]:
        """`{'eval/<set>/<metric>': value}` on the data that the model was trained with, or on those in
        `data_dir`, with the baselines."""
        from tlc_jax.inference.evaluation import evaluate_checkpoint

        return evaluate_checkpoint(self.reference, None, None if data_dir is None else str(data_dir), None)

    def compress(
        self,
        out: str | Path,
        config: CompressConfig = CompressConfig(),  # noqa: B008 frozen
        *,
        workdir: str | Path | None = None,
        **options: Any,
    ) -> Model:
        """Write an artifact to the new folder `out`, and return its model. `options` are fields of
        CompressConfig, such as bits=4; rounds of pruning need a `workdir`."""
        from tlc_jax.recipes.compress_run import compress_run
        from tlc_jax.storage.claim import claimed
        from tlc_jax.storage.paths import parse_path

        path, runs = parse_path(str(out)), None if workdir is None else parse_path(str(workdir))
        with claimed(path):
            compress_run(self.reference, _with(config, options), path, runs, _console())
        return load(out)

    def export(self, out: str | Path, format: str = "huggingface") -> None:
        """Write the model to the new folder `out` for transformers ('huggingface') or, of an artifact, with
        its codes ('compressed-tensors')."""
        from tlc_jax.inference.exporting import FORMATS, export_model
        from tlc_jax.storage.paths import parse_path

        if format not in FORMATS:
            raise UserError(f"format is {format!r}: give {' or '.join(map(repr, FORMATS))}")
        export_model(self.reference, parse_path(str(out)), format, _console())

    @functools.cached_property
    def _classifier(self) -> Classifier:
        from tlc_jax.inference.text_classifier import Classifier

        return Classifier(self.trained, _console())

    @functools.cached_property
    def _translators(self) -> dict[tuple[int, float], Translator]:
        return {}


def _with(config: CompressConfig, options: Mapping[str, Any]) -> CompressConfig:
    known = [field.name for field in dataclasses.fields(config)]
    if unknown := sorted(options.keys() - set(known)):
        raise UserError(f"there is no option {unknown[0]}: give one of {', '.join(known)}")
    try:
        return dataclasses.replace(config, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def _console() -> SafeConsole:
    from tlc_jax.core.console import SafeConsole

    return SafeConsole(stderr=True)
