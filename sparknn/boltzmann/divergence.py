"""Contrastive divergence: an estimate of the log-likelihood's gradient from short Gibbs chains."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import blas
from scipy.sparse import issparse

from sparknn.boltzmann.machine import Machine
from sparknn.boltzmann.sampling import packed, unpacked
from sparknn.objective import L2, Rows

__all__ = ["ContrastiveDivergence"]

PROBED, PROBES = 32, 8
"""Rows of a step whose reconstruction is looked at; and where that takes a product of its own,
because the chains are not theirs, in one step of how many."""


class ContrastiveDivergence:
    """The training of a machine, as an `Objective`.

    The gradient is minus the estimate of the mean log-likelihood's: the statistics v h of the
    model, from the ends of Gibbs chains, less those of the rows. Hidden units enter both as
    probabilities. CD-k starts a chain at each row; persistent CD goes on with its own chains
    (fantasy particles), k steps at a time. All other units of the chains are sampled, so that
    CD-k tends to the exact gradient as k grows.

    What stands for the loss is the reconstruction error: the mean, over visible units and 32 rows,
    of the squared difference between a row and the visible means given its sampled hidden units.
    Beside persistent chains one call of `gradient` in eight computes it, the first included; the
    others repeat it.

    Parameters
    ----------
    machine : Machine
    steps : int, default 1
        k, at least 1.
    persistent : bool, default False
    sample_visible : bool, default True
        Sample the visible units of the chains. False is the practical guide's recipe (section
        3.2): their means take their place, which is less noisy, and biased however large k is.
    sparsity_target, sparsity_cost : float, default 0.1 and 0.0
        Pulls each hidden unit's mean over the rows of a step towards the target, by the cost times
        the cross-entropy's gradient (section 11).
    max_norm : float, optional
        The largest length of the weights into a hidden unit; longer ones are scaled down after
        each step.

    References
    ----------
    Hinton (2002), Training products of experts by minimizing contrastive divergence; Tieleman
    (2008), Training restricted Boltzmann machines using approximations to the likelihood
    gradient; Hinton (2012), A practical guide to training restricted Boltzmann machines.
    """

    chunk = 2048
    stochastic = accumulates = True

    def __init__(
        self,
        machine: Machine,
        steps: int = 1,
        persistent: bool = False,
        sample_visible: bool = True,
        sparsity_target: float = 0.1,
        sparsity_cost: float = 0.0,
        max_norm: float | None = None,
    ):
        self.machine, self.steps, self.persistent = machine, steps, persistent
        self.sample_visible = sample_visible
        self.sparsity_target, self.sparsity_cost = sparsity_target, sparsity_cost
        self.max_norm = max_norm
        self.size, self.dtype = machine.size, machine.dtype
        self._workspace: _Workspace | None = None
        self._calls, self._loss = 0, 0.0

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_workspace": None, "_calls": 0}

    def penalty(self, strength: float) -> L2:
        """Return an L2 penalty of `strength` on the weights, not on the biases."""
        return L2(strength, [(self.machine.weights_slice, 1.0)])

    def chains(
        self, state: np.ndarray | None, count: int, theta: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """Return the hidden states of a partition's persistent chains, (count, hidden).

        state: what `state` returned, or None where the chains begin: at hidden units without any
        input.
        """
        binary = self.machine.hidden_units.name == "binary"
        if state is not None:
            return unpacked(state, self.machine.hidden_size, self.dtype) if binary else state.copy()
        hidden = np.tile(self.machine.views(theta)[1], (count, 1))
        self.machine.hidden_units.mean(hidden)
        self.machine.hidden_units.sample(hidden, random, hidden)
        return hidden

    def state(self, chains: np.ndarray) -> np.ndarray:
        """Return chains in few bytes: binary ones as bits."""
        return packed(chains) if self.machine.hidden_units.name == "binary" else chains

    def project(self, theta: np.ndarray) -> None:
        """Scale down, in place, the weights into hidden units that are longer than allowed."""
        if self.max_norm is None:
            return
        weights = self.machine.views(theta)[0]
        lengths = np.sqrt(np.einsum("ij,ij->j", weights, weights))
        if (lengths > self.max_norm).any():
            weights *= np.minimum(1, self.max_norm / np.maximum(lengths, 1e-30)).astype(self.dtype)

    def measure(self, theta: np.ndarray, rows: Rows) -> tuple[float, float]:
        """Return the mean reconstruction error without any sampling, and the number of rows."""
        v = _dense(rows.features)
        error = np.square(self.machine.reconstruct(theta, v) - v).mean(dtype=np.float64)
        return float(error) if rows.length else 0.0, float(rows.length)

    def monitor(self, theta: np.ndarray, rows: Rows) -> float:
        """Return the mean free energy of some rows: its gap to held-out ones shows overfitting."""
        free = self.machine.free_energy(theta, _dense(rows.features))
        return float(free.mean(dtype=np.float64)) if rows.length else 0.0

    def gradient(
        self,
        theta: np.ndarray,
        rows: Rows,
        out: np.ndarray,
        random: np.random.Generator | None = None,
        chains: np.ndarray | None = None,
        scale: float | None = None,
    ) -> tuple[float, float]:
        """Write the gradient's estimate into `out`, or with a `scale` add so much of it.

        `theta` and `out` are (size,) of the machine's dtype; `random` is needed. chains: hidden
        states, (particles, hidden), which go on in place; without them chains start at the rows.
        Returns the reconstruction error and the number of rows; without rows `out` stays.
        """
        if random is None:
            raise ValueError("contrastive divergence draws random numbers: pass a generator")
        count = rows.length
        if not count:
            return 0.0, 0.0
        work = self._work(count, count if chains is None else len(chains))
        work.v[:count, :-1] = _dense(rows.features)
        if chains is None:
            self._from_rows(theta, work, random)
        else:
            self._from_chains(theta, work, random, chains)
        self._statistics(work, out, scale)
        return self._loss, float(count)

    def _work(self, count: int, particles: int) -> _Workspace:
        if self._workspace is None or self._workspace.sizes != (count, particles):
            self._workspace = _Workspace(self.machine, count, particles)
        return self._workspace

    def _from_rows(self, theta: np.ndarray, work: _Workspace, random: np.random.Generator) -> None:
        """Fill `work` with the rows' statistics and those of chains that start at them."""
        count = work.sizes[0]
        self._up(theta, work.v[:count], work.h[:count])
        self.machine.hidden_units.sample(work.h[:count], random, work.states)
        v = work.v[count:]
        self._down(theta, work.states, v)
        probed = v[:PROBED].copy()
        self.machine.visible_units.mean(probed)
        self._loss = _mean_square((probed - work.v[:count][:PROBED])[:, :-1])
        self._settle(v, random)
        self._up(theta, v, work.h[count:])
        self._walk(theta, work, random)

    def _from_chains(
        self,
        theta: np.ndarray,
        work: _Workspace,
        random: np.random.Generator,
        chains: np.ndarray,
    ) -> None:
        """Fill `work` with the rows' statistics and those of chains, which go on in place.

        The chains' hidden units are computed in one product with the rows'.
        """
        count = work.sizes[0]
        self._down(theta, chains, work.v[count:])
        self._settle(work.v[count:], random)
        self._up(theta, work.v, work.h)
        self._walk(theta, work, random)
        self.machine.hidden_units.sample(work.h[count:], random, chains)
        # After the chains, which so do not depend on whether it is done.
        if self._calls % PROBES == 0:
            self._loss = self._probe(theta, work, random)
        self._calls += 1

    def _walk(self, theta: np.ndarray, work: _Workspace, random: np.random.Generator) -> None:
        """Take the chains from their first step to the k-th."""
        v, h = work.v[work.sizes[0] :], work.h[work.sizes[0] :]
        for _ in range(self.steps - 1):
            self.machine.hidden_units.sample(h, random, work.states)
            self._down(theta, work.states, v)
            self._settle(v, random)
            self._up(theta, v, h)

    def _settle(self, v: np.ndarray, random: np.random.Generator) -> None:
        """Turn the input of visible units into a sample, or their means, and set the ones again."""
        if self.sample_visible:
            self.machine.visible_units.draw(v, random)
        else:
            self.machine.visible_units.mean(v)
        v[:, -1] = 1

    def _probe(self, theta: np.ndarray, work: _Workspace, random: np.random.Generator) -> float:
        """Return the reconstruction error of the first rows, given all hidden means."""
        rows = min(work.sizes[0], PROBED)
        states = np.empty_like(work.h[:rows])
        self.machine.hidden_units.sample(work.h[:rows], random, states)
        return _mean_square(self.machine.visible(theta, states) - work.v[:rows, :-1])

    def _up(self, theta: np.ndarray, v: np.ndarray, out: np.ndarray) -> None:
        """Write the hidden means given `v`, (rows, visible + 1) with ones at the end."""
        np.dot(v, self._weights(theta), out=out)
        self.machine.hidden_units.mean(out)

    def _down(self, theta: np.ndarray, h: np.ndarray, out: np.ndarray) -> None:
        """Write the visible units' input given `h`, with bias, into `out`, (rows, visible + 1).

        The last column is of no use.
        """
        out[:, :-1] = self.machine.views(theta)[2]
        out[:, -1] = 0
        # BLAS has columns first, so that these are the transposed arrays.
        weights = self._weights(theta).T
        gemm = _gemm(self.dtype)
        gemm(1.0, weights, h.T, 1.0, out.T, trans_a=True, overwrite_c=True)

    def _weights(self, theta: np.ndarray) -> np.ndarray:
        """Return (visible + 1, hidden): the weights and below them the hidden biases, a view."""
        end = self.machine.weights_slice.stop + self.machine.hidden_size
        return theta[:end].reshape(-1, self.machine.hidden_size)

    def _statistics(self, work: _Workspace, out: np.ndarray, scale: float | None) -> None:
        """Write, or add, the chains' mean of v h less the rows', and those of v and h.

        The rows' sign is put on their hidden means, so that one product gives all weights and
        hidden biases; BLAS adds it to what is there on the way, which saves passes over them.
        """
        count, particles = work.sizes
        h = work.h[:count]
        if self.sparsity_cost:
            mean = h.mean(axis=0)
            mean -= self.dtype(self.sparsity_target)
            mean *= self.dtype(self.sparsity_cost)
            h -= mean
        h *= self.dtype(-particles / count)
        visible_bias = self.machine.views(out)[2]
        if scale is None:
            visible_bias[:] = 0
        factor, keep = (1.0, 0.0) if scale is None else (scale, 1.0)
        visible_bias += (work.factors @ work.v)[:-1] * self.dtype(factor)
        sums = self._weights(out).T
        factor /= particles
        gemm = _gemm(self.dtype)
        gemm(factor, work.h.T, work.v.T, keep, sums, trans_b=True, overwrite_c=True)


class _Workspace:
    """Arrays that one step after another writes into: rows first, then the chains' ends.

    v: (rows + particles, visible + 1), with a column of ones that goes with the hidden biases.
    h: (rows + particles, hidden). states: (particles, hidden), sampled. factors: (rows +
    particles,), with which each row enters the gradient.
    """

    def __init__(self, machine: Machine, count: int, particles: int):
        self.sizes = count, particles
        self.v: np.ndarray = np.ones((count + particles, machine.visible_size + 1), machine.dtype)
        self.h: np.ndarray = np.empty((count + particles, machine.hidden_size), machine.dtype)
        self.states: np.ndarray = np.empty((particles, machine.hidden_size), machine.dtype)
        self.factors: np.ndarray = np.full(count + particles, 1 / particles, machine.dtype)
        self.factors[:count] = -1 / count


def _dense(features: Any) -> np.ndarray:
    return features.toarray() if issparse(features) else features


def _mean_square(difference: np.ndarray) -> float:
    return float(np.square(difference).mean(dtype=np.float64))


def _gemm(dtype: type) -> Any:
    return blas.sgemm if dtype == np.float32 else blas.dgemm
