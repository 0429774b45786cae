"""Manifests of pages, on a real API server: Slipway's and those of Gateway API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.modelrollout.conftest import REPOSITORY
from kubernetes.aio.client import ApiException, CustomObjectsApi

from slipway.runtime.connection import Connection
from slipway_cluster import gobuild

PAGES = ("gateways.md", "knative.md", "migrate-from-kserve.md")
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def objects(page: str) -> list[dict[str, Any]]:
    text = (REPOSITORY / "docs" / "rollouts" / page).read_text()
    blocks = [block for block in _BLOCK.findall(text) if block.startswith("apiVersion:")]
    return [each for block in blocks for each in yaml.safe_load_all(block)]


def grants() -> dict[str, Any]:
    folder: Path = gobuild.module_folder("envoy-gateway", "sigs.k8s.io/gateway-api")
    file = folder / "config" / "crd" / "standard" / "gateway.networking.k8s.io_referencegrants.yaml"
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


@pytest.mark.slow
async def test_the_api_server_takes_every_manifest(
    crds: None,  # noqa: ARG001 - installed for their effect
    install_crds: Any,
    connection: Connection,
    namespace: str,
) -> None:
    await install_crds(grants())
    api = await connection.api()
    try:
        for page in PAGES:
            found = objects(page)
            assert found
            for manifest in found:
                await _try(CustomObjectsApi(api), page, manifest, namespace)
    finally:
        await api.close()


async def _try(api: CustomObjectsApi, page: str, manifest: dict[str, Any], namespace: str) -> None:
    group, _, version = manifest["apiVersion"].partition("/")
    plural = f"{manifest['kind'].lower()}s"
    manifest["metadata"]["namespace"] = namespace
    try:
        await api.create_namespaced_custom_object(
            group, version, namespace, plural, manifest, dry_run="All", field_validation="Strict"
        )
    except ApiException as error:
        pytest.fail(f"{page}, {manifest['kind']} {manifest['metadata']['name']}: {error.body}")
