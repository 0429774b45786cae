"""How the operator reaches the API server through a proxy of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slipway.runtime.connection import Connection

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def kubeconfig(folder: Path, server: str) -> str:
    file = folder / "config"
    contexts = [{"name": "it", "context": {"cluster": "it", "user": "it"}}]
    clusters = [{"name": "it", "cluster": {"server": server}}]
    users = [{"name": "it", "user": {"token": "t"}}]
    whole = {"current-context": "it", "contexts": contexts, "clusters": clusters, "users": users}
    file.write_text(yaml.safe_dump(whole))
    return str(file)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "other.example,.cluster.example"}, None),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "other.example"}, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128"}, None),
    ],
)
async def test_a_proxy_of_the_environment_is_asked_for_once(
    environment: dict[str, str], proxy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    api = await Connection(kubeconfig(tmp_path, "https://api.cluster.example:6443")).api()
    try:
        assert api.rest_client.proxy == proxy
        session = api.rest_client._create_pool_manager()
        assert not session.trust_env
        await session.close()
    finally:
        await api.close()
