"""Whether KFP's launcher, which moves artifacts between tasks, knows how to reach the store. Pure.

It reads the ConfigMap `kfp-launcher` of the namespace that pods run in: `providers`, a YAML text with an entry for each
scheme of a pipeline root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

CONFIG_MAP = "kfp-launcher"
_DEFAULT_SECRET = "mlpipeline-minio-artifact"


@dataclass(frozen=True)
class Needs:
    """What the launcher needs for a pipeline root.

    :param problem: what is wrong already; empty when nothing is
    :param secret: Secret in the namespace of the pods, with `keys`; empty where it needs none
    """

    problem: str = ""
    secret: str = ""
    keys: tuple[str, ...] = ()


def needs(config: Mapping[str, Any] | None, namespace: str, root: str, store: str) -> Needs:
    """What the launcher needs for a pipeline root.

    :param config: the ConfigMap; None: there is none
    :param root: such as `s3://slipway/kfp`
    :param store: URL of the Platform's S3, which most roots are in
    """
    where = f"ConfigMap {namespace}/{CONFIG_MAP}"
    scheme = urlsplit(root).scheme
    providers = _providers(config)
    if isinstance(providers, str):
        return Needs(f"{where}, data.providers: {providers}")
    if scheme == "gs":
        return Needs()
    entry = providers.get(scheme)
    if scheme == "minio" and not isinstance(entry, Mapping):
        return Needs(secret=_DEFAULT_SECRET, keys=("accesskey", "secretkey"))
    if not isinstance(entry, Mapping):
        what = "does not exist" if config is None else "has no s3 in data.providers"
        return Needs(
            f"{where} {what}, so tasks cannot reach {root}: add providers.s3.default with endpoint "
            f"{urlsplit(store).netloc}, region, disableSSL and credentials.secretRef."
        )
    chosen = _chosen(entry, root)
    if not isinstance(chosen, Mapping):
        return Needs(f"{where}, data.providers.{scheme}: it has no default, and no override for {root}: add one.")
    problem = _encryption(chosen, store)
    if problem:
        return Needs(f"{where}, data.providers.{scheme}: {problem}")
    credentials = chosen.get("credentials")
    credentials = credentials if isinstance(credentials, Mapping) else {}
    if credentials.get("fromEnv") is True:
        return Needs()
    reference = credentials.get("secretRef")
    if not isinstance(reference, Mapping) or not reference.get("secretName"):
        return Needs(f"{where}, data.providers.{scheme}: credentials has neither fromEnv nor secretRef: add one.")
    keys = (str(reference.get("accessKeyKey") or "accesskey"), str(reference.get("secretKeyKey") or "secretkey"))
    return Needs(secret=str(reference["secretName"]), keys=keys)


def _providers(config: Mapping[str, Any] | None) -> Mapping[str, Any] | str:
    """The providers, or what is wrong with their text."""
    text = ((config or {}).get("data") or {}).get("providers") or ""
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        return f"this is no YAML ({str(error).splitlines()[0]}): correct it."
    return found if isinstance(found, Mapping) else "this is no mapping: write s3, minio or gs below it."


def _chosen(entry: Mapping[str, Any], root: str) -> Any:
    """The first override for the root's bucket and prefix, else the default."""
    parts = urlsplit(root)
    path = parts.path.lstrip("/")
    overrides = entry.get("overrides") or entry.get("Overrides") or ()
    for each in overrides if isinstance(overrides, list) else ():
        if not isinstance(each, Mapping) or each.get("bucketName") != parts.netloc:
            continue
        if path.startswith(str(each.get("keyPrefix") or "")):
            return each
    return entry.get("default")


def _encryption(chosen: Mapping[str, Any], store: str) -> str:
    """The launcher speaks https unless it is told otherwise."""
    parts = urlsplit(store)
    if str(chosen.get("endpoint") or "") != parts.netloc or parts.scheme != "http" or chosen.get("disableSSL") is True:
        return ""
    return f"{parts.netloc} speaks http, and disableSSL is not true: set it."
