"""Which items a study has: their names, their order, and the configs of their runs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.config import CheckpointConfig, ClassificationConfig, CompressConfig, Config, Rule
from tlc_jax.config.study_options import SearchConfig, StudyConfig
from tlc_jax.config.variants import with_options
from tlc_jax.studies.items import Item, items_of, timing_of

TRAIN = StudyConfig().train
TRUNK = replace(
    TRAIN,
    schedule=replace(TRAIN.schedule, cooldown=0.0),
    checkpoint=CheckpointConfig(marks="1/4, 1/2"),
)
FINETUNE = Config(task=ClassificationConfig())
VARIANTS = ("", "batch_size=512", "batch_size=512,optimizer.learning_rate=0.001", "model.shared_layers=all")


def some(values: Any, least: int = 1) -> Any:
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique=True).map(tuple)


STUDIES = st.builds(
    StudyConfig,
    train=st.sampled_from([TRAIN, TRUNK]),
    finetune=st.sampled_from([None, FINETUNE]),
    search=st.builds(SearchConfig, learning_rates=some((1e-3, 1e-4), 0), seeds=some((1, 2, 3), 0)),
    sizes=some(("1x64", "11x64", "1x128")),
    variants=some(VARIANTS),
    seeds=some((0, 1, 10), 0),
    counted_in=st.sampled_from(["steps", "training_seconds"]),
    bits=some((32, 8, 4, 3), 0),
    sparsities=st.lists(st.floats(0, 1, exclude_max=True), max_size=3, unique=True).map(tuple),
)
AXES: dict[str, Any] = {
    "sizes": "3x64",
    "oversized": "5x64",
    "variants": "batch_size=128",
    "seeds": 77,
    "bits": 5,
    "sparsities": 0.125,
}


@given(STUDIES)
def test_names_are_unique_and_each_need_comes_before(config: StudyConfig) -> None:
    items = items_of(config)
    names = [item.name for item in items]
    assert len(set(names)) == len(names)
    for number, item in enumerate(items):
        assert set(item.needs) <= set(names[:number])
        assert item.run in names, "each compressed model is that of a run of the study"
    leases = [item.lease for item in items]
    assert len(list(itertools.groupby(leases))) == len(set(leases)), "items of a lease follow each other"
    by_lease = {item.lease: {other.stage for other in items if other.lease == item.lease} for item in items}
    assert all(len(stages) == 1 for stages in by_lease.values())


@given(STUDIES, st.sampled_from(sorted(AXES)))
def test_a_study_that_asks_for_more_keeps_the_items_that_it_had(config: StudyConfig, axis: str) -> None:
    """Names and fields of an item do not depend on the values of other axes."""
    before = getattr(config, axis) if axis != "seeds" else config.training_seeds
    more = replace(config, **{axis: (*before, AXES[axis])})
    items = {item.name: item for item in items_of(more)}
    for item in items_of(config):
        assert items[item.name].fields == item.fields
        assert items[item.name].compression == item.compression


@given(STUDIES)
def test_there_is_an_item_for_each_combination(config: StudyConfig) -> None:
    stages = [item.stage for item in items_of(config)]
    models = len(config.sizes) * len(config.variants)
    timed = len({variant.removesuffix(",optimizer.learning_rate=0.001") for variant in config.variants})
    trainings = models * len(config.training_seeds)
    finetunings = 0 if config.finetune is None else sum(map(len, config.finetunings().values()))
    compressed = trainings * (finetunings or 1) * len(config.bits) * len(config.sparsities)
    assert {
        stage: stages.count(stage) for stage in ("timing", "train", "branch", "finetune", "compress")
    } == {
        "timing": len(config.sizes) * timed if config.counted_in == "steps" else 0,
        "train": trainings,
        "branch": trainings * (2 if config.train is TRUNK else 0),
        "finetune": trainings * finetunings,
        "compress": compressed,
    }


def test_runs_that_were_finished_early_are_finetuned_and_compressed_too() -> None:
    config = StudyConfig(
        train=TRUNK,
        finetune=FINETUNE,
        sizes=("1x64",),
        bits=(4,),
        sparsities=(0.0,),
        compressed_at=("1/4", "1/2"),
    )
    items = {item.name: item for item in items_of(config)}
    [run] = config.finetunings()
    assert items[f"1x64/seed0/{run}-seed0/4bits-0pruned"].fields["mark"] == "1/2", "as without compressed_at"
    early = items[f"1x64/seed0/at-1-4/{run}-seed0/4bits-0pruned"]
    assert early.fields["mark"] == "1/4"
    assert items[early.run].needs == ("1x64/seed0/at-1-4",)
    with pytest.raises(ValueError, match="compressed_at names the mark 1/8, .* finished at 1/4, 1/2:"):
        replace(config, compressed_at=("1/8",))


def test_variants_that_are_no_trunks_have_no_branches_and_budgets_of_their_own() -> None:
    """Runs that are planned for one budget beside a trunk: one study has both."""
    planned = "schedule.cooldown=None,budget.training_seconds=900"
    config = StudyConfig(
        train=TRUNK,
        sizes=("1x64",),
        variants=("", planned),
        counted_in="steps",
        bits=(4,),
        sparsities=(0.0,),
        compressed_at=("1/4",),
    )
    items = {item.name: item for item in items_of(config)}
    assert [item.fields["mark"] for item in items.values() if item.stage == "branch"] == ["1/4", "1/2"]
    trained = items[f"1x64,{planned}/seed0/trained"]
    assert timing_of(trained) == timing_of(items["1x64/seed0/trained"]), "an update takes equally long"
    run = config.train_of("1x64", planned)
    assert (run.budget.training_seconds, run.schedule.cooldown, run.ends_at) == (900, None, 1.0)
    compressed = {item.run for item in items.values() if item.stage == "compress"}
    assert compressed == {"1x64/seed0/at-1-4", trained.name}, "a run without that mark: as it ended"


def test_every_size_is_trained_with_one_seed_before_any_is_trained_with_the_next() -> None:
    config = StudyConfig(sizes=("1x64", "2x64"), seeds=(3, 5), bits=(32,), sparsities=(0.0,))
    trained = [(i.fields["seed"], i.fields["size"]) for i in items_of(config) if i.stage == "train"]
    assert trained == [(3, "1x64"), (3, "2x64"), (5, "1x64"), (5, "2x64")]


def test_an_oversized_model_is_trained_once_and_not_compressed() -> None:
    config = StudyConfig(train=TRUNK, sizes=("1x64", "2x64"), seeds=(3, 5), counted_in="steps")
    more = replace(config, oversized=("4x64",))
    before = {item.name for item in items_of(config)}
    new = [item for item in items_of(more) if item.name not in before]
    assert [(item.stage, item.fields.get("seed")) for item in new] == [
        *(("timing", None), ("train", 3), ("branch", 3), ("branch", 3))
    ]
    assert {item.fields["size"] for item in new} == {"4x64"}
    with pytest.raises(ValueError, match="2x64 is given in sizes and in oversized"):
        replace(config, oversized=("2x64",))


def test_what_each_stage_needs() -> None:
    config = StudyConfig(
        train=TRUNK,
        finetune=FINETUNE,
        search=SearchConfig(seeds=(1, 2)),
        sizes=("1x64", "2x64"),
        counted_in="steps",
        bits=(4,),
        sparsities=(0.3,),
    )
    items = {item.name: item for item in items_of(config)}
    combination = next(iter(config.finetunings()))
    finetuned = [f"2x64/seed0/{combination}-seed{seed}" for seed in (1, 2)]
    compressed = items[f"{finetuned[1]}/4bits-30pruned"]
    assert compressed.needs == tuple(finetuned), "the choice of a combination looks at all of them"
    assert compressed.run == finetuned[1]
    assert compressed.fields["mark"] == "1/2", "the last branch is finetuned"
    assert items[finetuned[0]].needs == ("2x64/seed0/at-1-2",)
    assert items["2x64/seed0/at-1-4"].needs == ("2x64/seed0/trained",)
    assert items["2x64/seed0/trained"].needs == ("timing/1x64", "timing/2x64"), "nothing disturbs a timing"
    assert timing_of(items["2x64/seed0/trained"]) == "timing/2x64"
    assert {item.lease for item in items.values() if item.stage == "timing"} == {"timing"}


def test_a_run_that_is_no_trunk_has_no_branches() -> None:
    decayed = replace(TRUNK, schedule=replace(TRUNK.schedule, cooldown=None))
    assert not [item for item in items_of(StudyConfig(train=decayed)) if item.stage == "branch"]
    epochs = replace(TRUNK, checkpoint=CheckpointConfig(marks="1/2,epoch1"))
    marks = [item.fields["mark"] for item in items_of(StudyConfig(train=epochs)) if item.stage == "branch"]
    assert marks == ["1/2"] * 2, "a branch ends at a share of the budget"


def test_compressions_are_those_of_the_item_names() -> None:
    config = StudyConfig(bits=(32, 4), sparsities=(0.0, 0.45), compression=CompressConfig(rules=(Rule("x"),)))
    made = {item.name: item for item in items_of(config) if item.fields["size"] == "2x64"}
    for sparsity, bits in itertools.product((0.0, 0.45), (32, 4)):
        item: Item = made[f"2x64/seed0/trained/{bits}bits-{100 * sparsity:g}pruned"]
        assert item.compression == CompressConfig(rules=(Rule("x"),), bits=bits, sparsity=sparsity)
        assert (item.fields["bits"], item.fields["sparsity"]) == (bits, sparsity)


def test_depth_width_rate_and_seed_of_a_training() -> None:
    config = StudyConfig(sizes=("3x192",), rate_scaling="sqrt_width", seeds=(7,))
    made = config.train_of("3x192", "batch_size=64", 7)
    assert (made.model.num_layers, made.model.hidden_size, made.batch_size, made.seed) == (3, 192, 64, 7)
    rate = config.train.optimizer.learning_rate
    assert made.optimizer.learning_rate == pytest.approx(rate / math.sqrt(192), rel=1e-15)
    plain = replace(config, rate_scaling="none")
    assert plain.train_of("3x192").optimizer.learning_rate == rate
    as_given = replace(plain.train, model=replace(plain.train.model, num_layers=3, hidden_size=192))
    assert plain.train_of("3x192") == as_given, "nothing else differs between sizes"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("batch_size=512", "batch_size", 512),
        (" optimizer.learning_rate = 0.002", "optimizer.learning_rate", 0.002),
        ("model.shared_layers=all", "model.shared_layers", "all"),
        ("micro_batch=None", "micro_batch", None),
        ("schedule.follows=steps,budget.steps=8", "budget.steps", 8),
    ],
)
def test_options_of_a_variant(text: str, path: str, value: object) -> None:
    found: Any = with_options(TRAIN, text)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_sise=512", "variants: 'batch_sise' is no option of train"),
        ("optimizer.rate=1", "variants: 'optimizer.rate' is no option of train"),
        ("batch_size", "variants: 'batch_size' is not FIELD=VALUE"),
        ("batch_size=512,", "variants: '' is not FIELD=VALUE"),
        ("batch_size=big", "batch_size"),
        ("batch_size=-1", "batch_size"),
        ("schedule.follows=epochs", "follows"),
        ("model.num_layers=3", "variants: model.num_layers is that of a size"),
        ("seed=3", "variants: seed is that of a training: give it in seeds"),
        ("seeds=3", "no option of train"),
        ("__class__=3", "no option of train"),
        ("kept_marks=3", "no option of train"),
        ("optimizer=3", "variants: 'optimizer' is several options of train"),
        ("batch_size.x=3", "variants: 'batch_size.x' is no option of train"),
        ("data.dir=a/b", "variants: data.dir"),
    ],
)
def test_a_variant_that_does_not_fit_is_refused_by_its_name(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StudyConfig(variants=("", text))


def test_shares_that_hardly_differ_are_other_items() -> None:
    shares = (0.0, 0.07, 0.55, 0.1234567, 0.1234568, 1e-9, 0.07000000000000002)
    names = {i.name for i in items_of(StudyConfig(sizes=("1x64",), bits=(4,), sparsities=shares))}
    assert len(names) == len(shares) + 1
    assert {f"1x64/seed0/trained/4bits-{percent}pruned" for percent in ("0", "7", "55")} < names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": ()}, "sizes has no value"),
        ({"variants": ()}, "variants has no value"),
        ({"sizes": ("2x64", "2x64")}, "sizes has a value twice"),
        ({"seeds": (1, 1)}, "seeds has a value twice"),
        ({"sizes": ("2x",)}, "sizes: '2x' is not DEPTHxWIDTH"),
        ({"sizes": ("2by64",)}, "sizes: '2by64' is not DEPTHxWIDTH"),
        ({"bits": (32, 9)}, "bits must be of 1 to 8 or 32"),
        ({"sparsities": (1.0,)}, r"sparsities must be in \[0, 1\)"),
        ({"compression": CompressConfig(bits=4)}, "give none of compression.bits, compression.sparsity"),
        ({"compression": CompressConfig(sparsity=0.5)}, "give none of compression.bits"),
        ({"compression": CompressConfig(target_mb=1.0)}, "give none of .*compression.target_mb"),
    ],
)
def test_a_config_of_no_study(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StudyConfig(**options)


def test_a_search_is_a_grid_over_as_many_rows() -> None:
    search = SearchConfig(learning_rates=(1e-3, 1e-4), batch_sizes=(16, 32), dropouts=(0.1, 0.2, 0.3))
    finetune = replace(FINETUNE, batch_size=32, budget=replace(FINETUNE.budget, steps=2000))
    config = StudyConfig(finetune=finetune, search=replace(search, seeds=(3, 5)))
    combinations = config.finetunings()
    assert all([run.seed for run in seeds.values()] == [3, 5] for seeds in combinations.values())
    tried = [seeds["seed3"] for seeds in combinations.values()]
    assert (
        len({(c.optimizer.learning_rate, c.batch_size, vars(c.task)["dropout"]) for c in tried})
        == 12
        == len(tried)
    )
    assert {c.batch_size * (c.budget.steps or 0) for c in tried} == {32 * 2000}
    [only] = StudyConfig(finetune=finetune).finetunings().values()
    assert only == {"seed0": finetune}
    assert StudyConfig().finetunings() == {}
    with pytest.raises(ValueError, match="a value twice"):
        SearchConfig(seeds=(1, 1))
    rates = SearchConfig(learning_rates=(1e-3, 1.0000001e-3))
    assert len(StudyConfig(finetune=finetune, search=rates).finetunings()) == 2, "names keep all digits"
