"""Kubernetes objects as dictionaries."""

from typing import Any

Object = dict[str, Any]


def namespace(name: str) -> Object:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def secret(namespace: str, name: str, values: dict[str, str], kind: str = "Opaque") -> Object:
    """A secret of strings."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"namespace": namespace, "name": name},
        "stringData": values,
    }


def config_map(namespace: str, name: str, values: dict[str, str]) -> Object:
    """A config map of strings."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": values,
    }
