"""Kubeconfig files that need no other file."""

import base64
import json
from pathlib import Path

from slipway_cluster.certificates import Certificate


def write(file: Path, *, server: str, authority: Path, user: str, client: Certificate) -> Path:
    """Write a kubeconfig for one user with a client certificate; only its owner can read it.

    JSON is valid YAML, and every client reads it.
    """
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "slipway",
                        "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
                    }
                ],
                "users": [
                    {
                        "name": user,
                        "user": {
                            "client-certificate-data": _encoded(client.certificate),
                            "client-key-data": _encoded(client.key),
                        },
                    }
                ],
                "contexts": [{"name": "slipway", "context": {"cluster": "slipway", "user": user}}],
                "current-context": "slipway",
            },
            indent=1,
        )
    )
    return file


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
