"""Dense or sparse, whichever is smaller: in what form MLlib hands coefficients out."""

from __future__ import annotations

import numpy as np
import pyspark
from pyspark.ml.linalg import (
    DenseMatrix,
    DenseVector,
    Matrix,
    SparseMatrix,
    SparseVector,
    Vector,
)

__all__ = ["compressed_matrix", "compressed_vector", "row_of"]

VECTOR_BYTES = 12 if pyspark.__version__.startswith("4.0.") else 16
"""What a sparse vector takes beside its entries, by Spark's count, which 4.1 changed."""


def compressed_matrix(array: np.ndarray) -> Matrix:
    """Return (rows, columns) as a dense matrix by rows, or sparse by rows or columns.

    The sizes in bytes that decide are those of Spark's own matrices (`Matrix.compressed`). Whether
    it goes by rows is 1 or 0, and so printed, as in the matrices that come from the JVM.
    """
    rows, columns = array.shape
    count = int(np.count_nonzero(array))
    dense = 8 * rows * columns + 21
    by_columns, by_rows = (12 * count + 4 * (lines + 1) + 45 for lines in (columns, rows))
    if dense <= min(by_columns, by_rows):
        return DenseMatrix(rows, columns, array.ravel(), 1)
    by_row = by_rows < by_columns
    lines = array if by_row else array.T
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(lines, axis=1))])
    indices, values = np.nonzero(lines)[1], lines[lines != 0]
    return SparseMatrix(rows, columns, starts, indices, values, int(by_row))


def compressed_vector(array: np.ndarray) -> Vector:
    """Return (size,) as Spark's `Vector.compressed` does."""
    held = np.flatnonzero(array)
    if 12 * len(held) + VECTOR_BYTES < 8 * len(array):
        return SparseVector(len(array), held, array[held])
    return DenseVector(array)


def row_of(matrix: Matrix) -> Vector:
    """Return a matrix of one row as a vector, sparse where the matrix is."""
    if isinstance(matrix, SparseMatrix):
        return SparseVector(matrix.numCols, matrix.rowIndices, matrix.values)
    return DenseVector(matrix.values)
