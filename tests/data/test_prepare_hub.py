"""`prepare` from the Hugging Face hub: what it writes is read by every config by the same name, once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from tests.hub import WIKIPEDIA, Hub, articles, run
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.text.sources import open_source
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.storage import sealed


def test_a_task_of_glue_is_read_by_its_name(
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    about = run(tmp_path / "sst2", "glue/sst2")
    said = capsys.readouterr().out
    assert "note: train has 60 rows, the published data set 67,349" in said
    assert f"--config finetune_sst2 --init-from RUN --workdir W --data.dir {tmp_path}/sst2" in said
    assert about["revision"] == server.commit
    assert about["licence"] == "cc-by-sa-4.0"
    assert about["counts"]["train"] == {
        "rows": 60,
        "characters": 530,
        "labels": {"negative": 30, "positive": 30},
    }
    content = server.repositories["nyu-mll/glue"]["sst2/train-00000-of-00001.parquet"]
    (tmp_path / "same").write_bytes(content)
    assert about["inputs"][0]["sha256"] == sealed.sha256(tmp_path / "same")
    source = open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path / "sst2")))
    assert source.label_names == ("negative", "positive")
    assert source.reported == ("validation",)
    assert source.read("train").texts[:2] == [("train 0 ",), ("train 1 ",)]
    assert source.read("validation").labels == [i % 2 for i in range(20)]
    assert source.description.endswith(
        f"sst2; prepared glue/sst2, revision {server.commit[:12]}, licence cc-by-sa-4.0"
    )
    assert "not read" not in str(source.notes)
    (tmp_path / "glue").mkdir()
    (tmp_path / "sst2").rename(tmp_path / "glue" / "sst2")  # as one folder for all data sets
    model = open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path)), ("positive", "negative"))
    assert model.unlabelled == ("test",)
    assert model.read("validation").labels[:2] == [1, 0]


def test_wikipedia_is_text_whose_manifest_a_run_quotes(server: Hub, tmp_path: Path) -> None:
    about = run(tmp_path / "text" / "wikipedia", "wikipedia")
    config = DataConfig(dir=str(tmp_path / "text"), cache_dir=str(tmp_path / "cache"), held_out=0.1)
    source = open_source(config)
    expected = [text for i in range(3) for text in articles(i)]
    assert list(source.documents()) == expected
    assert "left out" not in source.description
    assert about["counts"] == {"train": {"rows": 90, "characters": sum(map(len, expected))}}
    [quote] = prepare_text(config, 300, Console(quiet=True)).manifest["prepared_data"]
    assert quote == {
        **{field: about[field] for field in ("name", "kind", "source", "revision", "licence", "counts")},
        "manifest_sha256": sealed.sha256(tmp_path / "text" / "wikipedia" / "manifest.json"),
    }


def test_wmt14_is_pairs_by_the_name_of_the_config(server: Hub, tmp_path: Path) -> None:
    about = run(tmp_path / "wmt", "wmt14_translate/fr-en")
    sets = open_pairs(PairsConfig(dir=str(tmp_path / "wmt")))
    pairs = [("one two", "un deux"), ("three", "trois")]
    assert list(sets.train[0].pairs()) == 2 * pairs
    assert [list(source.pairs()) for source in (*sets.validation, *sets.test)] == [pairs, pairs]
    assert sets.description.endswith(
        f":train; prepared wmt14_translate/fr-en, revision {server.commit[:12]}, licence cc-by-sa-4.0"
    )
    assert about["counts"]["train"] == {"rows": 4, "characters": 48, "left_out": {"an empty text": 2}}
    with pytest.raises(UserError, match=r"has no split 'dev' of wmt14_translate/fr-en"):
        open_pairs(PairsConfig(dir=str(tmp_path / "wmt"), validation="wmt14_translate/fr-en:dev"))


def test_any_data_set_of_the_hub(server: Hub, tmp_path: Path) -> None:
    address = f"hf://datasets/someone/reviews@{server.commit}/data"
    about = run(tmp_path / "a", "labelled", "--input", address, "--columns", "text=review", "label=stars")
    assert about["revision"] == server.commit
    source = open_labelled(DataConfig(dir=str(tmp_path / "a")))
    assert source.read("train").texts[:2] == [("long, and\ngood",), ("bad",)]
    assert source.reported == ("test",)
    with pytest.raises(UserError, match=r"no column text; it has review, stars: .* --columns text=NAME"):
        run(tmp_path / "b", "labelled", "--input", address)
    with pytest.raises(UserError, match=r"has no file of \.txt, .*: name another --input"):
        run(tmp_path / "c", "text", "--input", address)


def test_what_was_changed_since_is_not_read_as_what_it_was(server: Hub, tmp_path: Path) -> None:
    run(tmp_path / "sst2", "glue/sst2")
    path = tmp_path / "sst2" / "validation.jsonl.zst"
    path.write_bytes(pa.Codec("zstd").compress(b'{"text": "a", "label": "positive"}\n', asbytes=True))
    config = DataConfig(name="glue/sst2", dir=str(tmp_path / "sst2"))
    with pytest.raises(UserError, match=r"validation\.jsonl\.zst was changed since prepare wrote it"):
        open_labelled(config).identity()
    manifest = tmp_path / "sst2" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("cc-by", "cc-0"))
    with pytest.raises(UserError, match=r"its manifest cannot be used .* prepare it again"):
        open_labelled(config)


def test_what_is_missing_is_answered_with_the_command_that_gets_it(tmp_path: Path) -> None:
    message = (
        r"glue/sst2 is not prepared under .*: get it with .*prepare glue/sst2 --out DIR, and give --data\.d"
    )
    with pytest.raises(UserError, match=message):
        open_labelled(DataConfig(name="glue/sst2", dir=str(tmp_path)))
    with pytest.raises(UserError, match=r"wmt14_translate/fr-en --out DIR, and give --data\.dir DIR"):
        open_pairs(PairsConfig(dir=str(tmp_path)))


def test_it_is_prepared_once(server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "a folder"
    out.mkdir()
    run(out, "glue/sst2")
    server.requests.clear()
    before = sealed.sha256(out / "manifest.json")
    run(out, "glue/sst2")
    assert "holds it already: glue/sst2 (train 60, validation 20, test 7 rows)" in capsys.readouterr().out
    assert not server.requests
    assert sealed.sha256(out / "manifest.json") == before
    with pytest.raises(UserError, match=r"a folder is not empty: give a new folder"):
        run(out, "wikipedia")


def test_a_beginning_is_resumed_by_the_same_request_alone(server: Hub, tmp_path: Path) -> None:
    server.status[WIKIPEDIA[1]] = [404]
    with pytest.raises(UserError, match="HTTP 404"):
        run(tmp_path / "a", "wikipedia")
    with pytest.raises(
        UserError,
        match=r"a\.unfinished is the beginning of another .*prepare wikipedia --out \S*/a resumes it",
    ):
        run(tmp_path / "a", "pg19")
    server.requests.clear()
    server.repositories["wikimedia/wikipedia"]["20231101.en/train-00009-of-00003.parquet"] = b""
    del server.repositories["wikimedia/wikipedia"]["20231101.en/train-00009-of-00003.parquet"]
    assert run(tmp_path / "a", "wikipedia")["counts"]["train"]["rows"] == 90
    assert WIKIPEDIA[0] not in dict(server.requests)
    assert not list(tmp_path.glob("a.unfinished"))
