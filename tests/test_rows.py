"""From Arrow batches and Python objects to checked rows, and what is said of invalid ones."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import sparknn.rows
from sparknn.rows import Faults, Layout, Parser

VECTOR = pa.struct(
    [
        ("type", pa.int8()),
        ("size", pa.int32()),
        ("indices", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float64())),
    ]
)
"""A VectorUDT column as mapInArrow hands it over."""

NAN, INFINITY = math.nan, math.inf
BEYOND = 1e39
"""Fits a float64 and not a float32."""


def vectors(rows):
    """Return a column of vectors: lists are dense, (size, indices, values) sparse, None null."""

    def unwrapped(row):
        if row is None:
            return None
        if isinstance(row, tuple):
            size, indices, values = row
            return {"type": 0, "size": size, "indices": indices, "values": values}
        return {"type": 1, "size": None, "indices": None, "values": row}

    return pa.array([unwrapped(row) for row in rows], VECTOR)


def arrays(rows, element=None):
    """Return a column of arrays."""
    return pa.array(rows, pa.list_(element or pa.float64()))


def batch(*columns):
    return pa.RecordBatch.from_arrays(
        [column if isinstance(column, pa.Array) else pa.array(column) for column in columns],
        [f"c{index}" for index in range(len(columns))],
    )


def parsed(layout, *batches, dtype=np.float32):
    """Return a parser that has met all batches, with its positions and rows."""
    parser = Parser(layout, dtype)
    return parser, *joined(parser.batches(batches))


def parsed_objects(layout, objects, labelled=True, dtype=np.float32):
    parser = Parser(layout, dtype)
    return parser, *joined(parser.objects(objects, labelled))


def joined(windows):
    windows = list(windows)
    if not windows:
        return np.empty(0, np.int64), np.empty((0, 0))
    positions, rows = zip(*windows, strict=True)
    assert all(len(place) == len(part) > 0 for place, part in windows)
    return np.concatenate(positions), np.vstack(rows)


def noted(parser, column, words):
    """Return the count, first position and example of the column's fault with these words."""
    found = [
        entry
        for (name, reason), entry in parser.faults.entries.items()
        if name == column and words in reason
    ]
    assert len(found) == 1, parser.faults.entries
    return found[0]


ROWS = [[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, -3.5, 0.0], [4.0, 5.0, 6.0], [0.0, 0.0, 7.0]]
SPARSE = [
    (3, [0, 2], [1.0, 2.0]),
    (3, [], []),
    (3, [1], [-3.5]),
    (3, [0, 1, 2], [4.0, 5.0, 6.0]),
    (3, [2], [7.0]),
]
MIXED = [SPARSE[0], ROWS[1], SPARSE[2], ROWS[3], SPARSE[4]]
COLUMNS = {
    "dense": vectors(ROWS),
    "sparse": vectors(SPARSE),
    "mixed": vectors(MIXED),
    "mixed, dense first": vectors([ROWS[0], SPARSE[1], ROWS[2], SPARSE[3], SPARSE[4]]),
    "array<double>": arrays(ROWS),
    "array<float>": arrays(ROWS, pa.float32()),
}


@pytest.fixture(params=list(COLUMNS))
def column(request):
    return COLUMNS[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_and_arrays_become_dense_rows(column, dtype):
    parser, positions, rows = parsed(Layout(), batch(column), dtype=dtype)
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(positions, range(5))
    assert rows.dtype == dtype and positions.dtype == np.int64
    assert (parser.width, parser.seen, parser.kept) == (3, 5, 5)
    assert not parser.faults.entries


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64()])
def test_arrays_of_whole_numbers_become_dense_rows(kind):
    _, _, rows = parsed(Layout(), batch(arrays([[1, -2], [3, 100]], kind)))
    np.testing.assert_array_equal(rows, [[1, -2], [3, 100]])
    assert rows.dtype == np.float32


@pytest.mark.parametrize("start", [0, 1, 2, 4])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_slices_of_batches_give_just_their_rows(column, start, length):
    _, _, rows = parsed(Layout(width=3), batch(column).slice(start, length))
    np.testing.assert_array_equal(rows, np.reshape(ROWS[start : start + length], rows.shape))
    assert len(rows) == len(ROWS[start : start + length])


@pytest.mark.parametrize(
    "make", [vectors, arrays, lambda rows: arrays(rows, pa.float32())], ids=["v", "a", "f"]
)
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_slices_with_null_and_ragged_rows_give_just_their_valid_ones(make, start):
    mixed = [None, [1.0, 2.0], [9.0], [3.0, 4.0], None, [9.0, 9.0, 9.0], [], [5.0, 6.0]]
    layout = Layout(targets=("y",), width=2)
    labels = pa.array(np.arange(8.0))
    parser, positions, rows = parsed(layout, batch(make(mixed), labels).slice(start, 8 - start))
    good = [index for index in (1, 3, 7) if index >= start]
    np.testing.assert_array_equal(rows, [[*mixed[index], index] for index in good])
    np.testing.assert_array_equal(positions, np.array(good) - start)
    assert noted(parser, "features", "null")[:2] == ((2, 0) if start == 0 else (1, 4 - start))
    assert noted(parser, "features", "wide")[:2] == (
        (3, 2 - start) if start <= 2 else (2, 5 - start)
    )


@pytest.mark.parametrize("start", range(6))
def test_slices_of_mixed_sparse_vectors_with_null_and_ragged_rows(start):
    mixed = [(2, [0], [9.0]), SPARSE[0], None, ROWS[3], (4, [3], [9.0]), SPARSE[4], None, SPARSE[2]]
    dense = {1: ROWS[0], 3: ROWS[3], 5: ROWS[4], 7: ROWS[2]}
    sliced = batch(vectors(mixed)).slice(start, 8 - start)
    parser, positions, rows = parsed(Layout(width=3), sliced)
    good = [index for index in dense if index >= start]
    np.testing.assert_array_equal(rows, [dense[index] for index in good])
    np.testing.assert_array_equal(positions, np.array(good) - start)
    assert parser.seen == 8 - start


def test_a_column_made_of_a_slice_gives_just_its_rows():
    labels = pa.array([0.0, 1.0, 2.0, 3.0, 4.0])
    sliced = batch(vectors(MIXED).slice(2, 2), labels.slice(1, 2), labels.slice(3, 2))
    _, _, rows = parsed(Layout(targets=("y",), weight="w"), sliced)
    np.testing.assert_array_equal(rows, [[*ROWS[2], 1, 3], [*ROWS[3], 2, 4]])


def test_rows_lie_side_by_side_with_targets_and_weight():
    layout = Layout(targets=("y", "z"), weight="w")
    parser, _, rows = parsed(
        layout, batch(arrays([[1.0, 2.0], [3.0, 4.0]]), [5.0, 6.0], [-7.5, 8.5], [0.5, 0.0])
    )
    np.testing.assert_array_equal(rows, [[1, 2, 5, -7.5, 0.5], [3, 4, 6, 8.5, 0]])
    assert not parser.faults.entries


def test_targets_and_weights_of_other_numeric_types_are_taken():
    layout = Layout(targets=("y",), classes=2, weight="w")
    columns = arrays([[1.0], [2.0]]), pa.array([True, False]), pa.array([3, 4], pa.int32())
    _, _, rows = parsed(layout, batch(*columns))
    np.testing.assert_array_equal(rows, [[1, 1, 3], [2, 0, 4]])


def test_single_numeric_columns_become_features_side_by_side():
    layout = Layout(columns=4, targets=("y",))
    columns = [
        pa.array([1.5, 2.5, 3.5]),
        pa.array([1, 2, 3], pa.int32()),
        pa.array([0.5, 1.5, 2.5], pa.float32()),
        pa.array([True, False, True]),
        pa.array([7.0, 8.0, 9.0]),
    ]
    parser, _, rows = parsed(layout, batch(*columns), batch(*columns).slice(1, 2))
    expected = [[1.5, 1, 0.5, 1, 7], [2.5, 2, 1.5, 0, 8], [3.5, 3, 2.5, 1, 9]]
    np.testing.assert_array_equal(rows, expected + expected[1:])
    assert parser.width == 4


def test_a_null_in_any_of_single_numeric_columns_is_a_null_row():
    layout = Layout("a, b", columns=2)
    parser, positions, rows = parsed(layout, batch([1.0, None, 3.0], pa.array([1, 2, None])))
    np.testing.assert_array_equal(rows, [[1, 1]])
    np.testing.assert_array_equal(positions, [0])
    assert parser.faults.entries == {("a, b", "null"): (2, 1, "")}


def test_faults_of_single_numeric_columns_name_the_column_where_it_is_known():
    parser, _, _ = parsed(
        Layout("a, b", columns=2, names=("a", "b")), batch([1.0, 2.0], [3.0, NAN])
    )
    count, position, example = noted(parser, "a, b", "NaN")
    assert (count, position) == (1, 1) and example == "nan in 'b'"


def test_faults_are_counted_over_batches_with_the_first_position_and_example():
    layout = Layout("x", targets=("y",))
    first = batch(vectors([[1.0, 2.0], [3.0, 4.0]]), [1.0, 2.0])
    second = batch(
        vectors([[1.0, 2.0], [5.0, NAN], None, [1.0]]), pa.array([0.0, 1.0, 1.0, INFINITY])
    )
    third = batch(vectors([None, [-INFINITY, 1.0], [1.0, 2.0, 3.0]]), pa.array([0.0, None, 2.0]))
    parser, positions, rows = parsed(layout, first, second, third)
    assert (parser.seen, parser.kept) == (9, 3)
    np.testing.assert_array_equal(positions, [0, 1, 2])
    np.testing.assert_array_equal(rows, [[1, 2, 1], [3, 4, 2], [1, 2, 0]])
    assert noted(parser, "x", "null") == (2, 4, "")
    assert noted(parser, "x", "wide") == (2, 5, "")
    assert noted(parser, "x", "NaN") == (2, 3, "nan at index 1")
    assert noted(parser, "y", "NaN") == (1, 5, "inf")
    assert noted(parser, "y", "null") == (1, 7, "")
    assert len(parser.faults.entries) == 5


@pytest.mark.parametrize(
    ("bad", "shown"),
    [(NAN, "nan"), (INFINITY, "inf"), (-INFINITY, "-inf"), (BEYOND, "1e+39"), (-BEYOND, "-1e+39")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: vectors([[1.0, 2.0], [0.0, bad], [3.0, 4.0]]),
        lambda bad: vectors([(2, [0], [1.0]), (2, [1], [bad]), [3.0, 4.0]]),
        lambda bad: arrays([[1.0, 2.0], [0.0, bad], [3.0, 4.0]]),
    ],
    ids=["dense", "sparse", "array"],
)
def test_features_that_are_not_finite_32_bit_floats_are_faults(make, bad, shown, dtype):
    parser, positions, rows = parsed(Layout(), batch(make(bad)), dtype=dtype)
    np.testing.assert_array_equal(positions, [0, 2])
    assert np.isfinite(rows).all()
    assert noted(parser, "features", "NaN") == (1, 1, f"{shown} at index 1")


def test_the_largest_32_bit_float_is_valid():
    largest = float(np.finfo(np.float32).max)
    parser, _, rows = parsed(Layout(), batch(arrays([[largest, -largest]])))
    np.testing.assert_array_equal(rows, np.array([[largest, -largest]], np.float32))
    assert not parser.faults.entries


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int32()])
def test_a_null_element_of_an_array_is_a_fault(kind):
    parser, positions, rows = parsed(Layout(), batch(arrays([[1, 2], [3, None], [5, 6]], kind)))
    np.testing.assert_array_equal(rows, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(positions, [0, 2])
    assert noted(parser, "features", "NaN") == (1, 1, "nan at index 1")


@pytest.mark.parametrize("row", [[1.0, None], (2, [1], [None])], ids=["dense", "sparse"])
def test_a_null_element_of_a_vector_is_a_fault(row):
    parser, positions, _ = parsed(Layout(), batch(vectors([[1.0, 2.0], row])))
    np.testing.assert_array_equal(positions, [0])
    assert noted(parser, "features", "NaN") == (1, 1, "nan at index 1")


def test_float64_rows_keep_what_float32_would_lose():
    value = 1.5e9 + 0.125
    columns = arrays([[value]]), [16_777_217.0]
    assert parsed(Layout(targets=("y",)), batch(*columns), dtype=np.float64)[2].tolist() == [
        [value, 16_777_217.0]
    ]
    assert parsed(Layout(targets=("y",)), batch(*columns))[2].tolist() == [[1.5e9, 16_777_216.0]]


def test_class_labels_must_be_whole_numbers_from_0_below_the_classes():
    layout = Layout(targets=("label",), classes=3)
    labels = pa.array([0.0, 1.5, -1.0, 3.0, None, NAN, 2.0, 7.0, INFINITY, -0.5])
    parser, positions, rows = parsed(layout, batch(arrays([[1.0]] * 10), labels))
    np.testing.assert_array_equal(positions, [0, 6])
    np.testing.assert_array_equal(rows[:, 1], [0, 2])
    assert noted(parser, "label", "no class label") == (3, 1, "1.5")
    assert noted(parser, "label", "above 2") == (2, 3, "3")
    assert noted(parser, "label", "null") == (1, 4, "")
    assert noted(parser, "label", "NaN") == (2, 5, "nan")
    assert (parser.seen, parser.kept) == (10, 2)


def test_labels_of_unknown_classes_may_be_any_sensible_whole_number():
    layout = Layout(targets=("label",), classes=0)
    labels = [0.0, 1000.0, 1e7, -1.0]
    parser, positions, _ = parsed(layout, batch(arrays([[1.0]] * 4), labels))
    np.testing.assert_array_equal(positions, [0, 1])
    assert noted(parser, "label", "no class label") == (1, 3, "-1")
    assert noted(parser, "label", "above") == (1, 2, "1e+07")


def test_target_values_may_be_any_finite_number():
    layout = Layout(targets=("y",))
    parser, _, rows = parsed(layout, batch(arrays([[1.0]] * 3), [-1.5, 1e30, 0.0]))
    np.testing.assert_array_equal(rows[:, 1], np.array([-1.5, 1e30, 0], np.float32))
    assert not parser.faults.entries


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [Layout(targets=("v",)), Layout(weight="v")])
def test_targets_and_weights_beyond_32_bit_floats_are_faults(layout, dtype):
    parser, positions, _ = parsed(layout, batch(arrays([[1.0]] * 2), [1.0, BEYOND]), dtype=dtype)
    np.testing.assert_array_equal(positions, [0])
    assert len(parser.faults.entries) == 1


def test_each_of_several_targets_is_checked():
    layout = Layout(targets=("y", "z"))
    parser, positions, _ = parsed(
        layout, batch(arrays([[1.0]] * 3), [1.0, NAN, 3.0], pa.array([1.0, 2.0, None]))
    )
    np.testing.assert_array_equal(positions, [0])
    assert noted(parser, "y", "NaN") == (1, 1, "nan")
    assert noted(parser, "z", "null") == (1, 2, "")


def test_weights_must_be_finite_and_not_negative():
    layout = Layout(weight="w")
    weights = pa.array([1.0, 0.0, -0.5, None, NAN, INFINITY])
    parser, positions, rows = parsed(layout, batch(arrays([[1.0]] * 6), weights))
    np.testing.assert_array_equal(positions, [0, 1])
    np.testing.assert_array_equal(rows, [[1, 1], [1, 0]])
    assert noted(parser, "w", "null") == (1, 3, "")
    assert noted(parser, "w", "negative, NaN or infinite") == (3, 2, "-0.5")


def test_width_is_the_first_rows_or_the_models():
    ragged = batch(vectors([None, (3, [0], [1.0]), [1.0, 2.0], [1.0, 2.0, 3.0]]))
    parser, positions, _ = parsed(Layout(), ragged)
    assert parser.width == 3 and positions.tolist() == [1, 3]
    assert noted(parser, "features", "not 3 values wide, as the others are")[:2] == (1, 2)
    parser, positions, _ = parsed(Layout(width=2), ragged)
    assert parser.width == 2 and positions.tolist() == [2]
    assert noted(parser, "features", "not 2 values wide, as the model's input is")[:2] == (2, 1)


def test_width_holds_from_one_batch_to_the_next():
    parser, positions, _ = parsed(Layout(), batch(arrays([[1.0, 2.0]])), batch(arrays([[1.0]])))
    assert positions.tolist() == [0]
    assert noted(parser, "features", "not 2 values wide")[:2] == (1, 1)


@pytest.mark.parametrize("make", [vectors, arrays])
def test_a_batch_of_null_rows_may_come_first(make):
    parser, positions, rows = parsed(
        Layout(), batch(make([None, None])), batch(make([[1.0, 2.0], None]))
    )
    assert positions.tolist() == [2] and rows.tolist() == [[1, 2]]
    assert noted(parser, "features", "null") == (3, 0, "")


@pytest.mark.parametrize("make", [vectors, arrays])
@pytest.mark.parametrize("rows", [[[], None], [[], [1.0]]])
def test_an_empty_row_may_come_first(make, rows):
    parser, _, _ = parsed(Layout(), batch(make(rows)))
    assert parser.seen == 2 and parser.faults.entries


def test_single_numeric_columns_must_be_as_many_as_the_models_inputs():
    parser, _, rows = parsed(Layout(columns=2, width=5), batch([1.0], [2.0]))
    assert noted(parser, "features", "not 5 values wide")[:2] == (1, 0)
    assert not len(rows)


def test_parsing_goes_on_after_faults_whether_they_are_skipped_or_not():
    rows = batch(arrays([[1.0], [NAN], [3.0]]))
    for skip in (False, True):
        parser, positions, kept = parsed(Layout(skip=skip), rows, rows)
        assert positions.tolist() == [0, 2, 3, 5] and kept.tolist() == [[1], [3], [1], [3]]
        assert noted(parser, "features", "NaN")[:2] == (2, 1)
        assert (parser.seen, parser.kept) == (6, 4)


def test_a_row_with_several_faults_is_left_out_once_and_named_for_each():
    layout = Layout(targets=("y",), weight="w")
    parser, _, rows = parsed(layout, batch(arrays([[NAN], [2.0]]), [NAN, 1.0], [-1.0, 1.0]))
    assert rows.tolist() == [[2, 1, 1]] and (parser.seen, parser.kept) == (2, 1)
    assert {name for name, _ in parser.faults.entries} == {"features", "y", "w"}


def test_no_batches_and_empty_batches_give_no_windows():
    assert list(Parser(Layout()).batches([])) == []
    empty = batch(vectors([]), pa.array([], pa.float64()))
    full = batch(vectors([[1.0, 2.0]]), [3.0])
    _, positions, rows = parsed(Layout(targets=("y",)), empty, full, empty)
    assert positions.tolist() == [0] and rows.tolist() == [[1, 2, 3]]
    assert list(Parser(Layout(targets=("y",))).batches([empty])) == []


def test_no_window_comes_of_a_batch_without_valid_rows():
    parser = Parser(Layout(width=1))
    assert list(parser.batches([batch(arrays([[NAN], None]))])) == []
    assert (parser.seen, parser.kept) == (2, 0)


@pytest.mark.parametrize("make", [vectors, arrays])
def test_large_batches_are_cut_into_windows_in_order(make, monkeypatch):
    monkeypatch.setattr(sparknn.rows, "WINDOW_BYTES", 7 * 2 * 8)
    features = np.arange(60.0).reshape(30, 2)
    features[11, 1] = NAN
    parser = Parser(Layout(targets=("y",)))
    whole = batch(make(features.tolist()), np.arange(30.0))
    windows = list(parser.batches([whole, whole.slice(25)]))
    assert max(len(rows) for _, rows in windows) == 7
    positions, rows = joined(windows)
    good = [index for index in range(30) if index != 11]
    np.testing.assert_array_equal(rows[:29], np.column_stack([features, range(30)])[good])
    np.testing.assert_array_equal(positions, good + list(range(30, 35)))
    np.testing.assert_array_equal(rows[29:], rows[24:29])
    assert noted(parser, "features", "NaN") == (1, 11, "nan at index 1")


def test_windows_are_the_callers_own_to_write_to():
    source = batch(arrays([[1.0, 2.0]]))
    for dtype in (np.float32, np.float64):
        _, _, rows = parsed(Layout(), source, dtype=dtype)
        rows += 1
    assert source.column(0).to_pylist() == [[1.0, 2.0]]


class Dense:
    """Like pyspark's vectors and SciPy's, it is made an array by its own method."""

    def __init__(self, values):
        self.values = values

    def toArray(self):
        return np.array(self.values)


OBJECTS = {
    "pairs of lists": [(1, [1.0, 2.0]), (0, [3, 4])],
    "pairs of arrays": [(1.0, np.array([1, 2])), (0.0, np.array([3, 4], np.float32))],
    "pairs of vectors": [(1.0, Dense([1.0, 2.0])), (0.0, Dense([3.0, 4.0]))],
    "lists of two": [[1, (1.0, 2.0)], [0, (3.0, 4.0)]],
    "labelled points": [
        SimpleNamespace(label=1.0, features=Dense([1.0, 2.0])),
        SimpleNamespace(label=0.0, features=Dense([3.0, 4.0])),
    ],
}


@pytest.mark.parametrize("objects", list(OBJECTS.values()), ids=list(OBJECTS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_and_labelled_points_become_rows(objects, dtype):
    layout = Layout(targets=("label",), classes=2)
    parser, positions, rows = parsed_objects(layout, iter(objects), dtype=dtype)
    assert rows.tolist() == [[1, 2, 1], [3, 4, 0]] and rows.dtype == dtype
    assert positions.tolist() == [0, 1]
    assert (parser.width, parser.seen, parser.kept) == (2, 2, 2) and not parser.faults.entries


def test_pysparks_own_vectors_and_labeled_points_become_rows():
    # These classes need no session.
    linalg = pytest.importorskip("pyspark.mllib.linalg")
    regression = pytest.importorskip("pyspark.mllib.regression")
    points = [
        regression.LabeledPoint(1.0, [1.0, 0.0, 2.0]),
        regression.LabeledPoint(0.0, linalg.SparseVector(3, [1], [5.0])),
    ]
    _, _, rows = parsed_objects(Layout(targets=("label",), classes=2), points)
    assert rows.tolist() == [[1, 0, 2, 1], [0, 5, 0, 0]]


def test_objects_may_be_the_features_alone():
    objects = [[1.0, 2.0], Dense([3.0, 4.0]), np.array([5, 6]), None, [1.0, None]]
    parser, positions, rows = parsed_objects(Layout(), objects, labelled=False)
    assert rows.tolist() == [[1, 2], [3, 4], [5, 6]] and positions.tolist() == [0, 1, 2]
    assert noted(parser, "features", "null") == (1, 3, "")
    assert noted(parser, "features", "NaN") == (1, 4, "nan at index 1")


def test_labels_of_objects_are_left_out_where_the_layout_has_no_targets():
    _, _, rows = parsed_objects(Layout(), [(7.0, [1.0, 2.0]), (8.0, [3.0, 4.0])])
    assert rows.tolist() == [[1, 2], [3, 4]]


def test_objects_may_have_several_targets():
    layout = Layout(targets=("label[0]", "label[1]"))
    objects = [([1.0, 2.0], [3.0]), (np.array([4.0, INFINITY]), [5.0]), ((6.0, 7.0), [8.0])]
    parser, positions, rows = parsed_objects(layout, objects)
    assert rows.tolist() == [[3, 1, 2], [8, 6, 7]] and positions.tolist() == [0, 2]
    assert noted(parser, "label[1]", "NaN") == (1, 1, "inf")


def test_faults_of_objects_are_counted_with_their_first_position():
    layout = Layout(targets=("label",), classes=2)
    objects = [
        (0, [1.0, 2.0]),
        (1, [1.0]),
        (1, None),
        (0.5, [1.0, 2.0]),
        (2, [1.0, 2.0]),
        (None, [1.0, 2.0]),
        (0, [NAN, 2.0]),
        (0, [1.0, 2.0, 3.0]),
        (1, [5.0, 6.0]),
        (-1, [0.0, BEYOND]),
    ]
    parser, positions, rows = parsed_objects(layout, objects)
    assert positions.tolist() == [0, 8] and rows.tolist() == [[1, 2, 0], [5, 6, 1]]
    assert noted(parser, "features", "not 2 values wide") == (2, 1, "")
    assert noted(parser, "features", "null") == (1, 2, "")
    assert noted(parser, "features", "NaN") == (2, 6, "nan at index 0")
    assert noted(parser, "label", "no class label") == (2, 3, "0.5")
    assert noted(parser, "label", "above 1") == (1, 4, "2")
    assert noted(parser, "label", "NaN")[:2] == (1, 5)


def test_objects_with_null_features_may_come_first():
    objects = [(0, None), (1, [1.0, 2.0])]
    parser, positions, _ = parsed_objects(Layout(targets=("label",)), objects)
    assert positions.tolist() == [1] and parser.width == 2
    assert noted(parser, "features", "null") == (1, 0, "")
    parser, positions, _ = parsed_objects(Layout(targets=("label",)), objects[:1])
    assert not len(positions) and parser.seen == 1


@pytest.mark.parametrize("wrong", [None, [1.0], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("alone", [False, True])
def test_a_label_without_a_number_for_each_target_is_a_fault(wrong, alone):
    layout = Layout(targets=("label[0]", "label[1]"))
    objects = [(wrong, [3.0])] + [([1.0, 2.0], [4.0])] * (not alone)
    parser, _, rows = parsed_objects(layout, objects)
    assert parser.faults.entries and parser.seen == len(objects)
    assert rows.tolist() == [[4, 1, 2]] * (not alone)


def test_many_objects_are_cut_into_windows_in_order(monkeypatch):
    monkeypatch.setattr(sparknn.rows, "WINDOW_BYTES", 7 * 2 * 8)
    objects = [(index, [float(index), 0.5]) for index in range(30)]
    objects[11] = (11, [NAN, 0.5])
    parser = Parser(Layout(targets=("label",)))
    windows = list(parser.objects(objects, labelled=True))
    assert len(windows) > 3
    positions, rows = joined(windows)
    np.testing.assert_array_equal(positions, [index for index in range(30) if index != 11])
    np.testing.assert_array_equal(rows[:, 0], positions)
    np.testing.assert_array_equal(rows[:, 2], positions)
    assert noted(parser, "features", "NaN")[:2] == (1, 11)


def test_no_objects_give_no_windows():
    assert list(Parser(Layout()).objects([], labelled=True)) == []


def test_faults_travel():
    faults = Faults()
    faults.note("x", "null", np.array([False, True, True]), 10)
    faults.note("x", "null", np.array([True]), 13)
    faults.note("x", "odd", np.array([False]), 13)
    assert pickle.loads(pickle.dumps(faults)).entries == {("x", "null"): (3, 11, "")}
