"""KServe in Standard mode, with webhooks whose certificate is our own."""

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from slipway_cluster import gobuild
from slipway_cluster.certificates import Authority
from slipway_cluster.stack.names import Names
from slipway_cluster.stack.objects import Object, namespace, secret
from slipway_cluster.stack.storage import NAMESPACE as STORAGE
from slipway_cluster.stack.storage import S3_PORT
from slipway_cluster.versions import versions

NAMESPACE = "kserve"
WEBHOOK = "kserve-webhook-server-service.kserve.svc"
PROXY_CONTAINER = "kube-rbac-proxy"


def charts() -> Path:
    """The folder of charts in the pinned module."""
    return gobuild.module_folder("kserve", "github.com/kserve/kserve") / "charts"


def certificate_objects(authority: Authority) -> list[Object]:
    """The namespace, and the certificate its webhook server expects there."""
    issued = authority.issue("webhook", WEBHOOK, names=[f"DNS:{WEBHOOK}", f"DNS:{WEBHOOK}.cluster.local"])
    files = {"tls.crt": issued.certificate.read_text(), "tls.key": issued.key.read_text()}
    return [namespace(NAMESPACE), secret(NAMESPACE, "kserve-webhook-server-cert", files, kind="kubernetes.io/tls")]


def chart(folder: Path, authority: Authority) -> Path:
    """Write the chart of the pinned module to a folder, without cert-manager and without the proxy for its metrics.

    The chart has no switch for either: both stand in the manifests it is generated from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(charts() / "kserve-resources", folder, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    files = folder / "files" / "kserve"
    bundle = base64.b64encode(authority.own.certificate.read_bytes()).decode()
    wanted = [
        _with_authority(manifest, bundle)
        for manifest in yaml.load_all((files / "resources.yaml").read_text(), yaml.CSafeLoader)
        if manifest and not _unwanted(manifest)
    ]
    # The chart splits at these separators itself.
    (files / "resources.yaml").write_text(
        "---\n".join(yaml.dump(manifest, Dumper=yaml.CSafeDumper, width=10**6) for manifest in wanted)
    )
    (files / "certificate-patch.yaml").unlink()
    patch = files / "deployment-patch.yaml"
    first, proxy, manager = f"      - name: {PROXY_CONTAINER}\n", ".*?", "      - name: manager\n"
    patch.write_text(re.sub(f"{first}{proxy}(?={manager})", "", patch.read_text(), flags=re.DOTALL))
    return folder


def _unwanted(manifest: Object) -> bool:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    return kind == "Certificate" or (kind, name) == ("Service", "kserve-controller-manager-metrics-service")


def _with_authority(manifest: Object, bundle: str) -> Object:
    if manifest["kind"] in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        manifest["metadata"].get("annotations", {}).pop("cert-manager.io/inject-ca-from", None)
        for webhook in manifest["webhooks"]:
            webhook["clientConfig"]["caBundle"] = bundle
    if manifest["kind"] == "Deployment":
        pod = manifest["spec"]["template"]["spec"]
        pod["containers"] = [container for container in pod["containers"] if container["name"] != PROXY_CONTAINER]
    return manifest


def values(names: Names) -> dict[str, Any]:
    """Values of the chart: small requests, and routes that are ours to make."""
    return {
        "kserve": {
            "version": f"v{versions().kserve}",
            # This one also switches the certificate issuer off; certManager.enabled does not.
            "createSharedResources": False,
            "inferenceServiceConfig": {"enabled": True},
            "storagecontainer": {"enabled": True},
            "storage": {
                **_image(names.storage_initializer),
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
                "s3": {
                    "endpoint": f"seaweedfs.{STORAGE}:{S3_PORT}",
                    "useHttps": "0",
                    "region": "us-east-1",
                    "verifySSL": "0",
                    "useVirtualBucket": "0",
                    "useAnonymousCredential": "0",
                },
            },
            "inferenceservice": {
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
            },
            "controller": {
                "deploymentMode": "Standard",
                **_image(names.kserve_controller),
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
                "gateway": {
                    "domain": "example.com",
                    "disableIstioVirtualHost": True,
                    "disableIngressCreation": True,
                    "ingressGateway": {"enableGatewayApi": False},
                },
            },
        }
    }


def _image(name: str) -> dict[str, str]:
    return {"image": name} if name else {}
