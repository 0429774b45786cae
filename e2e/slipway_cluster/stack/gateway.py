"""Envoy Gateway, and the gateway that models are served at."""

import shutil
from pathlib import Path
from typing import Any

from slipway_cluster import gobuild
from slipway_cluster.stack.names import Names
from slipway_cluster.stack.objects import Object
from slipway_cluster.stack.storage import SYSTEM

NAMESPACE = "envoy-gateway-system"
GATEWAY = "models"
NODE_PORT = 30080
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"


def chart(folder: Path, names: Names) -> Path:
    """Write the chart of the pinned module to a folder; it comes with a template of its values only."""
    source = gobuild.module_folder("envoy-gateway", "github.com/envoyproxy/gateway") / "charts" / "gateway-helm"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    folder.chmod(0o755)
    template = (folder / "values.tmpl.yaml").read_text()
    filled = template.replace("${GatewayImage}", names.envoy_gateway).replace(
        "${GatewayImagePullPolicy}", "IfNotPresent"
    )
    (folder / "values.yaml").write_text(filled)
    return folder


def values(names: Names) -> dict[str, Any]:
    """Values of the chart."""
    images = {"envoyGateway": {"image": names.envoy_gateway, "pullPolicy": "IfNotPresent"}}
    if names.gateway_proxy:
        images["envoyProxy"] = {"image": names.gateway_proxy, "pullPolicy": "IfNotPresent"}
    return {
        "global": {"images": images},
        "deployment": {
            "envoyGateway": {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}}
        },
        "config": {
            "envoyGateway": {
                "gateway": {"controllerName": CONTROLLER},
                "provider": {"type": "Kubernetes"},
                "logging": {"level": {"default": "info"}},
                # For `rollback.retryOnStable` of rollouts.
                "extensionApis": {"enableEnvoyPatchPolicy": True},
            }
        },
    }


def objects(names: Names) -> list[Object]:
    """The class of gateways, and the one gateway."""
    port = {"name": "http-80", "port": 80, "protocol": "TCP", "nodePort": NODE_PORT}
    service = {
        "type": "NodePort",
        # Any node takes requests, wherever the proxy runs.
        "externalTrafficPolicy": "Cluster",
        "patch": {"type": "StrategicMerge", "value": {"spec": {"ports": [port]}}},
    }
    container = {
        # A share of the processors that training on the same node can't take: a starved proxy fails its probes.
        "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    } | ({"image": names.gateway_proxy} if names.gateway_proxy else {})
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyProxy",
            "metadata": {"namespace": NAMESPACE, "name": "proxy"},
            "spec": {
                # One Envoy cluster a Service: statistics for each version, and no lost request when weights change.
                "mergeBackends": {},
                "telemetry": {"metrics": {"enableGRPCStats": True}},
                "provider": {
                    "type": "Kubernetes",
                    "kubernetes": {
                        "envoyService": service,
                        "envoyDeployment": {"replicas": 1, "container": container},
                    },
                },
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "envoy"},
            "spec": {
                "controllerName": CONTROLLER,
                "parametersRef": {
                    "group": "gateway.envoyproxy.io",
                    "kind": "EnvoyProxy",
                    "namespace": NAMESPACE,
                    "name": "proxy",
                },
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"namespace": SYSTEM, "name": GATEWAY},
            "spec": {
                "gatewayClassName": "envoy",
                "listeners": [
                    {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
                ],
            },
        },
    ]
