"""The package as a library: what the commands do, as functions.

`tlc_jax` has these names, and imports them at their first use.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tlc_jax.config.compression import OF_FOLDERS, CompressConfig
from tlc_jax.core.compiled import keep_compiled_programs
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import as_arguments
from tlc_jax.core.options import fields_of

if TYPE_CHECKING:  # jax is imported only when it is needed
    from rich.console import Console

    from tlc_jax.inference.text_classifier import Classifier, Prediction
    from tlc_jax.inference.translator import Translator
    from tlc_jax.runs.load import TrainedModel

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_OPTIONS = [field.name for field in dataclasses.fields(CompressConfig)]
_ARGUMENTS = {
    **{name.replace("_", "-"): name for name in _OPTIONS},
    **{name: name for name in ("out", "workdir", "beams", "alpha", "format", "predictions")},
    "data.dir": "data_dir",
    "hf": "folder",
}
"""Options of commands and the arguments in their place."""


def _for_python(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function with messages of UserError that name its arguments; those that CompressConfig has are
    added to its docstring, if it takes them."""

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise UserError(as_arguments(str(error), _ARGUMENTS)) from error.__cause__

    if "options" in (parameters := inspect.signature(function).parameters):
        fields = fields_of(parameters["config"].default)
        lines = [f"{each.name} ({each.default!r}): {each.summary()}" for each in fields]
        call.__doc__ = "\n\n".join([inspect.cleandoc(function.__doc__ or ""), "\n".join(lines)])
    return call


@_for_python
def load(reference: str | Path) -> Model:
    """The model of a run directory (its newest checkpoint), RUN@MARK, RUN@lastN (the mean of its newest N)
    or an artifact. UserError where there is none, or where its files are damaged."""
    keep_compiled_programs()
    from tlc_jax.runs.load import load_model
    from tlc_jax.storage.paths import local_folder

    name = os.fspath(reference)
    if "://" not in name:  # it means the same in another current folder
        name = str(local_folder(name).absolute())
    return Model(name, load_model(name, warn=_console().print, packed=True))


@_for_python
def compress_folder(
    folder: str | Path, out: str | Path, config: CompressConfig = OF_FOLDERS, **options: Any
) -> Mapping[str, Any]:
    """Compress a folder of .safetensors files of any model to the new folder `out`, as `compress --hf` does,
    and return the manifest. Prints sizes and errors. The `options` are the fields of CompressConfig:"""
    keep_compiled_programs()
    from tlc_jax.recipes.compress_folder import compress_folder
    from tlc_jax.recipes.compress_run import report
    from tlc_jax.storage.claim import claimed
    from tlc_jax.storage.paths import parse_path

    config, path, console = _with(config, options), parse_path(str(out)), _console()
    with claimed(path):
        manifest = compress_folder(Path(folder), config, path, console)
    report(manifest, config, path, console, _advice)
    return manifest


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """A trained model, and what can be done with it. Every method raises UserError with one sentence where it
    cannot be done: a model that classifies does not translate."""

    reference: str
    """What it was loaded by; an absolute path."""
    trained: TrainedModel
    """Config, parameters and mesh. They stay those that were loaded while the run trains on."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of a classification; none for other models."""
        return self.trained.label_names

    def __repr__(self) -> str:
        from tlc_jax.core.tree import count
        from tlc_jax.tasks.kinds import kind_of

        trained = self.trained
        task = kind_of(trained.config).name
        task += {1: " of single texts", 2: " of pairs of texts"}.get(trained.texts_per_example or 0, "")
        labels = f", labels {', '.join(self.labels)}" if self.labels else ""
        size = f"{count(trained.params):,} weights, {trained.step:,} updates"
        return f"Model({self.reference!r}: {task}, {size}{labels})"

    @_for_python
    def predict(self, texts: Iterable[str | tuple[str, str]]) -> list[Prediction]:
        """The label of each text, or pair of texts, and the probability of each class."""
        from tlc_jax.core.progress import stage

        examples = _examples(texts)
        if examples:
            self.trained.check_texts(len(examples[0]), "texts holds")
        console = _console()
        with stage(console, "predicting", len(examples), "texts", only_long=True) as advance:
            return self._classifier(examples, advance)

    @_for_python
    def translate(self, lines: Iterable[str], beams: int = 4, alpha: float = 0.6) -> list[str]:
        """The best translation of each line; `alpha` is the length penalty."""
        from tlc_jax.core.progress import stage
        from tlc_jax.inference.translator import Translator, check_options

        check_options(beams, alpha, None)
        given = [text for (text,) in _examples(lines, "lines", most=1)]
        if (beams, alpha) not in self._translators:
            made = Translator(self.trained, _console(), beams=beams, alpha=alpha)
            self._translators[beams, alpha] = made
        with stage(_console(), "translating", len(given), "lines", only_long=True) as advance:
            translations = self._translators[beams, alpha](given, advance)
        return [hypotheses[0].text for hypotheses in translations]

    @_for_python
    def evaluate(
        self, data_dir: str | Path | None = None, predictions: str | Path | None = None
    ) -> dict[str, Any]:
        """`{'eval/<set>/<metric>': value}` on the data that the model was trained with, or on those in
        `data_dir`, with the baselines. `predictions` is a file to write the prediction for each example to,
        as JSON lines."""
        from tlc_jax.inference.evaluation import evaluate_loaded

        data, file = (None if path is None else str(path) for path in (data_dir, predictions))
        return evaluate_loaded(self.reference, self.trained, _console(), data_dir=data, predictions=file)

    @_for_python
    def compress(
        self,
        out: str | Path,
        config: CompressConfig = CompressConfig(),  # noqa: B008 frozen
        *,
        workdir: str | Path | None = None,
        **options: Any,
    ) -> Model:
        """Write an artifact to the new folder `out`, and return its model. Prints quality, sizes and errors.
        Rounds of pruning need a `workdir`, and begin from the newest checkpoint. The `options` are the fields
        of CompressConfig:"""
        from tlc_jax.recipes.compress_run import compress_run, report
        from tlc_jax.storage.claim import claimed
        from tlc_jax.storage.paths import parse_path

        path, runs = parse_path(str(out)), None if workdir is None else parse_path(str(workdir))
        config, console = _with(config, options), _console()
        with claimed(path):
            manifest = compress_run(self.reference, config, path, runs, console, self._floats)
        report(manifest, config, path, console, _advice)
        return load(out)

    @_for_python
    def export(self, out: str | Path, format: str = "huggingface") -> None:
        """Write the model to the new folder `out` for transformers ('huggingface') or, of an artifact, with
        its codes ('compressed-tensors')."""
        from tlc_jax.inference.exporting import FORMATS, export_model
        from tlc_jax.storage.paths import parse_path

        if format not in FORMATS:
            raise UserError(f"format is {format!r}: give {' or '.join(map(repr, FORMATS))}")
        export_model(self.reference, parse_path(str(out)), format, _console(), self._floats)

    @property
    def _floats(self) -> TrainedModel | None:
        """The model with float32 parameters, if it is at hand; an artifact, which does not change, is loaded
        again where these are needed."""
        from tlc_jax.artifacts.artifact import is_artifact

        return None if is_artifact(self.trained.rundir.root) else self.trained

    @functools.cached_property
    def _classifier(self) -> Classifier:
        from tlc_jax.inference.text_classifier import Classifier

        return Classifier(self.trained, _console())

    @functools.cached_property
    def _translators(self) -> dict[tuple[int, float], Translator]:
        return {}


def _examples(texts: Any, name: str = "texts", most: int = 2) -> list[tuple[str, ...]]:
    """Texts, each as a tuple of one, and pairs of texts; UserError for anything else."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise UserError(f"{name} is {_shown(texts)}: give a list, such as [{_shown('a text')}]")
    wanted = "strings" if most == 1 else "strings, or pairs of strings"
    examples: list[tuple[str, ...]] = []
    for number, given in enumerate(texts):
        sides = (given,) if isinstance(given, str) else given
        if not isinstance(sides, tuple | list) or not 1 <= len(sides) <= most:
            raise UserError(f"{name}[{number}] is {_shown(given)}: give {wanted}")
        for side in sides:
            if not isinstance(side, str):
                raise UserError(f"{name}[{number}] is {_shown(given)}: give {wanted}")
            if re.search("[\ud800-\udfff]", side):
                raise UserError(f"{name}[{number}] is {_shown(given)}, which is no Unicode text: correct it")
        examples.append(tuple(sides))
        if len(sides) != len(examples[0]):
            kinds = [
                "a pair of texts" if len(each) == 2 else "a single text" for each in (sides, examples[0])
            ]
            raise UserError(f"{name}[{number}] is {kinds[0]} and {name}[0] is {kinds[1]}: give them apart")
    return examples


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _with(config: CompressConfig, options: Mapping[str, Any]) -> CompressConfig:
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise UserError(f"there is no option {unknown[0]}: give one of {', '.join(_OPTIONS)}")
    try:
        return dataclasses.replace(config, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def _advice(better: Mapping[str, str | None]) -> str:
    """Options of the command as arguments."""
    arguments = {_ARGUMENTS[name.removeprefix("--")]: value for name, value in better.items()}
    return ", ".join(f"{name}={True if value is None else value!r}" for name, value in arguments.items())


def _console() -> Console:
    from tlc_jax.training.view import make_console

    return make_console(stderr=True)
