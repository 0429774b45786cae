"""Forms of alerts: plain JSON, Slack's incoming webhooks, and workflow webhooks of Microsoft Teams. Pure.

Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and the reference of Block Kit.
Teams: a message with one Adaptive Card; the older message cards are retired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")

PUBLIC_HOSTS: Mapping[str, tuple[str, ...]] = {
    "Slack": ("hooks.slack.com", "hooks.slack-gov.com"),
    "Teams": ("*.webhook.office.com", "*.logic.azure.com", "*.api.powerplatform.com"),
}
"""Hosts of the services themselves: everybody may send alerts there."""

_SLACK_HEADER, _SLACK_TEXT, _SLACK_FIELD = 150, 3000, 2000
_COLOURS = {"info": "#2eb886", "warning": "#daa038", "error": "#a30200"}
_STYLES = {"info": "good", "warning": "warning", "error": "attention"}


@dataclass(frozen=True)
class Message:
    """What an alert says.

    :param token: idempotency token
    :param facts: names and values, in order
    :param at: RFC 3339
    """

    token: str
    rollout: str
    namespace: str
    severity: Severity
    reason: str
    text: str
    at: str
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        return f"{self.reason}: {self.namespace}/{self.rollout}"


def body_of(form: str, message: Message) -> dict[str, Any]:
    """The JSON for a receiver of type Webhook, Slack or Teams."""
    return _FORMS[form](message)


def _plain(message: Message) -> dict[str, Any]:
    return {
        "token": message.token,
        "kind": "ModelRollout",
        "name": message.rollout,
        "namespace": message.namespace,
        "severity": message.severity,
        "reason": message.reason,
        "message": message.text,
        "at": message.at,
        **dict(message.facts),
    }


def _slack(message: Message) -> dict[str, Any]:
    """`text` is what notifications show; the attachment has the colour."""
    text = _escape(message.text)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": message.title[:_SLACK_HEADER]}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, _SLACK_TEXT)}},
    ]
    if message.facts:
        fields = [
            {"type": "mrkdwn", "text": _cut(f"*{name}*\n{_escape(value)}", _SLACK_FIELD)}
            for name, value in message.facts[:10]
        ]
        blocks.append({"type": "section", "fields": fields})
    summary = _cut(f"{_escape(message.title)}: {text}", _SLACK_TEXT)
    return {"text": summary, "attachments": [{"color": _COLOURS[message.severity], "blocks": blocks}]}


def _escape(text: str) -> str:
    """Slack's three control characters: nobody's text becomes a link or calls a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _teams(message: Message) -> dict[str, Any]:
    facts = [{"title": name, "value": value} for name, value in message.facts]
    body: list[dict[str, Any]] = [
        {
            "type": "Container",
            "style": _STYLES[message.severity],
            "bleed": True,
            "items": [
                {
                    "type": "TextBlock",
                    "text": _literal(message.title),
                    "weight": "Bolder",
                    "size": "Medium",
                    "wrap": True,
                }
            ],
        },
        {"type": "TextBlock", "text": _literal(message.text), "wrap": True},
    ]
    if facts:
        body.append({"type": "FactSet", "facts": facts})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _literal(text: str) -> str:
    """Text blocks know a little Markdown: brackets would make a link."""
    return text.replace("[", "\\[").replace("]", "\\]")


_FORMS: Mapping[str, Callable[[Message], dict[str, Any]]] = {"Webhook": _plain, "Slack": _slack, "Teams": _teams}
