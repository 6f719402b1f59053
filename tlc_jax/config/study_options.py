"""The options of studies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Optional

from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.config.distillations import Distillation, parse_distillation
from tlc_jax.config.given_checkpoints import GivenCheckpoint, parse_given
from tlc_jax.config.marks import parse_mark
from tlc_jax.config.quantization import BITS
from tlc_jax.config.run import Config
from tlc_jax.config.training import BudgetConfig, ScheduleConfig
from tlc_jax.config.validation import check, check_types
from tlc_jax.config.variants import with_options


@dataclass(frozen=True)
class SearchConfig:
    """A grid of finetunings (paper, appendix D); an empty field takes the value of `finetune`.

    The combination with the best mean over its seeds on the tuning set is compressed, with all of its seeds.
    """

    learning_rates: tuple[float, ...] = ()
    """Peak learning rates."""
    batch_sizes: tuple[int, ...] = ()
    """Examples per update; the number of updates changes so that the same number of examples is seen."""
    dropouts: tuple[float, ...] = ()
    """Dropout rates of the encoder."""
    seeds: tuple[int, ...] = ()
    """Seeds of each combination: of the new head and of the order of the examples."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, values in vars(self).items():
            check(len(set(values)) == len(values), f"search.{name} has a value twice: {values}")


_NOT_FOR_STUDIES = ("bits", "sparsity", "recovery", "target_mb", "max_drop", "confidence")
"""Fields of a compression that are those of the study, or are searched for one model at a time."""


_OF_TRAINED_SIZES: dict[str, object] = {
    **dict.fromkeys(("oversized", "seeds", "distillations", "compressed_at", "memory_of"), ()),
    "variants": ("",),
    "rate_scaling": "none",
    "counted_in": "training_seconds",
}
"""Fields of a study that say how sizes are trained, with the values that they have where none is."""


def _training() -> Config:
    schedule = ScheduleConfig(follows="training_seconds")
    return Config(schedule=schedule, budget=BudgetConfig(training_seconds=3600))


@dataclass(frozen=True)
class StudyConfig:
    """Train several sizes for the same time, perhaps finetune them, compress each, compare them (paper 4)."""

    train: Config = field(default_factory=_training)
    """The training of every size; depth and width come from `sizes`, seeds from `seeds`. With
    schedule.cooldown 0 each run is a trunk, and a branch of it ends at each of checkpoint.marks. In place of
    the same time, sizes are trained for as many updates where the budget has budget.steps alone, and to the
    same loss, at the latest until the budget is used, with evaluation.stop_at (paper, table 2)."""
    finetune: Optional[Config] = None
    """The finetuning of every size; model and tokenizer are those of the trained run. None: the trained
    models are compressed as they are."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """The finetunings to choose from."""
    sizes: tuple[str, ...] = ("2x64", "2x128")
    """Depth x width."""
    pretrained: tuple[str, ...] = ()
    """Checkpoints that take the place of `sizes`, each hf:FOLDER, a run or an artifact: they are finetuned
    and compressed, and nothing of `train` is used. Each is called by its DEPTHxWIDTH."""
    oversized: tuple[str, ...] = ()
    """Sizes that are trained with the first seed alone, and neither finetuned nor compressed: beyond the
    largest of `sizes` they show where the largest stops being the best."""
    variants: tuple[str, ...] = ("",)
    """Options of `train` in which runs of a size differ, each as FIELD=VALUE,FIELD=VALUE, such as
    batch_size=512,optimizer.learning_rate=0.001; '' is `train` itself."""
    seeds: tuple[int, ...] = ()
    """Seeds of the training; none: that of `train`."""
    rate_scaling: Literal["none", "sqrt_width"] = "none"
    """'sqrt_width': the peak learning rate is that of `train` over the square root of the width."""
    counted_in: Literal["training_seconds", "steps"] = "training_seconds"
    """'steps': the time of an update of each size is measured once, before anything is trained, and
    train.budget.training_seconds become so many updates (paper 2.2): a machine that is busy later makes no
    size worse. 'training_seconds': by the clock of each run."""
    distillations: tuple[str, ...] = ()
    """Small models that learn from a large one in the same time, each as STUDENT:TEACHER@MARK, such as
    2x64:3x192@1/2: the teacher is the run of its size that is finished at the mark, and the student is
    trained for the rest of the budget; the teacher's part in its updates counts. Their loss is that of
    train.distil."""
    bits: tuple[int, ...] = (32, 8, 6, 4, 3)
    """Numbers of bits to quantize to; 32 is not quantized."""
    sparsities: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9)
    """Shares of the prunable weights to prune; each is combined with each of `bits`."""
    compressed_at: tuple[str, ...] = ()
    """Marks whose finished runs are finetuned and compressed (paper 4.4); none: the last one."""
    compression: CompressConfig = field(default_factory=CompressConfig)
    """How the models are compressed at each of `bits` and `sparsities`: a result is that of the artifact
    which `compress` writes with the same options."""
    memory_of: tuple[str, ...] = ()
    """Networks of which the compiler says, for each of `variants`, how much memory an update needs, as
    DEPTHxWIDTH or DEPTHxWIDTH,FIELD=VALUE,..., such as 12x768,batch_size=32 (paper, appendix C). They are not
    trained. The batch is computed at once."""
    errors: bool = False
    """Also measure what 4 bits and pruning 60 % change in each kind of matrix of the models that are
    compressed, and of the same networks before their first update (paper 5.3, figure 9)."""
    recovery: Optional[RecoveryConfig] = None
    """Also prune in rounds with training between them (paper 4.3), up to each of `sparsities` above 0, which
    share their rounds. The results are measured beside those of pruning at once and, with recovery.control,
    beside the dense model that was trained as long, all of them at each of `bits`."""

    def __post_init__(self) -> None:
        check_types(self)
        lists = {name: values for name, values in vars(self).items() if isinstance(values, tuple)}
        for name, values in lists.items():
            check(len(set(values)) == len(values), f"{name} has a value twice: {values}")
        check(bool(self.sizes or self.pretrained), "sizes has no value: give one at least, or pretrained")
        self._check_given()
        check(bool(self.variants), "variants has no value: '' is `train` itself")
        check(
            not (both := {*self.sizes} & {*self.oversized}),
            f"{', '.join(sorted(both))} is given in sizes and in oversized: give it once",
        )
        for size, variant in itertools.product((*self.sizes, *self.oversized), self.variants):
            self.train_of(size, variant)
        for network, variant in itertools.product(self.memory_of, self.variants):
            self.memory_config(network, variant)
        check(all(bits in BITS for bits in self.bits), f"bits must be of 1 to 8 or 32, not {self.bits}")
        check(
            all(0 <= s < 1 for s in self.sparsities), f"sparsities must be in [0, 1), not {self.sparsities}"
        )
        self._check_what_is_equal()
        self._check_distillations()
        check(
            self.recovery is None or not self.recovery.quantization_aware,
            "the rounds of a study are compressed to all of its bits, and recovery.quantization_aware trains "
            "for one of them: drop it, or use compress",
        )
        check(
            self.recovery is None or self.recovery.movement is None,
            "a study prunes in rounds from one sparsity to the next, and recovery.movement in a round of its "
            "own for each: drop it, or use compress",
        )
        for mark in self.compressed_at:
            check(
                mark in self.branches,
                f"compressed_at names the mark {mark}, and runs are finished at "
                f"{', '.join(self.branches) or 'none'}: give one of train.checkpoint.marks, with "
                "train.schedule.cooldown 0",
            )
        unset = {name: getattr(CompressConfig(), name) for name in _NOT_FOR_STUDIES}
        check(
            replace(self.compression, **unset) == self.compression,
            "a study has bits, sparsities and recovery of its own, no target_mb and no max_drop: give none "
            f"of compression.{', compression.'.join(_NOT_FOR_STUDIES)}",
        )

    def _check_given(self) -> None:
        """Of checkpoints that are given nothing is trained but the finetunings."""
        for text in self.pretrained:
            parse_given(text)
        if not self.pretrained:
            return
        check(
            not self.sizes,
            f"pretrained takes the place of sizes, which are {', '.join(self.sizes)}: give sizes no value",
        )
        check(self.finetune is not None, "pretrained checkpoints are finetuned: give finetune")
        training = [name for name, unset in _OF_TRAINED_SIZES.items() if getattr(self, name) != unset]
        check(
            not training,
            f"pretrained checkpoints are not trained, but {', '.join(training)} would say how: drop one or "
            "the other",
        )

    def _check_what_is_equal(self) -> None:
        budget, evaluation = self.train.budget, self.train.evaluation
        check(
            budget.training_seconds is not None or budget.steps is not None,
            "train.budget.training_seconds is not set: sizes are compared at equal training time, or, with "
            "train.budget.steps, after as many updates",
        )
        check(
            self.counted_in != "steps" or budget.training_seconds is not None,
            "counted_in steps turns seconds into updates, and train.budget.training_seconds is not set",
        )
        check(
            evaluation.stop_at is None or not self.branches,
            "train.evaluation.stop_at ends runs at a loss, and train.checkpoint.marks at shares of the "
            "budget: give one of them",
        )
        check(
            evaluation.stop_at is None or bool(evaluation.every_steps or evaluation.per_run),
            "train.evaluation.stop_at is only seen at evaluations: set train.evaluation.every_steps",
        )

    def _check_distillations(self) -> None:
        if not self.distillations:
            return
        wholes = [mark for mark in self.compressed_marks if mark and parse_mark(mark).share == 1]
        check(
            self.equal == "time" and "" in self.variants and bool(wholes),
            "distillations are compared with runs of the same time: give train.budget.training_seconds, "
            "train.schedule.cooldown 0, a mark 1 among train.checkpoint.marks (and compressed_at), and '' "
            "among variants",
        )
        check(
            self.finetune is None and self.train.distil.teacher is None,
            "distillations have teachers of their own and are not finetuned: give neither finetune nor "
            "train.distil.teacher",
        )
        for text in self.distillations:
            each = parse_distillation(text)
            self.student_of(each)
            check(
                each.teacher in self.sizes and each.mark in self.branches,
                f"distillations: {text} needs the size {each.teacher} among sizes and {each.mark} among "
                "train.checkpoint.marks",
            )

    @property
    def given(self) -> tuple[GivenCheckpoint, ...]:
        """The checkpoints that take the place of sizes."""
        return tuple(map(parse_given, self.pretrained))

    @property
    def equal(self) -> Literal["time", "updates", "loss"]:
        """What the runs that are compared have in common."""
        if self.train.evaluation.stop_at is not None:
            return "loss"
        return "updates" if self.train.budget.training_seconds is None else "time"

    @property
    def branches(self) -> tuple[str, ...]:
        """The marks at which branches of `train` end; none if it is no trunk."""
        return self.branches_of("")

    def branches_of(self, variant: str) -> tuple[str, ...]:
        """The marks at which branches of the runs of a variant end; none if these are no trunks, such as
        those with schedule.cooldown=None."""
        config = with_options(self.train, variant) if variant else self.train
        if config.schedule.cooldown != 0 or not config.checkpoint.marks:
            return ()
        names = [name.strip() for name in config.checkpoint.marks.split(",")]
        return tuple(name for name in names if parse_mark(name).share is not None)

    @property
    def compressed_marks(self) -> tuple[str, ...]:
        """The marks of the runs that are compressed; '' for runs that are no trunks."""
        return self.compressed_at or self.compressed_marks_of("")

    def compressed_marks_of(self, variant: str) -> tuple[str, ...]:
        """Those that the runs of a variant have, and the last one where they have none of them."""
        branches = self.branches_of(variant)
        return tuple(mark for mark in self.compressed_at if mark in branches) or branches[-1:] or ("",)

    @property
    def training_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.train.seed,)

    def train_of(self, size: str, variant: str = "", seed: int | None = None) -> Config:
        """The training config of one size, in one variant, with a seed (None: that of `train`)."""
        depth, _, width = size.partition("x")
        check(depth.isdigit() and width.isdigit(), f"sizes: {size!r} is not DEPTHxWIDTH, such as 2x128")
        config = with_options(self.train, variant) if variant else self.train
        model = replace(config.model, num_layers=int(depth), hidden_size=int(width))
        optimizer = config.optimizer
        if self.rate_scaling == "sqrt_width":
            rate = optimizer.learning_rate / math.sqrt(int(width))
            optimizer = replace(optimizer, learning_rate=rate)
        return replace(config, model=model, optimizer=optimizer, seed=config.seed if seed is None else seed)

    def student_of(self, distillation: Distillation, seed: int | None = None) -> Config:
        """The training config of a student, without its teacher, for what that leaves of the budget."""
        return self.train_of(distillation.student, "", seed).finished_at(1 - distillation.share)

    def memory_config(self, network: str, variant: str) -> Config:
        """The config of an update of one of `memory_of` in one variant, its batch in one part."""
        size, _, options = network.partition(",")
        given = (variant, options, "micro_batch=None")
        return self.train_of(size, ",".join(part for part in given if part))

    def finetunings(self) -> dict[str, dict[str, Config]]:
        """The configs of the search by the names of their combination and of their seed, which together name
        a run directory; none without `finetune`."""
        base, search, combinations = self.finetune, self.search, {}
        if base is None:
            return {}
        for rate in search.learning_rates or (base.optimizer.learning_rate,):
            for rows in search.batch_sizes or (base.batch_size,):
                for dropout in search.dropouts or (vars(base.task)["dropout"],):
                    steps = base.budget.steps and math.ceil(base.budget.steps * base.batch_size / rows)
                    config = replace(
                        base,
                        task=replace(base.task, dropout=dropout),
                        optimizer=replace(base.optimizer, learning_rate=rate),
                        budget=replace(base.budget, steps=steps),
                        batch_size=rows,
                    )
                    combinations[f"lr{_digits(rate)}-batch{rows}-dropout{_digits(dropout)}"] = {
                        f"seed{seed}": replace(config, seed=seed) for seed in search.seeds or (base.seed,)
                    }
        return combinations

    def compressions(self) -> Iterator[CompressConfig]:
        """The compressions of each finished model, in the order in which they are made."""
        for sparsity, bits in itertools.product(self.sparsities, self.bits):
            yield replace(self.compression, sparsity=sparsity, bits=bits)

    def round_levels(self) -> tuple[float, ...]:
        """The sparsity after each round of pruning with recovery: each of `sparsities` is reached by the
        levels below it, as `compress` does it, so that a round continues from the largest level below."""
        if self.recovery is None:
            return ()
        wanted = {sparsity for sparsity in self.sparsities if sparsity > 0}
        passed = {level for level in self.recovery.levels if level < max(wanted, default=0)}
        return tuple(sorted(wanted | passed))

    def round_before(self, level: float) -> float | None:
        """The level from which a round continues; None for a first one."""
        assert self.recovery is not None
        return max((below for below in self.recovery.levels if below < level), default=None)


def _digits(value: float) -> str:
    """The shortest of both usual forms that is this number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
