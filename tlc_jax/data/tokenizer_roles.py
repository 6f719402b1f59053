"""The roles of a tokenizer's special tokens, as its own files state them.

1. tokenizer.json: the post-processor puts tokens around one text and around two; the model names the token of
   unknown text.
2. special_tokens_map.json and tokenizer_config.json beside it name what that leaves open, as transformers
   writes them.
3. Last come the usual names: [CLS] or <s>, [SEP] or </s>, [PAD] or <pad>, [UNK] or <unk>, [MASK] or <mask>.

Nothing is guessed beyond that: what is missing is refused, but for the mask, which only masked language
modelling needs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, processors

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.vocabulary import Frame, Ids, Roles, bert_frame, roberta_frame, roberta_roles
from tlc_jax.data.special_tokens_map import FILE, NamedTokens, named_tokens
from tlc_jax.storage.paths import AnyPath

_USUAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}
_PURPOSES = {
    "cls_token": "the beginning of a text",
    "sep_token": "the end of a text",
    "pad_token": "the pad",
    "unk_token": "unknown text",
}
_NO_FRAME = ("ByteLevel",)  # post-processors that put nothing around a text
_MOST = 16  # special tokens around a text; no tokenizer in use has more than four


def roles_of(tokenizer: Tokenizer, path: AnyPath) -> Roles:
    """The roles of the tokenizer that was read from `path`, beside which further files may name special
    tokens. UserError names those that no file states, or that contradict each other."""
    frames = _frames(tokenizer, path)
    named = named_tokens(path)
    ids = {role: _named_id(tokenizer, role, named, path) for role in _USUAL}
    if frames:
        ids |= {"cls_token": frames[0].special[0][0], "sep_token": frames[0].special[-1][-1]}
    if (unknown := _unknown(tokenizer)) is not None:
        ids["unk_token"] = unknown
    if missing := [role for role in _PURPOSES if ids[role] is None]:
        purposes, keys = (" and ".join(words) for words in ([_PURPOSES[role] for role in missing], missing))
        raise UserError(
            f"the tokenizer {path} does not say which token is for {purposes}: name it as {keys} in a {FILE} "
            "beside it"
        )
    begin, end, pad, unknown = (ids[role] or 0 for role in _PURPOSES)
    if frames is None:
        roberta = named.like_roberta(str(tokenizer.id_to_token(end)))
        frame = roberta_frame if roberta else bert_frame
        frames = frame(begin, end, 1), frame(begin, end, 2)
    mask = ids["mask_token"]
    if pad in (begin, end, unknown, mask) or mask in (begin, end, unknown):
        raise UserError(
            f"the tokenizer {path} has one token for several purposes (ids: pad {pad}, beginning {begin}, "
            f"end {end}, unknown {unknown}, mask {mask}): name different ones in a {FILE} beside it"
        )
    size = max(tokenizer.get_vocab().values()) + 1
    roles = Roles(size, pad, begin, end, unknown, mask, (), *frames)
    ours = roberta_roles(size)
    if dataclasses.replace(roles, never_drawn=ours.never_drawn) == ours:
        return ours
    return dataclasses.replace(roles, never_drawn=_never_drawn(tokenizer, roles))


def names_roles(tokenizer: Tokenizer, path: AnyPath) -> bool:
    """Whether its files say anything of a beginning, an end or a mask, as those of GPT-2 do not."""
    named, roles = named_tokens(path), ("cls_token", "sep_token", "mask_token")
    named_ids = (_named_id(tokenizer, role, named, path) for role in roles)
    return _frames(tokenizer, path) is not None or any(i is not None for i in named_ids)


def frame_texts(tokenizer: Tokenizer, roles: Roles, path: AnyPath) -> None:
    """Make `encode` put the special tokens around texts, if the tokenizer does not yet."""
    if _frames(tokenizer, path) is not None:
        return
    names = {i: tokenizer.id_to_token(i) for i in (roles.begin, roles.end)}

    def template(frame: Frame) -> list[str]:
        pieces = []
        for letter, special, types, text_type in zip(
            "AB", frame.special, frame.special_types, frame.text_types, strict=False
        ):
            pieces += [f"{names[i]}:{kind}" for i, kind in zip(special, types, strict=True)]
            pieces.append(f"${letter}:{text_type}")
        last = zip(frame.special[-1], frame.special_types[-1], strict=True)
        return [*pieces, *(f"{names[i]}:{kind}" for i, kind in last)]

    assert roles.two is not None, "it was made by bert_frame or roberta_frame"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template(roles.one),
        pair=template(roles.two),
        special_tokens=[(name, i) for i, name in names.items()],
    )


# --- what tokenizer.json says -----------------------------------------------------------------------


def _frames(tokenizer: Tokenizer, path: AnyPath) -> tuple[Frame, Frame | None] | None:
    """How the post-processor frames one text and two; None if it puts nothing around them."""
    if tokenizer.post_processor is None:
        return None
    steps = [
        step
        for step in _steps(json.loads(tokenizer.post_processor.__getstate__()))
        if step["type"] not in _NO_FRAME
    ]
    if not steps:
        return None
    kinds = [step["type"] for step in steps]
    if kinds in (["BertProcessing"], ["RobertaProcessing"]):
        begin, end = steps[0]["cls"][1], steps[0]["sep"][1]
        frame = bert_frame if kinds == ["BertProcessing"] else roberta_frame
        one, two = frame(begin, end, 1), frame(begin, end, 2)
    elif kinds == ["TemplateProcessing"]:
        one, two = _of_template(steps[0], "single", "A"), _of_template(steps[0], "pair", "AB")
    else:
        raise UserError(
            f"the tokenizer {path} has the post-processor {printable(', '.join(kinds), 200)}, of which this "
            "version knows BertProcessing, RobertaProcessing and TemplateProcessing, one at a time"
        )
    if one is not None and not one.size:
        return None
    if one is None or not one.special[0] or not one.special[-1]:
        raise UserError(
            f"the post-processor of the tokenizer {path} does not put a special token before a text and one "
            "after it, as an encoder needs to know where it begins and ends: give the tokenizer of an encoder"
        )
    _check_ids(tokenizer, path, [one] if two is None else [one, two])
    fits = two is not None and two.special[0][:1] == one.special[0][:1] and bool(two.special[-1])
    return one, two if fits else None


def _check_ids(tokenizer: Tokenizer, path: AnyPath, frames: list[Frame]) -> None:
    """UserError where a post-processor, which anybody may have written, has ids of no token, or very many."""
    ids = {i for frame in frames for part in frame.special for i in part}
    if missing := ids - set(tokenizer.get_vocab().values()):
        raise UserError(
            f"the post-processor of the tokenizer {path} puts the id {min(missing)} beside texts, which no "
            "token has: give the tokenizer.json of the model"
        )
    types = {kind for frame in frames for part in (*frame.special_types, frame.text_types) for kind in part}
    if not types <= {0, 1}:
        raise UserError(f"the post-processor of the tokenizer {path} has other token types than 0 and 1")
    if (most := max(frame.size for frame in frames)) > _MOST:
        raise UserError(
            f"the post-processor of the tokenizer {path} puts {most:,} special tokens beside texts, and at "
            f"most {_MOST} are allowed"
        )


def _steps(processor: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if processor["type"] != "Sequence":
        return [processor]
    return [step for inner in processor["processors"] for step in _steps(inner)]


def _of_template(processor: Mapping[str, Any], name: str, texts: str) -> Frame | None:
    """The frame of a template; None if it does not hold each text once, in order."""
    tokens = {token: content["ids"] for token, content in processor["special_tokens"].items()}
    special: list[list[int]] = [[]]
    types: list[list[int]] = [[]]
    order, text_types = "", []
    for piece in processor[name]:
        [(kind, value)] = piece.items()
        if kind == "Sequence":
            order += value["id"]
            text_types.append(value["type_id"])
            special.append([])
            types.append([])
        else:
            ids = tokens.get(value["id"], [])
            special[-1] += ids
            types[-1] += [value["type_id"]] * len(ids)
    if order != texts:
        return None
    return Frame(tuple(map(tuple, special)), tuple(map(tuple, types)), tuple(text_types))


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The id that the model gives to unknown text, if it says so."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    return json.loads(tokenizer.model.__getstate__()).get("unk_id")  # Unigram


def _named_id(tokenizer: Tokenizer, role: str, named: NamedTokens, path: AnyPath) -> int | None:
    """The id of the token that has the role by name; None if none has, or two may have it."""
    if (token := named.tokens.get(role)) is not None:
        if (index := tokenizer.token_to_id(token)) is None:
            raise UserError(
                f"the files beside {path} name {printable(repr(token), 60)} as {role}, and the tokenizer has "
                "no such token: correct the name, or put back the tokenizer.json that belongs to them"
            )
        return index
    usual = [i for name in _USUAL[role] if (i := tokenizer.token_to_id(name)) is not None]
    return usual[0] if len(usual) == 1 else None


def _never_drawn(tokenizer: Tokenizer, roles: Roles) -> Ids:
    """All special tokens, and ids of no token."""
    added = tokenizer.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special} | roles.controls | {roles.unknown}
    missing = set(range(roles.vocab_size)) - set(tokenizer.get_vocab().values())
    return tuple(sorted(special | missing))
