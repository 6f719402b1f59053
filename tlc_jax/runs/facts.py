"""What is known of a run before its first step, for the first screen."""

from __future__ import annotations

import jax

from tlc_jax.config import Config
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.data.cache import Prepared
from tlc_jax.data.tokenizer import given_tokenizer
from tlc_jax.parallel import hosts
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params
from tlc_jax.training.view import budget_text


def facts(config: Config, data: Prepared | None, rundir: RunDir, more: dict[str, str]) -> dict[str, str]:
    """Facts by name, for the first screen; `data` is None before they are prepared."""
    try:
        names = kind_of(config).label_names(config, data.folder if data else None)
        params = abstract_params(kind_of(config).objective(config, len(names)))
        parameters = f"{tree.count(params):,}"
    except UserError:  # the number of classes follows from the data, which do not exist
        parameters = "known with the data"
    devices, processes = jax.devices(), hosts.count()
    among = f" of {processes} processes" if processes > 1 else ""
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()}){among}",
        "parameters": parameters,
        **more,
        "writes to": str(rundir.root),
        "to resume": "run the same command again",
        "time": budget_text(config),
    }


def data_facts(config: Config, rundir: RunDir) -> dict[str, str]:
    """Whether the data exist that a run would begin with."""
    if rundir.data.exists():
        return {"data": f"packed in {rundir.data}"}
    try:
        tokenizer = config.data.tokenizer
        if tokenizer is not None:
            given_tokenizer(tokenizer, config.model.vocab_size, kind_of(config).tokenizer_layout)
        return {"data": f"there: {kind_of(config).source(config).description}"}
    except UserError as error:
        return {"data": f"NOT THERE: {error}"}
