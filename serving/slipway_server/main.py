"""Start of the model server: verify, load, then serve."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from slipway.contracts.digests import short
from slipway.contracts.jobs import ModelManifest
from slipway_server import logs
from slipway_server.abstaining import Abstention
from slipway_server.artifact import MODEL, verified_manifest
from slipway_server.batching import Batcher
from slipway_server.errors import StartError
from slipway_server.metrics import BASELINE
from slipway_server.online import OnlineStore
from slipway_server.predictionlog import Encode, PredictionLog, Store
from slipway_server.settings import Settings, read_settings

log = logging.getLogger("slipway.server")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read when scikit-learn is imported. A prediction is too small for several threads: where cores are busy they wait for
each other, and one prediction of milliseconds takes seconds."""


def main() -> None:
    """Entry point of `slipway-model-server`. Exits 1 with one sentence on stderr when it cannot serve."""
    logs.configure()
    for variable in _ONE_THREAD:
        os.environ.setdefault(variable, "1")
    try:
        _serve()
    except StartError as error:
        _exit(error)


def _serve() -> None:
    settings = read_settings(sys.argv[1:])
    manifest = verified_manifest(settings.model_dir, settings.manifest_digest)
    # Imported after the check: a wrong model is refused at once, and the SDK takes seconds to import.
    from slipway_server.model import Classifier, SlipwayModel
    from slipway_server.server import SlipwayModelServer

    classifier = Classifier(settings.model_dir / MODEL, manifest.inputs)
    classifier.warm_up()
    version = settings.model_version or f"{manifest.project}-{short(manifest.model_digest)}"
    source = _feature_source(settings, manifest)
    model = SlipwayModel(
        settings.model_name,
        version,
        manifest,
        classifier,
        source,
        fail_on_missing=settings.fail_on_missing,
        abstention=_abstention(settings, manifest),
    )
    SlipwayModelServer(settings, model, _prediction_log(settings, manifest)).run()


def _abstention(settings: Settings, manifest: ModelManifest) -> Abstention | None:
    """When the model's answer is no prediction, with its baseline loaded; None when it always is one."""
    from slipway_server.model import Classifier

    wanted = settings.abstain
    if wanted is None:
        return None
    if wanted.baseline and manifest.baseline is None:
        log.warning("This model was registered without a baseline: the server abstains where that should answer")
    if not wanted.baseline or manifest.baseline is None:
        return Abstention(wanted.below)
    baseline = Classifier(settings.model_dir / manifest.baseline.path, manifest.inputs, BASELINE)
    baseline.warm_up()
    return Abstention(wanted.below, Batcher(manifest.inputs, baseline.probabilities))


def _feature_source(settings: Settings, manifest: ModelManifest) -> OnlineStore | None:
    """The online store, being opened in the background; None when the model needs none or none is configured."""
    if manifest.feature_service is None:
        return None
    if settings.feast is None:
        log.warning("SLIPWAY_FEAST_HOST is not set: features that requests do not carry are missing or defaults")
        return None
    store = OnlineStore(
        settings.feast,
        manifest.feature_service,
        timeout=settings.features_timeout,
        refresh_every=settings.registry_refresh,
        required=settings.fail_on_missing,
    )
    store.open()
    return store


def _prediction_log(settings: Settings, manifest: ModelManifest) -> PredictionLog | None:
    """The prediction log, its thread started; None when nothing is to be logged."""
    wanted = settings.predictions
    if wanted is None:
        return None

    def opened() -> tuple[Store, Encode]:
        from slipway_server.predictionfile import Encoder
        from slipway_server.predictionstore import S3

        encoder = Encoder(manifest.inputs, wanted.redact)
        return S3(wanted), encoder

    predictions = PredictionLog(
        wanted.prefix,
        manifest.inputs,
        sample_percent=wanted.sample_percent,
        flush_seconds=wanted.flush_seconds,
        opened=opened,
    )
    predictions.open()
    return predictions


def _exit(error: StartError) -> NoReturn:
    print(error, file=sys.stderr, flush=True)
    raise SystemExit(1)
