"""Stands in for pandas and ray.data, which Ray Tune imports for what workers never do: 40 MB of each."""

__version__ = "0"
"""Older than what pyarrow would use."""


def __getattr__(name: str) -> type:
    """Whatever is asked for is a class without anything, so that annotations can name it."""
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
