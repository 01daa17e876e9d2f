"""TrainingJobs as files, of one or more YAML documents."""

from __future__ import annotations

from typing import Any

import msgspec

from stint.api import reading, yaml_text
from stint.api.trainingjob import TrainingJob
from stint.errors import InvalidInputError, Mistake

API, KIND = "stint.dev/v1alpha1", "TrainingJob"


def documents(text: str, *, name: str) -> list[Any]:
    """Everything in a file that is not empty.

    Raises:
        InvalidInputError: it is not YAML.
    """
    try:
        return [d for d in yaml_text.read_all(text) if d is not None]
    except yaml_text.YamlTextError as error:
        raise InvalidInputError(name, [Mistake("the file", str(error)[:300], "must be YAML or JSON")]) from error


def training_job(document: dict[str, Any], *, number: int, namespace: str = "") -> TrainingJob:
    """One of them.

    Args:
        number: of the document in its file, for one that has no name.
        namespace: for one that names none.
    Raises:
        InvalidInputError: with every mistake.
    """
    meta = document.get("metadata")
    name = f"{KIND} {(meta.get('name') if isinstance(meta, dict) else None) or f'in document {number}'}"
    body = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "status")}
    resource = reading.convert(body, TrainingJob, name=name)
    given = resource.metadata
    return msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(given, namespace=given.namespace or namespace)
    )
