"""The tables of a results folder, the only list of their columns, and the statuses of trials."""

from memsweep.spec.schema.columns import cell
from memsweep.spec.schema.statuses import RETRIED, SETTLED, Status, error_line, reproduction
from memsweep.spec.schema.tables import NUMBERS, ROWS, SCHEMAS

__all__ = ["NUMBERS", "RETRIED", "ROWS", "SCHEMAS", "SETTLED", "Status", "cell", "error_line", "reproduction"]
