"""One update and one evaluation step, as pure functions; compiled before the training clock runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Shaped

from tlc_jax.config import CompressionAwareConfig, Config
from tlc_jax.core.cores import usable_cores
from tlc_jax.core.errors import Interrupted
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import on, replicated
from tlc_jax.parallel.sharding import param_shardings
from tlc_jax.tasks.base import AbstractBatch, Batch, Objective, Sums, Task
from tlc_jax.training.compressed_params import seen
from tlc_jax.training.distillation import Distilled
from tlc_jax.training.masked import masks_of
from tlc_jax.training.state import TrainState

TrainStep = Callable[..., tuple[TrainState, Sums]]
Controls = Mapping[str, Any]


def summed_gradients(
    task: Objective | Distilled,
    params: Params,
    batch: Batch,
    key: jax.Array,
    micro_batches: int,
    shared: Batch | None = None,
    sharded: Callable[[Params], Params] = lambda grads: grads,
) -> tuple[Params, Sums]:
    """Gradient of the loss summed over all predictions of the batch, and the batch's sums.

    Sums of losses and of weights are added over micro-batches and divided once, by the caller, so the mean is
    that of the whole batch however the predictions are spread. Micro-batch i takes the rows i, i + n, i + 2n,
    ..., so that every device keeps its own rows; its dropout key is `fold_in(key, i)`. Each gets the arrays
    in `shared` whole. `sharded` constrains the sharding of a gradient.
    """
    parts = {name: x.reshape(-1, micro_batches, *x.shape[1:]) for name, x in batch.items()}

    def loss(params: Params, i: Any) -> tuple[jax.Array, Sums]:
        part = {name: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False) for name, x in parts.items()}
        return task.loss(params, {**part, **(shared or {})}, jax.random.fold_in(key, i))

    def gradient(i: Any) -> tuple[Params, Sums]:
        grads, sums = jax.grad(loss, has_aux=True)(params, i)
        return sharded(grads), sums

    def add(total: tuple[Params, Sums], i: Any) -> tuple[tuple[Params, Sums], None]:
        return jax.tree.map(jnp.add, total, gradient(i)), None

    if micro_batches == 1:
        grads, sums = gradient(0)  # needs no memory for sums of gradients
    else:
        _, like = jax.eval_shape(loss, params, 0)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, like))
        (grads, sums), _ = jax.lax.scan(add, zeros, jnp.arange(micro_batches))
    return grads, sums


def make_train_step(
    task: Objective,
    config: Config,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    teacher: Objective | None = None,
) -> TrainStep:
    """The update: (state, batch, key, scalars of the schedule, parameters of the teacher) -> (state, sums and
    the gradient's norm). The last argument is for a run that learns from a `teacher`, which is constant.
    Gradients are those of the weights as the config's `compression_aware` prunes and rounds them.

    Where loss or gradient is not finite, parameters and optimizer state stay as they are, and all sums but
    `skipped_steps` are 0.
    """
    update = optax.with_extra_args_support(optimizer).update

    def train_step(
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        controls: dict[str, Shaped[Array, ""]],
        teacher_params: Any = None,
    ) -> tuple[TrainState, Sums]:
        step_key = jax.random.fold_in(key, state.step)
        rate, shared = controls["learning_rate"], dict(controls)
        del shared["learning_rate"]
        shardings = param_shardings(mesh, state.params, task.family.sharding_rules)
        learnt = task
        if teacher is not None and config.distil.learns:
            learnt = Distilled(task, teacher, teacher_params, config.distil, config.model)
        params, aware = state.params, config.compression_aware
        if aware != CompressionAwareConfig():
            params = seen(aware, params, masks_of(state.optimizer))
            params = jax.lax.with_sharding_constraint(params, shardings)
        grads, sums = summed_gradients(
            learnt,
            params,
            batch,
            step_key,
            config.micro_batches,
            shared,
            lambda grads: jax.lax.with_sharding_constraint(grads, shardings),
        )
        scale = 1.0 / jnp.maximum(sums["weight"], 1.0)
        sums["gradient_norm"] = scale * optax.tree.norm(grads)
        finite = jnp.isfinite(sums["loss"]) & jnp.isfinite(sums["gradient_norm"])

        def updated() -> tuple[Params, Any]:
            mean = jax.tree.map(lambda g: scale * g, grads)
            directions, optimizer_state = update(
                mean, state.optimizer, state.params, learning_rate=rate, step=state.step
            )
            return jax.tree.map(lambda p, d: p - rate * d, state.params, directions), optimizer_state

        # a branch is computed in place; a choice between results would need two more copies of the gradients
        params, optimizer_state = jax.lax.cond(finite, updated, lambda: (state.params, state.optimizer))
        sums = {name: jnp.where(finite, x, 0.0) for name, x in sums.items()}
        sums["skipped_steps"] = 1.0 - finite
        return TrainState(state.step + 1, params, optimizer_state), sums

    return on(mesh, train_step)


@dataclass(frozen=True)
class CompiledStep:
    """A train step compiled for each shape of batch; it reuses the memory of the state that it is given."""

    by_shape: dict[tuple[tuple[int, ...], ...], jax.stages.Compiled]
    platform: str
    """Platform of its devices."""

    def __call__(
        self,
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        controls: Controls,
        teacher_params: Params | None = None,
    ) -> tuple[TrainState, Sums]:
        return self.by_shape[_shape(batch)](state, batch, key, controls, teacher_params)

    @property
    def peak_bytes(self) -> int:
        """Bytes that a device needs at most, state and batch included, as the compiler says."""
        return max(
            _peak_bytes(compiled.memory_analysis(), self.platform) for compiled in self.by_shape.values()
        )


def compile_train_step(
    step: TrainStep,
    state: TrainState,
    samples: Iterable[Batch] | Iterable[AbstractBatch],
    key: Any,
    controls: Controls,
    mesh: Mesh,
    advance: Callable[[int], None] = lambda count: None,
    teacher_params: Params | None = None,
) -> CompiledStep:
    """The step compiled for the shapes of the samples, several at a time. Arguments may be abstract, with
    shardings. `advance` is called with the number of shapes that have been compiled since its last call."""
    shardings = jax.tree.map(lambda x: x.sharding, state)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    compiling: dict[tuple[tuple[int, ...], ...], Future[jax.stages.Compiled]] = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            done = 0
            for batch in samples:
                lowered = jitted.lower(state, batch, key, controls, teacher_params)
                compiling[_shape(batch)] = pool.submit(lowered.compile)
                more = sum(future.done() for future in compiling.values()) - done
                advance(more)
                done += more
            for _ in itertools.islice(as_completed(compiling.values()), done, None):
                advance(1)
        except Interrupted:
            pool.shutdown(cancel_futures=True)
            raise
        programs = {shape: program.result() for shape, program in compiling.items()}
        return CompiledStep(programs, mesh.devices.flat[0].platform)


def _peak_bytes(stats: Any, platform: str) -> int:
    if platform != "cpu" and stats.peak_memory_in_bytes:
        return stats.peak_memory_in_bytes
    # on a CPU the peak counts arguments alone; the sum of everything is never below the true peak
    arguments_and_outputs = (
        stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    )
    return arguments_and_outputs + stats.temp_size_in_bytes


def _shape(batch: Batch | AbstractBatch) -> tuple[tuple[int, ...], ...]:
    return tuple(batch[name].shape for name in sorted(batch))


def make_evaluation_step(task: Task, mesh: Mesh) -> Callable[[Params, Batch], Sums]:
    """(params, batch) -> sums, without dropout."""
    return jax.jit(
        on(mesh, lambda params, batch: task.evaluation_sums(params, batch)),
        out_shardings=replicated(mesh),
    )
