"""docs/cost.md: cost.md.in, filled with the counts and prices.toml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from local.process import ROOT
from tests.cost.counting import Use, read_units, write_units
from tests.cost.courses import DUE_KEYS, Counted, Kept
from tests.cost.money import COLUMNS, CONNECTIONS, GB, MILLION, MONTH_S, Bill, Tariff

TEMPLATE: Final = Path(__file__).with_name("cost.md.in")
PAGE: Final = ROOT / "docs" / "cost.md"
LONG_TOKEN: Final = 1500  # bytes
# An example with services that cache tokens themselves, as BrokerAuth does.
PROCESSES: Final = 20
ONE_PROCESSOR_MB: Final = 1769  # with this memory Lambda gives a whole processor

TOKEN_REQUESTS: Final = {
    "memory": "from memory",
    "table_opened": "from the table, token opened before",
    "table_unopened": "from the table, token not opened before",
    "table_new_environment": "from the table, by a new environment",
    "use_noted": "the same as the third, and the use noted",
    "first_acquisition": "from the provider (a key's first)",
}
WORK: Final = {
    "sweep_empty": "sweep of an empty minute",
    "sweep_of_ten": f"sweep with {DUE_KEYS} keys due",
    "renewal_without_refresh": "renewal, refresh token not to be used (Ucommerce)",
}


def render(counted: Counted, tariff: Tariff) -> str:
    """The page."""
    bills, fixed = tariff.token_requests(counted), tariff.fixed(counted)
    unidy, ucommerce = counted.kept["unidy"], counted.kept["ucommerce"]
    long_item = unidy.steady_size + LONG_TOKEN
    million = {name: MILLION * total(bill) for name, bill in bills.items()}
    cold_start_ms, provider_ms = tariff.estimate("cold_start_ms"), tariff.estimate("provider_answer_ms")
    fetch = MILLION * tariff.price("secrets_manager_10000_calls") / 10_000
    waiting = MILLION * tariff.lambda_ms(provider_ms)
    kept_asks = PROCESSES * MONTH_S / unidy.interval_s
    answers_gb = MILLION * counted.courses["memory"].answer_bytes / GB
    memory_mb = tariff.stack.memory_mb
    values = {
        "region": tariff.document["region"],
        "as_of": tariff.document["as_of"],
        "fixed_sum": _cents(sum(fixed.values())),
        "mix": _cents(million["mix"]),
        "memory": _cents(million["memory"]),
        "connections": f"{CONNECTIONS:,}",
        "secrets": _cents(CONNECTIONS * tariff.price("secrets_manager_secret_month")),
        "unidy_renewals": _cents(CONNECTIONS * renewals(tariff, unidy, counted)),
        "ucommerce_renewals": _cents(CONNECTIONS * renewals(tariff, ucommerce, counted)),
        "token_request_rows": rows(
            _counted(label, counted.courses[name], get_token=True) for name, label in TOKEN_REQUESTS.items()
        ),
        "first_calls": _range(kept.first for kept in counted.kept.values()),
        "renewal_calls": _range(kept.renewal for kept in counted.kept.values()),
        "renewal_rows": rows(_counted(f"renewal, {name}", kept.renewal) for name, kept in counted.kept.items()),
        "work_rows": rows(_counted(label, counted.courses[name]) for name, label in WORK.items()),
        "size_rows": rows(_sizes(name, kept) for name, kept in counted.kept.items()),
        "long_write_units": write_units(long_item),
        "long_read_units": f"{read_units(long_item, strong=True):g}",
        "columns": " | ".join(COLUMNS),
        "column_rules": "---|" * len(COLUMNS),
        "bill_rows": rows(
            _dollars(tariff, name, label, bills[name]) for name, label in {**TOKEN_REQUESTS, "mix": "**mix**"}.items()
        ),
        "uses_noted": f"{tariff.estimate('uses_noted_a_lifetime'):g}",
        "transfer": _cents(answers_gb * tariff.price("transfer_gb")),
        "cold_start_ms": f"{cold_start_ms:g}",
        "cold_starts": f"{MILLION * tariff.lambda_ms(cold_start_ms) / 1000:.3f}",
        "connection_rows": rows(_connections(tariff, name, kept, counted) for name, kept in counted.kept.items()),
        "fixed_rows": rows(f"| {name} | {dollars:.2f} |" for name, dollars in fixed.items()),
        "signing_key": _cents(tariff.price("kms_key_month")),
        "ecc": _cents(tariff.price("kms_10000_ecc_signatures")),
        "fetch": _cents(fetch),
        "waiting": _cents(waiting),
        "asking_itself": _cents(fetch + waiting),
        "always": _cents(million["first_acquisition"]),
        "provider_ms": f"{provider_ms:g}",
        "unidy_requests": f"{MONTH_S / unidy.interval_s:.0f}",
        "processes": PROCESSES,
        "kept_asks": f"{kept_asks:,.0f}",
        "keeping": _cents(kept_asks * total(bills["mix"])),
        "limit_millions": f"{30 * MONTH_S / 60 / MILLION:.2f}",
        "memory_mb": memory_mb,
        "processor_share": f"{memory_mb / ONE_PROCESSOR_MB:.2f}",
        "price_rows": rows(_price(tariff, name) for name in tariff.document["prices"]),
    }
    return TEMPLATE.read_text(encoding="utf-8").format(**values)


def _cents(dollars: float) -> str:
    return f"{dollars:.2f}"


def _range(uses: Iterable[Use]) -> str:
    """The fewest and the most AWS calls."""
    counts = sorted(sum(use.calls.values()) for use in uses)
    return f"{counts[0]} to {counts[-1]}"


def total(bill: Bill) -> float:
    return sum(bill.values())


def rows(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def renewals(tariff: Tariff, kept: Kept, counted: Counted) -> float:
    """Dollars a month of one key's renewals and noted uses."""
    return MONTH_S / kept.interval_s * (total(tariff.renewal(kept, counted)) + tariff.uses_noted(kept))


def _counted(label: str, use: Use, *, get_token: bool = False) -> str:
    calls = use.calls
    first = [calls["dynamodb:BatchGetItem"], calls["dynamodb:GetItem" if get_token else "dynamodb:Query"]]
    units: list[float] = [use.read_units, use.write_units, *([] if get_token else [use.index_units])]
    last = [use.log_bytes, use.answer_bytes] if get_token else [use.of("sqs"), use.log_bytes]
    cells = [*first, calls["dynamodb:UpdateItem"], *units, use.of("kms"), use.of("secretsmanager"), *last]
    return f"| {label} | " + " | ".join(f"{cell:g}" for cell in cells) + " |"


def _sizes(name: str, kept: Kept) -> str:
    sizes = f"{kept.token_size} | {kept.settings_size} | {kept.first_size} | {kept.steady_size}"
    return f"| {name} | {sizes} | {read_units(kept.steady_size, strong=True):g} | {write_units(kept.steady_size)} |"


def _dollars(tariff: Tariff, name: str, label: str, bill: Bill) -> str:
    shares: Mapping[str, float] = tariff.document["estimates"]
    share = f"{shares[f'mix_{name}']:.0%}" if f"mix_{name}" in shares else ""
    cells = " | ".join(f"{MILLION * bill[column]:.2f}" for column in COLUMNS)
    return f"| {label} | {share} | {cells} | {MILLION * total(bill):.2f} |"


def _connections(tariff: Tariff, name: str, kept: Kept, counted: Counted) -> str:
    one = total(tariff.renewal(kept, counted)) + tariff.uses_noted(kept)
    work = CONNECTIONS * renewals(tariff, kept, counted)
    secrets = CONNECTIONS * tariff.price("secrets_manager_secret_month")
    times = CONNECTIONS * MONTH_S / kept.interval_s
    return (
        f"| {name} | {kept.lifetime_s:,} s | {kept.interval_s:,} s | {times:,.0f} | {MILLION * one:.1f} | {work:.2f} "
        f"| {secrets:.2f} | {work + secrets:.2f} |"
    )


def _price(tariff: Tariff, name: str) -> str:
    source = next(text for service, text in tariff.document["sources"].items() if name.startswith(service))
    return f"| {name.replace('_', ' ')} | {tariff.price(name):.10f}".rstrip("0").rstrip(".") + f" | {source} |"
