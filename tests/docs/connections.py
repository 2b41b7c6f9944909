"""Fills docs/connections.md: the settings that every connection can have, from core/connections.py."""

from __future__ import annotations

from collections.abc import Mapping

from tests.docs.setting_values import COMMON, MAX_ENTRIES
from tests.docs.tables import code, codes, default_of, table
from token_broker.core.connections import COMMON_SETTINGS, CommonSetting
from token_broker.core.validation import MAX_TEXT, OAUTH_FIELDS


def values() -> Mapping[str, str]:
    """What the template's names stand for."""
    head = ("setting", "meaning", "what may be written", "default", "ends a refusal")
    return {
        "settings": table(head, map(_row, COMMON_SETTINGS)),
        "max_entries": str(MAX_ENTRIES),
        "max_text": f"{MAX_TEXT:,}",
        "oauth_fields": codes(sorted(OAUTH_FIELDS - {"grant_type"})),
    }


def _row(setting: CommonSetting) -> tuple[str, ...]:
    return (
        code(setting.name),
        setting.help,
        COMMON[setting.name].replace("connections.md#", "#"),
        "required" if setting.required else default_of(setting.default),
        "yes" if setting.in_digest else "",
    )
