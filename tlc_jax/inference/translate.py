"""A stream of lines to a stream of translations: in order, one for each line, whatever the lines hold."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.core.tree import Params
from tlc_jax.data.tokenizer import TRANSLATION, Tokenizer, load_tokenizer
from tlc_jax.tasks.decoder import ALPHA, Decoder, Translated
from tlc_jax.training.restore import trained_model

_WINDOW = 512  # lines that are sorted by length and translated together
_PAUSE = 0.2  # seconds without a further line after which those that are there are translated


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
    """Translates every line of `lines` with the model of a run, a mark, RUN@lastN or an artifact. With
    `best`, writes so many hypotheses of each as `number ||| translation ||| score`.

    Bytes that are not UTF-8 become U+FFFD. A line that is longer than what the model was trained on is cut at
    the ends of its sentences, or words, and its parts are translated one by one.
    """
    translator = Translator(root, console, beams=beams, alpha=alpha, best=best or 1)
    number = 0
    with stage(console, "translating", None, "lines") as advance:
        for window in _windows(lines):
            stopping.check()
            for found in translator(window):
                if best is None:
                    write(f"{found[0].text}\n")
                for one in found if best is not None else ():
                    write(f"{number} ||| {one.text} ||| {one.score:.6f}\n")
                number += 1
            advance(len(window))


class Translator:
    """A model, ready to translate lines of any length."""

    def __init__(self, root: str, console: Console, *, beams: int = 4, alpha: float = ALPHA, best: int = 1):
        model = trained_model(root, console.print)
        config = model.config.model
        if not isinstance(config, EncoderDecoderConfig):
            raise UserError(f"{root} holds no translation model: it was trained on another task")
        if not 1 <= best <= beams:
            raise UserError(f"--n-best is {best} and --beams {beams}: ask for 1 to {beams} hypotheses")
        self._tokenizer = load_tokenizer(model.rundir.tokenizer, config.vocab_size, TRANSLATION)
        self._params: Params = model.params
        self._longest = model.config.data.sequence_length
        self._decoder = Decoder(config, self._tokenizer, beams=beams, alpha=alpha, best=best)

    def __call__(self, lines: list[str]) -> list[list[Translated]]:
        """The hypotheses of each line, best first; of a line that was cut there is one."""
        parts = [pieces(line, self._tokenizer, self._longest - 1) for line in lines]
        found = iter(self._decoder.translate(self._params, [part for own in parts for part in own]))
        whole = []
        for own in parts:
            each = [next(found) for _ in own]
            whole.append(each[0] if len(each) == 1 else [_joined([best[0] for best in each])])
        return [[_one_line(one) for one in own] for own in whole]


def pieces(line: str, tokenizer: Tokenizer, longest: int) -> list[str]:
    """The line in parts of at most `longest` tokens, cut behind sentences, else between words, else
    anywhere."""
    if _size(tokenizer, line) <= longest:
        return [line]
    for pattern in (r"(?<=[.!?;:…])\s+", r"\s+"):
        if len(parts := [part for part in re.split(pattern, line) if part]) > 1:
            break
    else:
        middle = len(line) // 2
        parts = [line[:middle], line[middle:]]
    found, joined = [], ""
    for part in parts:
        longer = f"{joined} {part}".strip()
        if joined and _size(tokenizer, longer) > longest:
            found += pieces(joined, tokenizer, longest)
            longer = part
        joined = longer
    return [*found, *pieces(joined, tokenizer, longest)]


def _size(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _joined(parts: list[Translated]) -> Translated:
    text = " ".join(part.text.strip() for part in parts if part.text.strip())
    return Translated(text, sum(part.score for part in parts), all(part.ended for part in parts))


def _one_line(one: Translated) -> Translated:
    return Translated(" ".join(one.text.splitlines()), one.score, one.ended)


def _windows(lines: Iterable[bytes]) -> Iterator[list[str]]:
    """Lines by the window; fewer at a time where they come slowly, so that nobody waits for an answer."""
    arrived: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=2 * _WINDOW)

    def read() -> None:
        try:
            for line in lines:
                arrived.put(line.decode(errors="replace").rstrip("\r\n"))
            arrived.put(None)
        except Exception as error:  # told where lines are waited for
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
        if isinstance(line, BaseException):
            raise line
        if line is not None:
            window.append(line)
        if window and (line is None or len(window) == _WINDOW):
            yield window
            window = []
        if line is None:
            return
