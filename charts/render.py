"""Renders the chart into `manifests/install/operator.yaml`, for those who install with kustomize.

python charts/render.py --write | --check [--helm PATH]

The CRDs beside it come from the models (`python -m slipway.api.crd --write`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from slipway_cluster import gobuild

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "slipway"
TARGET = ROOT / "manifests" / "install" / "operator.yaml"
NAMESPACE = "slipway-system"
HEADER = "# Rendered by `python charts/render.py --write` from charts/slipway. Do not edit.\n"


def template(helm: Path, *settings: str) -> str:
    """What `helm template` says for `--set` settings. CalledProcessError when it refuses them."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = [helm, "template", "slipway", CHART, "--namespace", NAMESPACE, *arguments]
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def rendered(helm: Path) -> str:
    """The file's content: every object of the chart but the CRDs."""
    text = template(helm, "crds.install=false")
    lines = [line for line in text.splitlines() if not line.startswith("# Source: ") and line.strip()]
    body = "\n".join(lines).replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
    return f"{HEADER}{body}\n"


def main() -> int:
    """Write the file, or say whether it is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the file")
    what.add_argument("--check", action="store_true", help="fail when the file is stale")
    parser.add_argument("--helm", type=Path, help="the helm program; the one of the local cluster unless given")
    options = parser.parse_args()
    content = rendered(options.helm or gobuild.binary("helm"))
    if options.write:
        TARGET.write_text(content)
    elif not TARGET.exists() or TARGET.read_text() != content:
        print(f"{TARGET.relative_to(ROOT)} is stale: run `python charts/render.py --write`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
