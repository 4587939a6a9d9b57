"""A fit cut short goes on from its checkpoint, and ends with the bits of one that ran on."""

import os
from pathlib import Path

import numpy as np
import pytest
from cluster_helpers import frame, pack_frame
from test_together import rows_of

from sparknn import SGD, Adam, Network
from sparknn.cluster import Cluster
from sparknn.errors import CheckpointError
from sparknn.linear import LinearObjective
from sparknn.objective import L2
from sparknn.solvers import LBFGS
from sparknn.training import (
    Checkpoints,
    FullBatchFit,
    HeldOut,
    Minibatch,
    MinibatchFit,
    description_of,
    train_fits,
)


class Killed(Exception):
    """Stands for the end of the driver."""


@pytest.fixture(scope="module")
def cluster(spark):
    return Cluster(spark)


@pytest.fixture(scope="module")
def blocks(spark, cluster):
    parts = [rows_of(150, 1), rows_of(70, 2)]
    data = frame(spark, parts, "features array<double>, label double")
    with pack_frame(cluster, data, targets=("label",), classes=3, partitions=2) as packed:
        yield packed


NETWORK = Network([3, 5, 3], "tanh", dropout=0.1)
KINDS = ["sgd", "adam", "steps", "l-bfgs", "linear", "two", "held out"]


def fits_of(kind: str, blocks) -> list:
    start = NETWORK.initial(3)
    if kind == "l-bfgs":
        return [FullBatchFit(blocks, NETWORK, L2(), LBFGS(start, 12, 1e-12))]
    if kind == "linear":
        objective = LinearObjective(np.zeros(3), np.ones(3), 3, True)
        return [FullBatchFit(blocks, objective, L2(), LBFGS(np.zeros(12), 12, 1e-12))]
    optimizer = Adam(0.02) if kind == "adam" else SGD(0.1, 0.9)
    settings = Minibatch(8, 20, 3 if kind == "steps" else 0, seed=5)
    fit = MinibatchFit(blocks, NETWORK, L2(), optimizer, start, settings)
    if kind != "two":
        return [fit]
    return [fit, MinibatchFit(blocks, NETWORK, L2(), Adam(0.01), start, Minibatch(5, 20))]


def kill(fit, after: int | None) -> None:
    """Let the driver end when so many rounds of a fit are over, or never."""
    if after is None:
        return
    told, tell = [], fit.tell

    def counted(outcome):
        if len(told) == after:
            raise Killed
        told.append(outcome)
        return tell(outcome)

    fit.tell = counted


def trained(kind: str, blocks, checkpoints=None, killed_after: int | None = None):
    fits = fits_of(kind, blocks)
    kill(fits[0], killed_after)
    held_out = HeldOut(blocks, 3) if kind == "held out" else None
    return train_fits(blocks, fits, held_out=held_out, checkpoints=checkpoints)


def store(cluster, path, interval=2, **settings) -> Checkpoints:
    return Checkpoints(cluster, str(path), interval, {"stepSize": 0.1, **settings})


@pytest.mark.parametrize("killed_after", [1, 4, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_goes_on_with_the_same_bits(cluster, blocks, tmp_path, kind, killed_after):
    whole = trained(kind, blocks)
    with pytest.raises(Killed):
        trained(kind, blocks, store(cluster, tmp_path / "c"), killed_after)
    resumed = trained(kind, blocks, store(cluster, tmp_path / "c"))
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.objective_history == other.objective_history
        assert one.held_out_history == other.held_out_history
        assert [r.loss for r in one.rounds] == [r.loss for r in other.rounds]


@pytest.mark.parametrize("killed_after", [9, 15, 20])
def test_fits_that_end_their_epochs_at_different_rounds_go_on_with_the_same_bits(
    cluster, blocks, tmp_path, killed_after, in_rounds
):
    """A checkpoint comes when one of them has ended an epoch, and finds the other in its midst."""

    def train(path, killed_after=None):
        fits = [
            MinibatchFit(blocks, NETWORK, L2(), SGD(0.1), NETWORK.initial(3), settings)
            for settings in (Minibatch(4, 20, 1), Minibatch(3, 7, 2))
        ]
        kill(fits[0], killed_after)
        return train_fits(blocks, fits, checkpoints=store(cluster, path, interval=1))

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "c", killed_after)
    assert files(tmp_path / "c")
    for one, other in zip(whole, train(tmp_path / "c"), strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.objective_history == other.objective_history


def test_checkpoints_keep_their_interval_when_some_fits_are_done(cluster, blocks, tmp_path):
    fits = [
        MinibatchFit(blocks, NETWORK, L2(), SGD(0.1), NETWORK.initial(3), Minibatch(epochs, 20))
        for epochs in (1, 1, 1, 8)
    ]
    checkpoints, written = store(cluster, tmp_path), []
    write = checkpoints.store.write
    checkpoints.store.write = lambda number, *what: written.append(number) or write(number, *what)
    train_fits(blocks, fits, checkpoints=checkpoints)
    assert written == [4, 6, 8, 10]


def files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.endswith(".npz"))


def test_the_newest_two_are_kept_and_none_when_the_fit_is_complete(cluster, blocks, tmp_path):
    with pytest.raises(Killed):
        trained("sgd", blocks, store(cluster, tmp_path), killed_after=7)
    assert files(tmp_path) == ["checkpoint-000000004.npz", "checkpoint-000000006.npz"]
    trained("sgd", blocks, store(cluster, tmp_path))
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut short", "empty", "a bit turned"])
def test_a_damaged_checkpoint_is_passed_over(cluster, blocks, tmp_path, damage, caplog):
    whole = trained("sgd", blocks)
    with pytest.raises(Killed):
        trained("sgd", blocks, store(cluster, tmp_path), killed_after=7)
    newest = tmp_path / files(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    if damage == "a bit turned":
        content[len(content) // 2] ^= 1
    else:
        del content[0 if damage == "empty" else len(content) // 2 :]
    newest.write_bytes(content)
    (tmp_path / f".{newest.name}.crc").unlink()
    resumed = trained("sgd", blocks, store(cluster, tmp_path))
    np.testing.assert_array_equal(resumed[0].theta, whole[0].theta)
    assert "checkpoint 6 was cut short" in caplog.text
    assert not newest.exists()
    assert "going on from checkpoint 4" in caplog.text


def test_a_checkpoint_that_cannot_be_read_is_an_error_and_stays(cluster, blocks, tmp_path):
    with pytest.raises(Killed):
        trained("sgd", blocks, store(cluster, tmp_path), killed_after=7)
    newest = tmp_path / files(tmp_path)[-1]
    newest.unlink()
    (tmp_path / f".{newest.name}.crc").unlink()
    newest.mkdir()
    with pytest.raises(CheckpointError, match=f"{newest.name} cannot be read"):
        trained("sgd", blocks, store(cluster, tmp_path))
    assert newest.exists()


def test_settings_may_be_infinite_and_long(cluster, blocks, tmp_path):
    def keep(weights: list[float]) -> Checkpoints:
        return store(cluster, tmp_path, bound=[0.0, float("-inf")], weights=weights)

    weights = list(np.linspace(0, 1, 10**4))
    with pytest.raises(Killed):
        trained("sgd", blocks, keep(weights), killed_after=3)
    weights[5000] = 2.0
    with pytest.raises(CheckpointError, match=r"weights was \[0.*SHA-256") as caught:
        trained("sgd", blocks, keep(weights))
    assert len(str(caught.value)) < 1000 and "bound" not in str(caught.value)
    weights[5000] = np.linspace(0, 1, 10**4)[5000]
    trained("sgd", blocks, keep(weights))


def test_other_settings_are_refused_by_name(cluster, blocks, tmp_path):
    with pytest.raises(Killed):
        trained("sgd", blocks, store(cluster, tmp_path, seed=1), killed_after=3)
    with pytest.raises(CheckpointError, match=r"seed was 1 and is 2\. Fit with the same"):
        trained("sgd", blocks, store(cluster, tmp_path, seed=2))
    assert files(tmp_path), "what was there must stay"


def test_other_rows_are_other_settings(cluster, spark, blocks):
    parts = [rows_of(150, 1), rows_of(70, 9)]
    data = frame(spark, parts, "features array<double>, label double")
    with pack_frame(cluster, data, targets=("label",), classes=3, partitions=2) as others:
        one, other = description_of(blocks), description_of(others)
    assert {name for name in one if one[name] != other[name]} == {"the rows' checksum"}


def test_nothing_pickled_is_read(cluster, blocks, tmp_path):
    """An object array in place of a checkpoint's would run code of its maker's when unpickled."""
    import hashlib
    import io

    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array([{"a": 1}], dtype=object))
    content = buffer.getvalue()
    (tmp_path / "checkpoint-000000002.npz").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(ValueError, match="allow_pickle"):
        trained("sgd", blocks, store(cluster, tmp_path))
