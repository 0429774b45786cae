"""`ingest`: a DatasetVersion from exactly the objects that were listed.

Objects are processed side by side, each by one thread, and remembered: an object that did not change, under a spec that
did not change for it, is not processed again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slipway.api.datasetversion import Violation
from slipway.api.reasons import Reason
from slipway.contracts.digests import canonical_json, digest_json, short
from slipway.contracts.jobs import DatasetManifest, DatasetPart, IngestRequest, IngestResult, SourceObject
from slipway_pipelines.data.partition import Outcome, Recipe, process
from slipway_pipelines.data.parts import fetch_parts, read_manifest
from slipway_pipelines.data.quality import RuleResult
from slipway_pipelines.data.whole import LocalPart, Whole, create_views, examine
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.sql.engine import Limits, container_limits, literal, name, sandbox
from slipway_pipelines.store import MissingObjectError, ObjectStore, ProgressWriter

VIOLATIONS_LIMIT = 50
"""As many as a DatasetVersion records; the report has all."""


def run_ingest(request: IngestRequest, store: ObjectStore, progress: ProgressWriter) -> IngestResult:
    """Makes the version: parts, manifest, profile and report in the store. RefusalError when the spec is at fault."""
    if not request.objects:
        raise RefusalError(
            Reason.SourceEmpty, "There is no object below spec.source.s3.prefix: put data there, or correct the prefix."
        )
    recipe = Recipe(request)
    recipe.check_names()
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        return _Ingest(recipe, store, progress, Path(folder).resolve(), container_limits()).run()


class _Ingest:
    """One run of the command; its files are below `folder`."""

    def __init__(
        self, recipe: Recipe, store: ObjectStore, progress: ProgressWriter, folder: Path, limits: Limits
    ) -> None:
        self.recipe = recipe
        self.request = recipe.request
        self.store = store
        self.progress = progress
        self.folder = folder
        self.limits = limits
        self.root = f"datasets/{self.request.namespace}/{self.request.dataset}/"

    def run(self) -> IngestResult:
        outcomes = self._process_all()
        violations = [problem for outcome in outcomes for problem in outcome.violations]
        rules = [result for outcome in outcomes for result in outcome.rules]
        parts = [outcome.part for outcome in outcomes if outcome.part]
        whole = None
        if len(parts) == len(outcomes):
            whole = self._examine(parts)
            violations += whole.violations
            rules += whole.rules
        self.progress("record the version", 95)
        return self._record(parts, violations, rules, whole)

    def _process_all(self) -> list[Outcome]:
        """Outcomes in order of the objects' keys."""
        objects = sorted(self.request.objects, key=lambda item: item.key)
        self.progress(f"0 of {len(objects)} objects", 0)
        with ThreadPoolExecutor(self.limits.threads) as pool:
            futures = {pool.submit(self._outcome, number, source): source for number, source in enumerate(objects)}
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    self.progress(f"{done} of {len(objects)} objects", 80 * done // len(objects))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _outcome(self, number: int, source: SourceObject) -> Outcome:
        """What becomes of one object: from the cache, or processed now and put there."""
        digest = digest_json({"recipe": self.recipe.digest, "source": source.wire()})
        cache_key = f"{self.root}cache/{digest.removeprefix('sha256:')}.json"
        cached = self._cached(cache_key)
        if cached is not None:
            return cached
        folder = self.folder / f"object-{number}"
        path = folder / f"source.{self.request.format.lower()}"
        try:
            self.store.download(source.key, path, etag=source.etag)
        except MissingObjectError:
            raise RefusalError(
                Reason.SourceChanged,
                f"Object {source.key} was deleted after it was listed; the next look at the source starts over.",
            ) from None
        out = self._part_path(number)
        memory = self.limits.memory // self.limits.threads
        outcome = process(self.recipe, source, path, out, memory, f"{self.root}parts/")
        path.unlink()
        if outcome.part and not self.store.exists(outcome.part.key):
            self.store.upload(out, outcome.part.key)
        self.store.put_json(cache_key, outcome.model_dump(mode="json", by_alias=True, exclude_none=True))
        return outcome

    def _cached(self, key: str) -> Outcome | None:
        """An outcome of an earlier run, if its part is still there."""
        found = self.store.find_json(key)
        if found is None:
            return None
        try:
            outcome = Outcome.model_validate(found)
        except ValidationError:
            return None
        return outcome if outcome.part is None or self.store.exists(outcome.part.key) else None

    def _part_path(self, number: int) -> Path:
        return self.folder / f"object-{number}" / "part.parquet"

    def _examine(self, parts: Sequence[DatasetPart]) -> Whole:
        """All rows together."""
        self.progress("check all rows together", 80)
        paths = [self._part_path(number) for number in range(len(parts))]
        fetch_parts(self.store, parts, paths, self.limits.threads)
        local = [LocalPart(part, path) for part, path in zip(parts, paths, strict=True)]
        references = self._references()
        with sandbox(self.folder, threads=self.limits.threads, memory=self.limits.memory) as connection:
            create_views(connection, local)
            return examine(connection, self.request, local, references)

    def _references(self) -> dict[str, Path]:
        """By column, a file with the values that it may have."""
        out = {}
        for column in self.request.columns:
            if column.references is None:
                continue
            dataset, target = column.references.dataset_ref.name, column.references.column
            field = f"spec.columns[{column.name}].references"
            found = [item for item in self.request.references if item.dataset == dataset]
            if not found:
                raise RefusalError(
                    Reason.DependencyMissing, f"{field}: dataset {dataset} has no version yet; make one, or remove it."
                )
            manifest = read_manifest(self.store, found[0].manifest)
            if target not in {item.name for item in manifest.columns}:
                raise RefusalError(
                    Reason.InvalidSpec, f"{field}: dataset {dataset} has no column {target}; correct the name."
                )
            out[column.name] = self._values(column.name, target, manifest)
        return out

    def _values(self, column: str, target: str, manifest: DatasetManifest) -> Path:
        """The different values of a column of another dataset."""
        folder = self.folder / f"reference-{column}"
        paths = [folder / f"{number}.parquet" for number in range(len(manifest.parts))]
        fetch_parts(self.store, manifest.parts, paths, self.limits.threads)
        out = folder / "values.parquet"
        files = ", ".join(literal(str(path)) for path in paths)
        with sandbox(folder, threads=self.limits.threads, memory=self.limits.memory) as connection:
            connection.execute(
                f"COPY (SELECT DISTINCT {name(target)} AS value FROM read_parquet([{files}])) "
                f"TO {literal(str(out))} (FORMAT parquet)"
            )
        return out

    def _record(
        self,
        parts: Sequence[DatasetPart],
        violations: list[Violation],
        rules: list[RuleResult],
        whole: Whole | None,
    ) -> IngestResult:
        """Writes manifest, profile and report; what is broken decides the verdict."""
        violations = sorted(violations, key=lambda item: (item.severity != "Block", item.partition or "", item.rule))
        passed = whole is not None and not any(item.severity == "Block" for item in violations)
        report = self._report(violations, rules, passed, whole)
        manifest = self._manifest(parts, whole) if whole and passed else None
        digest = digest_json(manifest.wire() if manifest else report)
        folder = f"{self.root}versions/{short(digest)}/"
        report_key = self._put_report(folder, report)
        profile_key = manifest_key = None
        if whole:
            profile_key = f"{folder}profile.json"
            self.store.put_json(profile_key, whole.profile)
        if manifest:
            manifest_key = f"{folder}manifest.json"
            self.store.put_json(manifest_key, manifest.wire())
        return IngestResult(
            digest=digest,
            verdict="Passed" if passed else "Failed",
            rows=sum(part.rows for part in parts),
            partitions=len(self.request.objects),
            known_until=whole.known_until if whole else None,
            manifest=manifest_key,
            profile=profile_key,
            report=report_key,
            splits=whole.splits if whole and passed else [],
            labels=whole.labels if whole else None,
            violations=violations[:VIOLATIONS_LIMIT],
        )

    def _report(
        self, violations: list[Violation], rules: list[RuleResult], passed: bool, whole: Whole | None
    ) -> dict[str, Any]:
        return {
            "dataset": self.request.dataset,
            "namespace": self.request.namespace,
            "verdict": "Passed" if passed else "Failed",
            "objects": [source.wire() for source in sorted(self.request.objects, key=lambda item: item.key)],
            "rules": [result.model_dump(mode="json") for result in rules],
            "violations": [item.wire() for item in violations],
            "notEvaluated": []
            if whole
            else ["keys, references, rules per Version and splits: an object's schema is broken, see violations"],
        }

    def _put_report(self, folder: str, report: dict[str, Any]) -> str:
        """A report never replaces another one: the same data under other rules may have the same manifest."""
        key = f"{folder}report.json"
        found = self.store.find_json(key)
        if found is not None and canonical_json(found) != canonical_json(report):
            key = f"{folder}report-{short(digest_json(report))}.json"
        self.store.put_json(key, report)
        return key

    def _manifest(self, parts: Sequence[DatasetPart], whole: Whole) -> DatasetManifest:
        request = self.request
        return DatasetManifest(
            namespace=request.namespace,
            dataset=request.dataset,
            columns=request.columns,
            key=request.key,
            label=self.recipe.label,
            label_guide_version=request.labels.guide.version if request.labels else None,
            has_time=request.time is not None,
            parts=list(parts),
            splits=whole.splits,
        )
