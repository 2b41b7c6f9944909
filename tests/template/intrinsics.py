"""Resolves CloudFormation's functions for given parameters, as far as the tests need them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from local.resources import Document

NO_VALUE: Final = "AWS::NoValue"
PSEUDO: Final = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "token-broker",
    "AWS::URLSuffix": "amazonaws.com",
}
SUBSTITUTED: Final = re.compile(r"\$\{([^!}][^}]*)\}")
_NOTHING: Final = object()


class Resolver:
    """Resolves values of one translated template with some parameters set. Other parameters have their defaults.

    A resource's Ref is its logical id, and an attribute is `Id.Attribute`, unless `attributes` has a value.
    """

    def __init__(
        self,
        document: Document,
        parameters: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        unknown = set(parameters or {}) - set(document["Parameters"])
        assert not unknown, f"no such parameters: {unknown}"
        self._document = document
        self._parameters = {
            name: str((parameters or {}).get(name, declared.get("Default", "")))
            for name, declared in document["Parameters"].items()
        }
        self._attributes = dict(attributes or {})

    def holds(self, condition: str) -> bool:
        """Whether one of the template's conditions is true."""
        return bool(self(self._document["Conditions"][condition]))

    def resources(self) -> dict[str, Document]:
        """The resources that are created, resolved."""
        return {
            name: self({key: value for key, value in resource.items() if key != "Condition"})
            for name, resource in self._document["Resources"].items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }

    def __call__(self, value: Any) -> Any:
        found = self._resolve(value)
        return None if found is _NOTHING else found

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self._resolve, value) if item is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str)):
                return self._function(name, argument)
        resolved = {name: self._resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not _NOTHING}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return _NOTHING if argument == NO_VALUE else self._named(argument)
            case "Fn::GetAtt":
                return self._named(".".join(argument) if isinstance(argument, list) else argument)
            case "Fn::Sub":
                return self._substituted(argument)
            case "Fn::If":
                condition, then, otherwise = argument
                return self._resolve(then if self.holds(condition) else otherwise)
            case "Fn::Join":
                return argument[0].join(self._resolve(argument[1]))
            case "Fn::Split":
                return self._resolve(argument[1]).split(argument[0])
        return self._judged(name, argument)

    def _judged(self, name: str, argument: Any) -> bool:
        match name:
            case "Condition":
                return self.holds(argument)
            case "Fn::Equals":
                return str(self._resolve(argument[0])) == str(self._resolve(argument[1]))
            case "Fn::Not":
                return not self._resolve(argument[0])
            case "Fn::And":
                return all(map(self._resolve, argument))
        raise NotImplementedError(f"teach the resolver {name}")

    def _substituted(self, argument: Any) -> str:
        text, own = argument if isinstance(argument, list) else (argument, {})
        own = self._resolve(own)
        return SUBSTITUTED.sub(lambda found: str(own.get(found[1]) or self._named(found[1])), text)

    def _named(self, name: str) -> Any:
        if name in self._attributes:
            return self._attributes[name]
        if name in self._parameters:
            return self._parameters[name]
        return PSEUDO.get(name, name)


def references(value: Any) -> Iterator[str]:
    """The logical ids and parameters that a value names, whatever the conditions say."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            match name, item:
                case ("Ref" | "DependsOn", str()):
                    yield item
                case ("DependsOn", list()):
                    yield from item
                case ("Fn::GetAtt", _):
                    yield item[0] if isinstance(item, list) else item.partition(".")[0]
                case ("Fn::Sub", _):
                    text, own = item if isinstance(item, list) else (item, {})
                    yield from (found.partition(".")[0] for found in SUBSTITUTED.findall(text))
                    yield from references(own)
                case _:
                    yield from references(item)
