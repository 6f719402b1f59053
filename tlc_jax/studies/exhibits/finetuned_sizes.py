"""Whether larger models are harder to finetune: sizes that were pretrained to the same loss, finetuned
(paper 3, B and table 2).

"Not harder" is no difference that a test could find, so it is put as a bound: less than one point of accuracy
below the smallest size. Welch's test over pretrainings is made at this bound; finetunings of one pretraining
are averaged, since they say nothing about another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import (
    Measured,
    above_gate,
    grouped,
    metric_of,
    primary,
    share,
    size_order,
    with_gates,
)
from tlc_jax.studies.picture import plain
from tlc_jax.studies.statistics import LEVEL, difference_interval, holm, interval, welch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.01
"""What a larger model may have less: the accuracies that table 2 calls comparable differ by about as much."""
NEAR = 0.01
"""Share of the target within which a pretraining has to end: one that ends far beyond it is no better match
than one that never comes to it."""
_PRETRAINED = ("train", "branch")

NOT_HARDER = Claim(
    "not-harder-to-finetune",
    "Pretrained to the same loss and finetuned, larger models reach at least the accuracy of smaller ones, "
    "less one point.",
    "3 and B, table 2",
)


def _rows(store: ItemStore) -> list[Row]:
    """The primary metric of each chosen finetuning, neither pruned nor quantized, on the set for choices and
    on the reported one; with what its pretraining has reached."""
    dense = [
        row
        for row in store.rows(stage="compress", bits=32, sparsity=0.0)
        if row.get("combination") and row.get("role") and primary(row) and not row.get("as_long_as")
    ]
    marks = [row["mark"] for row in dense]
    dense = [row for row in dense if row["mark"] == max(marks, key=share)]
    pretrained = _pretrained(store)
    rows = [{**row, **pretrained.get(_training(row), {})} for row in dense]
    rows.sort(key=lambda row: (row["variant"], size_order(row["size"])))
    return with_gates(rows, store.rows(stage="compress"))


def _training(row: Row) -> tuple[Any, ...]:
    return row["size"], row["variant"], row["seed"], row["mark"]


def _pretrained(store: ItemStore) -> dict[tuple[Any, ...], Row]:
    """What each finished pretraining has reached on the set for decisions: its primary metric (`loss_name`,
    `loss`), its perplexity, its seconds, and whether it has ended at the target at which it was to stop."""
    reached: dict[tuple[Any, ...], Row] = {}
    for row in store.rows(last=True):
        if row["stage"] not in _PRETRAINED:
            continue
        about = reached.setdefault(_training(row), {"held_out": row["set"]})
        if row["set"] != about["held_out"]:
            continue
        if primary(row):
            target = row.get("target")
            about |= {
                "loss_name": row["metric"],
                "loss": row["value"],
                "pretraining": row["training_seconds"],
            }
            about["at_target"] = (
                target is not None
                and metric_of(row).reached(row["value"], target)
                and abs(row["value"] - target) <= NEAR * abs(target)
            )
        elif row["metric"] == "perplexity":
            about["perplexity"] = row["value"]
    return reached


def _of_role(rows: list[Row], role: str) -> list[Measured]:
    return grouped((row for row in rows if row["role"] in (role, "both")), ("size", "variant"))


@dataclass(frozen=True)
class Comparison:
    """A larger size against the smallest: `gain` is what it has more, with an interval over pretrainings, and
    `p` that of the test whether it has more than the margin less."""

    small: Measured
    large: Measured
    judged: bool

    @property
    def gain(self) -> float:
        return self.large.mean - self.small.mean

    @property
    def p(self) -> float | None:
        """None unless both have several pretrainings."""
        if min(len(self.small.values), len(self.large.values)) == 1:
            return None
        return welch(self.large.values + MARGIN, self.small.values)

    @property
    def not_harder(self) -> bool:
        return self.gain > -MARGIN

    def __str__(self) -> str:
        covered = difference_interval(self.large.values, self.small.values)
        text = f" [{covered[0]:+.4f}, {covered[1]:+.4f}]" if covered else ""
        of_what = f"{self.large.rows[0]['metric']} on {self.large.rows[0]['set']}"
        return f"{_name(self.large)} against {_name(self.small)}, {of_what}: {self.gain:+.4f}{text}"


def comparisons(rows: list[Row]) -> list[Comparison]:
    """Of each variant, the larger sizes against the smallest, on the reported set."""
    models = _of_role(rows, "reported")
    metric = metric_of(rows[0])
    made = []
    for variant in dict.fromkeys(model.key[1] for model in models):
        small, *larger = [model for model in models if model.key[1] == variant]
        for large in larger:
            same = all(row.get("at_target") for row in (*small.rows, *large.rows))
            judged = metric.higher_is_better and same and not above_gate([small, large], metric)
            made.append(Comparison(small, large, judged))
    return made


def _name(model: Measured) -> str:
    return f"{model.key[0]} {model.key[1]}".strip()


def _sentences(rows: list[Row]) -> list[str]:
    made = comparisons(rows)
    tested = [each for each in made if each.judged and each.p is not None]
    corrected = dict(zip(map(id, tested), holm([float(each.p or 0) for each in tested]), strict=True))
    texts = []
    for each in made:
        text = str(each)
        if (p := corrected.get(id(each))) is not None:
            which = "not harder to finetune" if each.not_harder else "harder to finetune"
            text += f", {which if p < LEVEL else 'not resolved'}, at a margin of {MARGIN:g}, p = {p:.2g}"
        elif each.judged:
            text += "; one pretraining of one of them, so another may turn it"
        texts.append(f"{text}.")
    return [*texts, *_not_judged(rows)]


def _not_judged(rows: list[Row]) -> list[str]:
    """Why comparisons say nothing about the size."""
    texts, models, metric = [], _of_role(rows, "reported"), metric_of(rows[0])
    if any("checkpoint" in row for row in rows):
        texts.append(
            "Not judged: these checkpoints were given, and how each was pretrained is not known here. "
            "Intervals are over finetunings."
        )
    elif any(row.get("equal") != "loss" for row in rows):
        texts.append(
            "Not judged: the sizes were pretrained to different losses, which finetuning inherits. A study "
            "with train.evaluation.stop_at pretrains all of them to the same."
        )
    elif apart := [_name(model) for model in models if not all(row.get("at_target") for row in model.rows)]:
        texts.append(
            f"Not judged: {', '.join(apart)} did not stop at {rows[0]['target']:g} "
            f"{rows[0].get('loss_name')}, or at most {100 * NEAR:g} % beyond it."
        )
    if above := above_gate(models, metric):
        gate = above[0].rows[0]
        texts.append(
            f"Not judged: {', '.join(map(_name, above))} {'is' if len(above) == 1 else 'are'} no better than "
            f"the {gate['gate_name']}, {gate['gate']:.4f}."
        )
    return texts


def _table(rows: list[Row]) -> Table:
    tuning, reported = (_of_role(rows, role) for role in ("tuning", "reported"))
    first = reported[0].rows[0]
    table = Table(title="Finetuned sizes")
    table.add_column("size")
    sets = {models[0].rows[0]["set"]: models for models in (tuning, reported)}
    headings = ("pretraining, s", "perplexity", f"{first.get('loss_name', 'loss')} of pretraining")
    given = all("checkpoint" in row for row in rows)
    for name in (*(() if given else headings), *(f"{first['metric']}, {each}" for each in sets)):
        table.add_column(name, justify="right")
    table.add_column("finetuning")
    for number, model in enumerate(reported):
        combinations = ", ".join(dict.fromkeys(str(row["combination"]) for row in model.rows))
        before = () if given else (_number(model, name, form) for name, form in _BEFORE)
        table.add_row(_name(model), *before, *(str(each[number]) for each in sets.values()), combinations)
    if (gate := first.get("gate")) is not None:
        table.caption = f"{first['gate_name']} {gate:.4f}; chosen on {tuning[0].rows[0]['set']}"
    return table


_BEFORE = (("pretraining", ",.0f"), ("perplexity", ".2f"), ("loss", ".4f"))


def _number(model: Measured, column: str, form: str) -> str:
    return f"{model.number(column):{form}}" if all(column in row for row in model.rows) else ""


def _draw(axes: Axes, rows: list[Row]) -> None:
    models = _of_role(rows, "reported")
    first = models[0].rows[0]
    for number, model in enumerate(models):
        low, high = interval(model.values) or (model.mean, model.mean)
        axes.errorbar(
            [number], [model.mean], yerr=[[model.mean - low], [high - model.mean]], fmt="o", capsize=3
        )
        before = _number(model, "perplexity", ".2f")
        axes.annotate(
            f"perplexity {before}" if before else "",
            (number, model.mean),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
        )
    if (gate := first.get("gate")) is not None:
        axes.axhline(gate, color="grey", linestyle="--", label=plain(str(first["gate_name"])))
        axes.legend(fontsize=8)
    axes.set_xlim(-0.5, len(models) - 0.2)  # room for the last label
    axes.set_xticks(range(len(models)), [plain(_name(model)) for model in models], fontsize=8)
    axes.set(ylabel=plain(f"{first['metric']} on {first['set']}".replace("_", " ")), title="Finetuned sizes")


def _findings(rows: list[Row]) -> list[Finding]:
    return [
        Finding(NOT_HARDER, f"{each}, {_before(each)}", supports=each.not_harder, p=each.p)
        for each in comparisons(rows)
        if each.judged
    ]


def _before(each: Comparison) -> str:
    large, small = (_number(model, "pretraining", ",.0f") for model in (each.large, each.small))
    row = each.large.rows[0]
    return (
        f"each pretrained to {row['target']:g} {row['loss_name']} ({large} and {small} s); margin {MARGIN:g}"
    )


FINETUNED_SIZES = Exhibit("finetuned sizes", _rows, _table, _sentences, _draw, (NOT_HARDER,), _findings)
