"""How well a plan would have predicted a study that is finished.

    python benchmarks/plan_proof.py --store runs/translation --output docs/results/plan_proof

The law is fitted to the first quarter of every training, with each size withheld in turn and with none, and
predicts the loss of every size at the end: four times as long, and of the withheld size without having seen
it. Sizes are trained for as long, so the best at the end is the answer that a plan would have to give. The
same is done with other counts of parameters, with all points in place of the last quarter, and with
exponents that nothing is known of beforehand. Rises by compression are predicted for each trained model from
the others. With --resamples, intervals are also tried on points that are drawn from Hoffmann's law (2022).
Written are OUTPUT.json and OUTPUT.md.

Cost: five minutes of one core, and one more for each ten resamples.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from about import about

from tlc_jax.storage.paths import parse_path
from tlc_jax.studies import law_intervals, scaling_law
from tlc_jax.studies.compression_rise import CompressionRise
from tlc_jax.studies.law_intervals import are_longest, covered, fit_with_intervals, longest_trainings
from tlc_jax.studies.pilot_points import Pilot, read_pilot
from tlc_jax.studies.scaling_law import Points, ScalingLaw

FITTED = 1 / 4  # of the tokens of each training
DRAWS = 200
HOFFMANN = ScalingLaw(*map(np.asarray, (1.69, 406.4, 410.7, 0.34, 0.28)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", nargs="+", required=True, help="folders of finished studies")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=0)
    args = parser.parse_args()
    pilot = read_pilot([parse_path(store) for store in args.store])
    results: dict[str, Any] = {**about(), "metric": pilot.metric, "set": pilot.set}
    results["predictions"] = predictions(pilot, pilot.parameters)
    results["alternatives"] = alternatives(pilot)
    results["law"] = law_of(pilot)
    results["rises"] = rises(pilot)
    if args.resamples:
        results["coverage"] = coverage(args.resamples)
    args.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    args.output.with_suffix(".md").write_text(page(results))
    print(page(results))


def predictions(pilot: Pilot, counts: dict[str, float], share: float = FITTED) -> list[dict[str, Any]]:
    """For each withheld size, and for none: the loss at the end of every size, predicted from so much of each
    training and measured, and the sizes that a plan would have named. `counts` are the parameters that the
    law is given."""
    points = counted(pilot, counts)
    rows = []
    for withheld in ("", *counts):
        known = points.subset((points.parameters != counts.get(withheld)) & early(points, share))
        fitted, rng = fit_with_intervals(known, DRAWS), np.random.default_rng(1)
        draws, obtained = {}, {}
        for size, parameters in counts.items():
            of_size = points.subset(points.parameters == parameters)
            if not len(of_size):
                continue
            obtained[size] = float(of_size.losses[are_longest(of_size)].mean())
            draws[size] = fitted.predict(parameters, float(of_size.tokens.max()), rng)
        chosen = min(draws, key=lambda size: float(np.median(draws[size])))
        named = [size for size in draws if covered(draws[size] - draws[chosen])[0] <= 0]
        best = min(obtained, key=obtained.__getitem__)
        for size, losses in draws.items():
            median, (low, high) = float(np.median(losses)), covered(losses)
            about_size = {"withheld": withheld, "size": size, "predicted": median, "low": low, "high": high}
            about_size |= {"obtained": obtained[size], "error": median / obtained[size] - 1}
            about_size |= {"inside": low <= obtained[size] <= high, "points": len(fitted.points)}
            rows.append({**about_size, "chosen": chosen, "named": named, "best": best})
    return rows


def counted(pilot: Pilot, counts: dict[str, float]) -> Points:
    """The points of a pilot with other counts of parameters."""
    points = pilot.points
    counts_of = {pilot.parameters[size]: count for size, count in counts.items()}
    parameters = np.array([counts_of[each] for each in points.parameters])
    return dataclasses.replace(points, parameters=parameters)


def early(points: Points, share: float) -> np.ndarray:
    """Which points are of the first part of their training."""
    longest = dict(zip(*longest_trainings(points), strict=True))
    ends = np.array([longest[each] for each in points.parameters])
    return points.tokens <= 1.02 * share * ends


def alternatives(pilot: Pilot) -> list[dict[str, Any]]:
    """Errors with other counts of parameters, with other windows of points, with exponents that are not drawn
    towards each other, and from whole trainings, of which only those of the withheld size are not known."""
    rows = []
    window, apart = law_intervals.WINDOW, scaling_law._APART
    for name, counts, share, *changed in (
        ("all parameters, last quarter", pilot.parameters, FITTED, window, apart),
        ("without embeddings, last quarter", without_embeddings(pilot), FITTED, window, apart),
        ("all parameters, all points", pilot.parameters, FITTED, 1000, apart),
        ("exponents free of each other", pilot.parameters, FITTED, window, 100.0),
        ("from whole trainings", pilot.parameters, 1.0, window, apart),
    ):
        law_intervals.WINDOW, scaling_law._APART = changed
        predicted = predictions(pilot, counts, share)
        for kind, wanted in (("seen", lambda row: not row["withheld"]), ("withheld", is_withheld)):
            errors = [row["error"] for row in predicted if wanted(row)]
            if errors:
                rms = float(np.sqrt(np.mean(np.square(errors))))
                rows.append({"of": name, "sizes": kind, "rms": rms, "worst": max(map(abs, errors))})
    law_intervals.WINDOW, scaling_law._APART = window, apart
    return rows


def is_withheld(row: dict[str, Any]) -> bool:
    return bool(row["withheld"] == row["size"])


def without_embeddings(pilot: Pilot) -> dict[str, float]:
    vocabulary = pilot.config.train.model.vocab_size
    return {
        size: count - vocabulary * int(size.partition("x")[2]) for size, count in pilot.parameters.items()
    }


def law_of(pilot: Pilot) -> dict[str, Any]:
    """The law of all points in the window, with the error that it leaves."""
    fitted = fit_with_intervals(pilot.points, DRAWS)
    constants = {name: [float(getattr(fitted.law, name)), *ends] for name, ends in fitted.intervals().items()}
    errors = law_intervals.relative_errors(fitted.law, fitted.points)
    return {"constants": constants, "points": len(errors), "rms": float(np.sqrt(np.mean(errors**2)))}


def rises(pilot: Pilot) -> dict[str, Any]:
    """How far rises by compression are predicted for each trained model from the others."""
    models = sorted({(each.parameters, each.tokens) for each in pilot.rises})
    rng, inside, logs = np.random.default_rng(0), list[bool](), list[float]()
    for model in models:
        others = CompressionRise([each for each in pilot.rises if (each.parameters, each.tokens) != model])
        for each in pilot.rises:
            if (each.parameters, each.tokens) == model and each.recipe in others.recipes:
                draws = others.ratio(each.recipe, *model, 2000, rng)
                low, high = covered(draws)
                inside.append(low <= each.ratio <= high)
                logs.append(float(np.median(draws)) / each.ratio - 1)
    share = float(np.mean(inside)) if inside else None
    typical = float(np.median(np.abs(logs))) if logs else None
    return {"models": len(models), "compressions": len(inside), "inside": share, "error of the loss": typical}


def coverage(resamples: int) -> dict[str, float]:
    """Of intervals for points of Hoffmann's law with an error of 0.5 %: how often they cover the constants,
    the loss of a training that is four times as long, and that of a size between two others."""
    sizes, marks = np.logspace(7.6, 10.2, 6), np.array([1 / 4, 1 / 2, 1])
    n, share = map(np.ravel, np.meshgrid(sizes, marks, indexing="ij"))
    d, names = 3e20 / n * share, ("E", "A", "B", "a", "b")
    inside: dict[str, list[bool]] = {"constants": [], "four times as long": [], "a size between two": []}
    for seed in range(resamples):
        rng = np.random.default_rng(seed)
        losses = HOFFMANN.loss(n, d) * np.exp(0.005 * rng.standard_normal(len(n)))
        fitted = fit_with_intervals(Points(n, d, losses, n), DRAWS)
        for name in names:
            low, high = fitted.intervals()[name]
            inside["constants"].append(low <= float(getattr(HOFFMANN, name)) <= high)
        between = float(np.sqrt(sizes[2] * sizes[3]))
        for name, size, times in (
            ("four times as long", float(sizes[3]), 4),
            ("a size between two", between, 1),
        ):
            low, high = covered(fitted.predict(size, times * 3e20 / size, rng))
            true = float(HOFFMANN.loss(np.array(size), np.array(times * 3e20 / size)))
            inside[name].append(low <= true * np.exp(0.005 * rng.standard_normal()) <= high)
    return {name: float(np.mean(each)) for name, each in inside.items()} | {"resamples": resamples}


def page(results: dict[str, Any]) -> str:
    rows = results["predictions"]
    lines = [
        "# What a plan would have predicted",
        "",
        f"{results['metric']} on {results['set']} at the end of each training, predicted from the first "
        "quarter of all trainings but those of the withheld size. Intervals are of 95 %.",
        "",
        "| withheld | size | points | predicted | interval | obtained | error | inside |",
        "|---|---|---:|---:|---|---:|---:|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['withheld'] or 'none'} | {row['size']} | {row['points']} | {row['predicted']:.4f} | "
            f"[{row['low']:.4f}, {row['high']:.4f}] | {row['obtained']:.4f} | {row['error']:+.1%} | "
            f"{'yes' if row['inside'] else '**no**'} |"
        )
    share = np.mean([row["inside"] for row in rows])
    lines += ["", f"{share:.0%} of the intervals hold.", ""]
    for withheld in dict.fromkeys(row["withheld"] for row in rows):
        row = next(each for each in rows if each["withheld"] == withheld)
        holds = "which holds" if row["best"] in row["named"] else "which is wrong"
        lines.append(
            f"* {withheld or 'No size'} withheld: named {', '.join(row['named'])} ({row['chosen']} first); "
            f"best is {row['best']}, {holds}."
        )
    lines += ["", "| law | sizes | error (root mean square) | worst |", "|---|---|---:|---:|"]
    for row in results["alternatives"]:
        lines.append(f"| {row['of']} | {row['sizes']} | {row['rms']:.1%} | {row['worst']:.1%} |")
    law = results["law"]
    lines += ["", f"The law of all {law['points']} points of the window misses them by {law['rms']:.1%}:"]
    lines += ["", "| constant | value | interval |", "|---|---:|---|"]
    for name, (value, low, high) in law["constants"].items():
        lines.append(f"| {name} | {value:.4g} | [{low:.4g}, {high:.4g}] |")
    lines += ["", *closing(results), ""]
    return "\n".join(lines)


def closing(results: dict[str, Any]) -> list[str]:
    lines, rise = [], results["rises"]
    if rise["inside"] is not None:
        lines.append(
            f"Rises by {rise['compressions']} compressions of {rise['models']} trained models, each "
            f"predicted from the other models: {rise['inside']:.0%} of the intervals hold; the loss of the "
            f"compressed model is missed by {rise['error of the loss']:.1%} (median)."
        )
    if covering := results.get("coverage"):
        shares = [f"{name} {each:.0%}" for name, each in covering.items() if name != "resamples"]
        lines += ["", f"Intervals hold over {covering['resamples']} resamples of Hoffmann's law: "]
        lines[-1] += f"{', '.join(shares)}."
    lines += ["", f"`{results['command']}`, {results['commit']}, {results['date']}, {results['machine']}."]
    return lines


if __name__ == "__main__":
    main()
