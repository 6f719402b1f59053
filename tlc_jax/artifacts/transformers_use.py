"""How an exported folder is loaded in transformers, for its model card: code by Hugging Face's name of the
task."""

from __future__ import annotations

_PIPELINE = """from transformers import pipeline

model = pipeline("{task}", model=".")
print(model({example}))"""
_TRANSLATION = """import torch
from tokenizers import Tokenizer
from transformers import PegasusForConditionalGeneration

model = PegasusForConditionalGeneration.from_pretrained(".")
tokenizer = Tokenizer.from_file("tokenizer.json")
ids = torch.tensor([tokenizer.encode("one line").ids])
print(tokenizer.decode(model.generate(ids, num_beams=4)[0].tolist()))"""
NUMPY = """from safetensors.numpy import load_file

for name, array in load_file("model.safetensors").items():
    print(name, array.dtype, array.shape)"""


def with_transformers(hub_task: str | None, texts_per_example: int | None) -> str | None:
    """The code, for a task that is exported; None for others."""
    if hub_task == "fill-mask":
        example = 'f"one {model.tokenizer.mask_token} text"'
    elif hub_task == "text-classification":
        pair = '{"text": "one text", "text_pair": "another text"}'
        example = pair if texts_per_example == 2 else '["one text", "another text"]'
    else:
        return _TRANSLATION if hub_task == "translation" else None
    return _PIPELINE.format(task=hub_task, example=example)
