"""HiGHS, quiet and on one thread, so that replays agree and standard output stays ours."""

from __future__ import annotations

import highspy


class QuietHighs(highspy.Highs):
    """Without the banner that its constructor prints to standard output, where our JSON goes."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()
        for name, setting in {"output_flag": False, "threads": 1, "random_seed": 0}.items():
            self.setOptionValue(name, setting)
