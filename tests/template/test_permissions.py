"""Each statement is narrow and says why, and nobody else may use the keys.

tests/security/test_least_privilege.py checks that roles grant exactly what is called.
"""

from collections.abc import Iterator

from local.resources import TEMPLATE, Document


def actions(statement: Document) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def role_statements(document: Document) -> Iterator[tuple[str, Document]]:
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement


def key_statements(document: Document) -> Iterator[tuple[str, Document]]:
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::KMS::Key":
            for statement in resource["Properties"]["KeyPolicy"]["Statement"]:
                yield name, statement


def test_sam_adds_no_policies_of_its_own(translated: Document) -> None:
    roles = {name: role for name, role in translated["Resources"].items() if role["Type"] == "AWS::IAM::Role"}
    assert len(roles) > 5
    assert not [name for name, role in roles.items() if role["Properties"].get("ManagedPolicyArns")]


def test_every_statement_has_its_own_actions_and_one_resource(translated: Document) -> None:
    statements = [*role_statements(translated), *key_statements(translated)]
    assert len(statements) > 30
    for name, statement in statements:
        assert statement["Effect"] == "Allow", name
        assert not [action for action in actions(statement) if "*" in action], name
        assert not isinstance(statement["Resource"], list), name


def test_every_statement_says_why() -> None:
    # A parser drops comments, so this reads the text. Trust policies, directly under "Statement:", need no comment.
    before = ""
    for line in map(str.strip, TEMPLATE.read_text(encoding="utf-8").splitlines()):
        if line.startswith(("- Sid:", "- Effect:", "- &")) and before != "Statement:":
            assert before.startswith("#"), f"no reason given between {before!r} and {line!r}"
        before = line


def test_only_the_two_functions_that_acquire_tokens_use_the_sealing_key(translated: Document) -> None:
    use = [
        statement
        for name, statement in key_statements(translated)
        if name == "SealingKey" and {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"} & set(actions(statement))
    ]
    (statement,) = use
    users = {principal["Fn::GetAtt"][0] for principal in statement["Principal"]["AWS"]}
    assert users == {"GetTokenRole", "RenewTokenRole"}
    assert statement["Condition"] == {
        "StringEquals": {
            "kms:EncryptionContext:table": {"Ref": "TokenTable"},
            "kms:EncryptionContext:purpose": ["access_token", "refresh_token"],
        },
        "StringLike": {"kms:EncryptionContext:key": "*/* *"},
    }


def test_only_named_services_of_this_account_may_use_the_data_key(translated: Document) -> None:
    for name, statement in key_statements(translated):
        if name == "DataKey" and statement["Principal"] == {"AWS": "*"}:
            condition = statement["Condition"]["StringEquals"]
            assert condition["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
            assert condition["kms:ViaService"]


def test_whoever_administers_a_key_may_neither_use_it_nor_grant_its_use(translated: Document) -> None:
    for name, statement in key_statements(translated):
        if statement.get("Sid") == "AccountAdministersKey":
            assert not {"kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"} & set(actions(statement)), name
