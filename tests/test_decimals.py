"""Lines of plain decimal numbers, taken apart many at a time: no Spark."""

from __future__ import annotations

import numpy as np
import pytest

from sparknn.cli.decimals import numbers


def taken(text: str, width: int, delimiter: str = ",") -> np.ndarray | None:
    return numbers(np.frombuffer(text.encode(), np.uint8), width, delimiter)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 8, 9, 15])
@pytest.mark.parametrize("kind", ["whole", "signed", "decimal"])
def test_numbers_are_what_python_reads(kind: str, most: int) -> None:
    random = np.random.default_rng(most)
    cells = []
    for _ in range(60):
        cell = "".join(map(str, random.integers(0, 10, random.integers(1, most + 1))))
        if kind == "decimal" and len(cell) > 1 and random.random() < 0.7:
            point = int(random.integers(1, len(cell)))
            cell = f"{cell[:point]}.{cell[point:]}"
        if kind != "whole" and float(cell) and random.random() < 0.5:
            cell = f"-{cell}"
        cells.append(cell)
    text = "".join(";".join(cells[at : at + 4]) + "\n" for at in range(0, 60, 4))
    found = taken(text, 4, ";")
    assert found is not None
    assert found.astype(np.float64).ravel().tolist() == [float(cell) for cell in cells]


@pytest.mark.parametrize(
    "text",
    ["1,\n", ",1\n", "1,2,3\n", "1\n", "1,2,3\n4\n", "1, 2\n", "1,x\n", "1,+2\n", "1,2e3\n",
     "1,.5\n", "1,5.\n", "1,-.5\n", "1,1.2.3\n", "1,--2\n", "1,2-3\n", "1,-\n", ".,1\n",
     "1,-0\n", "\n1,2\n", "1,2\n\n", "1,1234567890123456\n", "1,0.1234567890123456\n",
     '1,"2"\n', "1,2\r\n", "1,2\n3", "", "."],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_others(text: str) -> None:
    assert taken(text, 2) is None
