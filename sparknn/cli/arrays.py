"""Small sets in NumPy's .npz and MNIST's IDX files, read by the driver.

IDX (LeCun, http://yann.lecun.com/exdb/mnist): two zero bytes, a type, the number of dimensions,
their sizes as big-endian 32-bit integers, then the values.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession

from sparknn.cli.formats import BadFileError
from sparknn.errors import InvalidDataError

__all__ = [
    "array_table",
    "chosen_arrays",
    "feature_rows",
    "idx_array",
    "idx_pair",
    "npz_arrays",
    "row_labels",
]

FEATURES = ("features", "x", "data", "images")
LABELS = ("label", "labels", "y", "target")

MOST_VALUES = 2**28
"""Features in all rows, 2 GiB of float64: arrays pass through the driver."""

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def npz_arrays(path: str, content: bytes, part: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the features, (rows, features), and the labels, (rows,) or None, of an .npz file.

    part: "train" or "test", for files that hold both.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        # zipfile, zlib and NumPy each have errors of their own for a file that is cut short.
        raise BadFileError(path, f"it is no .npz file of plain numbers ({error})") from None
    return chosen_arrays(path, arrays, part)


def chosen_arrays(
    path: str, arrays: Mapping[str, np.ndarray], part: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which of some arrays are the features and the labels, by their names."""
    known = {name.lower(): name for name in arrays}
    if any(name.endswith(f"_{part}") for name in known):
        known = {
            lower.removesuffix(f"_{part}"): name
            for lower, name in known.items()
            if lower.endswith(f"_{part}")
        }
    features = next((known[name] for name in FEATURES if name in known), None)
    labels = next((known[name] for name in LABELS if name in known), None)
    if features is None:
        raise InvalidDataError(
            f"{path} has no array named {' or '.join(FEATURES)} for the features (with _train or "
            f"_test behind it, if both are there); there are {', '.join(arrays)}"
        )
    rows = feature_rows(f"array {features!r}", arrays[features])
    if labels is None:
        return rows, None
    return rows, row_labels(f"array {labels!r}", arrays[labels], len(rows))


def feature_rows(what: str, features: np.ndarray) -> np.ndarray:
    """Return features of any shape as (rows, features); what: the array's name in messages.

    Raises InvalidDataError for an array without rows, or of anything but numbers.
    """
    if features.dtype.kind not in "biuf":
        raise InvalidDataError(
            f"{what} holds {features.dtype}, and features are numbers: store them as numbers, or "
            "the table as CSV or Parquet, whose columns of words --categorical takes"
        )
    if not features.ndim or not features.size:
        raise InvalidDataError(
            f"{what} is of shape {features.shape}, which holds no rows: store one row or more"
        )
    return features.reshape(len(features), -1)


def row_labels(what: str, labels: np.ndarray, rows: int) -> np.ndarray:
    """Return labels of shape (rows,) or (rows, 1) as (rows,); what: their name in messages.

    Raises InvalidDataError for labels of any other shape or number, or of an odd type.
    """
    if labels.dtype.kind not in "biufUS":
        raise InvalidDataError(f"{what} holds {labels.dtype}: store labels as numbers or words")
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise InvalidDataError(
            f"{what} is of shape {labels.shape}, and a row has one label: store them in the shape "
            f"({rows},), such as the argmax(axis=1) of columns of 0 and 1"
        )
    if len(labels) != rows:
        raise InvalidDataError(f"{what} holds {len(labels)} labels, and there are {rows} rows")
    return labels.ravel()


def idx_array(path: str, content: bytes) -> np.ndarray:
    """Return the array in an IDX file, of the shape that it says."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise BadFileError(path, "it does not begin as an IDX file does")
    kind = np.dtype(IDX_TYPES[content[2]])
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise BadFileError(path, "it ends within its head")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    wanted = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(content) - start != wanted:
        raise BadFileError(path, f"it holds {len(content) - start} bytes of values, not {wanted}")
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def idx_pair(
    files: Sequence[str], part: str, exists: Callable[[str], bool]
) -> tuple[str, str | None]:
    """Return the files of images and of labels among `files`, or beside the images.

    Where there are no labels, they are None: some jobs need none.
    """
    names = [name for name in files if re.search(r"images|idx3", name.rpartition("/")[2])]
    if len(names) > 1:
        marks = ("train",) if part == "train" else ("t10k", "test")
        names = [name for name in names if any(mark in name.rpartition("/")[2] for mark in marks)]
    if len(names) != 1:
        raise InvalidDataError(
            "name one IDX file of images, such as train-images-idx3-ubyte; its labels stand beside "
            "it as train-labels-idx1-ubyte"
        )
    folder, _, name = names[0].rpartition("/")
    labels = f"{folder}/{name.replace('images', 'labels').replace('idx3', 'idx1')}"
    return names[0], labels if labels in files or exists(labels) else None


def array_table(
    session: SparkSession, features: np.ndarray, labels: np.ndarray | None
) -> DataFrame:
    """Return a vector column `features`, and `label` where there are labels.

    Raises InvalidDataError for more values than the driver should hold.
    """
    rows, width = features.shape
    if features.size > MOST_VALUES:
        raise InvalidDataError(
            f"{rows} rows of {width} features are too many for one machine: store them as Parquet"
        )
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    values = pa.array(np.ascontiguousarray(features, dtype=np.float64).ravel())
    columns = {"features": pa.ListArray.from_arrays(pa.array(offsets), values)}
    if labels is not None:
        columns["label"] = pa.array(labels.astype(str if labels.dtype.kind in "US" else np.float64))
    frame = session.createDataFrame(pa.table(columns))
    names = [name for name in frame.columns if name != "features"]
    return frame.select(array_to_vector("features").alias("features"), *names)
