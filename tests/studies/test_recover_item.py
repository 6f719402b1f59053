"""Pruning with recovery in a study: rounds are items, and their models are those that `compress` writes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.studies.untrained import FIRST, SECOND, Folder
from tlc_jax import compress, evaluate, study
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.config import Config, EncoderDecoderConfig, PairsConfig, TranslationConfig
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.recipes import recover
from tlc_jax.recipes.finished_round import Round
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.studies import compress_item, recover_item
from tlc_jax.studies.dry_run import predict
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.items import Item, items_of
from tlc_jax.studies.study_record import read_config
from tlc_jax.tasks.metric import NATS_PER_BYTE

BASE = StudyConfig(sizes=("1x64",), bits=(32, 4), sparsities=(0.0, 0.3, 0.5))
ROUNDS = "1x64/seed0/trained-rounds"


def by_name(config: StudyConfig) -> dict[str, Item]:
    return {item.name.removeprefix(f"{ROUNDS}/"): item for item in items_of(config)}


def test_sparsities_share_their_rounds_and_continue_as_compress_does() -> None:
    """From the largest level below; a sparsity that is no level is a round that none continues from."""
    recovery = RecoveryConfig(levels=(0.15, 0.3, 0.45, 0.6), control=True)
    items = by_name(replace(BASE, recovery=recovery))
    rounds = [name for name, item in items.items() if item.stage == "recover"]
    assert rounds == [f"{kind}-{level}" for level in (15, 30, 45, 50) for kind in ("pruned", "control")]
    trained = "1x64/seed0/trained"
    needs = {name: items[name].needs for name in rounds}
    assert needs["pruned-15"] == (trained,)
    assert needs["pruned-50"] == (trained, f"{ROUNDS}/pruned-45")
    assert needs["control-50"] == (trained, f"{ROUNDS}/control-45", f"{ROUNDS}/pruned-50")
    more = by_name(replace(BASE, recovery=recovery, sparsities=(*BASE.sparsities, 0.6)))
    assert needs.items() <= {name: item.needs for name, item in more.items()}.items()
    assert f"{ROUNDS}/pruned-45" in more["pruned-60"].needs
    compressed = items["pruned-50/4bits-50pruned"]
    assert compressed.compression is not None
    assert (compressed.compression.sparsity, compressed.compression.bits) == (0.5, 4)
    assert compressed.compression.recovery == recovery
    assert compressed.fields["recovered"] is True
    dense = items["control-50/4bits-0pruned"]
    assert (dense.fields["sparsity"], dense.fields["as_long_as"]) == (0.0, 0.5)
    assert "pruned-15/4bits-15pruned" not in items, "only a round on the way"
    before = by_name(BASE)
    assert before.items() <= items.items(), "what is pruned at once is measured as without recovery"


def test_nothing_is_pruned_in_rounds_where_no_sparsity_is_above_0() -> None:
    config = replace(BASE, sparsities=(0.0,))
    assert items_of(replace(config, recovery=RecoveryConfig())) == items_of(config)


class Rounds:
    """Stands in for the rounds of a model; each takes 7 updates and 2 seconds, that of 30 % none."""

    dense, recovery = 1.0, RecoveryConfig()

    def __init__(self, done: list[str], levels: tuple[float, ...], stop: str):
        self.done, self.levels, self.stop = done, levels, stop
        self.evaluate = SimpleNamespace(key="eval/held_out/nats_per_byte", metric=NATS_PER_BYTE)
        self.model = SimpleNamespace(step=4)

    def prune(self, index: int, before: Any, folder: Path, console: object) -> tuple[Any, Round]:
        level = self.levels[index]
        return self._round(level, 0 if level == 0.3 else 7, before, folder)

    def train_control(self, level: float, steps: int, before: Any, folder: Path, console: object) -> Any:
        return self._round(level, steps, before, folder)

    def _round(self, level: float, steps: int, before: Any, folder: Path) -> tuple[Any, Round]:
        if self.stop == folder.name:
            raise UserError("stopped")
        self.done.append(f"{folder.name} after {getattr(before, 'name', 'dense')}")
        folder.mkdir(parents=True)
        times = {"training_seconds": 0.0, "total_seconds": 0.0}
        lines = [{"step": step, **times, "eval/held_out/nats_per_byte": 1.5} for step in {0, steps}]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        reference = f"{folder}@best"
        return None, Round(level, "nats_per_byte", 1.5, 1.5, steps, steps, 2.0 * (steps > 0), reference)


@pytest.fixture
def rounds(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Those of the fake study, without finetuning."""
    text = folder.document.read_text(encoding="utf-8").replace("finetune=finetune,", "")
    text = text.replace("StudyConfig(\n", "StudyConfig(\n        recovery=RecoveryConfig(control=True),\n")
    imported = "import *\nfrom tlc_jax.config.compression import RecoveryConfig"
    folder.document.write_text(text.replace("import *", imported, 1))
    made = Rounds([], (), "")

    def opened(reference: str, recipe: Any, console: object) -> Rounds:
        made.levels = tuple(step.sparsity for step in recover._in_rounds(recipe).rounds())
        return made

    def loaded(reference: str, warn: object) -> Any:
        return SimpleNamespace(name=Path(reference).name)

    monkeypatch.setattr(recover_item, "open_rounds", opened)
    monkeypatch.setattr(recover_item, "load_model", loaded)
    return made


def test_an_interrupted_round_is_taken_up_and_none_is_repeated(folder: Folder, rounds: Rounds) -> None:
    rounds.stop = "control-50"
    options = ["--sparsities", "0.0", "0.5", "--sizes", "1x16"]
    with pytest.raises(UserError, match="stopped"):
        folder.go("", *options)
    before = [f"pruned-{level} after {earlier}" for level, earlier in ((15, "dense"), (30, "pruned-15@best"))]
    assert [each for each in rounds.done if "pruned" in each.split()[0]][:2] == before
    rounds.stop, first = "", list(rounds.done)
    folder.resume()
    assert rounds.done[: len(first)] == first
    assert [each.split()[0] for each in rounds.done] == [
        *("pruned-15", "control-15", "pruned-30", "pruned-45", "control-45", "pruned-50", "control-50")
    ], "each once; the round of 30 % had no update, so its control has none"
    assert rounds.done[-1] == "control-50 after control-45@best"
    assert "control-45 after control-15@best" in rounds.done


def test_rows_have_the_updates_of_all_rounds_and_those_of_the_control(folder: Folder, rounds: Rounds) -> None:
    folder.go("", "--sparsities", "0.0", "0.5", "--sizes", "1x16")
    store = folder.store
    recovered = store.rows(stage="compress", recovered=True, metric="accuracy")
    assert {(row["sparsity"], row["bits"]) for row in recovered} == {(0.5, 32), (0.5, 4)}
    control = store.rows(stage="compress", as_long_as=0.5, metric="accuracy")
    assert {(row["sparsity"], row["bits"]) for row in control} == {(0.0, 32), (0.0, 4)}
    for rows in (recovered, control):
        assert {(row["recovery_steps"], row["recovery_seconds"]) for row in rows} == {(21, 6.0)}
    assert "recovery_steps" not in store.rows(item=f"{FIRST}trained/4bits-50pruned")[0]
    [unchanged] = store.rows(item=f"{FIRST}trained-rounds/control-30")
    assert unchanged["kept_run"] == f"{FIRST}trained-rounds/control-15@best"
    assert (unchanged["steps"], unchanged["recovery_steps"]) == (0, 7)


def test_recovery_may_be_added_but_not_changed(folder: Folder, rounds: Rounds) -> None:
    text = folder.document.read_text(encoding="utf-8")
    folder.document.write_text(text.replace("recovery=RecoveryConfig(control=True),", ""))
    folder.go("", "--sizes", "1x16")
    assert rounds.done == []
    folder.document.write_text(text)
    folder.go("", "--sizes", "1x16")
    assert rounds.done[0].startswith("pruned-15")
    with pytest.raises(UserError, match="another config: recovery.max_epochs is 2"):
        folder.go("", "--recovery.max-epochs", "2")


def test_the_time_of_rounds_is_that_of_their_epochs_at_most(folder: Folder, rounds: Rounds) -> None:
    folder.go(f"{SECOND}trained", "--sparsities", "0.5")
    stored = read_config(folder.workdir)
    assert stored is not None
    config = replace(stored, sparsities=(0.5, 0.6))
    assert predict(config, folder.store)["recover"].seconds is None, "no epoch of the second size is known"
    epoch = {"epoch": 0.25, "training_seconds": 3.0, "last": True, "metric": "loss", "value": 1.0, "set": "x"}
    store = ItemStore(folder.root / "other")
    for size in config.sizes:
        fields = {"size": size, "variant": "", "seed": 0, "mark": ""}
        name = f"{size}/seed0/trained"
        store.seal(Result(item=name, stage="train", fields=fields, rows=[epoch], made={}))
    stage = predict(replace(config, recovery=RecoveryConfig(max_epochs=0.5)), store)["recover"]
    assert stage.items == 2 * len((15, 30, 45, 50, 60))
    assert stage.seconds == stage.items * 0.5 * 3.0 / 0.25
    assert stage.bytes > 0


def test_one_combination_of_a_search_is_pruned_in_rounds(folder: Folder) -> None:
    folder.go(f"{SECOND}trained")
    stored = read_config(folder.workdir)
    assert stored is not None
    one = replace(stored, recovery=RecoveryConfig())
    several = replace(one, search=replace(one.search, learning_rates=(1e-3, 1e-4, 1e-5)))
    stages = [predict(config, folder.store)["recover"] for config in (one, several)]
    assert stages[1].items == stages[0].items, "of the one that is chosen"
    assert stages[1].bytes == pytest.approx(stages[0].bytes)


CONFIG = """
from tlc_jax.config import *
from tlc_jax.config import Config, EncoderDecoderConfig, PairsConfig, TranslationConfig
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.study_options import StudyConfig

def get_config():
    train = Config(
        model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
        budget=BudgetConfig(steps=12),
        evaluation=EvaluationConfig(every_steps=None, max_rows=32),
        optimizer=OptimizerConfig(learning_rate=0.01),
        batch_size=16,
        log_every=10,
    )
    recovery = RecoveryConfig(
        (0.4,), target=2.0, max_epochs=0.1, evaluate_every=4, control=True, distil_weight=0.5
    )
    return StudyConfig(train=train, sizes=("1x16",), bits=(32, 4), sparsities=(0.8,), recovery=recovery)
"""
RECIPE = """
from tlc_jax.config.compression import CompressConfig, RecoveryConfig

def get_config():
    recovery = RecoveryConfig(
        (0.4,), target=2.0, max_epochs=0.1, evaluate_every=4, control=True, distil_weight=0.5
    )
    return CompressConfig(bits=4, sparsity=0.8, recovery=recovery)
"""


@pytest.mark.slow
def test_rounds_of_a_study_are_those_of_compress(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Weights and sizes bit for bit; half of the dense loss is never reached, so each round trains to its
    end. The pruned model has a teacher, and its control has none."""
    document, workdir = tmp_path / "tiny.py", tmp_path / "study"
    document.write_text(CONFIG.format(corpus=str(corpus), cache=str(tmp_path / "cache")))
    study.main(["--config", str(document), "--workdir", str(workdir)])
    store, run = ItemStore(workdir), workdir / "runs" / "1x16" / "seed0" / "trained"
    out, rounds = tmp_path / "out", tmp_path / "rounds"
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)
    options = ["--config", str(recipe), "--out", str(out), "--workdir", str(rounds)]
    compress.main(["--checkpoint", str(run), *options])
    for name in ("pruned-40", "pruned-80", "control-40", "control-80"):
        one, other = (
            load_model(f"{path}@best", warn=pytest.fail)
            for path in (run.parent / "trained-rounds" / name, rounds / name)
        )
        assert one.step == other.step
        teacher = one.config.distil.teacher
        assert teacher == (str(run) if "pruned" in name else None)
        for tensor, value in split(one.params).items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(split(other.params)[tensor]))
    manifest = read_artifact(out).manifest
    steps = sum(finished["steps"] for finished in manifest["recovery"])
    assert steps > 0
    [row] = store.rows(item="1x16/seed0/trained-rounds/pruned-80/4bits-80pruned", metric="nats_per_byte")
    size = manifest["size"]
    assert (row["nonzeros"], row["paper_bytes"]) == (size["nonzeros"], size["paper_bytes"])
    assert row["file_bytes"] == (out / "model.safetensors").stat().st_size
    assert row["recovery_steps"] == steps
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(out), "--json", "--data.dir", str(corpus)])
    evaluated = json.loads(capsys.readouterr().out)
    assert row["value"] == pytest.approx(evaluated["eval/held_out/nats_per_byte"], rel=1e-6)
    for sparsity, kept, name in ((0.8, "recovered", "pruned-80"), (0.0, "control", "control-80")):
        [dense] = store.rows(
            stage="compress",
            recovered=kept == "recovered",
            bits=32,
            metric="nats_per_byte",
            as_long_as=0.8 if sparsity == 0 else None,
        )
        assert dense["item"].split("/")[3] == name
        assert dense["value"] == pytest.approx(manifest["recovery"][-1][f"{kept}_nats_per_byte"], rel=1e-6)


def test_what_rounds_keep_is_decoded_as_its_training_was(tmp_path: Path) -> None:
    """Rounds are runs that translate nothing; the models that are compressed after them do."""
    task = TranslationConfig(bleu_sentences=5)
    trained = Config(model=EncoderDecoderConfig(), task=task, data=PairsConfig())
    before = RunDir(tmp_path / "runs" / "1x32/seed0/trained")
    before.root.mkdir(parents=True)
    write_json(before.config, asdict(trained))
    of_round = replace(trained, task=task.without_decoding(), seed=7)
    params, study = {}, SimpleNamespace(run=lambda name: RunDir(tmp_path / "runs" / name))
    model = TrainedModel(before, of_round, params, 1, (), {})
    item = Item(f"{before.root.relative_to(tmp_path / 'runs')}-rounds/pruned-30/8bits", "compress", {})
    found: Any = compress_item.decoding(model, item.unpruned, study)  # type: ignore[arg-type]
    assert (found.config.task.bleu_sentences, found.config.seed) == (5, 7)
    assert compress_item.decoding(model, "", study) is model, "no rounds"  # type: ignore[arg-type]
