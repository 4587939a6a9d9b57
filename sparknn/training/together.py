"""Several fits in the same rounds: one Spark job serves them all.

Each fit's numbers are added up just as they would be alone, so that it ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from sparknn.objective import Rows
from sparknn.products import in_step
from sparknn.rounds import Answer, Outcome, Runner, Visitor
from sparknn.sparse import cast
from sparknn.training.fit import Ask

__all__ = ["Together", "run_together"]

NUMBERS = 2
"""After each fit's vector: its weight, and its loss times that."""


class _Share(NamedTuple):
    """One fit's part of a round: which visitor, and where its parameters stand."""

    number: int
    start: int
    stop: int
    dtype: np.dtype
    task: Any


class Together:
    """Visits a block for several fits: chunk by chunk where all want chunks of one size."""

    def __init__(self, visitors: Sequence[Visitor]):
        self.visitors = visitors

    def __call__(
        self,
        sent: np.ndarray,
        shares: list[_Share],
        partition: int,
        rows: Rows,
        states: dict[int, Any] | None,
    ) -> Answer:
        parts, states = [], dict(states or {})
        own = [sent[each.start : each.stop].astype(each.dtype, copy=False) for each in shares]
        answers = self._by_chunks(own, shares, rows)
        for number, share in enumerate(shares):
            answer = (
                answers[number]
                if answers
                else self.visitors[share.number](
                    own[number], share.task, partition, rows, states.get(share.number)
                )
            )
            vector = answer.vector.astype(np.float64)
            vector *= answer.weight
            parts += [vector, np.array([answer.weight, answer.loss * answer.weight])]
            if answer.state is not None:
                states[share.number] = answer.state
        return Answer(1.0, np.concatenate(parts), 0.0, states or None)

    def _by_chunks(
        self, own: list[np.ndarray], shares: list[_Share], rows: Rows
    ) -> list[Answer] | None:
        """Return all answers from one pass over the rows, or None where they want several.

        A chunk is read, cast to float64 and multiplied once for all of them while it is in the
        cache.
        """
        begin = [getattr(self.visitors[share.number], "begin", None) for share in shares]
        sums = [
            each(theta, share.task)
            for each, theta, share in zip(begin, own, shares, strict=True)
            if each is not None
        ]
        if len(sums) < len(shares):
            return None
        if len({each.chunk for each in sums}) > 1:
            return None
        for chunk in rows.chunks(sums[0].chunk):
            wide = chunk
            if any(each.wide for each in sums):
                wide = chunk._replace(features=cast(chunk.features, np.float64))
            in_step([each.add(wide if each.wide else chunk) for each in sums])
        return [each.answer() for each in sums]


def run_together(
    rounds: Runner,
    asks: dict[int, Ask],
    description: str,
    vectors: bool = True,
    ahead: Mapping[int, Ask] = MappingProxyType({}),
) -> list[Outcome]:
    """Run one round of `Together` for the fits in `asks`, by their numbers.

    vectors: the visitors answer with vectors as long as what they were sent; else with empty ones.
    ahead: further asks of some of these fits.
    Returns the outcomes of `asks`, each with an equal share of the time, then those of `ahead`
    with none.
    """
    shares, start = [], 0
    every = [*asks.items(), *ahead.items()]
    for number, ask in every:
        stop = start + len(ask.parameters)
        shares.append(_Share(number, start, stop, ask.parameters.dtype, ask.task))
        start = stop
    sent = np.concatenate([ask.parameters for _, ask in every])
    whole = rounds.run(sent, shares, description)
    outcomes, end = [], 0
    for place, share in enumerate(shares):
        part = 1 / len(asks) if place < len(asks) else 0.0
        middle = end + (share.stop - share.start if vectors else 0)
        weight, loss = whole.vector[middle : middle + NUMBERS].tolist()
        outcomes.append(
            Outcome(
                whole.vector[end:middle],
                weight,
                loss / weight if weight else 0.0,
                whole.compute * part,
                whole.other * part,
            )
        )
        end = middle + NUMBERS
    return outcomes
