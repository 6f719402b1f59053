"""Documents that are written: each loads as the config that it was written from."""

from pathlib import Path

import pytest

from tlc_jax.config import CompressConfig, Config, StudyConfig
from tlc_jax.config.document_text import document_text
from tlc_jax.core.config_document import config_names, load_config, scaled_names
from tlc_jax.core.errors import UserError

KINDS = (Config, StudyConfig, CompressConfig)


@pytest.mark.parametrize("name", [scaled for name in config_names() for scaled in scaled_names(name)])
def test_a_document_loads_as_its_config(name: str, tmp_path: Path) -> None:
    for kind in KINDS:
        try:
            config = load_config(name, kind)
        except UserError:
            continue
        document = tmp_path / "written.py"
        document.write_text(document_text(config, f"What {name} is."))
        assert load_config(str(document), kind) == config
        return
    raise AssertionError(f"{name} is of none of {KINDS}")
