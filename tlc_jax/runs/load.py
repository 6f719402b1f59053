"""Loads a trained model: of a run, one of its marks, the mean of its newest checkpoints, or an artifact."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from tlc_jax.artifacts.artifact import is_artifact, open_artifact
from tlc_jax.config import CompressionAwareConfig, Config, MeshConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary
from tlc_jax.models.families import family_of
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.artifact_params import check_shapes, float_params, packed_params
from tlc_jax.runs.average import last_steps, mean_of_last
from tlc_jax.runs.checkpoint import missing, restore_model, whole_steps
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import RunDir, split_mark
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.compressed_params import written
from tlc_jax.training.masked import tensor_masks
from tlc_jax.training.state import abstract_params, sharded_params

Warn = Callable[[str], None]
_KINDS_OF_TEXTS = {1: "single texts", 2: "pairs of texts"}


@dataclass(frozen=True)
class TrainedModel:
    """Parameters on a mesh, with what it takes to use them; no data. Those of an artifact may be packed.

    `step` is the number of updates; `steps` are the checkpoints that the parameters are the mean of (mostly
    one); `label_names` are those of a classification, else empty; `masks` say which weights are pruned;
    `texts_per_example` is 2 of a classification of pairs, and None where nothing says what it was trained on.
    The parameters are those that the run evaluates; `unrounded` are those that it trains, where it rounds.
    """

    rundir: RunDir
    config: Config
    params: Params
    step: int
    label_names: tuple[str, ...]
    masks: Tensors
    steps: tuple[int, ...] = ()
    texts_per_example: int | None = None
    vocabulary: TrimmedVocabulary | None = None
    """What is left of the vocabulary of its folder, whose tokenizer and data have all of it."""
    unrounded: Params | None = None

    def before_rounding(self) -> TrainedModel:
        """The model with the weights that are trained, to be compressed or trained further."""
        if self.unrounded is None:
            return self
        return dataclasses.replace(self, params=self.unrounded, unrounded=None)

    def tokenizer_files(self) -> dict[str, bytes]:
        """The contents of its tokenizer's files."""
        files = {path.name: path.read_bytes() for path in self.rundir.tokenizer_files()}
        if self.vocabulary is not None:
            files[self.rundir.tokenizer.name] = self.vocabulary.tokenizer.encode()
        return files

    @property
    def mesh(self) -> Mesh:
        """The mesh that the parameters are sharded over."""
        return make_mesh(self.config.mesh)

    def check_texts(self, count: int, what: str) -> None:
        """UserError where examples of `count` texts each, of which `what` is the subject and the verb, are
        not what a classification was trained on."""
        trained_on = self.texts_per_example
        if trained_on not in (None, count):
            given, wanted = (_KINDS_OF_TEXTS[number] for number in (count, trained_on))
            raise UserError(f"{what} {given}, and {self.rundir.root} was trained on {wanted}: give {wanted}")


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def load_model(
    reference: str, mesh_config: MeshConfig | None = None, *, warn: Warn = _warn, packed: bool = False
) -> TrainedModel:
    """Load RUN (its newest whole checkpoint), RUN@MARK, RUN@lastN (the mean of its newest N) or an artifact.

    Parameters are sharded over the mesh of `mesh_config`, else over that of the model's own config. `warn` is
    called with a sentence for each damaged checkpoint that is passed over. With `packed`, matrices of an
    artifact stay codes and there are no masks: the model can be used, and not compressed or trained again.
    """
    rundir, mark = folder_of(reference)
    if is_artifact(rundir.root):
        return _load_artifact(rundir.root, mesh_config, warn, packed)
    config = _on_this_machine(rundir.read_config(), mesh_config, warn)
    kind = kind_of(config)
    names, texts = kind.label_names(config, rundir.data), kind.texts_per_example(rundir.data)
    like = sharded_params(kind.objective(config, len(names)), make_mesh(config.mesh))
    if (count := _averaged(mark)) is not None:
        params, masks, steps = mean_of_last(rundir.checkpoints, like, count)
    else:
        params, masks, step = restore_model(rundir.checkpoints, like, warn, mark)
        steps = [step]
    masks, unrounded = tensor_masks(masks), None
    if (aware := config.compression_aware) != CompressionAwareConfig():
        params, unrounded = written(aware, params, masks), params
    return TrainedModel(
        rundir, config, params, steps[-1], tuple(names), masks, tuple(steps), texts, unrounded=unrounded
    )


def folder_of(reference: str) -> tuple[RunDir, str | None]:
    """The run directory or artifact that a reference names, and what stands behind its @. UserError where
    there is none."""
    if is_artifact(parse_path(reference)):
        return RunDir(parse_path(reference)), None
    rundir, mark = split_mark(reference)
    if mark is not None and is_artifact(rundir.root):
        raise UserError(f"{reference}: an artifact holds one model and has no marks: give {rundir.root}")
    if not rundir.config.is_file():
        raise UserError(f"{reference} is neither a run directory nor an artifact: it has no config.json")
    return rundir, mark


def check_saved(reference: str) -> None:
    """UserError where a run has not saved what a reference names; nothing is loaded."""
    rundir, mark = folder_of(reference)
    if (count := _averaged(mark)) is not None:
        last_steps(rundir.checkpoints, count)
    elif not is_artifact(rundir.root) and not whole_steps(rundir.checkpoints, mark):
        raise missing(rundir.checkpoints, mark)


def _averaged(mark: str | None) -> int | None:
    """N of lastN; None for every other mark."""
    last = re.fullmatch(r"last([1-9][0-9]{0,5})", mark or "")
    return int(last[1]) if last else None


def _load_artifact(path: AnyPath, mesh_config: MeshConfig | None, warn: Warn, packed: bool) -> TrainedModel:
    artifact = open_artifact(path)
    if artifact.of_folder:
        raise UserError(
            f"{path} was not made from a run: this program does not know which model its tensors are of"
        )
    manifest, rundir = artifact.manifest, RunDir(path)
    config = _on_this_machine(rundir.read_config(), mesh_config, warn)
    names = tuple(manifest["label_names"])
    expected = abstract_params(kind_of(config).objective(config, len(names)))
    check_shapes(artifact, expected)
    mesh, rules, masks = make_mesh(config.mesh), family_of(config.model).sharding_rules, Tensors()
    if packed:
        params = packed_params(artifact, expected, mesh, rules)
    else:
        params, masks = float_params(artifact, mesh, rules)
    step, texts = manifest["source"]["step"], manifest.get("texts_per_example")
    return TrainedModel(rundir, config, params, step, names, masks, texts_per_example=texts)


def _on_this_machine(config: Config, mesh_config: MeshConfig | None, warn: Warn) -> Config:
    """The config of a folder that anybody may have written, for use here: with this machine's cache of
    prepared data, without 'auto' (the run has stored what it stood for), and with a mesh of these devices."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_dir=type(config.data)().cache_dir),
        micro_batch=None if config.micro_batch == "auto" else config.micro_batch,
        mesh=mesh_config or _fitting(config.mesh, warn),
    )


def _fitting(trained_on: MeshConfig, warn: Warn) -> MeshConfig:
    """The mesh that a model was trained on, over as many devices as there are here; where these do not
    divide by its groups, one without groups."""
    groups = trained_on.fsdp * trained_on.tensor
    if jax.device_count() % groups == 0:
        return dataclasses.replace(trained_on, data=None)
    warn(
        f"the model was trained on groups of {groups} devices (mesh.fsdp x mesh.tensor), but there are "
        f"{jax.device_count()} here: each gets all parameters"
    )
    return MeshConfig()
