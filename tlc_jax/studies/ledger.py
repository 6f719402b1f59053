"""The ledger of claims: what each study found about each claim, with its verdict, from stores only.

A claim that fails is as plain to see as one that holds, and one that no study could test is listed too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import counted, printable
from tlc_jax.storage.paths import AnyPath, parse_path, write_bytes
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.claims import NOT_TESTED, Claim, Finding, Outcome, corrected, outcomes
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.failed_items import failed_items
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.measured import gates_of
from tlc_jax.studies.study_command import scale_of, study_command
from tlc_jax.studies.study_record import read_config

UNTESTED = "without a finding"
_IN_PART = " in part"
_ORDER = (
    *("fails", f"fails{_IN_PART}", "holds", f"holds{_IN_PART}"),
    *("not resolved", NOT_TESTED, UNTESTED),
)


@dataclass(frozen=True)
class Entry:
    """A finding of a study about a claim, with its verdict. `study` names the study's folder."""

    finding: Finding
    outcome: Outcome
    p: float | None
    """Corrected for all findings of the study."""
    study: str


@dataclass(frozen=True)
class _Study:
    """What the ledger says of a study: how it is made, and on what."""

    name: str
    command: str
    scale: str
    devices: str
    seeds: str
    gate: str
    failed: str
    dates: str


def write_ledger(workdirs: Sequence[str], output: str) -> None:
    """Write the ledger of the studies in these folders as a page. UserError names a folder without one."""
    path = parse_path(output)
    if path.suffix.lower() != ".md":
        raise UserError(f"--output {output} is no page: end it in .md")
    check_writable(path, "--output")
    folders = sorted(map(parse_path, workdirs), key=lambda each: each.name)
    stores = dict(zip(folders, _different(folders), strict=True))
    studies = [_about(folder, store) for folder, store in stores.items()]
    entries = [entry for folder, store in stores.items() for entry in entries_of(store, folder.name)]
    again = f"{command('report')} claims {' '.join(workdirs)} --output {output}"
    write_bytes(path, _page(entries, studies, again).encode())
    verdicts = [_verdict(_of_claim(claim, entries)) for claim in claims()]
    print(f"{counted(len(verdicts), 'claim')} in {output}: {_counts(verdicts)}")


def _different(folders: Sequence[AnyPath]) -> list[ItemStore]:
    """The stores of studies in folders, which share no result. UserError where they do, or one has none."""
    seen, stores = dict[str, AnyPath](), list[ItemStore]()
    for folder in folders:
        if not (folder / STUDY).is_file():
            raise UserError(f"{folder} holds no study: give folders of studies")
        stores.append(ItemStore(folder))
        results = {_digest(result): folder for result in stores[-1].results()}
        if not results:
            raise UserError(f"{folder} has no finished item yet: resume it first")
        if shared := seen.keys() & results.keys():
            other = seen[shared.pop()]
            raise UserError(f"{folder} and {other} have results in common: name each study once")
        seen |= results
    return stores


def _digest(result: Result) -> str:
    """Equal for the same result of the same item, whose time of making is part of it."""
    return json.dumps([result["item"], result["made"], result["rows"]], sort_keys=True)


def claims() -> list[Claim]:
    """The claims of all exhibits."""
    return list({claim.name: claim for exhibit in EXHIBITS for claim in exhibit.claims}.values())


def entries_of(store: ItemStore, study: str) -> list[Entry]:
    """The findings of a study, whose verdicts are corrected together; none of given checkpoints, since claims
    are about sizes that were trained alike."""
    if store.rows(stage="pretrained"):
        return []
    findings = [
        finding
        for exhibit in EXHIBITS
        if exhibit.claims and (rows := exhibit.rows(store))
        for finding in exhibit.findings(rows)
    ]
    verdicts = zip(findings, outcomes(findings), corrected(findings), strict=True)
    return [Entry(*verdict, study) for verdict in verdicts]


def _of_claim(claim: Claim, entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.finding.claim.name == claim.name]


def _verdict(entries: Sequence[Entry]) -> str:
    """The verdict on a claim over studies: what all comparisons that resolve it agree on, 'in part' where
    these are no more than half of those that are tested; 'holds and fails' where they do not agree."""
    if not entries:
        return UNTESTED
    tested = [entry.outcome for entry in entries if entry.outcome != NOT_TESTED]
    if not tested:
        return NOT_TESTED
    resolved = [outcome for outcome in tested if outcome != "not resolved"]
    verdict = " and ".join(sorted(set(resolved), reverse=True)) or "not resolved"
    return verdict + (_IN_PART if 0 < len(resolved) <= len(tested) / 2 and len(tested) > 1 else "")


def _comparisons(entries: Sequence[Entry]) -> str:
    """In how many of the comparisons of a claim each outcome was seen, where there are several."""
    outcomes = [entry.outcome for entry in entries]
    counts = {name: outcomes.count(name) for name in dict.fromkeys(outcomes)}
    several = ", ".join(f"{name} in {count} of {len(outcomes)}" for name, count in counts.items())
    return f" ({several})" if len(outcomes) > 1 else ""


def _counts(verdicts: Sequence[str]) -> str:
    names = dict.fromkeys((*_ORDER, *verdicts))
    counts = {name: verdicts.count(name) for name in names if name in verdicts}
    return ", ".join(f"{count} {name if count == 1 else _plural(name)}" for name, count in counts.items())


def _plural(verdict: str) -> str:
    return verdict.replace("holds", "hold").replace("fails", "fail")


def _page(entries: list[Entry], studies: list[_Study], again: str) -> str:
    verdicts = {claim: _verdict(_of_claim(claim, entries)) for claim in claims()}
    order = {name: number for number, name in enumerate(_ORDER)}
    ranked = sorted(verdicts, key=lambda claim: order.get(verdicts[claim], -1))
    summary = [
        f"| [{claim.statement}](#{claim.name}) | {claim.source} | **{verdicts[claim]}**"
        f"{_comparisons(_of_claim(claim, entries))} |"
        for claim in ranked
    ]
    parts = [
        "# Claims, and what holds here",
        f"    {again}",
        f"{counted(len(verdicts), 'claim')}: {_counts(list(verdicts.values()))}. A verdict is tested over "
        "trainings, except where the quantity is counted (bytes of memory). It is corrected (Holm) for all "
        "comparisons of its study, a page of the study for those of one exhibit; several studies are not "
        "corrected for each other. An effect has its 95 % interval in brackets. *Not resolved* is no "
        "evidence against a claim, and none for it; *not tested*: of one training each; *in part*: no more "
        "than half of the comparisons that are tested are resolved. Where trainings are finished at marks "
        "of longer ones, whether that is as good as a run planned for that time is a claim of its own "
        "(branch-as-good-as-plan).",
        "\n".join(["| claim | source | here |", "|---|---|---|", *summary]),
        *(_section(claim, _of_claim(claim, entries)) for claim in verdicts),
        "## The studies",
        "\n\n".join(map(_described, studies)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(claim: Claim, entries: list[Entry]) -> str:
    lines = [f"## {claim.name}", "", f"{claim.statement} ({claim.source}.)", ""]
    if not entries:
        what = f"{UNTESTED[0].upper()}{UNTESTED[1:]}"
        return "\n".join([*lines, f"{what}: no study below is about it, or has what it presupposes."])
    lines += ["| study | effect | p alone | p corrected | verdict |", "|---|---|---|---|---|"]
    for entry in entries:
        alone, together = ("" if p is None else f"{p:.2g}" for p in (entry.finding.p, entry.p))
        effect = printable(entry.finding.effect, 500).replace("|", "\\|")
        lines.append(f"| {entry.study} | {effect} | {alone} | {together} | {entry.outcome} |")
    return "\n".join(lines)


def _described(study: _Study) -> str:
    about = {
        "scale": study.scale,
        "devices": study.devices,
        "seeds": study.seeds,
        "gate": study.gate,
        "failed": study.failed,
        "made": study.dates,
    }
    rest = "; ".join(f"{name}: {text}" for name, text in about.items() if text)
    return f"**{study.name}**: {rest}.\n\n    {study.command}"


def _about(folder: AnyPath, store: ItemStore) -> _Study:
    config = read_config(folder)
    assert config is not None, f"{folder} holds no study"
    made = [result["made"] for result in store.results()]
    dates = sorted(str(each["date"])[:10] for each in made if "date" in each)
    devices = dict.fromkeys(str(each["device"]) for each in made if each.get("device"))
    seeds = sorted({str(r["fields"]["seed"]) for r in store.results() if "seed" in r["fields"]}, key=int)
    return _Study(
        name=folder.name,
        command=study_command(config),
        scale=scale_of(config),
        devices=printable(", ".join(devices), 500),
        seeds=", ".join(seeds),
        gate=", ".join(gates_of(store)) or "none, so nothing shows that these models know more than counts",
        failed=counted(failures, "item") if (failures := failed_items(store).total()) else "",
        dates=" to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
    )
