"""Verdicts in a document: after each mark `<!-- verdicts: arpit2017 -->` stands the table of that paper's claims.

python -m memsweep.analysis.claims.document results    # the page and docs/claims.csv, from a folder's claims.csv
"""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from memsweep.analysis.claims import table
from memsweep.results.storage.parts import write_whole

DOCUMENT, STORED = Path("docs/science.md"), Path("docs/claims.csv")
MARK = re.compile(r"(<!-- verdicts: (\w+) -->\n)(?:\|.*\n)*")
HEAD = "| | verdict | claim, and where it comes from | weakest part: estimate (95 % interval), bound | n | by chance |"


def filled(document: str, verdicts: pd.DataFrame) -> str:
    """Returns the document with the table after each mark replaced by that of these verdicts (claims.csv)."""
    return MARK.sub(lambda mark: mark[1] + _table(verdicts[verdicts["paper"] == mark[2]]), document)


def _table(rows: pd.DataFrame) -> str:
    lines = [HEAD, "|---|---|---|---|---|---|", *(_line(row) for row in rows.to_dict("records"))]
    return "".join(f"{line}\n" for line in lines)


def _line(row: Mapping[Hashable, Any]) -> str:
    evidence, chance = row["reason"], row["by_chance"]
    if not pd.isna(row["estimate"]):
        interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3g} to {row['high']:.3g})"
        bound = "" if pd.isna(row["above"]) else f", above {row['above']:.3g}?"
        evidence = f"{row['measured']}: {row['estimate']:.3g}{interval}{bound} {row['reason']}"
    cells = [
        *(row["claim"], row["verdict"], f"{row['statement']} ({row['basis']})", evidence, row["replicates"]),
        "" if pd.isna(chance) else f"{chance:.1%}",
    ]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def main(results: str) -> None:
    """Writes docs/science.md and docs/claims.csv from the claims.csv of a results folder."""
    verdicts = table.stored(results)
    write_whole(STORED, verdicts.to_csv(index=False).encode())
    write_whole(DOCUMENT, filled(DOCUMENT.read_text(), verdicts).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
