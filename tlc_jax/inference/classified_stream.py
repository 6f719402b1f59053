"""Labels of the lines of standard input or of a file, or of the rows of a table, in order."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import first_of
from tlc_jax.data.labelled.labelled_rows import read_texts
from tlc_jax.data.tables import table_stem
from tlc_jax.inference.line_stream import (
    answer_stream,
    ask_for_lines,
    decoded,
    from_keyboard,
    lines_of_file,
    standard_input,
)
from tlc_jax.inference.text_classifier import Classifier, Prediction, Texts
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.paths import local_folder

_CUT = "were too long for the model and are judged by their beginning"
_BLANK = "have no text and get no label"
_TABS = "hold a tab, which is part of the text"


def classify_stream(
    reference: str,
    file: str | None,
    write: Callable[[str], object],
    console: Console,
    *,
    pairs: bool,
    as_json: bool,
) -> None:
    """Write the label of every line or row of `file`, else of standard input, and the probability of each
    class, with the model of a run, a mark, RUN@lastN or an artifact.

    A table is read as for training, whatever its labels. Of lines for a model of pairs, or of `pairs` where
    the model does not say, each holds two texts with a tab between them. The first line that is written names
    the columns, unless each line is `as_json` an object.
    """
    path = None if file is None else _existing(file)
    model = load_model(reference, warn=console.print, packed=True)
    classify, counts = Classifier(model, console), Counter[str]()
    pairs = _takes_pairs(model, reference, pairs)
    keyboard, is_table = False, path is not None and table_stem(path.name) is not None
    if path is not None and is_table:
        texts = _of_table(path, model, console)
    elif path is not None:
        texts = _of_lines(lines_of_file(path, counts), f"of {path}", reference, pairs, counts)
    else:
        ask_for_lines(console)
        keyboard = from_keyboard()
        texts = _of_lines(decoded(standard_input(), counts), "of standard input", reference, pairs, counts)
    write_line = _json_line if as_json else _tsv_line
    if not as_json:
        write("\t".join(["label", *classify.label_names]) + "\n")

    def respond(_: int, window: list[Texts]) -> Iterator[str]:
        for text, prediction in zip(window, classify(window), strict=True):
            counts[_CUT] += prediction.truncated
            counts[_BLANK] += not any(map(str.strip, text))
            yield write_line(prediction)

    unit = "rows" if is_table else "lines"
    answer_stream(
        texts,
        write,
        respond,
        console,
        counts,
        doing="predicting",
        done="predicted",
        unit=unit,
        bar=not keyboard,
    )


def _existing(file: str) -> Path:
    path = local_folder(file)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a table or a file with a text on each line")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give one of its files")
    return path


def _takes_pairs(model: TrainedModel, reference: str, given: bool) -> bool:
    """Whether lines hold pairs: as the model was trained; `given` decides where that is not recorded."""
    if given and model.texts_per_example == 1:
        raise UserError(f"{reference} was trained on single texts: omit --pairs")
    return given or model.texts_per_example == 2


def _of_table(path: Path, model: TrainedModel, console: Console) -> Iterator[Texts]:
    """The texts of the rows of a table; notes which columns are passed over."""
    rows = read_texts(path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} has no rows: fill it")
    texts, others = first
    model.check_texts(len(texts), f"{path} holds")
    if others:
        console.print(f"note: columns that are not read: {first_of(others)}")
    return (texts for texts, _ in itertools.chain([first], rows))


def _of_lines(
    lines: Iterable[str], where: str, reference: str, pairs: bool, counts: Counter[str]
) -> Iterator[Texts]:
    for number, line in enumerate(lines, 1):
        if not pairs:
            if "\t" in line and number == 1:
                raise UserError(
                    f"line 1 {where} holds a tab, and {reference} takes a text a line: give a table as a "
                    f"file, {command('predict')} {reference} TABLE.tsv, or its column of texts (cut -f1)"
                )
            counts[_TABS] += "\t" in line
            yield (line,)
            continue
        sides = tuple(line.split("\t"))
        if len(sides) != 2:
            count = "1 text" if len(sides) == 1 else f"{len(sides)} texts"
            raise UserError(
                f"line {number:,} {where} has {count} between tabs: {reference} takes two on each line"
            )
        yield sides


def _tsv_line(prediction: Prediction) -> str:
    numbers = ("" if math.isnan(p) else f"{p:.6f}" for p in prediction.probabilities.values())
    return "\t".join([prediction.label or "", *numbers]) + "\n"


def _json_line(prediction: Prediction) -> str:
    rounded = {name: None if math.isnan(p) else round(p, 6) for name, p in prediction.probabilities.items()}
    return json.dumps({"label": prediction.label, "probabilities": rounded}) + "\n"
