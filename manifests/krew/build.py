"""Write the krew plugin: an archive that is the same whenever it is built, and the manifest that names its digest.

    python manifests/krew/build.py --uri https://example.com/releases/v0.1.0 --out dist

The archive is to be put below the URI; `kubectl krew install --manifest dist/slipway.yaml` does the rest.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PLUGIN = "kubectl-slipway"


def archive() -> bytes:
    """The script in a tar.gz, without times or names of the machine that packs it."""
    packed, script = io.BytesIO(), (HERE / PLUGIN).read_bytes()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        entry = tarfile.TarInfo(PLUGIN)
        entry.size, entry.mode = len(script), 0o755
        tar.addfile(entry, io.BytesIO(script))
    return packed.getvalue()


def manifest(version: str, uri: str, digest: str) -> dict[str, Any]:
    """krew's description of the plugin.

    :param uri: of the archive
    :param digest: SHA-256 of the archive, in hexadecimal
    """
    systems = {"matchExpressions": [{"key": "os", "operator": "In", "values": ["linux", "darwin"]}]}
    platform = {
        "selector": systems,
        "uri": uri,
        "sha256": digest,
        "files": [{"from": PLUGIN, "to": "."}],
        "bin": PLUGIN,
    }
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "slipway"},
        "spec": {
            "version": f"v{version}",
            "shortDescription": "Watch and control rollouts of machine learning models",
            "description": "Shows a ModelRollout as a live tree (kubectl slipway rollout status NAME --watch), and\n"
            "promotes, pauses, resumes, aborts, retries and undoes it. Orders carry your user name.\n",
            "caveats": "The plugin runs the Python package slipway: pip install 'slipway[operator]'\n",
            "platforms": [platform],
        },
    }


def version() -> str:
    """Of the package."""
    return str(tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]["version"])


def build(uri: str, out: Path) -> None:
    """Write `slipway.yaml` and the archive that it names, which will stand below `uri`."""
    name, packed = f"{PLUGIN}_v{version()}.tar.gz", archive()
    described = manifest(version(), f"{uri.rstrip('/')}/{name}", hashlib.sha256(packed).hexdigest())
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(packed)
    (out / "slipway.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", required=True, help="folder that the archive will be downloaded from")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    chosen = parser.parse_args()
    build(chosen.uri, chosen.out)
