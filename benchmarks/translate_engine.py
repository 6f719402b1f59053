"""One engine that `translate.py` times, in a process of its own. It reads JSON lines and answers:

{"beams": 4}  ->  {"seconds": 1.2, "texts": [...]}
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import serve

BATCH, LARGE_BATCH = 32, 64
CORES = len(os.sched_getaffinity(0))
EXTRA = 50
Translate = Callable[[list[str], int], list[str]]


def ours(root: Path) -> Translate:
    from rich.console import Console

    from tlc_jax.inference.translator import Translator
    from tlc_jax.runs.load import load_model

    made: dict[int, Translator] = {}

    def translate(lines: list[str], beams: int) -> list[str]:
        if beams not in made:
            made[beams] = Translator(load_model(str(root)), Console(stderr=True), beams=beams, alpha=0.0)
        return [found[0].text for found in made[beams](lines)]

    return translate


def huggingface(root: Path) -> Translate:
    import torch
    import transformers

    torch.set_num_threads(CORES)
    tokenizer = transformers.AutoTokenizer.from_pretrained(root)
    model = transformers.PegasusForConditionalGeneration.from_pretrained(root).eval()

    def translate(lines: list[str], beams: int) -> list[str]:
        order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
        found = [""] * len(lines)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = tokenizer([lines[i] for i in chosen], return_tensors="pt", padding=True)
            with torch.inference_mode():
                ids = model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    num_beams=beams,
                    do_sample=False,
                    length_penalty=0.0,
                    max_new_tokens=batch["input_ids"].shape[1] + EXTRA,
                )
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                found[i] = text
        return found

    return translate


def ctranslate2(root: Path, kind: str, apart: bool) -> Translate:
    """`apart`: a batch for each core at once, of up to 64 sentences, as ours; else all cores share each batch
    of 32."""
    import ctranslate2
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(root / "tokenizer.json"))
    threads = {"inter_threads": CORES, "intra_threads": 1} if apart else {"intra_threads": CORES}
    translator = ctranslate2.Translator(str(root), compute_type=kind, **threads)

    def translate(lines: list[str], beams: int) -> list[str]:
        tokens = [tokenizer.encode(line).tokens for line in lines]  # with </s>
        results = translator.translate_batch(
            tokens,
            beam_size=beams,
            length_penalty=0.0,
            max_batch_size=LARGE_BATCH if apart else BATCH,
            max_decoding_length=max(map(len, tokens)) + EXTRA,
        )
        ids = [[tokenizer.token_to_id(token) for token in result.hypotheses[0]] for result in results]
        return [tokenizer.decode(own) for own in ids]

    return translate


def main() -> None:
    name, root, lines_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    lines = lines_file.read_text().splitlines()
    if name.startswith("tlc_jax"):
        translate = ours(root)
    elif name == "huggingface":
        translate = huggingface(root)
    else:
        _, kind, *apart = name.split("_")
        translate = ctranslate2(root, kind, bool(apart))

    def answer(order: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        texts = translate(lines, order["beams"])
        return {"seconds": time.perf_counter() - started, "texts": texts}

    serve(answer)


if __name__ == "__main__":
    main()
