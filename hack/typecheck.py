"""How types are checked while tests run: an int is a float, as PEP 484 says and as mypy has it."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
