"""One engine that `train_step.py` times, in a process of its own: steps of masked language modelling.

{"about": true}                    ->  versions and device
{"size": [4, 256, 8], "steps": 3}  ->  {"seconds": of each step, on average}

Layers, width and rows; rows of 128 random tokens of 50,265, 19 of them predicted, AdamW, dropout 0.1.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from engine import serve

from tlc_jax.core.vocabulary import roberta_roles
from tlc_jax.data.text.masking import mask

LENGTH, VOCAB, RATE = 128, 50265, 0.15
Step = Callable[[], Callable[[], None]]
"""Starts a step, and gives what waits for its end."""


def batch_of(rows: int) -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(0).integers(5, VOCAB - 1, (rows, LENGTH)).astype(np.int32)
    return mask(tokens, key=(0, 0), first_row=0, rate=RATE, roles=roberta_roles(VOCAB))


def ours(layers: int, width: int, rows: int, dtype: str, remat: str) -> Step:
    import jax

    from tlc_jax.config import Config, ModelConfig
    from tlc_jax.parallel.mesh import make_mesh, place
    from tlc_jax.tasks.kinds import kind_of
    from tlc_jax.training.schedule import controls
    from tlc_jax.training.state import init_state
    from tlc_jax.training.step import compile_train_step, make_train_step

    model = ModelConfig(num_layers=layers, hidden_size=width, compute_dtype=dtype, remat=remat)  # type: ignore[arg-type]
    config = Config(model=model, batch_size=rows)
    mesh, objective = make_mesh(config.mesh), kind_of(config).objective(config)
    state, optimizer = init_state(objective, config.optimizer, jax.random.key(0), mesh)
    batch, key = place(mesh, batch_of(rows)), jax.random.key(1)
    rate = controls(config, 0.5, 1)
    step = compile_train_step(
        make_train_step(objective, config, optimizer, mesh), state, [batch], key, rate, mesh
    )

    def one() -> Callable[[], None]:
        nonlocal state
        state, sums = step(state, batch, key, rate)
        return lambda: float(sums["loss"]) and None

    return one


def huggingface(layers: int, width: int, rows: int, dtype: str, gathered: bool, compiled: bool) -> Step:
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = transformers.RobertaPreLayerNormConfig(
        vocab_size=VOCAB,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=LENGTH + 2,
        type_vocab_size=1,
        attn_implementation="sdpa",
    )
    model = transformers.RobertaPreLayerNormForMaskedLM(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
    numbers = {name: torch.from_numpy(x).to(device) for name, x in batch_of(rows).items()}
    tokens, places = numbers["tokens"].long(), numbers["positions"].long()
    wanted = numbers["weights"] > 0
    targets = torch.where(wanted, numbers["targets"].long(), -100)
    labels = torch.full_like(tokens, -100)
    labels[torch.arange(rows, device=device)[:, None].expand_as(places)[wanted], places[wanted]] = targets[
        wanted
    ]

    def loss() -> Any:
        if not gathered:
            return model(input_ids=tokens, labels=labels).loss
        hidden = model.roberta_prelayernorm(input_ids=tokens).last_hidden_state
        picked = hidden.gather(1, places[..., None].expand(-1, -1, width))
        logits = model.lm_head(picked)
        return torch.nn.functional.cross_entropy(logits.view(-1, VOCAB).float(), targets.view(-1))

    computed = torch.compile(loss) if compiled else loss

    def one() -> Callable[[], None]:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            value = computed()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return lambda: value.item() and None

    return one


def about_ours() -> dict[str, str]:
    import jax

    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}


def about_torch() -> dict[str, str]:
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}


def main() -> None:
    name, dtype, remat = sys.argv[1:]
    made: dict[tuple[int, ...], Step] = {}

    def answer(order: dict[str, Any]) -> dict[str, Any]:
        if "about" in order:
            return about_ours() if name == "tlc_jax" else about_torch()
        size = tuple(order["size"])
        if size not in made:
            made.clear()  # one model at a time in memory
            made[size] = (
                ours(*size, dtype, remat)
                if name == "tlc_jax"
                else huggingface(*size, dtype, "gathered" in name, "compiled" in name)
            )
        step, started = made[size], time.perf_counter()
        for _ in range(order["steps"]):
            wait = step()
        wait()
        return {"seconds": (time.perf_counter() - started) / order["steps"]}

    serve(answer)


if __name__ == "__main__":
    main()
