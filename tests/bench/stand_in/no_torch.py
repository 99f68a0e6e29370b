"""Stands in for torch, of which a worker without an engine asks one thing; the rest is for Ray: it looks for types."""


class Tensor:
    """Nothing is one."""


def set_num_threads(count: int) -> None:
    """Nothing: there are none."""
