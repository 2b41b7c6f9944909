"""The alarms of template.yaml, evaluated as CloudWatch evaluates one period: by its datapoints."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from local.resources import LocalStack, load_template, translate
from tests.template.intrinsics import Resolver

COMPARISONS: Final = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "SUM": sum,
    "MAX": max,
    "MIN": min,
}
# Metrics Insights: one series over every metric that has exactly these dimensions.
QUERY: Final = re.compile(r'SELECT (\w+)\((\w+)\) FROM SCHEMA\("([^"]+)", ([\w, ]+)\)')


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    value: float


def embedded(output: str) -> list[Point]:
    """The metrics that a function printed in CloudWatch's embedded format."""
    points = []
    for line in output.splitlines():
        data = json.loads(line) if line.startswith("{") else {}
        for directive in data.get("_aws", {}).get("CloudWatchMetrics", ()):
            for names in directive["Dimensions"]:
                dimensions = {name: data[name] for name in names}
                for metric in directive["Metrics"]:
                    values = data[metric["Name"]]
                    points += [
                        Point(directive["Namespace"], metric["Name"], dimensions, value)
                        for value in (values if isinstance(values, list) else [values])
                    ]
    return points


@dataclass(frozen=True)
class Alarm:
    """One alarm, its names resolved."""

    name: str
    properties: Mapping[str, Any]

    def rings(self, points: Sequence[Point]) -> bool:
        """Whether a period with these datapoints breaches. TreatMissingData decides for a period without any."""
        value = self._value(points)
        if value is None:
            return bool(self.properties["TreatMissingData"] == "breaching")
        compare = COMPARISONS[self.properties["ComparisonOperator"]]
        return bool(compare(value, self.properties["Threshold"]))

    def metrics(self) -> list[tuple[str, str, dict[str, str]]]:
        """What the alarm reads: namespace, metric and dimensions."""
        if "MetricName" in self.properties:
            return [_metric(self.properties)]
        return [_metric(item["MetricStat"]["Metric"]) for item in self.properties["Metrics"] if "MetricStat" in item]

    def _value(self, points: Iterable[Point]) -> float | None:
        points = list(points)
        if "MetricName" in self.properties:
            return _statistic(self.properties["Statistic"], _values(points, *_metric(self.properties)))
        expressions = [item for item in self.properties["Metrics"] if "Expression" in item]
        (expression,) = expressions
        if expression["Expression"] == "SUM(METRICS())":
            series = [
                _statistic(item["MetricStat"]["Stat"], _values(points, *_metric(item["MetricStat"]["Metric"])))
                for item in self.properties["Metrics"]
                if "MetricStat" in item
            ]
            return _statistic("Sum", [value for value in series if value is not None])
        query = QUERY.fullmatch(expression["Expression"])
        assert query, expression["Expression"]
        statistic, metric, namespace, names = query.groups()
        wanted = set(names.split(", "))
        return _statistic(
            statistic,
            [
                point.value
                for point in points
                if (point.namespace, point.metric) == (namespace, metric) and set(point.dimensions) == wanted
            ],
        )


def _metric(described: Mapping[str, Any]) -> tuple[str, str, dict[str, str]]:
    dimensions = {dimension["Name"]: dimension["Value"] for dimension in described["Dimensions"]}
    return described["Namespace"], described["MetricName"], dimensions


def _values(points: Iterable[Point], namespace: str, metric: str, dimensions: Mapping[str, str]) -> list[float]:
    # CloudWatch does not aggregate: a metric with one more dimension is another metric.
    return [
        point.value
        for point in points
        if (point.namespace, point.metric, dict(point.dimensions)) == (namespace, metric, dict(dimensions))
    ]


def _statistic(name: str, values: Sequence[float]) -> float | None:
    return float(STATISTICS[name](values)) if values else None


def alarms_of_template(stack: LocalStack, **parameters: str) -> dict[str, Alarm]:
    """Every alarm by its logical id. Queues have their names in `stack`, functions their logical ids."""
    queues = {
        "RenewalQueue.QueueName": stack.renewal_queue_url.rpartition("/")[2],
        "RenewalDeadLetterQueue.QueueName": stack.dead_letter_queue_url.rpartition("/")[2],
        "ConsentDeadLetterQueue.QueueName": stack.consent_dead_letter_queue_url.rpartition("/")[2],
    }
    parameters = {"ConsentCallback": "true", **parameters}
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    resolver = Resolver(document, parameters, queues)
    return {
        name: Alarm(name, resource["Properties"])
        for name, resource in resolver.resources().items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
