"""HiGHS, quiet and on one thread, so that replays agree and standard output stays ours."""

from __future__ import annotations

import highspy
import numpy as np
from jaxtyping import Float, Int


class QuietHighs(highspy.Highs):
    """Without the banner that its constructor prints to standard output, where our JSON goes."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()
        for name, setting in {"output_flag": False, "threads": 1, "random_seed": 0}.items():
            self.setOptionValue(name, setting)

    def add_columns(
        self,
        cost: Float[np.ndarray, " column"],
        index: Int[np.ndarray, "column entry"],
        value: Float[np.ndarray, "column entry"],
    ) -> None:
        """Variables from 0 to infinity, each in as many rows as the others."""
        count, each = index.shape
        begin = np.arange(count, dtype=np.int32) * each
        endless = np.full(count, highspy.kHighsInf)
        self.addCols(count, cost, np.zeros(count), endless, index.size, begin, index.ravel(), value.ravel())


def cheapest_of_each(
    group: Int[np.ndarray, " some"], usd: Float[np.ndarray, " some"], what: Int[np.ndarray, " some"], most: int
) -> Int[np.ndarray, " few"]:
    """Of each group the cheapest few: what a sifted programme starts from and takes in."""
    order = np.lexsort((what, usd, group))
    rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    few: Int[np.ndarray, " few"] = what[order[rank < most]]
    return few
