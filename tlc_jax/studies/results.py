"""The lines of a study's results.jsonl: their fields by stage, and how they are read from a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Count, Name, NotRequired, Sha256, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.metric import ACCURACY, Metric
from tlc_jax.training.metrics import read_metrics

Result = dict[str, Any]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[str, StringConstraints(pattern=r"^[\w.+-]+$", max_length=200)]
"""A part of the name of a run directory."""


@record
class StageData(TypedDict):
    """The prepared data of a run: the identity of their source and options, and their tokenizer's SHA-256."""

    identity: Sha256
    tokenizer: Sha256


@record
class _Result(TypedDict):
    size: Part
    data: NotRequired[dict[Literal["pretrain", "finetune"], StageData]]
    """By stage, the data that the result rests on; missing in studies of earlier versions."""


@record
class Pretrained(_Result):
    """Held-out perplexity over the training seconds, and that of the n-gram models to compare it with."""

    steps: Annotated[list[Count], Field(min_length=1)]
    training_seconds: Annotated[list[float], Field(min_length=1)]
    perplexity: Annotated[list[Positive], Field(min_length=1)]
    unigram_perplexity: Positive
    bigram_perplexity: Positive


@record
class _Judged(_Result):
    """What is judged by its task's primary metric, called NAME below. The versions that knew only accuracies
    did not name it."""

    name: Part
    seed: Part
    metric: NotRequired[Part]
    higher_is_better: NotRequired[bool]


@record
class Finetuned(_Judged):
    """The last evaluation on the tuning set; the metric's value is under NAME."""

    steps: Count
    training_seconds: float
    loss: float


@record
class Compressed(_Judged):
    """A finetuned model at one sparsity and number of bits; `correct` has one bit per example of `set`. The
    metric's value on that set is under NAME, on the tuning set under tuning_NAME, and those of the baselines
    are under majority_NAME and linear_NAME."""

    sparsity: Share
    bits: Count
    set: Name
    examples: Annotated[int, Field(gt=0)]
    correct: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
    paper_bytes: Positive
    format_bytes: NotRequired[Count]
    """With ranges and the positions of zeros; like `file_bytes`, missing in studies of earlier versions."""
    file_bytes: NotRequired[Count]
    parameters: Count
    nonzeros: Count
    step: Count


_STAGES: dict[str, type] = {"pretrain": Pretrained, "finetune": Finetuned, "compress": Compressed}
_VALUES = {
    "pretrain": (),
    "finetune": ("{}",),
    "compress": ("{}", "tuning_{}", "majority_{}", "linear_{}"),
}
"""The keys of a metric's values."""


def metric_of(result: Result) -> Metric:
    """The primary metric that a result of finetuning or of compression is judged by."""
    return Metric(result.get("metric", ACCURACY.name), result.get("higher_is_better", True))


def check_result(result: Result) -> None:
    """ValueError if it is not a result of a study; it names the field that is wrong."""
    stage = str(result.get("stage"))
    if stage not in _STAGES:
        raise ValueError(f"stage is none of {', '.join(_STAGES)}")
    checked(result, _STAGES[stage])
    names = [pattern.format(metric_of(result).name) for pattern in _VALUES[stage]]
    checked({name: result.get(name) for name in names}, dict[str, float])
    if stage == "pretrain":
        lengths = {len(result[name]) for name in ("steps", "training_seconds", "perplexity")}
        if len(lengths) > 1:
            raise ValueError("steps, training_seconds and perplexity differ in length")
    if stage == "compress" and len(result["correct"]) != 2 * -(-result["examples"] // 8):
        raise ValueError(f"correct does not have one bit for each of {result['examples']:,} examples")


def result_key(result: Result) -> tuple[Any, ...]:
    """The fields that identify a result: a study has one result for each."""
    return tuple(result.get(name) for name in ("stage", "size", "name", "seed", "sparsity", "bits"))


def read_result(stage: str, folder: AnyPath, metric: Metric = ACCURACY) -> Result:
    """The result of a finished run, from its metrics.jsonl: the curve of a pretraining, or the last
    evaluation of a finetuning on the tuning set, by its primary metric."""
    metrics = RunDir(folder).metrics
    lines = read_metrics(metrics)
    try:
        return _curve(lines) if stage == "pretrain" else _tuning(lines, metric)
    except (KeyError, IndexError) as error:
        raise UserError(
            f"{metrics} lacks the evaluations of a finished run ({error}): restore the run's own file"
        ) from error


def _curve(lines: list[dict[str, Any]]) -> Result:
    points = [line for line in lines if "eval/held_out/perplexity" in line]
    return {
        "steps": [line["step"] for line in points],
        "training_seconds": [line["training_seconds"] for line in points],
        "perplexity": [line["eval/held_out/perplexity"] for line in points],
        "unigram_perplexity": lines[0]["eval/held_out/unigram_perplexity"],
        "bigram_perplexity": lines[0]["eval/held_out/bigram_perplexity"],
    }


def _tuning(lines: list[dict[str, Any]], metric: Metric) -> Result:
    key = f"eval/tuning/{metric.name}"
    last = [line for line in lines if key in line][-1]
    return {
        "steps": last["step"],
        "training_seconds": last["training_seconds"],
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        metric.name: last[key],
        "loss": last["eval/tuning/loss"],
    }
