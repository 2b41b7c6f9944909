"""What the rehearsal changes in the template is still there to be changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from local.process import ROOT
from tests.rehearsal.adaptations import ADAPTATIONS, Adaptation, adapt
from tests.rehearsal.breakages import BREAKAGES

PARAMETERS = {"CodeDigest": "1" * 64}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    document: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("adaptation", ADAPTATIONS, ids=lambda adaptation: adaptation.what)
def test_each_adaptation_changes_the_template(template: dict[str, Any], adaptation: Adaptation) -> None:
    changed = copy.deepcopy(template)
    assert adaptation.apply
    adaptation.apply(changed, PARAMETERS)
    assert changed != template


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_each_breakage_changes_the_adapted_template(
    template: dict[str, Any], breakage: Callable[[dict[str, Any]], None]
) -> None:
    adapted = copy.deepcopy(template)
    adapt(adapted, PARAMETERS)
    broken = copy.deepcopy(adapted)
    breakage(broken)
    assert broken != adapted
