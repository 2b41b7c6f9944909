"""Converts counts to dollars, with the prices and estimates of prices.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from local.resources import Document, load_template
from tests.cost.counting import Use, write_units
from tests.cost.courses import DUE_KEYS, Counted, Kept

PRICES: Final = Path(__file__).with_name("prices.toml")
GB: Final = 2**30
MONTH_S: Final = 730 * 3600
MILLION: Final = 1_000_000
CONNECTIONS: Final = 1000
LINE_OVERHEAD: Final = 26  # bytes that CloudWatch Logs adds to each event
METRICS_OF_A_METHOD: Final = 5  # Count, Latency, IntegrationLatency, 4XXError, 5XXError
COLUMNS: Final = ("API Gateway", "Lambda", "DynamoDB", "KMS", "Secrets", "SQS", "logs", "X-Ray")
MIX: Final = ("memory", "table_opened", "table_unopened", "table_new_environment")
# Lambda's own log lines of an invocation in text format, with tracing.
PLATFORM_LINES: Final = (
    "START RequestId: 00000000-0000-0000-0000-000000000000 Version: 100",
    "END RequestId: 00000000-0000-0000-0000-000000000000",
    "REPORT RequestId: 00000000-0000-0000-0000-000000000000\tDuration: 12.34 ms\tBilled Duration: 13 ms",
    "Memory Size: 1024 MB\tMax Memory Used: 128 MB",
    "XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 0000000000000000\tSampled: true",
)
# A token request in the template's access log.
ACCESS: Final = {
    "requestId": "00000000-0000-0000-0000-000000000000",
    "requestTimeEpoch": "1795361575313",
    "identity.userArn": "arn:aws:sts::123456789012:assumed-role/orders-service/i-0123456789abcdef0",
    "identity.accountId": "123456789012",
    "identity.sourceIp": "203.0.113.100",
    "identity.vpceId": "-",
    "httpMethod": "GET",
    "resourcePath": "/v1/tokens/{provider}/{connection}",
    "status": "200",
    "error.responseType": "-",
    "responseLatency": "15",
    "integrationLatency": "12",
    "responseLength": "473",
}

Bill = dict[str, float]


@dataclass(frozen=True)
class Stack:
    """The parts of template.yaml that cost money by themselves."""

    memory_mb: int
    keys: int
    alarm_metrics: int
    sweeps_a_month: int
    access_line: int

    @classmethod
    def of_template(cls) -> Stack:
        document = load_template()
        # Those with a condition are created only by a parameter.
        resources = [
            (resource["Type"], resource.get("Properties", {}))
            for resource in document["Resources"].values()
            if "Condition" not in resource
        ]
        (rate,) = (found["ScheduleExpression"] for kind, found in resources if kind == "AWS::Scheduler::Schedule")
        if rate != "rate(1 minute)":
            raise NotImplementedError(f"teach Stack {rate}")
        (api,) = (found for kind, found in resources if kind == "AWS::Serverless::Api")
        return cls(
            memory_mb=document["Parameters"]["MemorySize"]["Default"],
            keys=sum(kind == "AWS::KMS::Key" for kind, _ in resources),
            alarm_metrics=sum(_metrics_of(found) for kind, found in resources if kind == "AWS::CloudWatch::Alarm"),
            sweeps_a_month=MONTH_S // 60,
            access_line=len(
                re.sub(r"\$context\.([\w.]+)", lambda name: ACCESS[name[1]], api["AccessLogSetting"]["Format"])
            ),
        )


def _metrics_of(alarm: Document) -> int:
    """The metrics that an alarm reads. It is billed by them."""
    return sum("MetricStat" in metric for metric in alarm["Metrics"]) if "Metrics" in alarm else 1


@dataclass(frozen=True)
class Tariff:
    """Prices and estimates, applied to the stack."""

    document: Mapping[str, Any]
    stack: Stack

    @classmethod
    def read(cls) -> Tariff:
        return cls(tomllib.loads(PRICES.read_text(encoding="utf-8")), Stack.of_template())

    def price(self, name: str) -> float:
        return float(self.document["prices"][name])

    def estimate(self, name: str) -> float:
        return float(self.document["estimates"][name])

    def lambda_ms(self, ms: float) -> float:
        """Dollars of billed milliseconds at the stack's memory."""
        return ms / 1000 * self.stack.memory_mb / 1024 * self.price("lambda_gb_second")

    def per_million(self, name: str) -> float:
        return self.price(name) / MILLION

    def invocation(self, use: Use, course: str, *, api: bool = False, a_second: float = 0) -> Bill:
        """Dollars of one invocation that used `use`; `course` names its estimated duration.

        `a_second`: invocations per second, for X-Ray's default rule.
        """
        size = use.log_bytes + LINE_OVERHEAD * use.log_lines
        size += sum(len(line) + LINE_OVERHEAD for line in PLATFORM_LINES)
        traced = 1 if a_second <= 1 else (1 + self.estimate("traced_share") * (a_second - 1)) / a_second
        if api:
            traced = self.estimate("traced_share")
            size += self.stack.access_line + LINE_OVERHEAD
        return {
            "API Gateway": self.per_million("api_gateway_million_requests") if api else 0,
            "Lambda": self.per_million("lambda_million_requests") + self.lambda_ms(self.estimate(f"{course}_ms")),
            "DynamoDB": self.units(use.read_units, use.write_units),
            "KMS": self.kms(use),
            "Secrets": use.of("secretsmanager") * self.price("secrets_manager_10000_calls") / 10_000,
            "SQS": use.of("sqs") * self.per_million("sqs_million_requests"),
            "logs": size / GB * self.price("cloudwatch_logs_gb"),
            "X-Ray": self.per_million("xray_million_traces") * traced,
        }

    def kms(self, use: Use) -> float:
        """Dollars of KMS requests. A signature by an elliptic curve costs more than another request."""
        signatures = use.calls["kms:Sign"]
        others = use.of("kms") - signatures
        return (
            others * self.price("kms_10000_requests") + signatures * self.price("kms_10000_ecc_signatures")
        ) / 10_000

    def units(self, read: float, write: float) -> float:
        return read * self.per_million("dynamodb_million_read_units") + write * self.per_million(
            "dynamodb_million_write_units"
        )

    def token_requests(self, counted: Counted) -> dict[str, Bill]:
        """Dollars of one token request, by course. `mix`: by the estimated shares."""
        courses = (*MIX, "use_noted", "first_acquisition")
        found = {name: self.invocation(counted.courses[name], name, api=True) for name in courses}
        shares = {name: self.estimate(f"mix_{name}") for name in MIX}
        found["mix"] = {
            column: sum(share * found[name][column] for name, share in shares.items()) for column in COLUMNS
        }
        return found

    def renewal(self, kept: Kept, counted: Counted) -> Bill:
        """Dollars of one renewal: claim, queue, receive, delete, renew."""
        bill = self.invocation(kept.renewal, "renewal", a_second=CONNECTIONS / kept.interval_s)
        claim = counted.courses["sweep_of_ten"]
        sent = (claim.of("sqs") - counted.courses["sweep_empty"].of("sqs")) / DUE_KEYS
        bill["SQS"] += (sent + 2) * self.per_million("sqs_million_requests")
        # A claim moves the index entry and writes the item.
        bill["DynamoDB"] += self.units(0, write_units(kept.steady_size) + claim.index_units / DUE_KEYS)
        return bill

    def uses_noted(self, kept: Kept) -> float:
        """Dollars of the noted uses during one lifetime."""
        return self.estimate("uses_noted_a_lifetime") * self.units(0, write_units(kept.steady_size))

    def fixed(self, counted: Counted) -> dict[str, float]:
        """Dollars a month of the stack itself, by what they are for."""
        sweep = sum(self.invocation(counted.courses["sweep_empty"], "sweep_empty").values())
        metric = self.price("cloudwatch_metric_month")
        stack = self.stack
        return {
            f"{stack.keys} KMS keys": stack.keys * self.price("kms_key_month"),
            f"alarms, on {stack.alarm_metrics} metrics": stack.alarm_metrics
            * self.price("cloudwatch_alarm_metric_month"),
            f"{self.estimate('custom_metrics'):.0f} metrics of the broker's own (estimate)": metric
            * self.estimate("custom_metrics"),
            f"API Gateway's metrics of {self.estimate('api_gateway_methods_in_use'):.0f} methods (estimate)": metric
            * METRICS_OF_A_METHOD
            * self.estimate("api_gateway_methods_in_use"),
            f"{stack.sweeps_a_month:,} sweeps of an empty minute": stack.sweeps_a_month
            * (sweep + self.per_million("scheduler_million_invocations")),
            "Lambda's polls of the queue (estimate)": self.estimate("queue_polls_a_minute")
            * stack.sweeps_a_month
            * self.per_million("sqs_million_requests"),
            "requests to the key at rest (estimate)": self.estimate("data_key_requests_a_month")
            * self.price("kms_10000_requests")
            / 10_000,
        }


def rounded(use: Use) -> Use:
    """Log bytes rounded up to ten, because a field's width may differ."""
    return replace(use, log_bytes=-(-use.log_bytes // 10) * 10)


def steadied(counted: Counted) -> Counted:
    """The counts without what differs from run to run, such as a JWT's length."""
    return Counted(
        {name: rounded(use) for name, use in counted.courses.items()},
        {
            name: replace(
                kept,
                first=rounded(kept.first),
                renewal=rounded(kept.renewal),
                settings_size=_fifty(kept.settings_size),
                first_size=_fifty(kept.first_size),
                steady_size=_fifty(kept.steady_size),
                token_size=_fifty(kept.token_size) if kept.token_size > 100 else kept.token_size,
            )
            for name, kept in counted.kept.items()
        },
    )


def _fifty(size: int) -> int:
    return 50 * round(size / 50)
