"""One command, one run: opens or goes on with a run directory, shows the first screen, trains."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core import tree
from tlc_jax.core.clock import Budget, Clock
from tlc_jax.core.errors import UserError
from tlc_jax.core.rundir import RunDir, write_json
from tlc_jax.data import packing
from tlc_jax.data.sources import open_source
from tlc_jax.models.encoder import init_mlm
from tlc_jax.parallel.mesh import check_divides, make_mesh
from tlc_jax.tasks.mlm import MaskedLanguageModelling
from tlc_jax.training import loop
from tlc_jax.training.checkpoint import Checkpoints, restore_params
from tlc_jax.training.evaluate import Evaluator
from tlc_jax.training.metrics import Meter, MetricsWriter
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import init_state
from tlc_jax.training.step import compile_train_step, make_train_step
from tlc_jax.training.view import View, budget_text, make_console, show_config, show_facts


@dataclasses.dataclass(frozen=True)
class Order:
    """What a command asks for. `document` is the config as its file has it, before overrides."""

    config: Config
    document: Config
    workdir: Path
    init_from: Path | None = None
    dry_run: bool = False


def run(order: Order) -> None:
    """Does what the order says; UserError where the input is wrong, Interrupted after a signal."""
    started = time.monotonic()
    console = make_console()
    order = _with_source_run(order)
    config, rundir = order.config, RunDir(order.workdir)
    resumed = rundir.exists()
    if resumed:
        rundir.check_same(config)
    mesh = make_mesh()
    check_divides(mesh, config.micro_batch or config.batch_size, "micro_batch or batch_size")
    show_config(console, config, order.document)
    if order.dry_run:
        show_facts(console, _facts(order, _whether_there(order)))
        return
    text = _open_text(config, rundir, console)
    if not resumed:
        rundir.root.mkdir(parents=True, exist_ok=True)
        write_json(rundir.config, dataclasses.asdict(config))
    if not rundir.data.exists():
        text = packing.link(text, rundir.data)
    shutil.copyfile(rundir.data / "tokenizer.json", rundir.tokenizer)
    _record_start(order, rundir)
    task = MaskedLanguageModelling(config, text)
    show_facts(console, _facts(order, _data_identity(text)))
    with Checkpoints(rundir.checkpoints, config.checkpoint.keep) as checkpoints:
        session = _session(order, rundir, task, text, mesh, checkpoints, console, started)
        if session.budget.done(session.step, session.clock.training_seconds):
            console.print(f"complete: {session.step:,} steps, nothing left to do in {rundir.root}")
            return
        with session.view:
            loop.train(session)
        session.writer.close()
        console.print(f"done: {session.step:,} steps in {rundir.root}")


def _with_source_run(order: Order) -> Order:
    """With --init-from: the model and the tokenizer are the source run's."""
    if order.init_from is None:
        return order
    source = RunDir(order.init_from)
    if order.config.model != order.document.model:
        raise UserError("--init-from takes the model from its run: give no --model.* with it")
    if order.config.data.tokenizer != order.document.data.tokenizer:
        raise UserError("--init-from takes the tokenizer from its run: give no --data.tokenizer with it")
    data = dataclasses.replace(order.config.data, tokenizer=str(source.tokenizer))
    config = dataclasses.replace(order.config, model=source.read_config().model, data=data)
    return dataclasses.replace(order, config=config)


def _open_text(config: Config, rundir: RunDir, console: Console) -> packing.PackedText:
    """The run's own packed text; a run that has none yet takes it from the cache or makes it."""
    if rundir.data.exists():
        return packing.open_packed(rundir.data)
    if rundir.checkpoints.exists():
        raise UserError(f"{rundir.data} is missing, which this run was trained on: put it back")
    return packing.prepare(config.data, config.model.vocab_size, console)


def _session(
    order: Order,
    rundir: RunDir,
    task: MaskedLanguageModelling,
    text: packing.PackedText,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    console: Console,
    started: float,
) -> loop.Session:
    config = order.config
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    state, optimizer = init_state(task, config.optimizer, init_key, mesh)
    step, meta = checkpoints.latest_step, {}
    if step is not None:
        state, meta = checkpoints.restore(step, state)
        if meta["data"] != text.manifest["identity"]:
            raise UserError(f"{rundir.data} is not the data of this run: put its own files back")
        console.print(f"continuing after step {step:,}")
    elif order.init_from is not None:
        params, source_step = restore_params(RunDir(order.init_from).checkpoints, state.params)
        state = dataclasses.replace(state, params=params)
        console.print(f"parameters from {order.init_from}, step {source_step:,}")
    step = step or 0
    writer = MetricsWriter(rundir.metrics, step)
    clock = Clock(
        training_seconds=meta.get("training_seconds", 0.0),
        total_seconds=meta.get("total_seconds", 0.0) + time.monotonic() - started,
    )
    if writer.last is None:
        baselines = {f"eval/held_out/{name}": value for name, value in text.manifest["baselines"].items()}
        writer.write(0, clock.state(), baselines)
    console.print("compiling")
    evaluator = Evaluator(task, state.params, config.micro_batch or config.batch_size, mesh)
    budget = Budget(config.budget, config.schedule.follows)
    tokens_per_step = config.batch_size * task.tokens_per_row
    session = loop.Session(
        config=config,
        task=task,
        mesh=mesh,
        budget=budget,
        clock=clock,
        state=state,
        step=step,
        train_step=make_train_step(task, config, optimizer),
        evaluate=evaluator,
        checkpoints=checkpoints,
        writer=writer,
        meter=Meter(meta.get("meter")),
        data_identity=text.manifest["identity"],
        view=View(console, budget, tokens_per_step, step, clock.training_seconds),
        key=dropout_key,
    )
    first = controls(config, 0.0, task.tokens_per_row)
    session.train_step = compile_train_step(
        session.train_step, state, session.batch(step), dropout_key, first, mesh
    )
    return session


# --- what is told ------------------------------------------------------------------------------------


def _facts(order: Order, data: dict[str, str]) -> dict[str, str]:
    config = order.config
    params = jax.eval_shape(functools.partial(init_mlm, config.model), jax.random.key(0))
    devices = jax.devices()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})",
        "parameters": f"{tree.count(params):,}",
        **data,
        "writes to": str(order.workdir),
        "to resume": "run the same command again",
        "time": budget_text(config),
    }


def _whether_there(order: Order) -> dict[str, str]:
    if RunDir(order.workdir).data.exists():
        return {"data": f"packed in {RunDir(order.workdir).data}"}
    try:
        return {"data": f"there: {open_source(order.config.data).description}"}
    except UserError as error:
        return {"data": f"NOT THERE: {error}"}


def _data_identity(text: packing.PackedText) -> dict[str, str]:
    manifest = text.manifest
    baselines, digest = manifest["baselines"], manifest["tokenizer_sha256"]

    def size(split: str) -> str:
        rows, tokens, documents = (manifest[what][split] for what in ("rows", "tokens", "documents"))
        return f"{rows:,} rows, {tokens:,} tokens, {documents:,} documents"

    return {
        "data": f"{manifest['source']}, identity {manifest['identity'][:16]}",
        "train": size("train"),
        "held out": size("held_out"),
        "tokenizer": f"byte-level BPE, {manifest['vocab_size']:,} entries, {digest[:16]}",
        "held-out perplexity": f"unigram {baselines['unigram_perplexity']:.1f}, "
        f"bigram {baselines['bigram_perplexity']:.1f} (Witten-Bell)",
    }


def _record_start(order: Order, rundir: RunDir) -> None:
    """Adds an entry to environment.json."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers", "numpy", "tlc-jax")
    starts = json.loads(rundir.environment.read_text())["starts"] if rundir.environment.exists() else []
    starts.append(
        {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "init_from": str(order.init_from) if order.init_from else None,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages},
            "devices": [device.device_kind for device in jax.devices()],
            "platform": platform.platform(),
        }
    )
    write_json(rundir.environment, {"starts": starts})


def _version(name: str) -> Any:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed
