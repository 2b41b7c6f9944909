"""What a change of settings changed, as the audit may log it.

Settings hold no credential, but some hold what nobody should log: a query of a URL, a header, an extra parameter. A
value is logged only if its kind is on the list: callers, scopes, numbers, flags, choices, moments, parts of a host
name, and the origin of a URL. Of all others the digest is logged, which shows that they differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from token_broker.core.connections import setting_kinds
from token_broker.core.providers import Provider

SHOWN_KINDS = frozenset({"list", "scope", "whole", "choice", "flag", "moment", "label"})
URL_KINDS = frozenset({"url", "base_url", "redirect_uri"})
# A log line has at most 256 KiB.
MAX_SHOWN = 16 * 1024


def changed_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def setting_changes(
    provider: Provider | None, before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each setting that differs: `field`, and `old` and `new`, or `old_digest` and `new_digest`.

    Of a URL the origin is logged beside the digest. What is absent has neither. `provider`: None if it is gone.
    """
    kinds = setting_kinds(provider)
    return [
        {
            "field": name[:64],
            **_logged("old", before.get(name), kinds.get(name, "")),
            **_logged("new", after.get(name), kinds.get(name, "")),
        }
        for name in changed_names(before, after)
    ]


def _logged(side: str, value: Any, kind: str) -> dict[str, Any]:
    if value is None:
        return {}
    text = json.dumps(value, sort_keys=True)
    if kind in SHOWN_KINDS and _is_plain(value) and len(text) <= MAX_SHOWN:
        return {side: value}
    digest = {f"{side}_digest": hashlib.sha256(text.encode()).hexdigest()[:16]}
    origin = _origin(value) if kind in URL_KINDS else None
    return digest if origin is None else {side: origin, **digest}


def _is_plain(value: Any) -> bool:
    """Whether it is a text, a number, a flag, or a list of texts: the table may have been edited by hand."""
    return isinstance(value, (str, int, bool)) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _origin(value: Any) -> str | None:
    """Scheme, host and port of a URL; None if it has none."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        port = parts.port if parts else None
    except ValueError:
        return None
    if parts is None or not parts.hostname or len(parts.hostname) > 255:
        return None
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port is not None else "")
