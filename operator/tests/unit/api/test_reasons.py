"""Reasons are words that the API server takes as a condition's reason, each explained."""

import json
import re

from slipway.api.generate import generated
from slipway.api.reasons import Reason


def test_reasons_are_explained_words() -> None:
    for reason in Reason:
        assert reason.name == reason.value
        assert re.fullmatch(r"[A-Z][A-Za-z]{1,127}", reason)
        assert reason.means.endswith(".")
        assert reason.remedy.endswith(".")
        assert json.loads(json.dumps({"reason": reason})) == {"reason": str(reason)}


def test_the_page_has_every_reason() -> None:
    (page,) = [text for path, text in generated().items() if path.name == "conditions.md"]
    assert [reason for reason in Reason if f"| `{reason}` | {reason.means} |" not in page] == []
