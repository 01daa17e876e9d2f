"""How often Python looks for rubbish."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Tell Python to look for rubbish less often than it does by default.

    A cycle makes hundreds of thousands of objects that live until the next one and are freed by counting. Looking
    through all of them for circles that are not there took a quarter of its time.
    """
    gc.freeze()  # what has been imported stays
    gc.set_threshold(10_000, 20, 20)
