"""How a simulator behaves. Options can change while it runs. A name that ends in `_s` is a duration in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar


@dataclass(frozen=True)
class Options:
    """The options of every vendor. Vendors add their own."""

    lifetime_s: float = 3600
    reuse: bool = False  # a further request gets the live token again ...
    reissue_window_s: float = 0  # ... until this long before it expires
    revoke_previous: bool = False  # a new token revokes the account's others (Doorkeeper's option)
    rate_limit: int | None = None
    rate_window_s: float = 60
    clock_skew_s: float = 0  # how much the vendor's clock is ahead: Date, exp, iat, created_at
    error_status: int | None = None  # status of every refusal instead of the usual one (old Doorkeeper: 401)
    numbers_as_text: bool = False
    omit_fields: tuple[str, ...] = ()  # removed from token replies
    set_fields: Mapping[str, object] = field(default_factory=dict)  # added to token replies, or replaced in them


AnyOptions = TypeVar("AnyOptions", bound=Options)


def scaled(options: AnyOptions, time_scale: float) -> AnyOptions:
    """The options with every duration multiplied."""
    durations = [item.name for item in fields(options) if item.name.endswith("_s")]
    return replace(options, **{name: getattr(options, name) * time_scale for name in durations})


def changed(options: AnyOptions, changes: Mapping[str, Any]) -> AnyOptions:
    """The options with some replaced, not scaled. Raises ValueError for an unknown name or a value of a wrong type."""
    known = {item.name: getattr(options, item.name) for item in fields(options)}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"no option {name}; there are {', '.join(known)}")
        if not _has_type(name, value, known[name]):
            raise ValueError(f"{name}: {value!r} has the wrong type")
    return replace(options, **changes)


def _has_type(name: str, value: object, present: object) -> bool:
    if name.endswith("_s"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(present, tuple | list):
        return isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)
    if isinstance(present, Mapping):
        return isinstance(value, Mapping)
    if isinstance(present, bool | str):
        return type(value) is type(present)
    return value is None or type(value) is int
