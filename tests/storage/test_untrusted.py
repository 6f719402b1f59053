"""Names, texts and documents of strangers, read in bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.forging import peak_of
from tlc_jax.core.printable import printable
from tlc_jax.storage.untrusted import is_plain_name, parse_json, read_bytes, read_json


def test_names_and_texts() -> None:
    good = ["a", "a.json", "1_Pooling/config.json", "params/d/0f3a", "ä.txt", "..a", "a b"]
    bad = [
        "..",
        "../a",
        "a/..",
        "/a",
        "a/",
        "",
        ".",
        "a\nb",
        "a\x1b[0m",
        "a\u202eb",
        "x" * 300,
        "a*",
        "nul\0",
    ]
    assert [name for name in good if not is_plain_name(name)] == []
    assert [name for name in bad if is_plain_name(name)] == []
    assert printable("a\x1b[31mb\x07\u202ec\td") == r"a\x1b[31mb\x07\u202ec\td"
    assert printable("x" * 500, 10) == "xxxxxxx..."
    assert printable("Größe 大きい") == "Größe 大きい"


def test_reading_in_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"a": "ö"}'.encode())
    assert read_json(path) == {"a": "ö"}
    assert read_bytes(path, most=11) == path.read_bytes()
    with pytest.raises(OSError, match="larger than the 10 bytes"):
        read_bytes(path, most=10)
    path.write_bytes(b'{"a": "\xf6"}')
    with pytest.raises(ValueError, match="utf-8"):
        read_json(path)
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parse_json('{"a": "\\ud800"}')
    with pytest.raises(ValueError, match="Infinity is no number of JSON"):
        parse_json("[-Infinity]")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" + "[]," * 1_100_000 + "0]", "more values"),
        ("[" + "0," * 4_100_000 + "0]", "more values"),
        ("[" * 66 + "]" * 66, "nested too deeply"),
        ('{"a":' * 70 + "0" + "}" * 70, "nested too deeply"),
    ],
    ids=["containers", "values", "lists", "objects"],
)
def test_json_of_more_than_any_document_is_refused(text: str, says: str) -> None:
    def parse() -> None:
        with pytest.raises(ValueError, match=says):
            parse_json(text)

    assert peak_of(parse) < 1 << 20


@pytest.mark.slow
def test_json_of_a_large_document_is_parsed() -> None:
    tensor = {"shape": [3072, 768], "bits": 4, "parts": ["codes", "delta", "offset"], "sha256": "0" * 64}
    large = {"tensors": {f"encoder/layers/{i:05d}/kernel": tensor for i in range(5000)}}
    assert parse_json(json.dumps(large)) == large
    merges = [["a", "b"]] * 600_000
    assert len(parse_json(json.dumps({"model": {"merges": merges}}))["model"]["merges"]) == 600_000
    nested = json.loads("[" * 64 + "]" * 64)
    assert parse_json(json.dumps(nested)) == nested
