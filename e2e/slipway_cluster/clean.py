"""Removing everything this package ever made: ``python -m slipway_cluster.clean [--caches]``."""

import argparse
import shutil
import sys

from slipway_cluster import paths
from slipway_cluster.cluster import Cluster
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.images.recipes import reference


def clean(caches: bool = False) -> None:
    """Remove every cluster, and with ``caches`` also programs, layers and images, which take long to make again."""
    for folder in sorted(paths.cache_folder("clusters").iterdir()):
        Cluster(folder.name).down()
    if caches:
        for engine in (Engine("podman"), Engine("docker")):
            if engine.works():
                engine.remove_images(reference("slipway-*", "*"))
        shutil.rmtree(paths.cache())


def main() -> None:
    """What ``make clean`` calls."""
    parser = argparse.ArgumentParser(prog="python -m slipway_cluster.clean", description=main.__doc__)
    parser.add_argument("--caches", action="store_true", help="also remove programs, layers and images")
    try:
        clean(caches=parser.parse_args().caches)
    except ClusterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
