"""Running a program in a file system of stacked folders, and keeping what it changes in a folder of its own.

This is what a container engine does to build a layer: an overlay mount, a few mounts of the host, chroot. All of it
happens in mount and process namespaces of its own, so nothing stays mounted or running, however it ends.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway_cluster.process import run

# $1 lower folders, $2 upper, $3 work, $4 root; then pairs of host path and target; then "--" and the script.
_ENTER = """
set -eu
root=$4
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$root"
shift 4
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
  mount --rbind "$1" "$root/$2"
  shift 2
done
exec chroot "$root" /bin/sh -euc "$2"
"""


def run_in(
    stack: Sequence[Path],
    changes: Path,
    script: str,
    *,
    binds: Mapping[Path, str] | None = None,
    timeout: float = 1800,
) -> None:
    """Run a shell script as root in stacked folders.

    Args:
        stack: folders from the lowest to the highest; none is changed.
        changes: folder that receives new and changed files, as overlayfs writes them.
        binds: host paths that appear at existing paths in the file system.
    """
    changes.mkdir(parents=True, exist_ok=True)
    work, root = changes.with_name(changes.name + ".work"), changes.with_name(changes.name + ".root")
    try:
        work.mkdir(exist_ok=True)
        root.mkdir(exist_ok=True)
        pairs = [part for host, target in (binds or {}).items() for part in (str(host), target.lstrip("/"))]
        run(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", _ENTER, "sandbox"),
            ":".join(str(folder) for folder in reversed(stack)),
            *(str(changes), str(work), str(root), *pairs, "--", script),
            env={
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            },
            timeout=timeout,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
        root.rmdir()
