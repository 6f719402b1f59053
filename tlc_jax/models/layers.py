"""Layers with one precision policy: parameters, normalisation and softmax in float32, products in `dtype`."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from tlc_jax.config.model import TransformerConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.core.units import UnitKind
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.weights import Linear, gathered, product, promoted

# What is kept for the backward pass, by what is recomputed. Recomputing all but products with weights saves
# memory everywhere, and time too on a CPU.
_SAVED = {
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "all": jax.checkpoint_policies.nothing_saveable,
    "none": jax.checkpoint_policies.everything_saveable,
}
EPSILON = 1e-5  # fairseq's LayerNorm; flax's default is 1e-6


def saved(config: TransformerConfig) -> Callable[..., bool]:
    """Which results of a layer are kept for the backward pass."""
    return _SAVED[config.remat]


def compute_dtype(config: TransformerConfig) -> jnp.dtype:
    """Of activations and products."""
    if config.compute_dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("model.compute_dtype is float64, which jax has only with JAX_ENABLE_X64=1")
    return jnp.dtype(config.compute_dtype)


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The type of scores, softmax and logits."""
    return jnp.promote_types(dtype, jnp.float32)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, computed in float32 (fairseq gelu.py); jax.nn.gelu approximates by default."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=False).astype(x.dtype)


@jax.custom_vjp
def matmul(x: Float[Array, "*shape a"], kernel: Float[Array, "a b"]) -> Float[Array, "*shape b"]:
    """x @ kernel, with the kernel's gradient written as x.T @ dy.

    The gradient that jax derives is the transpose of dy.T @ x, for which XLA's CPU compiler recomputes dy
    into a transposed copy; that makes a feed-forward layer 1.8 times slower.
    """
    return x @ kernel


def _matmul_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matmul_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows = tuple(range(x.ndim - 1))
    # the first factor is copied, transposed: it should be the narrower one
    if x.shape[-1] <= dy.shape[-1]:
        gradient = jax.lax.dot_general(x, dy, ((rows, rows), ((), ())))
    else:
        gradient = jax.lax.dot_general(dy, x, ((rows, rows), ((), ()))).T
    return dy @ kernel.T, gradient


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def add_bias(x: Float[Array, "*shape a"], bias: Float[Array, "a"]) -> Float[Array, "*shape a"]:
    """x + bias, with the bias's gradient written as a product with ones: where `a` is a vocabulary, XLA's CPU
    compiler takes 50 times as long for a sum over rows."""
    return x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _add_bias_forward(x: Array, bias: Array) -> tuple[Array, None]:
    return add_bias(x, bias), None


def _add_bias_backward(_: None, dy: Array) -> tuple[Array, Array]:
    rows = tuple(range(dy.ndim - 1))
    ones = jnp.ones(dy.shape[:-1], dy.dtype)
    return dy, jax.lax.dot_general(ones, dy, ((rows, rows), ((), ())), precision=jax.lax.Precision.HIGHEST)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


Spec = tuple[str | None, str | None]
OUT: Spec = (None, "tensor")  # a kernel [in, out] whose columns (heads, units) are split over devices
IN: Spec = ("tensor", None)  # the same for its rows
WHOLE: Spec = (None, None)


def linear(
    config: TransformerConfig,
    features: int,
    name: str,
    init: nn.initializers.Initializer,
    spec: Spec,
    bias: bool = True,
) -> nn.Dense:
    """x @ kernel, with or without a bias that begins at 0.

    While it is used the kernel is sharded by `spec`: parts that are split over `fsdp` are gathered, in the
    type of the computation.
    """
    return Linear(
        features,
        use_bias=bias,
        dtype=compute_dtype(config),
        kernel_init=init,
        promote_dtype=promoted,
        dot_general=lambda x, kernel, dimensions, precision=None: product(x, gathered(kernel, *spec), matmul),
        name=name,
    )


def layer_norm(config: TransformerConfig, name: str, epsilon: float = EPSILON) -> nn.LayerNorm:
    """LayerNorm with float32 statistics; the two-pass variance does not cancel."""
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=compute_dtype(config), name=name)


def attend(
    query: Float[Array, "batch length heads head_size"],
    key: Float[Array, "batch others heads head_size"],
    value: Float[Array, "batch others heads head_size"],
    visible: Bool[Array, "#batch #length others"],
    drop: Callable[[Array], Array],
) -> Float[Array, "batch length width"]:
    """Values mixed by the softmax of query-key products, in float32 at least; `drop` on the weights."""
    accurate = at_least_float32(query.dtype)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=accurate)
    scores = jnp.where(visible[:, None], scores, jnp.finfo(accurate).min)
    weights = drop(jax.nn.softmax(scores, axis=-1).astype(query.dtype))
    batch, length, heads, size = query.shape
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, length, heads * size)


class Attention(nn.Module):
    """Multi-head attention from a sequence to `memory`, which may be the sequence itself: fairseq's and
    T2T's, q scaled by head_size ** -0.5. `visible` says which tokens each query (or all of them) attends
    to."""

    config: TransformerConfig
    kernel_init: nn.initializers.Initializer
    bias: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        memory: Float[Array, "batch others hidden"],
        visible: Bool[Array, "#batch #length others"],
        train: bool,
    ) -> Float[Array, "batch length hidden"]:
        config, width = self.config, self.config.heads * self.config.head_size

        def heads(name: str, x: Array) -> Array:
            projected = linear(config, width, name, self.kernel_init, OUT, self.bias)(x)
            return projected.reshape(*x.shape[:2], config.heads, config.head_size)

        query, key, value = heads("query", x), heads("key", memory), heads("value", memory)
        drop = functools.partial(Dropout(config.attention_dropout, name="dropout"), train=train)
        mixed = attend(query * config.head_size**-0.5, key, value, visible, drop)
        return linear(config, config.hidden_size, "output", self.kernel_init, IN, self.bias)(mixed)


class FeedForward(nn.Module):
    """expand -> activation -> dropout -> contract."""

    config: TransformerConfig
    kernel_init: nn.initializers.Initializer
    activation: Callable[[Array], Array]
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length hidden"], train: bool
    ) -> Float[Array, "batch length hidden"]:
        x = self.activation(linear(self.config, self.config.feed_forward, "expand", self.kernel_init, OUT)(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return linear(self.config, self.config.hidden_size, "contract", self.kernel_init, IN)(x)


# traced once for each model, however often its shapes are asked for
@functools.partial(jax.jit, static_argnums=0)
def new_params(model: nn.Module, key: jax.Array, *inputs: Array) -> Params:
    """New parameters of a model: a plain nested dict of float32 arrays."""
    params = model.init(key, *inputs, train=False)["params"]
    assert isinstance(params, dict)
    return params


RECORDED = "recorded"
"""The collection in which modules keep what an observer records (linear_inputs.py, hidden_states.py)."""
HIDDEN = "hidden"
_record: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("record", default=None)
_hidden: contextvars.ContextVar[bool] = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def recording(hidden: bool = False) -> Iterator[dict[str, Any]]:
    """What the modules of a model record while `output` computes, by their paths; with `hidden`, layers
    record their hidden states."""
    recorded: dict[str, Any] = {}
    tokens = _record.set(recorded), _hidden.set(hidden)
    try:
        yield recorded
    finally:
        _record.reset(tokens[0])
        _hidden.reset(tokens[1])


def handed_on(
    layer: nn.Module, x: Float[Array, "batch length hidden"]
) -> Float[Array, "batch length hidden"]:
    """The result of a layer, which is recorded where hidden states are."""
    if _hidden.get():
        layer.sow(RECORDED, HIDDEN, x, reduce_fn=lambda _, new: new, init_fn=lambda: jnp.zeros_like(x))
    return x


def output(
    model: nn.Module, params: Params, *inputs: Array | None, dropout_key: jax.Array | None = None, **how: Any
) -> jax.Array:
    """What a model, or its method `method`, computes. With `dropout_key`, dropout is on (training)."""
    rngs = {} if dropout_key is None else {"dropout": dropout_key}
    apply = functools.partial(
        model.apply, {"params": params}, *inputs, train=dropout_key is not None, rngs=rngs, **how
    )
    if (recorded := _record.get()) is None:
        x = apply()
    else:
        x, collections = apply(mutable=[RECORDED])
        recorded |= dict(collections.get(RECORDED) or {})
    assert isinstance(x, jax.Array)
    return x


def layer_rules(sides: str) -> tuple[tuple[str, P], ...]:
    """Sharding rules of stacked layers below the paths that the regex `sides` matches. A kernel's hidden axis
    is split over `fsdp`, the axis of its heads or units over `tensor`."""
    column = r"((cross_)?attention/(query|key|value)|feed_forward/expand)"
    row = r"((cross_)?attention/output|feed_forward/contract)"
    return (
        (r".*/(scale|bias)", P()),
        (rf"{sides}/layers/{column}/kernel", P(None, "fsdp", "tensor")),
        (rf"{sides}/layers/{row}/kernel", P(None, "tensor", "fsdp")),
    )


def attention_units(config: TransformerConfig, path: str, layers: int, bias: bool = True) -> UnitKind:
    """The heads of the stacked attention at `path`."""
    axes = {f"{path}/{name}/kernel": 2 for name in ("query", "key", "value")}
    axes |= {f"{path}/{name}/bias": 1 for name in ("query", "key", "value") if bias}
    reader = f"{path}/output/kernel"
    return UnitKind("heads", "num_heads", config.heads, config.head_size, layers, axes | {reader: 1}, reader)


def feed_forward_units(config: TransformerConfig, path: str, layers: int) -> UnitKind:
    """The units of the stacked feed-forward layer at `path`."""
    reader = f"{path}/contract/kernel"
    axes = {f"{path}/expand/kernel": 2, f"{path}/expand/bias": 1, reader: 1}
    return UnitKind("feed-forward units", "feed_forward_size", config.feed_forward, 1, layers, axes, reader)
