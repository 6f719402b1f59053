"""Checks of what a run reads and where it writes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re

from tlc_jax.checks.check import Failed, Plan
from tlc_jax.config import Config
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command

_CREDENTIALS = "gcloud auth application-default login"
_NETWORK = "curl --head https://storage.googleapis.com"
_GCS = "pip install 'tlc-jax[gcs]'"


def workdir(plan: Plan) -> str:
    """Whether files can be written and locked in the run directory, or in the folder where it will be made,
    and whether the directory is free for the run."""
    from tlc_jax.storage.paths import NoNetwork, is_remote, parse_path
    from tlc_jax.storage.run_directory import RunDir
    from tlc_jax.storage.writable import try_folder

    if plan.workdir is None:
        return "not checked: give --workdir"
    name = plan.workdir.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    hint = plan.again(workdir=f"~/{name}")
    if plan.workdir.startswith("gs://") and len(plan.workdir) > len("gs://"):
        hint = _CREDENTIALS if importlib.util.find_spec("gcsfs") else _GCS
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it shows tracebacks of all attempts
    elif "://" in plan.workdir:
        hint = plan.again(workdir=f"runs/{name or 'new'}")
    try:
        folder = parse_path(plan.workdir)
        exists = plan.name == "train" and RunDir(folder).exists()
        try_folder(folder)
    except UserError as error:
        raise Failed(str(error), _NETWORK if isinstance(error, NoNetwork) else hint) from error
    except Exception as error:  # of the file system or of the object store
        why = getattr(error, "strerror", None) or one_line(error)
        raise Failed(f"nothing can be written to {plan.workdir} ({why})", hint) from error
    kind = "bucket" if is_remote(folder) else "folder"
    return f"the {kind} of {folder} can be written" + ("; it holds a run to resume" if exists else "")


def data(plan: Plan) -> str:
    """Whether the data are there that the configs name, and can be read as far as `sample` reads them."""
    from tlc_jax.checks.sample import read_sample
    from tlc_jax.runs.named_begin import parse_init_from
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import RunDir

    with contextlib.suppress(UserError):  # the check of the run directory says so
        if plan.workdir and (prepared := RunDir(parse_path(plan.workdir)).data).exists():
            return f"prepared in {prepared}"
    descriptions = []
    for config in {repr(config.data): config for config in plan.configs}.values():
        resolved = config
        with contextlib.suppress(UserError):  # the check of the config says so
            resolved = parse_init_from(plan.init_from).resolve(config) if plan.init_from else config
        try:
            whole = (
                plan.name == "train" or config is plan.configs[0]
            )  # the next has the tokenizer of the first
            descriptions.append(read_sample(resolved, whole))
        except UserError as error:
            raise Failed(str(error), _get_data(plan, config, str(error))) from error
    return "; ".join(descriptions)


def _get_data(plan: Plan, config: Config, message: str) -> str:
    """Doctor with the option that the message of an error asks for; or the command that prepares a public
    data set; for other data, doctor with the folder that has them. RUN and my_text/ stand for the user's."""
    from tlc_jax.data.preparation.known_data import KNOWN

    if "--init-from" in message:
        return plan.again(init_from="RUN")
    if option := re.search(r"\bset --([a-z.-]+) (\d+)", message):
        return plan.again(**{f"{plan.stage(config)}{option[1]}": option[2]})
    if least := re.search(r"\bgive a batch_size of at least (\d+)", message):
        return plan.again(**{f"{plan.stage(config)}batch_size": least[1]})
    for name in config.data.source_names:
        for known in KNOWN:
            if known.name in (name.partition(":")[0], name.partition("/")[0]):
                return f"{command('prepare')} {known.name} --out {known.name.replace('/', '_')}"
    return plan.again(**{f"{plan.stage(config)}data.dir": "my_text/"})
