"""The Feast feature service of one model version: which features its server looks up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slipway.api.modelversion import FeatureServiceRecord
from slipway.api.reasons import Reason
from slipway.contracts.jobs import TrainingFeatureSet
from slipway_pipelines.errors import OutageError, RefusalError
from slipway_pipelines.features.feaststore import FeastDatabase, open_store
from slipway_pipelines.features.naming import feast_view

if TYPE_CHECKING:
    from feast import FeatureStore


def apply_feature_service(version: str, feature_sets: Sequence[TrainingFeatureSet]) -> FeatureServiceRecord:
    """Declares a feature service of all features that a version was trained with; applying it again changes nothing.

    RefusalError when the features are of several Feast projects, or are not in Feast any more; OutageError.
    """
    projects = sorted({item.feast_project for item in feature_sets})
    if len(projects) > 1:
        raise RefusalError(
            Reason.InvalidSpec,
            f"training.featureSetRefs names FeatureSets of the Feast projects {', '.join(projects)}: a version reads "
            "from one; use FeatureSets of one ModelProject.",
        )
    (project,) = projects
    database = FeastDatabase.from_environment()
    store = open_store(database, project)
    from feast import FeatureService
    from sqlalchemy.exc import DBAPIError

    name = version.replace("-", "_").replace(".", "_")
    try:
        with database.lock(project):
            store.apply([FeatureService(name=name, features=_projections(store, feature_sets))])
    except DBAPIError as error:
        raise OutageError(f"the feature store does not answer: {str(error).splitlines()[0]}") from None
    entities = {entity: None for item in feature_sets for view in item.views for entity in view.entities}
    return FeatureServiceRecord(project=project, name=name, entities=list(entities))


def _projections(store: FeatureStore, feature_sets: Sequence[TrainingFeatureSet]) -> list[Any]:
    """The registered views, each with exactly the features that the model was trained with."""
    registered = {view.name: view for view in store.list_feature_views()}
    projections = []
    for feature_set in feature_sets:
        for view in feature_set.views:
            found = registered.get(feast_view(feature_set.feast_project, feature_set.name, view.name))
            there = {feature.name for feature in found.features} if found else set()
            gone = [feature.name for feature in view.features if feature.name not in there]
            if found is None or gone:
                raise RefusalError(
                    Reason.DependencyMissing,
                    f"Feast has no {', '.join(gone)} of FeatureSet {feature_set.name}, view {view.name}: the "
                    "FeatureSet was changed or deleted while the run went on; create another run.",
                )
            projections.append(found[[feature.name for feature in view.features]])
    return projections
