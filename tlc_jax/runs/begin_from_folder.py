"""A run that begins with a pretrained encoder: a folder that Hugging Face's transformers wrote."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax

from tlc_jax.artifacts.encoder_folder import EncoderFolder, open_encoder_folder
from tlc_jax.config import Config, MeshConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.stacked import tensor_names
from tlc_jax.core.tree import Params, flatten
from tlc_jax.models.classifier import init_classifier
from tlc_jax.models.encoder_family import ENCODER
from tlc_jax.runs.begin import Begin, Say, with_model, with_parts
from tlc_jax.runs.checkpoint import Restored
from tlc_jax.storage.untrusted import file_inside, one_reason
from tlc_jax.training.state import TrainState

SCHEME = "hf:"
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class InitFromFolder(Begin):
    """The encoder, the tokenizer and the parameters of a folder that `reference`, hf:FOLDER, names. What of
    its heads the task has in the same shape is taken too; other heads begin new."""

    reference: str
    pretrained: ClassVar[bool] = True

    @property
    def folder(self) -> Path:
        return Path(self.reference.removeprefix(SCHEME)).expanduser()

    def record(self) -> dict[str, str | None]:
        return {"init_from": self.reference, "branch_from": None}

    def resolve(self, config: Config) -> Config:
        """The config with the encoder of the folder, computed as the config says."""
        computed = {name: getattr(config.model, name) for name in ("compute_dtype", "remat")}
        model = dataclasses.replace(self._open().config, **computed)
        try:
            tokenizer = file_inside(self.folder, _TOKENIZER)
        except OSError as error:
            raise UserError(
                f"{self.folder} has no {_TOKENIZER} to read ({one_reason(error)}): save the tokenizer there "
                "with transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            ) from error
        return with_model(config, model, tokenizer, self.reference)

    def check(self) -> None:
        """UserError where the tensors of the folder are not those of the encoder that its config.json
        describes; no tensor is read."""
        source = self._open()
        expected = _shapes(source)
        for name, shape in source.shapes().items():
            if shape != expected[name]:
                stored, wanted = (x[::-1] if name.endswith("/kernel") else x for x in (shape, expected[name]))
                raise UserError(
                    f"{source.stored[name]} in {self.folder} is {list(stored)}, but {list(wanted)} by its "
                    "config.json: restore a whole copy of the folder"
                )

    def weights(self, mesh: MeshConfig, say: Say) -> Params:
        """All parameters of the folder, on the host."""
        self.check()
        return self._open().params()

    def initial(
        self, abstract: TrainState, mesh: MeshConfig, new: Callable[[], TrainState], say: Say
    ) -> Restored:
        source = self._open()
        state, taken = with_parts(new(), source.params(), self.reference)
        labels = f" for the labels {first_of(source.label_names)}" if "classification_head" in taken else ""
        say(f"parameters from {self.reference} ({source.class_name}): {', '.join(taken)}{labels}")
        if begun := sorted(state.params.keys() - set(taken)):
            say(f"{self.reference} has no {' and no '.join(begun)} for this task: new ones begin at random")
        if unused := [*(part for part in source.parts if part not in taken), *source.left_out]:
            say(f"not used by this task: {first_of(unused)}")
        return Restored(0, state)

    def _open(self) -> EncoderFolder:
        if "://" in self.reference:
            raise UserError(f"--init-from {self.reference}: copy the folder to a local disk first")
        return open_encoder_folder(self.folder, ENCODER.huggingface_names)


def _shapes(source: EncoderFolder) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of the parts that a folder may have, by our names."""
    classes = max(len(source.label_names), 1)
    shapes: dict[str, tuple[int, ...]] = {}
    inits = (ENCODER.init, lambda config, key: init_classifier(config, classes, key))
    for init in inits:
        params = jax.eval_shape(functools.partial(init, source.config), jax.random.key(0))
        for path, x in flatten(params).items():
            names = tensor_names(path, x)
            shape: tuple[int, ...] = x.shape if names == [path] else x.shape[1:]
            shapes |= dict.fromkeys(names, shape)
    return shapes
