"""What the plan of a Dataset is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from slipway.adapters.jobs import Work
from slipway.api.dataset import Dataset
from slipway.api.datasetversion import DatasetVersion
from slipway.api.modelproject import ModelProject
from slipway.api.platform import Platform
from slipway.contracts.jobs import IngestRequest, IngestResult, SourceObject
from slipway.controllers.shared.erasure import Erasure
from slipway.controllers.shared.typed import Subject
from slipway.controllers.shared.work import Answered

IngestJob = Answered[IngestRequest, IngestResult]


@dataclass(frozen=True)
class Listing:
    """What a look at the source found."""

    at: datetime
    objects: tuple[SourceObject, ...]
    truncated: bool = False


@dataclass(frozen=True)
class DatasetSnapshot:
    """One Dataset and everything that decides about it.

    :param references: datasets that its columns refer to, each with its current version; None: there is none
    :param listing: None while the source is not looked at
    :param work: the Job that would make a version of what was listed; None while something is missing
    :param job: that Job, as far as there is one
    :param earlier: ingest Jobs for earlier states of the source that are active, or whose answer is not recorded
    """

    subject: Subject[Dataset]
    project: ModelProject | None = None
    platform: Platform | None = None
    references: Mapping[str, DatasetVersion | None] = field(default_factory=dict)
    listing: Listing | None = None
    versions: tuple[DatasetVersion, ...] = ()
    source_digest: str = ""
    work: Work | None = None
    job: IngestJob | None = None
    earlier: tuple[IngestJob, ...] = ()
    erasure: Erasure | None = None
