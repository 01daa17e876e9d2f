"""Everything Stint raises on purpose.

    StintError
     +- InvalidInputError       a person's object or file is wrong; lists every mistake with its path
     +- UnsoundAssignmentError  a solver broke a rule; caught by the verifier, never acted on
     +- ApiError                the API server refused a request

"No" is not an error: a gang that must wait is a `Hold` (see `stint.model.plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StintError(Exception):
    """The root of them all."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with an input: where it is, what was found there, what to do about it."""

    path: str  # as a person would write it: "spec.gpu.models[1]"
    found: str  # the offending value, shortened
    remedy: str  # a full sentence's worth: "must be one of A100-80GB, H100"

    def __str__(self) -> str:
        return f"{self.path}: {self.found}: {self.remedy}"


class InvalidInputError(StintError):
    """An object or a file cannot be used. All its mistakes are told at once."""

    def __init__(self, what: str, mistakes: Sequence[Mistake]) -> None:
        self.what = what
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(f"{what} has {count}:\n" + "\n".join(f"  {m}" for m in self.mistakes))


class ApiError(StintError):
    """The API server said no, in its own words."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {reason}: {message}")


class UnsoundAssignmentError(StintError):
    """A solver's answer breaks a rule of the problem. Its plan is thrown away."""

    def __init__(self, violations: Sequence[str]) -> None:
        self.violations = tuple(violations)
        super().__init__("the solver's answer is unsound: " + "; ".join(self.violations))
