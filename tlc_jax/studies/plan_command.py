"""The plan command: pilots, speeds, the law, the answer, and the files that it ends in."""

from __future__ import annotations

import dataclasses
import shlex

from rich.console import Console

from tlc_jax.checks.resources import parameters
from tlc_jax.config import StudyConfig
from tlc_jax.config.document_text import document_text
from tlc_jax.config.plan_options import PlanConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import three_digits
from tlc_jax.core.progress import duration
from tlc_jax.runs.timing_files import read_timings
from tlc_jax.storage.paths import AnyPath, make_folder, parse_path
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.studies.item_worker import work
from tlc_jax.studies.law_intervals import fit_with_intervals
from tlc_jax.studies.made import made
from tlc_jax.studies.offered_recipes import offered_recipes
from tlc_jax.studies.pilot_points import Pilot, check_compression, check_recipe, read_pilot
from tlc_jax.studies.pilot_study import pilot_study, planned_training
from tlc_jax.studies.plan_record import PLAN, Plan, PlannedSize, write_plan
from tlc_jax.studies.plan_refusals import check_gates, check_points, check_sizes, check_time
from tlc_jax.studies.plan_text import answer, notes_of, plan_table, recipe_text
from tlc_jax.studies.planner import MEGABYTE, Target, most_tokens, predicted_sizes, tokens_of
from tlc_jax.studies.study_folder import open_study
from tlc_jax.studies.study_record import refuse_others
from tlc_jax.studies.update_speed import speeds_of
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.view import make_console

PILOT, RUN, TRAIN, COMPRESS = "pilot", "run", "train_config.py", "compress_config.py"


def plan(options: PlanConfig, config: StudyConfig, of_pilots: bool) -> None:
    """Print the answer and write plan.json with the documents of its commands. With `of_pilots`, the choice
    is among the sizes of the pilots, and not those of the config. UserError where the pilots cannot answer,
    with the pilot that would."""
    console, workdir = make_console(), parse_path(options.workdir)
    _check_folder(workdir)
    if not options.device_file and options.peak_tflops is None:
        kind_of(config.train).source(config.train)  # updates are timed on it
    stores = [parse_path(store) for store in options.store]
    if options.pilot_minutes is not None:
        if stores:  # what is wrong with them is said before a pilot is trained for long
            _check_same(config, read_pilot(stores), stores[0])
        if options.device_file:
            read_timings([parse_path(path) for path in options.device_file], "--device-file")
        stores.append(_trained_pilot(config, options.pilot_minutes, workdir / PILOT, console))
    pilot = read_pilot(stores)
    _check_same(config, pilot, stores[0])
    if of_pilots:
        config = dataclasses.replace(config, sizes=tuple(pilot.parameters), oversized=())
    made_plan = _plan(options, config, pilot, console)
    make_folder(workdir)
    made_plan = _with_documents(made_plan, config, workdir)
    write_plan(made_plan, workdir / PLAN)
    _show(made_plan, workdir, console)


def _check_same(config: StudyConfig, pilot: Pilot, store: AnyPath) -> None:
    check_recipe(config, pilot.config, "--config", f"--store {store}")
    check_compression(config.compression, pilot.compression, "--config")


def _check_folder(workdir: AnyPath) -> None:
    refuse_others(workdir)
    if (workdir / STUDY).exists():
        raise UserError(f"--workdir {workdir} holds a study: give it as --store, and a new --workdir")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file: name a folder, which is made if it does not exist")
    if (workdir / RUN).exists():
        raise UserError(
            f"--workdir {workdir} has a plan whose training has begun, in {workdir / RUN}: give a new "
            "--workdir, so that this training can be resumed and compared with what was predicted"
        )


def _trained_pilot(config: StudyConfig, minutes: float, folder: AnyPath, console: Console) -> AnyPath:
    study = open_study(pilot_study(config, minutes), folder, console)
    sizes = ", ".join(study.config.sizes)
    console.print(f"pilot of {sizes} in {folder}: {duration(60 * minutes)} of training")
    work(study)
    return folder


def _plan(options: PlanConfig, config: StudyConfig, pilot: Pilot, console: Console) -> Plan:
    configs = {size: planned_training(config, size, 3600 * options.hours) for size in config.sizes}
    sizes = {size: pilot.parameters.get(size) or float(parameters(each)) for size, each in configs.items()}
    seeds = len(config.training_seeds)
    check_gates(pilot, sizes, seeds)
    check_points(pilot)
    check_sizes(pilot, sizes)
    device, speeds = speeds_of(configs, options, console)
    target = Target(3600 * options.hours, MEGABYTE * options.target_mb, sizes, speeds)
    tokens = {size: (tokens_of(pilot, target, size), most_tokens(pilot, target, size)) for size in sizes}
    check_time(pilot, sizes, tokens, options.hours, seeds)
    with console.status("fitting the law and its intervals"):
        law = fit_with_intervals(pilot.points)
    pilot, notes = offered_recipes(config, pilot)
    predicted, differences = predicted_sizes(pilot, law, target)
    _check_bytes(predicted, options)
    intervals = law.intervals()
    return Plan(
        hours=options.hours,
        target_mb=options.target_mb,
        device=device,
        metric=pilot.metric,
        set=pilot.set,
        sizes=predicted,
        law={name: (float(getattr(law.law, name)), *ends) for name, ends in intervals.items()},
        points=len(law.points),
        notes=(*notes_of(law, predicted, pilot), *notes),
        commands=(),
        made=made(),
        differences=differences,
    )


def _check_bytes(sizes: tuple[PlannedSize, ...], options: PlanConfig) -> None:
    if any(each.verdict == "chosen" for each in sizes):
        return
    recipes = [(recipe.file_bytes, each.size, recipe) for each in sizes for recipe in each.recipes]
    file, size, recipe = min(recipes, key=lambda each: each[0])
    words = recipe_text(recipe.bits, recipe.sparsity)
    raise UserError(
        f"no compression that was measured makes one of the sizes fit in {options.target_mb:g} MB: the "
        f"smallest is {size} ({words}) with {three_digits(file / MEGABYTE)} MB. Give a larger --target-mb, a "
        "smaller size, or a pilot with fewer bits"
    )


def _with_documents(plan: Plan, config: StudyConfig, workdir: AnyPath) -> Plan:
    """The plan with its commands, whose config documents are written."""
    chosen, run = plan.chosen, workdir / RUN
    best = chosen.best_recipe
    assert best is not None
    time = duration(3600 * plan.hours)
    train = planned_training(config, chosen.size, 3600 * plan.hours)
    text = document_text(train, f"{chosen.size} for {time}, as {PLAN} beside it has planned.")
    (workdir / TRAIN).write_text(text, encoding="utf-8")
    compression = dataclasses.replace(config.compression, bits=best.bits, sparsity=best.sparsity)
    text = document_text(
        compression, f"{recipe_text(best.bits, best.sparsity)}, as {PLAN} beside it has planned."
    )
    (workdir / COMPRESS).write_text(text, encoding="utf-8")
    commands = (
        f"{command('train')} --config {_quoted(workdir / TRAIN)} --workdir {_quoted(run)}",
        f"{command('compress')} {_quoted(run)} --config {_quoted(workdir / COMPRESS)} "
        f"--out {_quoted(workdir / 'compressed')}",
    )
    return dataclasses.replace(plan, commands=commands)


def _quoted(path: AnyPath) -> str:
    return shlex.quote(str(path))


def _show(plan: Plan, workdir: AnyPath, console: Console) -> None:
    console.print(plan_table(plan))
    console.print(answer(plan))
    for note in plan.notes:
        console.print(note)
    for line in plan.commands:
        console.print(f"    {line}")
    console.print(f"written: {workdir / PLAN}")
