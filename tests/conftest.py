"""Eight fake CPU devices, no silent broadcasting, and shapes of public signatures checked on every call."""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# the same small programs are compiled again and again, by processes of their own too
import atexit
import shutil
import tempfile

_COMPILED = tempfile.mkdtemp(prefix="tlc_jax_compiled_")
atexit.register(shutil.rmtree, _COMPILED, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401, the hook names it

# not the doors: tyro fills those with stand-ins
ROOMS = ("compression", "core", "data", "inference", "models", "parallel", "studies", "tasks", "training")
install_import_hook([f"tlc_jax.{room}" for room in ROOMS], "tests.typecheck.check")

import hypothesis
import jax
import pytest

from tests.words import write_corpus

hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("ci")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    """A folder of generated English-like text: 400 documents in three files of different kinds."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
