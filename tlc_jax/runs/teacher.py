"""The teacher of a run (`distil.teacher`): whether it goes with the run, and its weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32
from rich.console import Console

from tlc_jax.config import Config, DistilConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten
from tlc_jax.parallel.mesh import replicated
from tlc_jax.runs.load import TrainedModel, folder_of, load_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.untrusted import read_json
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.distillation import Teacher


@dataclass(frozen=True)
class LoadedTeacher:
    """The model that `distil.teacher` names, with its parameters on the run's mesh."""

    reference: str
    config: Config
    """The run's, with the teacher's network."""
    model: TrainedModel
    fingerprint: str
    """Of all weights: a run keeps the teacher that it began with."""

    def check_data(self, folder: AnyPath) -> None:
        """UserError where prepared data have another tokenizer or other classes than the teacher."""
        root, tokenizer = self.model.rundir.root, self.model.rundir.tokenizer
        if read_json(tokenizer) != read_json(folder / "tokenizer.json"):
            raise UserError(
                f"distil.teacher {root} has another tokenizer than the data, so its predictions are of other "
                f"tokens: train with the same data, or give --data.tokenizer {tokenizer}"
            )
        names = kind_of(self.config).label_names(self.config, folder)
        if names != self.model.label_names:
            raise UserError(
                f"distil.teacher {root} predicts {', '.join(self.model.label_names)}, and the data have "
                f"{', '.join(names)}: give a teacher of the same classes"
            )

    def record(self) -> dict[str, str | None]:
        """What environment.json says of it."""
        return {"teacher": self.reference, "teacher_fingerprint": self.fingerprint}

    def for_training(self) -> Teacher:
        objective = kind_of(self.config).objective(self.config, len(self.model.label_names))
        return Teacher(objective, self.model.params)


def teacher_config(config: Config) -> Config | None:
    """The run's config with the network of its teacher; None without a teacher. UserError where there is no
    such model, or where it does not go with the run."""
    reference = config.distil.teacher
    if reference is None:
        return None
    try:
        rundir, _ = folder_of(reference)
        trained = rundir.read_config()
    except UserError as error:
        raise UserError(f"distil.teacher: {error}; give --distil.teacher with its path") from error
    kind, wanted = kind_of(trained).name, kind_of(config).name
    if kind != wanted:
        raise UserError(f"distil.teacher {reference} is a model of {kind}: give one of {wanted}")
    return with_network_of(trained, config, reference)


def with_network_of(trained: Config, config: Config, name: str) -> Config:
    """The run's config with the network of a teacher, which `name` names. UserError where it does not go with
    the run's data or mesh."""
    size, vocabulary = trained.model.vocab_size, config.model.vocab_size
    if size != vocabulary:
        raise UserError(
            f"distil.teacher {name} has a vocabulary of {size:,} tokens and the run one of {vocabulary:,}: "
            "give a teacher with the same tokenizer"
        )
    width, wanted = trained.model.hidden_size, config.model.hidden_size
    if config.distil.hidden_weight and width != wanted:
        raise UserError(
            f"distil.teacher {name} has hidden states of {width} numbers and the run of {wanted}: give "
            "distil.hidden_weight 0, or a teacher as wide"
        )
    try:
        return dataclasses.replace(config, model=trained.model, distil=DistilConfig())
    except ValueError as error:
        raise UserError(f"distil.teacher {name} does not go with this config: {error}") from error


def load_teacher(config: Config, console: Console) -> LoadedTeacher | None:
    """The teacher of a run, on the run's mesh; None without one. UserError as in `teacher_config`."""
    changed = teacher_config(config)
    reference = config.distil.teacher
    if changed is None or reference is None:
        return None
    model = load_model(reference, config.mesh, warn=console.print)
    return LoadedTeacher(reference, changed, model, fingerprint(model.params, model.mesh))


def check_same_teacher(root: AnyPath, before: str | None, now: str | None) -> None:
    """UserError where a run that learnt from a teacher with the fingerprint `before` (None: from none) would
    learn from another one."""
    if before == now:
        return
    had, has = (f"the teacher {each[:12]}" if each else "no teacher" for each in (before, now))
    raise UserError(
        f"{root} was trained with {had}, and distil.teacher now has {has} (these are fingerprints of all "
        "weights): give the teacher that the run began with, which may be at another path, or a new --workdir"
    )


def fingerprint(params: Params, mesh: Mesh) -> str:
    """SHA-256 over a checksum of each parameter, with its path and shape. It is the same on every mesh, and
    changes with every weight."""
    flat = flatten(params)
    checksums = jax.jit(lambda arrays: jax.tree.map(_checksum, arrays), out_shardings=replicated(mesh))(flat)
    lines = [[path, flat[path].shape, int(value)] for path, value in sorted(checksums.items())]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _checksum(x: Float[Array, "*shape"]) -> UInt32[Array, ""]:
    """The sum of the bits of all weights, each times an odd number that follows from its position: adding is
    exact and in any order, so devices may share it."""
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return jnp.sum(bits * (position * jnp.uint32(2654435761) | 1), dtype=jnp.uint32)
