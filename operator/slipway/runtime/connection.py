"""Where the API server is and how to log in: one answer, used by our client and by kopf alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import kopf
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from slipway.runtime.errors import UserError

_IN_CLUSTER_ENV = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True, slots=True)
class Connection:
    """An address and credentials.

    :param kubeconfig: path of a kubeconfig; empty inside a pod, where the ServiceAccount is used
    :param context: context in that kubeconfig; empty for its current one
    """

    kubeconfig: str = ""
    context: str = ""

    @classmethod
    def detect(cls, kubeconfig: str = "", context: str = "") -> Connection:
        """What was asked for, else the pod's ServiceAccount. A user's current context is never guessed.

        :raises UserError: outside a cluster when neither a kubeconfig nor a context is named
        """
        if not kubeconfig and context:
            kubeconfig = os.environ.get("KUBECONFIG", "") or "~/.kube/config"
        if not kubeconfig and not os.environ.get(_IN_CLUSTER_ENV):
            raise UserError(
                "NoCluster", "This is not a pod: name the cluster with --kubeconfig or --context (SLIPWAY_KUBECONFIG)."
            )
        return cls(str(Path(kubeconfig).expanduser()) if kubeconfig else "", context)

    async def configuration(self) -> Configuration:
        """Settings for `kubernetes.aio`; a ServiceAccount's token is read again as it rotates.

        :raises UserError: when the kubeconfig or the ServiceAccount's files cannot be read
        """
        configuration = Configuration()
        try:
            if self.kubeconfig:
                await load_kube_config(
                    config_file=self.kubeconfig,
                    context=self.context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
            else:
                load_incluster_config(client_configuration=configuration)
        except (ConfigException, OSError, yaml.YAMLError) as error:
            where = self.kubeconfig or "the pod's ServiceAccount"
            raise UserError("NoCluster", f"Cannot log in with {where}: {error}.") from error
        configuration.retries = None  # the work queue retries, with backoff and a condition
        return configuration

    async def api(self) -> ApiClient:
        configuration = await self.configuration()
        # Asked once: left to aiohttp, each request would read the environment and ~/.netrc again, 7 % of our time.
        configuration.proxy = configuration.proxy or _proxy_to(configuration.host)
        configuration.client_session_kwargs = {"trust_env": False}
        api = ApiClient(configuration)
        api.user_agent = "slipway-operator"
        return api

    async def for_kopf(self) -> kopf.ConnectionInfo:
        """The same login for kopf, which asks again when the server answers 401 (a rotated token)."""
        configuration = await self.configuration()
        bearer = (await configuration.auth_settings()).get("BearerToken", {}).get("value") or ""
        scheme, _, token = bearer.rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme.capitalize() or None,
            token=token or None,
            username=configuration.username or None,
            password=configuration.password or None,
        )


def _proxy_to(url: str) -> str | None:
    """The proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`) names for an address."""
    address = urlsplit(url)
    if not address.hostname or proxy_bypass(address.hostname):
        return None
    return getproxies().get(address.scheme)
