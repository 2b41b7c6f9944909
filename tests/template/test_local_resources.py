"""create_resources creates the template's resources in a local endpoint and returns the functions' variables."""

import pytest

from local import resources
from local.resources import LocalStack, create_resources, load_template

EVERYWHERE = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL", "TOKEN_TABLE"}
ACQUIRERS = EVERYWHERE | {
    "ALLOW_PRIVATE_NETWORKS",
    "CONNECTION_TABLE",
    "GRANT_KEY_ARN",
    "GRANT_TABLE",
    "PROVIDER_FILES",
    "RENEWAL_QUEUE_URL",
    "SEALING_KEY_ARN",
    "SECRET_PREFIX",
    "SIGNING_KEY_PREFIX",
}
CONSENT = EVERYWHERE | {
    "ALLOW_PRIVATE_NETWORKS",
    "CONNECTION_TABLE",
    "CONSENT_QUEUE_URL",
    "GRANT_KEY_ARN",
    "GRANT_TABLE",
    "PROVIDER_FILES",
    "SECRET_PREFIX",
}


def test_each_function_has_variables_for_what_it_uses(stack: LocalStack) -> None:
    assert {function: set(environment) for function, environment in stack.environments.items()} == {
        "GetTokenFunction": ACQUIRERS,
        "RenewTokenFunction": ACQUIRERS,
        "ManageConnectionsFunction": EVERYWHERE
        | {"CODE_DIGEST", "CONNECTION_TABLE", "GRANT_TABLE", "PROVIDER_FILES", "RENEWAL_QUEUE_URL", "SECRET_PREFIX"},
        "SweepDueFunction": EVERYWHERE | {"GRANT_TABLE", "RENEWAL_QUEUE_URL"},
        "ObtainConsentFunction": CONSENT | {"RENEWAL_QUEUE_URL"},
        "ExchangeCodeFunction": CONSENT,
        "SecretChangedFunction": EVERYWHERE | {"SECRET_PREFIX"},
    }


def test_parameters_reach_the_functions(endpoint_url: str) -> None:
    parameters = {"SecretPrefix": "team/broker", "MemorySize": "512"}
    stack = create_resources(endpoint_url, region="eu-central-1", parameters=parameters)
    assert stack.secret_prefix == stack.environments["SecretChangedFunction"]["SECRET_PREFIX"] == "team/broker"
    assert stack.memory["SweepDueFunction"] == 512


def test_a_type_that_the_endpoint_ignores_is_reported(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # moto reports success for a type that its CloudFormation does not support.
    template = load_template()
    template["Resources"]["Forgotten"] = {"Type": "AWS::Scheduler::ScheduleGroup"}
    monkeypatch.setattr(resources, "load_template", lambda: template)
    monkeypatch.setattr(resources, "CREATED_TYPES", resources.CREATED_TYPES | {"AWS::Scheduler::ScheduleGroup"})
    with pytest.raises(RuntimeError, match="not created: Forgotten"):
        create_resources(endpoint_url, region="eu-north-1")
