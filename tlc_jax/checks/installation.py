"""Checks of what is installed: versions, devices, and whether a device computes what it should."""

from __future__ import annotations

import platform
import shlex
import time
import warnings
from pathlib import Path

import tlc_jax
from tlc_jax.checks.check import INSTALL, PACKAGE, Failed, Plan, hint_of

_SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_TOLERANCE = 0.02  # of the largest product; a TPU multiplies in bfloat16
_REPEATS = 3


def packages(plan: Plan) -> str:
    """Whether all packages that this one needs are there, in versions that go together, as their metadata
    say; and so the plugins of accelerators that are installed."""
    from tlc_jax.core.requirements import conflicts, merged, version_of
    from tlc_jax.parallel.accelerators import ACCELERATORS

    if version_of(PACKAGE) is None:
        raise Failed(f"{PACKAGE} is not installed: nothing says which versions it needs", _from_checkout())
    plugins = {plugin: extra for kind in ACCELERATORS for plugin, extra in kind.plugins.items()}
    installed = [plugin for plugin in plugins if version_of(plugin)]
    extras = ["", "tensorboard"] if any(config.tensorboard for config in plan.configs) else [""]
    ours = ((PACKAGE, extra) for extra in extras)
    wrong = conflicts([*ours, *(("jax", plugins[plugin]) for plugin in installed)])
    if wrong:
        raise Failed("; ".join(map(str, wrong)), hint_of(merged(wrong)))
    shown = ", ".join(f"{name} {version_of(name)}" for name in (*_SHOWN, *installed))
    return f"Python {platform.python_version()}, {shown} go together"


def _from_checkout() -> str:
    """The command that installs the checkout that this code is in."""
    root = Path(tlc_jax.__file__).parent.parent
    if not (root / "pyproject.toml").is_file():
        return INSTALL
    return f"pip install -e {'.' if root == Path.cwd() else shlex.quote(str(root))}"


def devices(plan: Plan) -> str:
    """Whether jax computes on the accelerator of this machine, if it has one."""
    from tlc_jax.parallel import accelerators

    try:
        usable = accelerators.devices()
    except accelerators.Unusable as error:
        raise Failed(error.why, error.command) from error
    import jax

    kind, backend = usable[0].device_kind, jax.default_backend()
    shown = f"{len(usable)} x {kind}" + (f" ({backend})" if kind != backend else "")
    if backend != "cpu":
        return shown
    attached = {each.name: sign for each, sign in accelerators.attached()}
    unused = [f"JAX_PLATFORMS leaves the {name} unused ({sign})" for name, sign in attached.items()]
    idle = [
        f"{each.plugin} is installed, but this machine shows no {each.name}"
        for each in accelerators.ACCELERATORS
        if each.plugin and each.name not in attached
    ]
    return "; ".join([shown, *unused, *idle])


def product(plan: Plan) -> str:
    """Whether the first device multiplies two matrices as numpy does, and how fast."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    size = 1024 if jax.default_backend() == "cpu" else 4096
    warnings.simplefilter(
        "ignore"
    )  # jax warns of a cache that cannot be written; the check of caches says so
    matrix = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    there, multiply = jax.device_put(matrix, jax.local_devices()[0]), jax.jit(jnp.matmul)
    began = time.monotonic()
    first = multiply(there, there).block_until_ready()
    seconds = [time.monotonic() - began]
    for _ in range(_REPEATS):
        began = time.monotonic()
        multiply(there, there).block_until_ready()
        seconds.append(time.monotonic() - began)
    expected = matrix[:8] @ matrix
    error = float(np.abs(np.asarray(first[:8]) - expected).max() / np.abs(expected).max())
    if not error < _TOLERANCE:
        raise Failed(
            f"a product of two matrices on a {jax.local_devices()[0].device_kind} is wrong by {error:.2g}: "
            "if nothing is wrong on the CPU, the device or its driver is",
            f"JAX_PLATFORMS=cpu {plan.again()}",
        )
    best = min(seconds[1:])
    speed = f"{2 * size**3 / best / 1e9:,.0f} GFLOP/s in float32"
    return f"{size:,} x {size:,} in {best * 1e3:.3g} ms ({speed}), the first time in {seconds[0]:.2g} s"
