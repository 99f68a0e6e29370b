"""Verdicts in a document: after each mark `<!-- verdicts: arpit2017 -->` stands the table of that paper's claims.

After `<!-- counts -->` stands a line with the number of findings and of checks by verdict. A verdict that was reached
by another test than the claim has now is marked as of the former test, until the claims are judged again.

python -m memsweep.analysis.claims.document results    # the page and docs/claims.csv, from a folder's claims.csv
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from memsweep.analysis.claims import table
from memsweep.analysis.claims.designs import ALPHA, level
from memsweep.analysis.claims.verdicts import CHECK, Verdict, counted, papers
from memsweep.results.storage.parts import write_whole

DOCUMENT, STORED = Path("docs/science.md"), Path("docs/claims.csv")
MARK = re.compile(r"(<!-- verdicts: (\w+) -->\n)(?:\|.*\n)*")
COUNTS = re.compile(r"(<!-- counts -->\n)(?:.+\n)*")
HEAD = (
    "| | verdict | claim, and where it comes from | weakest part: estimate (95 % interval), bound | n | by chance | "
    "untrained: p | power |"
)
OF_CHECKS = {Verdict.REPRODUCED: Verdict.HOLDS, Verdict.CONTRADICTED: Verdict.FAILS}
"""Verdicts of checks in tables of earlier versions -> the present word."""


def filled(document: str, verdicts: pd.DataFrame) -> str:
    """Returns the document with the table and the counts after each mark replaced by those of these verdicts.

    verdicts: claims.csv, of this version or an earlier one.
    """
    verdicts = table.completed(verdicts)
    is_check = verdicts["kind"] == CHECK
    verdicts = verdicts.assign(
        verdict=verdicts["verdict"].where(~is_check, verdicts["verdict"].replace(OF_CHECKS)),
        is_former=is_former(verdicts),
    )
    former = int(verdicts["is_former"].sum())
    sentence = f"{counted(verdicts)}." + (f" {former} of these verdicts are of a former test.\n" if former else "\n")
    document = COUNTS.sub(lambda mark: mark[1] + sentence, document)
    return MARK.sub(lambda mark: mark[1] + _table(verdicts[verdicts["paper"] == mark[2]]), document)


def is_former(verdicts: pd.DataFrame) -> pd.Series[bool]:
    """Returns which verdicts were reached by another test than the claim has now.

    By the text of the test, and by the rate of wrong verdicts that the claim may have, which falls with each new design
    of its sweep.
    """
    claims = {(paper.key, claim.number): claim for paper in papers() for claim in paper.claims}
    levels = verdicts["level"].astype(float).fillna(ALPHA)
    former = []
    for paper, number, test, rate in zip(verdicts["paper"], verdicts["claim"], verdicts["test"], levels, strict=True):
        claim = claims.get((paper, number))
        former.append(claim is not None and (claim.test != test or not math.isclose(level(claim), rate)))
    return pd.Series(former, verdicts.index) & (verdicts["verdict"] != Verdict.NOT_RUN)


def _table(rows: pd.DataFrame) -> str:
    lines = [HEAD, "|---" * 8 + "|", *(_line(row) for row in rows.to_dict("records"))]
    return "".join(f"{line}\n" for line in lines)


def _line(row: Mapping[Hashable, Any]) -> str:
    evidence = row["reason"]
    if not pd.isna(row["estimate"]):
        interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3g} to {row['high']:.3g})"
        bound = "" if pd.isna(row["above"]) else f", above {row['above']:.3g}?"
        evidence = f"{row['measured']}: {row['estimate']:.3g}{interval}{bound} {row['reason']}"
    remarks = [*(["check"] if row["kind"] == CHECK else []), *(["former test"] if row["is_former"] else [])]
    verdict = row["verdict"] + (f" ({', '.join(remarks)})" if remarks else "")
    controls = [
        "" if pd.isna(row[name]) else format(row[name], form)
        for name, form in (("by_chance", ".1%"), ("p_untrained", ".2g"), ("power", ".0%"))
    ]
    cells = [row["claim"], verdict, f"{row['statement']} ({row['basis']})", evidence, row["replicates"], *controls]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def main(results: str) -> None:
    """Writes docs/science.md and docs/claims.csv from the claims.csv of a results folder."""
    verdicts = table.stored(results)
    write_whole(STORED, verdicts.to_csv(index=False).encode())
    write_whole(DOCUMENT, filled(DOCUMENT.read_text(), verdicts).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
