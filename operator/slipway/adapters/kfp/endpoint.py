"""A pipelines endpoint: where it is and how it is spoken to, from a Platform."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.adapters.jobs import feast_secret, s3_secret
from slipway.api.platform import Platform


@dataclass(frozen=True)
class Endpoint:
    """A KFP API.

    :param url: without a slash at the end; `/apis/v2beta1` comes after it
    :param token: whether requests carry the operator's token
    :param ca: namespace and name of the Secret with the CA; None: the system's
    :param shared: the one namespace of all runs; empty: each project's own
    """

    url: str
    token: bool = False
    ca: tuple[str, str] | None = None
    shared: str = ""
    shared_s3: str = ""
    shared_feast: str = ""
    service_account: str = ""
    root: str = ""
    native: bool = False
    ui: str = ""

    @classmethod
    def of(cls, platform: Platform) -> Endpoint | None:
        """The endpoint that a Platform names; None when it names none."""
        kfp = platform.spec.pipelines.kubeflow_pipelines
        if kfp is None:
            return None
        ca = (kfp.tls.ca_secret_ref.namespace, kfp.tls.ca_secret_ref.name) if kfp.tls is not None else None
        shared = kfp.namespace.shared
        return cls(
            url=kfp.endpoint.rstrip("/"),
            token=kfp.auth.type == "ServiceAccountToken",
            ca=ca,
            shared=shared.name if shared is not None else "",
            shared_s3=shared.s3_secret if shared is not None else "",
            shared_feast=shared.feast_secret if shared is not None else "",
            service_account=kfp.service_account or "",
            root=(kfp.pipeline_root or f"s3://{platform.spec.artifacts.s3.bucket}/kfp").rstrip("/"),
            native=kfp.definitions == "Kubernetes",
            ui=(kfp.ui or "").rstrip("/"),
        )

    def namespace(self, project_namespace: str) -> str:
        """Where the pods of a project's runs are."""
        return self.shared or project_namespace

    def api_namespace(self, project_namespace: str) -> str:
        """The namespace that requests name; single-user installations want none."""
        return "" if self.shared else project_namespace

    def s3_secret(self, project: str) -> str:
        """Secret with the store's credentials, for tasks of Slipway's own code."""
        return self.shared_s3 or s3_secret(project)

    def feast_secret(self, project: str) -> str:
        """Secret with the credentials of Feast's database."""
        return self.shared_feast or feast_secret(project)

    def page(self, run_id: str) -> str | None:
        """A run's page for people."""
        return f"{self.ui}/#/runs/details/{run_id}" if self.ui else None
