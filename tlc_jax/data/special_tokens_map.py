"""special_tokens_map.json: the names of special tokens by their role, beside a tokenizer.json.

transformers writes it, or the same keys in tokenizer_config.json; prepared data, runs and artifacts have it
where the special tokens are not those of the encoders that we train.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import Roles
from tlc_jax.storage.paths import AnyPath, write_text
from tlc_jax.storage.untrusted import file_inside, one_reason, read_json

FILE, _CONFIG = "special_tokens_map.json", "tokenizer_config.json"
_LARGEST = 16 << 20  # bytes: a tokenizer_config.json may list thousands of added tokens
_ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


@dataclass(frozen=True)
class NamedTokens:
    """What the files beside a tokenizer say of its special tokens."""

    tokens: Mapping[str, str]
    """By cls_token, sep_token, pad_token, unk_token and mask_token; not all of them need be there."""
    tokenizer_class: str | None
    """That of transformers."""

    def like_roberta(self, end: str) -> bool:
        """Whether two texts are framed as RoBERTa's, not as BERT's: so says the class, or else the name of
        the end."""
        name = self.tokenizer_class or ""
        return "Roberta" in name or ("Bert" not in name and end == "</s>")


def named_tokens(path: AnyPath) -> NamedTokens:
    """What the files beside the tokenizer `path` say. UserError for a file that is not a JSON object."""
    tokens: dict[str, str] = {}
    names, config = (_read(path, name) for name in (FILE, _CONFIG))
    for role in _ROLES:
        for document in (names, config):
            value = document.get(role)
            token = value.get("content") if isinstance(value, dict) else value
            if isinstance(token, str) and token:
                tokens.setdefault(role, token)
    kind = config.get("tokenizer_class")
    return NamedTokens(tokens, kind if isinstance(kind, str) else None)


def special_tokens_map(tokenizer: Tokenizer, roles: Roles) -> str:
    """The content of the file for a tokenizer."""
    ids = (roles.begin, roles.end, roles.pad, roles.unknown, roles.mask)
    named = {role: tokenizer.id_to_token(i) for role, i in zip(_ROLES, ids, strict=True) if i is not None}
    return json.dumps(named, indent=1, ensure_ascii=False) + "\n"


def write_tokenizer(folder: AnyPath, tokenizer: Tokenizer, roles: Roles) -> None:
    """Write tokenizer.json and, where it is needed, the map beside it."""
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    if not roles.ours:
        write_text(folder / FILE, special_tokens_map(tokenizer, roles))


def _read(path: AnyPath, name: str) -> dict[str, object]:
    try:
        value = read_json(file_inside(path.parent, name), _LARGEST)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path.with_name(name)} cannot be read: {one_reason(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path.with_name(name)} is not a JSON object: put the tokenizer's own file back")
    return value
