"""Sifting: a linear programme with very many columns, of which HiGHS sees the few that matter.

Every column belongs to a class, whose row says how many of its columns are wanted. The programme starts with a few
promising columns of every class. Its duals price all the others, and those that undercut what their class costs are
taken in, until none does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.highs import QuietHighs

_PRIMAL = 4  # the simplex method that goes on from where new columns found the last answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Some columns as HiGHS takes them: what each costs and, one column after the other, its rows and their values."""

    usd: Float[np.ndarray, " column"]
    begin: Int[np.ndarray, " column"]
    row: Int[np.ndarray, " entry"]
    value: Float[np.ndarray, " entry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What HiGHS found."""

    usd: float
    value: Float[np.ndarray, " variable"]
    dual: Float[np.ndarray, " row"]


class NoPricesError(Exception):
    """The programme has no answer that can be used."""


class Sifting:
    """A programme that takes in its columns bit by bit, from the last answer on."""

    def __init__(
        self, fixed: highspy.HighsLp, *, columns: int, entries: Callable[[Int[np.ndarray, " some"]], Entries]
    ) -> None:
        """
        Args:
            fixed: the rows, and the variables that are not sifted.
            columns: how many there are to sift.
            entries: some of them, as HiGHS takes them.
        """
        self.highs = QuietHighs()
        self.highs.setOptionValue("presolve", "off")
        self.highs.passModel(fixed)
        self.order: list[Int[np.ndarray, " some"]] = []  # columns in the order of the programme's variables
        self._entries = entries
        self._inside: Bool[np.ndarray, " column"] = np.zeros(columns, dtype=bool)

    def take(self, some: Int[np.ndarray, " some"]) -> None:
        """Some more columns: each may be anything from 0 on."""
        self.highs.setOptionValue("simplex_strategy", _PRIMAL)
        self._inside[some] = True
        self.order.append(some)
        new, endless = self._entries(some), np.full(len(some), highspy.kHighsInf)
        self.highs.addCols(
            *(len(some), new.usd, np.zeros(len(some)), endless),
            *(len(new.row), new.begin.astype(np.int32), new.row.astype(np.int32), new.value),
        )

    def answer(self) -> Answer:
        """The best of the columns taken so far.

        Raises:
            NoPricesError: HiGHS did not end well.
        """
        highs = self.highs
        highs.run()
        status = highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise NoPricesError(f"HiGHS ended with {highs.modelStatusToString(status)}")
        solution = highs.getSolution()
        usd = highs.getInfo().objective_function_value
        return Answer(usd=usd, value=np.array(solution.col_value), dual=np.array(solution.row_dual))

    def undercut(
        self, usd: Float[np.ndarray, "..."], class_usd: Float[np.ndarray, "..."], *, tolerance: float
    ) -> Int[np.ndarray, " some"]:
        """Columns that cost less than their class does now and were not taken yet, in flattened order.

        Args:
            usd: of every column at the prices found; in as many axes as the caller has.
            class_usd: of its class; broadcast.
        """
        under = usd < class_usd - tolerance * np.maximum(1.0, np.abs(class_usd))
        found = np.flatnonzero(under.ravel())
        fresh: Int[np.ndarray, " some"] = found[~self._inside[found]]
        return fresh


def cheapest_of_each(
    group: Int[np.ndarray, " some"], usd: Float[np.ndarray, " some"], what: Int[np.ndarray, " some"], most: int
) -> Int[np.ndarray, " few"]:
    """Of each group the cheapest few, the first of them where some cost the same.

    Args:
        group: sorted.
    """
    if not len(group):
        return what
    first = np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1])
    size = np.diff(np.concatenate([first, [len(group)]]))
    nth = np.repeat(np.arange(len(first)), size)
    usd = usd.copy()
    taken: list[Int[np.ndarray, " some"]] = []
    for _ in range(most):
        least = np.minimum.reduceat(usd, first)
        hits = np.flatnonzero(usd == least[nth])
        hits = hits[np.concatenate([[True], np.diff(nth[hits]) > 0])]
        taken.append(hits[~gone[nth[hits]]] if (gone := len(taken) >= size).any() else hits)
        usd[hits] = np.inf
    few = np.concatenate(taken)
    found: Int[np.ndarray, " few"] = what[few[np.argsort(nth[few], kind="stable")]]
    return found
