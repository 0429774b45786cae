"""The table of bad inputs has a row for every rule. The API server and `slipway lint` are tried with it elsewhere."""

from pathlib import Path

import yaml

from slipway.api import KINDS
from slipway.api.crd import root_schema
from slipway.api.reference import rules

TABLE = Path(__file__).parent / "bad-input.yaml"


def test_every_rule_has_a_row_and_every_row_a_rule() -> None:
    rows = {(row["kind"], row.get("at", ""), row["rule"]) for row in yaml.safe_load(TABLE.read_text())}
    declared = {(kind.kind_name, rule.path, rule.message) for kind in KINDS for rule in rules(root_schema(kind))}
    assert declared - rows == set()
    assert rows - declared == set()


def test_rules_that_compare_with_the_past_are_tried_by_updates() -> None:
    transitions = {
        (kind.kind_name, rule.message)
        for kind in KINDS
        for rule in rules(root_schema(kind))
        if "oldSelf" in rule.expression
    }
    updates = {(row["kind"], row["rule"]) for row in yaml.safe_load(TABLE.read_text()) if row.get("update")}
    assert updates == transitions
