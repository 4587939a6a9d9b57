"""Make a table of MovieLens 100K: `python -m sparknn.cli.films ML-100K DIRECTORY`.

One row a rating (Harper and Konstan, The MovieLens Datasets, 2015): did the user like the film,
with 4 stars or 5? What is known of the user are their other ratings, of the film its ratings by
others and its genres. Every fifth rating, in the order of the file, is set aside for testing and
tells nothing of users and films.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

GENRES = [
    *("unknown", "action", "adventure", "animation", "childrens", "comedy", "crime"),
    *("documentary", "drama", "fantasy", "noir", "horror", "musical", "mystery", "romance"),
    *("scifi", "thriller", "war", "western"),
]

LIKED = 4
PRIOR = 5
"""Ratings as the mean is that are added to everybody's own, who may have few."""


@click.command(help=__doc__)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(source: Path, directory: Path) -> None:
    """Write DIRECTORY/train.csv and DIRECTORY/test.csv."""
    ratings = np.loadtxt(source / "u.data", dtype=np.int64, delimiter="\t")
    with (source / "u.item").open(encoding="latin-1") as file:
        items = [line.rstrip("\n").split("|") for line in file]
    genres = np.zeros((max(int(item[0]) for item in items), len(GENRES)))
    for item in items:
        genres[int(item[0]) - 1] = list(map(int, item[-len(GENRES) :]))
    test = np.arange(len(ratings)) % 5 == 4
    table = features_of(ratings[:, 0] - 1, ratings[:, 1] - 1, ratings[:, 2], genres, test)
    names = ["user_likes", "user_ratings", "film_likes", "film_ratings", "genre_likes", *GENRES]
    header = ",".join([*names, "liked"])
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", table[~test]), ("test", table[test])):
        path = directory / f"{name}.csv"
        np.savetxt(path, rows, fmt="%.6g", delimiter=",", header=header, comments="")
        click.echo(f"{path}: {len(rows)} ratings", err=True)


def features_of(
    users: np.ndarray, films: np.ndarray, stars: np.ndarray, genres: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Return a row for each rating: what is known of its user and film, the genres, the answer.

    Parameters
    ----------
    users, films, stars : ndarray of shape (ratings,)
        Numbers of users and films, from 0, and stars from 1 to 5.
    genres : ndarray of shape (films, genres)
    test : ndarray of shape (ratings,)
        Which ratings are not to be known; of the others each is hidden from its own row alone.
    """
    liked = (stars >= LIKED).astype(float)
    known = (~test).astype(float)
    mean = liked[~test].mean()
    columns = []
    for number in (users, films):
        likes = np.bincount(number, liked * known)[number] - liked * known
        count = np.bincount(number, known)[number] - known
        columns += [(likes + PRIOR * mean) / (count + PRIOR), np.log1p(count)]
    # How often the user liked films of each genre, over the genres of this one.
    own = genres[films]
    shape = users.max() + 1, genres.shape[1]
    likes, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(likes, users, own * (liked * known)[:, None])
    np.add.at(counts, users, own * known[:, None])
    likes = likes[users] - own * (liked * known)[:, None]
    counts = counts[users] - own * known[:, None]
    shares = (likes + PRIOR * mean) / (counts + PRIOR)
    columns.append((shares * own).sum(axis=1) / np.maximum(own.sum(axis=1), 1))
    return np.column_stack([*columns, own, liked])


if __name__ == "__main__":
    main()
