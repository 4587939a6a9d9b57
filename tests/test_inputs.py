"""What lines, cells, headers and arrays are taken for: no Spark."""

from __future__ import annotations

import csv
import io
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sparknn.cli.arrays import chosen_arrays, idx_array, idx_pair, npz_arrays
from sparknn.cli.column_kinds import Column, decide, is_number, numbers_of, tally
from sparknn.cli.formats import BadFileError, kind_of
from sparknn.cli.headers import agreed_header, delimiter_of, looks_like_names, names_of
from sparknn.cli.lines import Dialect, Parsed, parse, parse_whole, typed
from sparknn.cli.text_batches import of_lines
from sparknn.errors import InvalidDataError

PLAIN = Dialect(("a", "b", "c"))
BARE = replace(PLAIN, header=False)


def cells(parsed: Parsed) -> list[list]:
    """A batch's rows; numbers as such, whether they came as numbers or as text."""
    found = zip(*(column.to_pylist() for column in parsed.cells))
    return [[plain(cell) for cell in row] for row in found]


def plain(cell: str | float | None) -> str | float | None:
    return float(cell) if isinstance(cell, str) and is_number(cell) else cell


def whole(content: bytes, dialect: Dialect) -> Parsed:
    """All of a file's rows, as `parse` returns them."""
    total = Parsed([], [])
    for part in parse_whole(content, dialect):
        total.lines += part.lines
        total.faults += part.faults
        total.blank += part.blank
        total.matched += part.matched
        if total.cells:
            part.cells = [pa.concat_arrays(pair) for pair in zip(total.cells, part.cells)]
        total.cells = part.cells
    return total


def test_lines_become_cells_and_faults_with_their_numbers() -> None:
    lines = [b"\xef\xbb\xbfa,b,c", b"1,2,x", b"", b"1,2", b"3,,y", b"1,2,3,4"]
    parsed = parse(lines, 1, PLAIN)
    assert cells(parsed) == [[1, 2, "x"], [3, None, "y"]]
    assert parsed.lines == [2, 5] and parsed.blank == 1 and not parsed.broken
    assert [(fault.line, fault.reason) for fault in parsed.faults] == [
        (4, "2 cells, not 3"),
        (6, "4 cells, not 3"),
    ]


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_the_header_is_the_first_line_that_holds_something_wherever_pieces_end(blank: int) -> None:
    """Each of two files that begin with blank lines, in pieces of one line; then a later split."""
    lines = [*[b" "] * blank, b"a,b,c", b"1,2,3", b"", b"a,b,c"]
    files = [*["file:/x"] * len(lines), *["file:/y"] * len(lines), "file:/y"]
    starts = [*[0] * (len(files) - 1), 512]
    texts = pa.array([*lines, *lines, b"a,b,c"], pa.binary())
    rows = pa.record_batch([texts, files, starts], ["value", "file", "start"])
    parts = list(of_lines([rows.slice(at, 1) for at in range(len(files))], PLAIN, None))
    found = [(part.file, *cells(part.parsed), *part.parsed.lines) for part in parts]
    assert [each for each in found if len(each) > 1] == [
        ("/x", [1, 2, 3], blank + 2),
        ("/x", ["a", "b", "c"], blank + 4),
        ("/y", [1, 2, 3], blank + 2),
        ("/y", ["a", "b", "c"], blank + 4),
        ("/y", ["a", "b", "c"], 2),
    ]
    assert sum(part.parsed.blank for part in parts) == 2 * blank + 2
    for tab in (",", "\t"):
        content = b"\n".join([b"\xef\xbb\xbf" + lines[0], *lines[1:]]).replace(b",", tab.encode())
        parsed = whole(content, replace(PLAIN, delimiter=tab))
        assert cells(parsed) == [[1, 2, 3], ["a", "b", "c"]]
        assert (parsed.lines, parsed.blank) == ([blank + 2, blank + 4], blank + 1)


def test_arrow_and_the_csv_module_take_the_same_rows_apart_alike() -> None:
    lines = [b"1,2,x", b"NA, 5 ,", b"-1e3,.5,\xc3\xa9", b",,"]
    dialect = Dialect(("a", "b", "c"), header=False, nulls=("NA",))
    by_arrow, by_csv = parse(lines, 1, dialect), parse([*lines, b'"1",2,"q""q"'], 1, dialect)
    assert cells(by_csv)[:-1] == cells(by_arrow)
    assert cells(by_csv)[-1] == [1, 2, 'q"q']
    assert cells(by_arrow)[1] == [None, 5, None]


def test_bytes_that_are_no_text_are_a_bad_line() -> None:
    (fault,) = parse([b"\xff,1,2"], 2, BARE).faults
    assert (fault.line, fault.reason) == (2, "not UTF-8")
    (fault,) = whole(b"a,b,c\n\xff,1,2\n", PLAIN).faults
    assert (fault.line, fault.reason) == (2, "not UTF-8")


def test_a_quote_that_stays_open_is_noticed() -> None:
    assert parse([b'1,2,"x'], 2, BARE).broken
    assert not parse([b'1,2,"x"', b'5" pipe,3,4'], 2, BARE).broken


def test_quoted_line_breaks_are_rows_with_multiline_and_bad_lines_without() -> None:
    content = b'a,b,c\r\n1,"2\n3",4\r\n\r\n5,6,7\r\n'
    parsed = whole(content, PLAIN)
    assert cells(parsed) == [[5, 6, 7]] and parsed.lines == [5] and parsed.blank == 1
    (fault,) = parsed.faults
    assert fault.line == 2 and "--multiline" in fault.reason
    parsed = whole(content, Dialect(("a", "b", "c"), multiline=True))
    assert cells(parsed) == [[1, "2\n3", 4], [5, 6, 7]] and not parsed.faults


@pytest.mark.parametrize("seed", range(40))
def test_no_row_is_lost_or_made_whatever_the_file_holds(seed: int) -> None:
    random = np.random.default_rng(seed)
    pieces = ["1", "22", "x", ",", ",", ",", "\n", "\r\n", '"', '""', " ", '"a,b"', ',"', '",']
    text = "a,b,c\n" + "".join(random.choice(pieces, 120))
    wanted = list(csv.reader(io.StringIO(text, newline="")))[1:]
    rows = sum(1 for row in wanted if (row and "".join(row).strip()) or len(row) > 1)
    parsed = whole(text.encode(), PLAIN)
    assert len(parsed.lines) + len(parsed.faults) == rows
    assert parsed.blank == len(wanted) - rows
    by_line = parse(
        text.encode().replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n"), 1, PLAIN
    )
    if not by_line.broken:
        assert cells(by_line) == cells(parsed)
        assert (len(by_line.faults), by_line.blank) == (len(parsed.faults), parsed.blank)


def test_numbers_that_come_as_numbers_have_the_same_faults_as_text() -> None:
    columns = [Column("a", "integer"), Column("b", "number"), Column("c", "word")]
    lines = [b"1,2.5,7", b"1.5,2,7", b"3,,7"]
    odd = {"inf": b"4,inf,7", "quoted": b'"4",x,7', "short": b"4"}
    for reason, line in {"none": b"4,1,7", **odd}.items():
        good = typed(parse([*lines, line], 1, BARE, columns), columns)
        assert [column.to_pylist()[:2] for column in good.columns] == [
            [1, 3],
            [2.5, None],
            ["7"] * 2,
        ]
        faults = {fault.line: fault.text for fault in good.faults}
        assert faults == {2: "1.5,2,7", **({4: line.decode()} if reason in odd else {})}


def test_lines_that_match_are_left_out_and_counted() -> None:
    dialect = Dialect(("a", "b", "c"), header=False, skipped="^ERR")
    parsed = parse([b"ERROR,1", b"1,2,3"], 1, dialect)
    assert (parsed.matched, parsed.lines, parsed.faults) == (1, [2], [])
    assert whole(b"ERROR,1\n1,2,3\n", dialect).matched == 1


def test_white_space_of_any_width_stands_between_numbers_of_plain_lines() -> None:
    dialect = Dialect(("c0", "c1"), header=False, delimiter=" ")
    assert cells(parse([b"  1   2.5", b"3\t4 "], 1, dialect)) == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize("text", ["1", "-1.5", "+3", ".5", "-.5", "5.", "1e5", " 2 ", "1E-07"])
def test_numbers_are_decimal_and_finite(text: str) -> None:
    values, other = numbers_of(pa.array([text, None]))
    assert is_number(text)
    assert values.to_pylist() == [float(text), None] and (
        other is None or other.to_pylist() == [False, False]
    )


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-Infinity", "1_000", "0x1f", "1,5", "x", "--1", "."]
)
def test_what_python_or_arrow_may_take_for_a_number_is_none(text: str) -> None:
    values, other = numbers_of(pa.array([text]))
    assert not is_number(text)
    assert values.to_pylist() == [None] and other.to_pylist() == [True]


def kind(*values: str | None, **options) -> Column:
    return decide(["x"], [tally(pa.array(values, pa.string()))], {}, **options)[0]


def test_a_column_of_numbers_may_hold_one_word_in_a_hundred() -> None:
    assert kind(*["1.5"] * 99, "x").kind == "number"
    assert kind(*["1.5"] * 98, "x", "y").kind == "word"
    assert kind(*["1.5"] * 99, *[None] * 500, "x").kind == "number"


def test_kinds_follow_from_cells_unless_said() -> None:
    assert kind("1", "2", None).kind == "integer"
    assert kind("1", "2.5").kind == "number"
    assert kind("1 2 3", "4 5 6", "7 8").kind == "numbers"
    assert kind("1 2 3", "4 5 6", "7 8").width == 3
    assert kind("1", "2", words=["x"]).kind == "word"
    assert kind(None, None).kind == "integer"
    with pytest.raises(InvalidDataError, match="'x' is to hold many numbers"):
        kind("1", lists=["x"])


def test_cells_of_another_kind_make_their_rows_bad() -> None:
    columns = [Column("p", "numbers", 3), Column("n", "integer"), Column("w", "word")]
    lines = [b"1 2 3,4,x", b"1 2,4,y", b",4.5,y", b"1 2 q,4,", b" 7 8  9 ,,"]
    good = typed(parse(lines, 2, BARE, columns), columns)
    assert [column.to_pylist() for column in good.columns] == [
        [[1, 2, 3], [7, 8, 9]],
        [4, None],
        ["x", None],
    ]
    assert good.lines == [2, 6]
    assert [(fault.line, fault.reason, fault.text) for fault in good.faults] == [
        (3, "column 'p': not 3 numbers (2 values)", "1 2,4,y"),
        (4, "column 'n': '4.5' is no whole number", ",4.5,y"),
        (5, "column 'p': not 3 numbers (3 values)", "1 2 q,4,"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "header"),
    [
        ("age,city", "31,Rome", True),
        ("city,street", "Rome,Via", True),
        ("label,1,2", "5,0,0", True),
        ("1,2,3", "4,5,6", False),
        ("Rome,31", "Paris,40", False),
        ("Rome,Rome", "Paris,Nice", False),
        ("a,b", "", True),
    ],
)
def test_a_header_is_told_from_the_first_two_lines(first, second, header) -> None:
    assert looks_like_names(first.split(","), second.split(",")) is header


def test_files_of_one_input_agree_about_their_header() -> None:
    data = {f"{index}.csv": ["1,2", "3,4"] for index in range(9)}
    assert agreed_header(data, ",", None) is False
    with pytest.raises(InvalidDataError, match=r"x\.csv begins with a header and the other 9"):
        agreed_header({**data, "x.csv": ["a,b", "1,2"]}, ",", None)
    named = {f"{index}.csv": ["a,b", "3,4"] for index in range(9)}
    assert agreed_header({**named, "empty.csv": []}, ",", None) is True
    with pytest.raises(InvalidDataError, match=r"x\.csv has no header and the other 9"):
        agreed_header({**named, "x.csv": ["1,2", "3,4"]}, ",", None)
    with pytest.raises(InvalidDataError, match=r"x\.csv begins with other names .*their order"):
        agreed_header({**named, "x.csv": ["b,a", "3,4"]}, ",", None)
    with pytest.raises(InvalidDataError, match=r"x\.csv begins with other names"):
        agreed_header({**named, "x.csv": ["1,2", "3,4"]}, ",", True)


def test_the_delimiter_is_what_the_first_line_has_most_of() -> None:
    found = [delimiter_of(line) for line in ("a,b", "a;b", "a\tb", "a|b;c|d", '"a;b;c",d', "a")]
    assert found == [",", ";", "\t", "|", ",", ","]


def test_names_are_stripped_and_each_is_there_once() -> None:
    assert names_of([" a", "", "b "], True) == ("a", "c1", "b")
    assert names_of(["1", "2"], False) == ("c0", "c1")
    with pytest.raises(InvalidDataError, match="'a' more than once"):
        names_of(["a", "a "], True)


def test_file_names_tell_the_format() -> None:
    assert kind_of(["/x/a.csv.gz", "/x/b.tsv"]) == "csv"
    assert kind_of(["/x/part-0.snappy.parquet"]) == "parquet"
    assert kind_of(["/x/train-images-idx3-ubyte.gz", "/x/train-labels-idx1-ubyte.gz"]) == "idx"
    for files in (["/x/part-00000"], ["/x/a.csv", "/x/b.json"]):
        with pytest.raises(InvalidDataError, match="--format"):
            kind_of(files)


def test_arrays_are_found_by_their_names_and_part() -> None:
    x, y = np.zeros((4, 2, 3)), np.arange(4)
    features, labels = chosen_arrays("f", {"x_train": x, "y_train": y, "x_test": x[:1]}, "train")
    assert features.shape == (4, 6) and list(labels) == [0, 1, 2, 3]
    features, labels = chosen_arrays("f", {"x_train": x, "y_train": y, "x_test": x[:1]}, "test")
    assert features.shape == (1, 6) and labels is None
    with pytest.raises(InvalidDataError, match="there are nix"):
        chosen_arrays("f", {"nix": x}, "train")
    features, labels = chosen_arrays("f", {"X": x, "Y": y.reshape(4, 1)}, "train")
    assert features.shape == (4, 6) and list(labels) == [0, 1, 2, 3]


ONES = np.ones((4, 2))
UNFIT_ARRAYS = {
    "other rows": ({"x": ONES, "y": np.ones(3)}, "array 'y' holds 3 labels, .* 4 rows"),
    "columns of labels": ({"x": ONES, "Y": np.eye(4)}, r"array 'Y' is of shape \(4, 4\), .*argmax"),
    "a label": ({"x": ONES, "y": np.array(1)}, r"array 'y' is of shape \(\), .* shape \(4,\)"),
    "dates": ({"x": ONES, "y": np.zeros(4, "M8[D]")}, r"array 'y' holds datetime64\[D\]"),
    "no rows": ({"X_train": ONES[:0], "y_train": []}, r"array 'X_train' is of shape \(0, 2\)"),
    "no columns": ({"x": np.ones((4, 0))}, r"array 'x' is of shape \(4, 0\)"),
    "a number": ({"x": np.array(1.0)}, r"array 'x' is of shape \(\), which holds no rows"),
    "words": ({"x": np.array([["a"]])}, "array 'x' holds <U1, and features are numbers"),
}


@pytest.mark.parametrize("case", UNFIT_ARRAYS)
def test_an_array_that_does_not_fit_is_named(case: str) -> None:
    arrays, told = UNFIT_ARRAYS[case]
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    with pytest.raises(InvalidDataError, match=told):
        chosen_arrays("f", arrays, "train")


def test_no_pickle_in_an_npz_file_is_loaded() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{}], dtype=object))
    with pytest.raises(BadFileError, match="file of plain numbers"):
        npz_arrays("f", buffer.getvalue(), "train")
    np.savez(buffer := io.BytesIO(), x=np.ones((2, 2)))
    with pytest.raises(BadFileError, match="f cannot be read"):
        npz_arrays("f", buffer.getvalue()[:-30], "train")


def test_idx_files_are_read_whole_or_not_at_all() -> None:
    content = b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 3) + bytes(range(12))
    assert idx_array("f", content).tolist() == np.arange(12).reshape(2, 2, 3).tolist()
    for broken in (content[:-1], content[:9], b"\1" + content):
        with pytest.raises(BadFileError, match="f cannot be read"):
            idx_array("f", broken)
    files = [f"/m/{part}-{rest}" for part in ("train", "t10k") for rest in (
        "images-idx3-ubyte", "labels-idx1-ubyte")]  # fmt: skip
    assert idx_pair(files, "train", files.__contains__) == (files[0], files[1])
    assert idx_pair(files, "test", files.__contains__) == (files[2], files[3])
    assert idx_pair(files[:1], "train", lambda _: True) == (files[0], files[1])
    assert idx_pair(files[:1], "train", lambda _: False) == (files[0], None)
