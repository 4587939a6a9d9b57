"""Write scikit-learn's handwritten digits as CSV: `python -m sparknn.cli.digits DIRECTORY`.

1,797 images of 8 x 8 grey values 0..16 (Alpaydin and Kaynak, 1998, UCI repository), every fifth
of them set aside for testing.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np


@click.command(help=__doc__)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(directory: Path) -> None:
    """Write DIRECTORY/train.csv and DIRECTORY/test.csv."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise click.ClickException(
            "the digits come with a package: pip install scikit-learn"
        ) from None
    images, labels = load_digits(return_X_y=True)
    table = np.column_stack([images, labels]).astype(int)
    header = ",".join([*(f"p{pixel}" for pixel in range(images.shape[1])), "label"])
    directory.mkdir(parents=True, exist_ok=True)
    test = np.arange(len(table)) % 5 == 0
    for name, rows in (("train", table[~test]), ("test", table[test])):
        path = directory / f"{name}.csv"
        np.savetxt(path, rows, fmt="%d", delimiter=",", header=header, comments="")
        click.echo(f"{path}: {len(rows)} digits", err=True)


if __name__ == "__main__":
    main()
