"""The tables of a results folder, the only list of their columns, and the statuses of trials."""

from memsweep.spec.schema.columns import cell
from memsweep.spec.schema.statuses import Status, error_line, reproduction
from memsweep.spec.schema.tables import NUMBERS, ROWS, SCHEMAS

__all__ = ["NUMBERS", "ROWS", "SCHEMAS", "Status", "cell", "error_line", "reproduction"]
