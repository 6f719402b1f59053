"""Archives as GLUE and WMT published them, small, and `prepare` of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlc_jax import prepare
from tlc_jax.storage import sealed

SST2 = {
    "SST-2/train.tsv": "sentence\tlabel\n" + 'a "fine" film \t1\nbad \t0\n' * 30,
    "SST-2/dev.tsv": "sentence\tlabel\ngood\t1\nugly\t0\n",
    "SST-2/test.tsv": "index\tsentence\n0\tuneasy mishmash .\n1\tyes\n",
}
COLA = {
    "CoLA/train.tsv": "gj04\t1\t\tThey drank the pub.\ngj04\t0\t*\tThey drank the pub dry of.\n" * 30,
    "CoLA/dev.tsv": "gj04\t1\t\tThe professor talked us.\ngj04\t0\t*\tWe yelled us.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tBill whistled past.\n",
}
_WIDE = "index\tpromptID\tsentence1\tsentence2\tlabel1\tgold_label"
MNLI = {
    "MNLI/train.tsv": f"{_WIDE}\n"
    + "0\t1\tA man.\tA person.\tneutral\tentailment\n1\t2\tB\tNot B\tx\tcontradiction\n" * 20,
    **{
        f"MNLI/dev_{part}matched.tsv": f"{_WIDE}\n0\t1\tC\tD\tx\tneutral\n1\t1\tC\tC\tx\tentailment\n"
        "1\t1\tC\tD\tx\tcontradiction\n"
        for part in ("", "mis")
    },
    **{f"MNLI/test_{part}matched.tsv": "index\tsentence1\tsentence2\n0\tE\tF\n" for part in ("", "mis")},
}
MNLI["MNLI/train.tsv"] += "2\t3\tC\tD\tx\tneutral\n" * 20
QQP = {
    "QQP/train.tsv": "id\tquestion1\tquestion2\tis_duplicate\n"
    + "0\ta?\tb?\t1\n1\tc?\td?\t0\n" * 20
    + "2\tbroken\n",
    "QQP/dev.tsv": "id\tquestion1\tquestion2\tis_duplicate\n0\ta?\tb?\t1\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\ta?\tb?\n",
}


def zipped(path: Path, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def run(out: Path, name: str, *options: str | Path) -> dict[str, Any]:
    where = [] if "--out" in options else ["--out", str(out)]
    prepare.main([name, *where, *map(str, options)])
    return sealed.open_sealed(out)["prepared"]
