"""The ledger of claims, and the command that makes a study."""

from __future__ import annotations

import dataclasses
import math
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tlc_jax import report, study
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core import cli
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import STUDY, json_text
from tlc_jax.studies import ledger
from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.study_command import scale_of, study_command

FASTER = Claim("larger-is-faster", "Larger models need less time.", "section 3")
SMALLER = Claim("errors-are-smaller", "Errors | of larger models are smaller.", "figure 9")
NEVER = Claim("never-tried", "Nobody tried this.", "figure 1")


def _exhibit(claims: Sequence[Claim]) -> Exhibit:
    """One whose findings are what the store says: an item `NAME` with rows of p and of a direction."""

    def rows(store: ItemStore) -> list[Row]:
        return store.rows()

    def findings(rows: list[Row]) -> list[Finding]:
        by_name = {claim.name: claim for claim in claims}
        return [
            Finding(by_name[row["item"]], f"effect {row['value']:+g}", row["value"] > 0, row["p"])
            for row in rows
            if row["item"] in by_name
        ]

    def nothing(*_: object) -> list[str]:
        return []

    return Exhibit("stored", rows, nothing, nothing, nothing, tuple(claims), findings)  # pyright: ignore[reportArgumentType]


def _study(
    folder: Path,
    effects: dict[str, list[tuple[float, float | None]]],
    config: StudyConfig,
    metric: str = "m",
) -> str:
    """A finished study whose store has these effects with their p-values for each claim."""
    store = ItemStore(folder)
    folder.mkdir()
    (folder / STUDY).write_text(json_text(dataclasses.asdict(config)), encoding="utf-8")
    for name, pairs in effects.items():
        rows = [{"metric": metric, "value": value, "p": p} for value, p in pairs]
        made = {"device": "2 cores of CPU", "date": "2026-11-26T09:00:00"}
        store.seal(Result(item=name, stage="train", fields={"seed": 3}, rows=rows, made=made))
    return str(folder)


@pytest.mark.parametrize(
    ("resolved", "verdict"),
    [
        ([0.001], "holds in part"),
        ([0.001, 0.001], "holds"),
        ([0.001, None, None], "holds"),
        ([None, None, None], "not tested"),
        ([-0.001], "fails in part"),
        ([], "not resolved"),
    ],
)
def test_a_claim_that_few_comparisons_resolve_holds_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolved: list[float | None], verdict: str
) -> None:
    """Of three comparisons one or two are resolved, or one and two are not tested; the sign of a p-value is
    the direction."""
    monkeypatch.setattr(ledger, "EXHIBITS", (_exhibit([FASTER]),))
    pairs = [(math.copysign(1, p or 1), p and abs(p)) for p in resolved] + [(1.0, 0.9)] * (3 - len(resolved))
    study_of = _study(tmp_path / "one", {FASTER.name: pairs}, load_config("study_translation", StudyConfig))
    report.main(["claims", study_of, "--output", str(tmp_path / "claims.md")])
    assert f"**{verdict}**" in (tmp_path / "claims.md").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ledger, "EXHIBITS", (_exhibit([FASTER, SMALLER]), _exhibit([NEVER])))
    config = load_config("study_translation", StudyConfig)
    effects = {FASTER.name: [(0.5, 0.01)], SMALLER.name: [(-1, 0.001)]}
    one = _study(tmp_path / "one", effects, config, metric="target_bigram_loss")
    config = dataclasses.replace(config, seeds=(1, 2))
    two = _study(tmp_path / "two", {FASTER.name: [(0.25, 0.03), (0.125, 0.04)]}, config)
    report.main(["claims", one, two, "--output", str(tmp_path / "claims.md")])
    return (tmp_path / "claims.md").read_text(encoding="utf-8")


def test_verdicts_of_a_study_are_corrected_together_and_those_of_another_apart(page: str) -> None:
    """Holm: of two, the smaller is doubled, and the larger is at least that."""
    assert "| one | effect +0.5 | 0.01 | 0.01 | holds |" in page
    assert "| one | effect -1 | 0.001 | 0.002 | fails |" in page
    assert "| two | effect +0.25 | 0.03 | 0.06 | not resolved |" in page
    assert "| two | effect +0.125 | 0.04 | 0.06 | not resolved |" in page


def test_each_claim_has_a_verdict_and_what_fails_comes_first(page: str) -> None:
    table = [line for line in page.splitlines() if line.startswith("| [")]
    assert [line.rpartition("| **")[2] for line in table] == [
        "fails** |",
        "holds in part** (holds in 1 of 3, not resolved in 2 of 3) |",
        "without a finding** |",
    ]
    assert "1 fails, 1 holds in part, 1 without a finding" in page


def test_the_ledger_says_how_each_study_is_made(page: str) -> None:
    assert "**one**: scale: mini; devices: 2 cores of CPU; seeds: 3; gate: target bigram; made:" in page
    assert "**two**: scale: mini; devices: 2 cores of CPU; seeds: 3; gate: none, so nothing shows" in page
    assert "tlc_jax.study --config study_translation:mini --workdir W --seeds 1 2" in page


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study: give folders of studies"):
        report.main(["claims", str(tmp_path), "--output", str(tmp_path / "claims.md")])


def test_a_study_counts_once_and_not_before_it_has_results(tmp_path: Path) -> None:
    first = _study(tmp_path / "a", {"larger": [(0.5, 0.01)]}, StudyConfig())
    copied, empty = tmp_path / "b", _study(tmp_path / "empty", {}, StudyConfig())
    shutil.copytree(first, copied)
    with pytest.raises(UserError, match="have results in common: name each study once"):
        report.main(["claims", first, str(copied), "--output", str(tmp_path / "claims.md")])
    with pytest.raises(UserError, match="empty has no finished item yet: resume it first"):
        report.main(["claims", first, empty, "--output", str(tmp_path / "claims.md")])


def test_claims_have_names_of_their_own() -> None:
    """Two exhibits may share a claim, and never a name for two claims."""
    claims = [claim for exhibit in EXHIBITS for claim in exhibit.claims]
    assert len({claim.name for claim in claims}) == len(set(claims))


@pytest.mark.parametrize("name", ["study_translation:mini", "study_translation:gpu", "study_sst2:mini"])
def test_the_command_of_a_study_makes_its_config(name: str) -> None:
    config = dataclasses.replace(load_config(name, StudyConfig), sizes=("1x64", "2x64"), seeds=(5, 7))
    train = dataclasses.replace(config.train, batch_size=6400)
    config = dataclasses.replace(config, train=train)
    line = study_command(config)
    assert f"--config {name}" in line
    arguments = shlex.split(line.partition("tlc_jax.study ")[2])
    assert cli.parse(study.Study, arguments).settings == config
    assert scale_of(config) == name.partition(":")[2]
