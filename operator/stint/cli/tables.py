"""What all tables have alike."""

from __future__ import annotations

import sys
from datetime import datetime

from rich.console import Console
from rich.table import Table

WIDE = 160


def console() -> Console:
    """As wide as the terminal; in a pipe, wide enough that nothing is cut off."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Without borders; `right`: columns of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def usd(amount: float | None) -> str:
    """In cents; - for what is not known."""
    return "-" if amount is None else f"{amount:,.2f}"


def when(moment: datetime | None, now: datetime) -> str:
    """From now on."""
    if moment is None:
        return "-"
    hours = (moment - now).total_seconds() / 3600
    return "now" if abs(hours) < 0.01 else f"in {hours:.1f} h"
