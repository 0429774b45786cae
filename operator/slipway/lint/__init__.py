"""Offline checks of Slipway's objects: schema, rules, references. Nothing is asked of a cluster.

`documents` reads YAML with positions, `schema` and `rules` check one object as the API server would, `references` looks
at objects together, and `lint` puts them in order.
"""

from slipway.lint.findings import Finding, Severity
from slipway.lint.linter import Report, lint

__all__ = ["Finding", "Report", "Severity", "lint"]
