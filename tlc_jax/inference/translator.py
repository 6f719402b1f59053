"""Translates a stream of lines: one translation for each line, in order, whatever the lines hold."""

from __future__ import annotations

import bisect
import codecs
import dataclasses
import math
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from rich.console import Console

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.progress import stage
from tlc_jax.core.tree import Params
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.tokenizer import load_tokenizer
from tlc_jax.runs.load import load_model
from tlc_jax.runs.memory import GIB
from tlc_jax.tasks.decoder import ALPHA, Decoder, Translated, bytes_of_row, usable_memory
from tlc_jax.tasks.kinds import kind_of

_WINDOW = 512  # lines that are sorted by length and translated together
LONGEST_LINE = 1 << 20  # bytes: longer than any sentence
_CUT = "were too long for the model and are translated in parts, with one hypothesis"
_NOT_UTF8 = "held bytes that are not UTF-8, each replaced by U+FFFD"
_PAUSE = 0.2  # seconds without a further line after which the lines so far are translated


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

    A byte order mark before the first line is dropped, and bytes that are not UTF-8 become U+FFFD. A line
    that is longer than those the model was trained on is cut behind sentences or words, and its parts are
    translated one by one. The number of such lines is printed at the end. Interrupted and UserError say how
    many lines were written.
    """
    check_options(beams, alpha, best)
    translator = Translator(root, console, beams=beams, alpha=alpha, best=best or 1)
    counts: Counter[str] = Counter()
    number = 0
    try:
        with stage(console, "translating", None, "lines") as advance:
            for window in _windows(lines, counts):
                stopping.check()
                for hypotheses in translator(window):
                    if best is None:
                        write(f"{hypotheses[0].text}\n")
                    for each in hypotheses if best is not None else ():
                        write(f"{number} ||| {each.text} ||| {each.score:.6f}\n")
                    counts[_CUT] += hypotheses[0].parts > 1
                    counts[f"had fewer than {best} hypotheses"] += len(hypotheses) < (best or 1)
                    number += 1
                advance(len(window))
    except (Interrupted, UserError) as error:
        done = f"{number:,} lines are translated; to resume, give the lines from {number + 1:,} on"
        if isinstance(error, Interrupted):
            raise Interrupted(f"interrupted: {done}") from error
        raise UserError(f"{error}. {done[0].upper()}{done[1:]}") from error
    finally:
        for what, count in counts.items():
            if count:
                console.print(f"{count:,} of {number:,} lines {what}")


def check_options(beams: int, alpha: float, best: int | None) -> None:
    """UserError where the options of the search are impossible."""
    if beams < 1:
        raise UserError(f"--beams must be at least 1, not {beams}")
    if not 0 <= alpha < math.inf:
        raise UserError(f"--alpha must be a number from 0 on, not {alpha}")
    if best is not None and not 1 <= best <= beams:
        raise UserError(f"--n-best is {best} and --beams {beams}: ask for 1 to {beams} hypotheses")


def writer_to(output: BinaryIO) -> Callable[[str], None]:
    """A function that writes text and flushes it; SaveFailed where that fails. Control characters are spelled
    out on a terminal, since anybody may have made the model."""
    terminal = output.isatty()

    def write(text: str) -> None:
        if terminal:
            text = "\n".join(printable(line, len(line)) for line in text.split("\n"))
        try:
            output.write(text.encode())
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SaveFailed(f"standard output cannot be written: {error}") from error

    return write


def lines_of(descriptor: int) -> Iterator[bytes]:
    """The lines of an open file, as they come; UserError for one that is too long. Not `sys.stdin`: a thread
    that waits for it holds a lock which Python needs to exit."""
    rest: list[bytes] = []
    size, number = 0, 1
    try:
        while chunk := os.read(descriptor, 1 << 16):
            first, *others = chunk.split(b"\n")
            rest.append(first)
            size += len(first)
            for line in others:
                if size > LONGEST_LINE:
                    break
                yield b"".join(rest)
                rest, size, number = [line], len(line), number + 1
            if size > LONGEST_LINE:
                raise UserError(
                    f"line {number:,} of standard input is longer than {LONGEST_LINE:,} bytes: break it into "
                    "lines"
                )
    except OSError as error:
        raise UserError(f"standard input cannot be read ({error}): give lines of text") from error
    if any(rest):
        yield b"".join(rest)


class Translator:
    """A model, ready to translate lines of any length."""

    def __init__(self, root: str, console: Console, *, beams: int = 4, alpha: float = ALPHA, best: int = 1):
        model = load_model(root, warn=console.print)
        kind = kind_of(model.config)
        if not kind.translates:
            raise UserError(f"{root} holds no translation model: it was trained on another task")
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

    def __call__(self, lines: list[str]) -> list[list[Translated]]:
        """The hypotheses of each line, best first; a line that was cut has one."""
        translations = self._decoder.translate(self._params, lines)
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


def _windows(lines: Iterable[bytes], counts: Counter[str]) -> Iterator[list[str]]:
    """The lines in windows; smaller ones where lines come slowly, so that each is answered soon."""
    arrived: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=2 * _WINDOW)

    def read() -> None:
        try:
            for number, line in enumerate(lines):
                arrived.put(_decoded(line if number else line.removeprefix(codecs.BOM_UTF8), counts))
            arrived.put(None)
        except Exception as error:  # raised again by the main thread
            arrived.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    window: list[str] = []
    while True:
        try:
            line = arrived.get(timeout=_PAUSE)
        except queue.Empty:
            stopping.check()
            if window:
                yield window
                window = []
            continue
        if isinstance(line, str):
            window.append(line)
        if window and (not isinstance(line, str) or len(window) == _WINDOW):
            yield window
            window = []
        if isinstance(line, BaseException):
            raise line
        if line is None:
            return


def _decoded(line: bytes, counts: Counter[str]) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        counts[_NOT_UTF8] += 1
    return text.rstrip("\r\n")
