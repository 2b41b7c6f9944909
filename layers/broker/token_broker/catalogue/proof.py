"""How sure the catalogue is of a provider's file: the word in the file of its examples."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

# documented: request and response were transcribed from a page of the vendor, which the file names with its date.
# reported: at least one of them comes from elsewhere, such as public clients or issues.
PROOFS = ("documented", "reported")
NO_PROOF = "none"


def examples_beside(provider_file: Path) -> Path:
    """Where the examples of a provider's file are."""
    return provider_file.parent / "examples" / provider_file.name


def proof_of(provider_file: Path) -> str:
    """`documented`, `reported`, or `none` without a readable file of examples. The examples are not read."""
    try:
        head = examples_beside(provider_file).read_text(encoding="utf-8").partition("[[")[0]
        data: dict[str, Any] = tomllib.loads(head)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return NO_PROOF
    proof = data.get("proof")
    return proof if proof in PROOFS else NO_PROOF
