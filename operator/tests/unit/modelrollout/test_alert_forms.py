"""The forms of alerts against the documented shapes of Slack and Teams."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from slipway.adapters.alerts import SEVERITIES, Message, Severity, body_of


def text_of(*types: str, most: int) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {"type": {"enum": list(types)}, "text": {"type": "string", "minLength": 1, "maxLength": most}},
    }


# Block Kit's reference: limits of text, fields and blocks. An incoming webhook takes `text`, `blocks`, `attachments`.
SLACK: dict[str, Any] = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40000},
        "attachments": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "color": {"type": "string", "pattern": "^(good|warning|danger|#[0-9a-f]{6})$"},
                    "blocks": {
                        "type": "array",
                        "maxItems": 50,
                        "items": {
                            "oneOf": [
                                {
                                    "type": "object",
                                    "required": ["type", "text"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "type": {"const": "header"},
                                        "text": text_of("plain_text", most=150),
                                    },
                                },
                                {
                                    "type": "object",
                                    "required": ["type"],
                                    "additionalProperties": False,
                                    "anyOf": [{"required": ["text"]}, {"required": ["fields"]}],
                                    "properties": {
                                        "type": {"const": "section"},
                                        "text": text_of("plain_text", "mrkdwn", most=3000),
                                        "fields": {
                                            "type": "array",
                                            "minItems": 1,
                                            "maxItems": 10,
                                            "items": text_of("plain_text", "mrkdwn", most=2000),
                                        },
                                    },
                                },
                            ]
                        },
                    },
                },
            },
        },
    },
}
BLOCK: dict[str, Any] = {
    "type": "object",
    "required": ["type", "text"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "TextBlock"},
        "text": {"type": "string"},
        "wrap": {"type": "boolean"},
        "weight": {"enum": ["Default", "Lighter", "Bolder"]},
        "size": {"enum": ["Default", "Small", "Medium", "Large", "ExtraLarge"]},
    },
}
# What a workflow with the trigger "When a Teams webhook request is received" takes, and the Adaptive Card schema 1.4.
TEAMS: dict[str, Any] = {
    "type": "object",
    "required": ["type", "attachments"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["contentType", "content"],
                "additionalProperties": False,
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": {
                        "type": "object",
                        "required": ["type", "version", "body"],
                        "additionalProperties": False,
                        "properties": {
                            "$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"},
                            "type": {"const": "AdaptiveCard"},
                            "version": {"enum": ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]},
                            "msteams": {"const": {"width": "Full"}},
                            "body": {
                                "type": "array",
                                "items": {
                                    "oneOf": [
                                        BLOCK,
                                        {
                                            "type": "object",
                                            "required": ["type", "items"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "type": {"const": "Container"},
                                                "style": {
                                                    "enum": ["default", "emphasis", "good", "attention", "warning"]
                                                },
                                                "bleed": {"type": "boolean"},
                                                "items": {"type": "array", "items": BLOCK},
                                            },
                                        },
                                        {
                                            "type": "object",
                                            "required": ["type", "facts"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "type": {"const": "FactSet"},
                                                "facts": {
                                                    "type": "array",
                                                    "items": {
                                                        "type": "object",
                                                        "required": ["title", "value"],
                                                        "additionalProperties": False,
                                                        "properties": {
                                                            "title": {"type": "string"},
                                                            "value": {"type": "string"},
                                                        },
                                                    },
                                                },
                                            },
                                        },
                                    ]
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
SHAPES = {"Slack": SLACK, "Teams": TEAMS}


def message(severity: Severity = "error", text: str = "All requests go to v1.", facts: int = 3) -> Message:
    named = tuple((f"fact {number}", f"value {number}") for number in range(facts))
    return Message("t0", "delays", "flights", severity, "RolledBack", text, "2026-11-23T10:00:00Z", named)


@pytest.mark.parametrize("facts", [0, 3, 20])
@pytest.mark.parametrize("text", ["All requests go to v1.", "x" * 5000, "<!channel> & [a](http://b) <http://c|d>"])
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("form", SHAPES)
def test_a_message_has_the_documented_shape(form: str, severity: Severity, text: str, facts: int) -> None:
    body = body_of(form, message(severity, text, facts))
    jsonschema.validate(body, SHAPES[form])
    assert len(json.dumps(body)) < 28_000, "Teams takes at most 28 KB"


def test_nobodys_text_calls_a_channel_or_becomes_a_link() -> None:
    hostile = message(text="<!channel> [press](http://evil) <http://evil|here>")
    assert "<" not in json.dumps(body_of("Slack", hostile))
    text = body_of("Teams", hostile)["attachments"][0]["content"]["body"][1]["text"]
    assert "\\[press\\]" in text


def test_both_say_what_happened_where() -> None:
    for form in SHAPES:
        said = json.dumps(body_of(form, message()))
        for part in ("RolledBack", "flights/delays", "All requests go to v1.", "value 2"):
            assert part in said


def test_the_plain_form() -> None:
    assert body_of("Webhook", message(facts=1)) == {
        "token": "t0",
        "kind": "ModelRollout",
        "name": "delays",
        "namespace": "flights",
        "severity": "error",
        "reason": "RolledBack",
        "message": "All requests go to v1.",
        "at": "2026-11-23T10:00:00Z",
        "fact 0": "value 0",
    }
