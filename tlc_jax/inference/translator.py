"""Translates a stream of lines: one translation for each line, in order, whatever the lines hold."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from rich.console import Console

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.tokenizer import load_tokenizer
from tlc_jax.inference.line_stream import answer_stream, ask_for_lines, decoded, from_keyboard
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.runs.memory import GIB
from tlc_jax.tasks.decoder import ALPHA, Decoder, Translated, bytes_of_row, usable_memory
from tlc_jax.tasks.kinds import kind_of

_CUT = "were too long for the model and are translated in parts, with one hypothesis"


def translate_stream(
    root: str,
    lines: Iterable[bytes],
    write: Callable[[str], object],
    console: Console,
    *,
    beams: int,
    alpha: float,
    best: int | None,
) -> None:
    """Translate every line of `lines` with the model of a run, a mark, RUN@lastN or an artifact. With `best`,
    write that many hypotheses of each line as `number ||| translation ||| score`.

    A line that is longer than those the model was trained on is cut behind sentences or words, and its parts
    are translated one by one.
    """
    check_options(beams, alpha, best)
    translator = Translator(
        load_model(root, warn=console.print, packed=True),
        console,
        beams=beams,
        alpha=alpha,
        best=best or 1,
    )

    ask_for_lines(console)
    counts = Counter[str]()

    def respond(first: int, window: list[str]) -> Iterator[str]:
        for number, hypotheses in enumerate(translator(window), first):
            counts[_CUT] += hypotheses[0].parts > 1
            counts[f"had fewer than {best} hypotheses"] += len(hypotheses) < (best or 1)
            if best is None:
                yield f"{hypotheses[0].text}\n"
            else:
                yield "".join(f"{number} ||| {each.text} ||| {each.score:.6f}\n" for each in hypotheses)

    answer_stream(
        decoded(lines, counts),
        write,
        respond,
        console,
        counts,
        doing="translating",
        done="translated",
        bar=not from_keyboard(),
    )


def check_options(beams: int, alpha: float, best: int | None) -> None:
    """UserError where the options of the search are impossible."""
    if beams < 1:
        raise UserError(f"--beams must be at least 1, not {beams}")
    if not 0 <= alpha < math.inf:
        raise UserError(f"--alpha must be a number from 0 on, not {alpha}")
    if best is not None and not 1 <= best <= beams:
        raise UserError(f"--n-best is {best} and --beams {beams}: ask for 1 to {beams} hypotheses")


class Translator:
    """A model, ready to translate lines of any length."""

    def __init__(
        self, model: TrainedModel, console: Console, *, beams: int = 4, alpha: float = ALPHA, best: int = 1
    ):
        kind = kind_of(model.config)
        if not kind.translates:
            raise UserError(f"{model.rundir.root} is no translation model: it was trained on another task")
        config = cast(EncoderDecoderConfig, model.config.model)
        tokenizer = load_tokenizer(model.rundir.tokenizer, config.vocab_size, kind.tokenizer_layout)
        if kinds := normalizer_of(tokenizer):
            console.print(f"note: the model's tokenizer changes text before it is translated ({kinds})")
        longest = model.config.data.sequence_length
        _check_beams(config, beams, longest)
        self._params: Params = model.params
        self._decoder = Decoder(
            config, tokenizer, model.mesh, longest=longest, beams=beams, alpha=alpha, best=best
        )

    def __call__(
        self, lines: list[str], advance: Callable[[int], None] = lambda count: None
    ) -> list[list[Translated]]:
        """The hypotheses of each line, best first; a line that was cut has one. `advance` is called with the
        number of further lines that are done."""
        translations = self._decoder.translate(self._params, lines, advance)
        return [[_one_line(each) for each in hypotheses] for hypotheses in translations]


def _check_beams(config: EncoderDecoderConfig, beams: int, longest: int) -> None:
    """UserError where there cannot be so many hypotheses, or there is no memory for them."""
    if beams > config.vocab_size:
        raise UserError(
            f"--beams {beams} is more than the {config.vocab_size:,} entries of the model's vocabulary: give "
            "fewer, such as 4"
        )
    limit = usable_memory() // 2
    needed = bytes_of_row(config, beams, longest)
    if beams > 1 and needed > limit:
        possible = bisect.bisect_right(range(1, beams), limit, key=lambda n: bytes_of_row(config, n, longest))
        raise UserError(
            f"--beams {beams} needs about {needed / GIB:,.1f} GiB for a sentence of {longest} tokens, of "
            f"{limit / GIB:,.1f} GiB that may be used: give at most {max(1, possible)}"
        )


def _one_line(translated: Translated) -> Translated:
    return dataclasses.replace(translated, text=" ".join(translated.text.splitlines()))
