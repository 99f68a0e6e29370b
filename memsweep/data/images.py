"""Decodes the user's images by Pillow: all of one size, in grey or in colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from memsweep.data.examples import listed
from memsweep.data.noise import Array
from memsweep.data.texts import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
GREY = ("1", "L")
"""Pillow's modes of images without colours."""


def is_image(kind: pa.DataType) -> bool:
    """Returns whether a column of this type holds encoded images, as Hugging Face's `datasets` stores them."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def decoded(files: Sequence[Path | bytes | None]) -> Array:
    """Returns images as bytes [R, H, W], or [R, H, W, 3] if one of them has colours.  Raises DataError."""
    arrays = [_image(file, number) for number, file in enumerate(files)]
    sizes = sorted({array.shape[:2] for array in arrays})
    if len(sizes) > 1:
        named = listed([f"{width}x{height}" for height, width in sizes])
        raise DataError(f"images have the sizes {named}; scale them to one size.")
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2) for array in arrays]
    return np.stack(arrays)


def _image(file: Path | bytes | None, number: int) -> np.ndarray[Any, Any]:
    if file is None:
        raise DataError(f"image {number} is not in the file; store the bytes of each image.")
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            return np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, for damaged files
        name = file if isinstance(file, Path) else f"image {number}"
        raise DataError(f"{name}: can't be read as an image ({error}); replace or delete it.") from error
