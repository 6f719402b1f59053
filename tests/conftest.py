"""Eight fake CPU devices, no silent broadcasting, and shapes of public signatures checked on every call."""

import atexit
import collections
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

# compiled programs run for moments here: optimizing them would take most of the time
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that XLA does not know ends the process
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# child processes compile the same programs again and again
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker shares the folder of the main process
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tlc_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"  # storing more saves nothing
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401, the hook names it

# only modules with shapes in signatures: elsewhere checks of every call would repeat what pyright checks
PACKAGE = Path(__file__).parent.parent / "tlc_jax"
CHECKED = [
    ".".join(("tlc_jax", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.glob("*/**/*.py")
    if "from jaxtyping import" in path.read_text(encoding="utf-8")
]
install_import_hook(CHECKED, "tests.typecheck.check")

import hypothesis
import jax
import pytest

from tests import builders, crashes, programs
from tests.builders import write_corpus
from tlc_jax.parallel import accelerators

hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("ci")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # they share programs as they are
programs.share()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(crashes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with most slow tests first: at the end no worker waits long for another's last file."""
    tests = collections.Counter(item.path for item in items)
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path]))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    """A folder of generated text: 400 documents in three files of different kinds."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def command(corpus, tmp_path_factory: pytest.TempPathFactory):
    """Arguments of `train` for the tiny run of tests/builders.py in a given run directory."""
    root = tmp_path_factory.mktemp("config")
    (root / "tiny.py").write_text(builders.CONFIG)
    data = ["--data.dir", str(corpus), "--data.cache-dir", str(root / "cache")]
    fixed = ["--config", str(root / "tiny.py"), *data]
    return lambda workdir, *more: [*fixed, "--workdir", str(workdir), *more]


@pytest.fixture(scope="session")
def finished(command, tmp_path_factory: pytest.TempPathFactory):
    """The tiny run, finished; copy it before changing it."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    builders.train.main(command(workdir))
    return workdir


@pytest.fixture
def free_choice(monkeypatch: pytest.MonkeyPatch):
    """JAX_PLATFORMS is not set: jax chooses among what it has, which is a CPU here."""
    monkeypatch.setattr(accelerators, "ROOT", Path("/nothing"))
    for name in ("CUDA_VISIBLE_DEVICES", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID"):
        monkeypatch.delenv(name, raising=False)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    yield monkeypatch
    jax.config.update("jax_platforms", before)
