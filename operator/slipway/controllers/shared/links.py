"""How changes of one kind wake objects of another, and what a missing partner is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slipway.adapters import labels
from slipway.api.meta import LocalRef, Resource
from slipway.api.modelproject import ModelProject
from slipway.api.platform import Platform
from slipway.controllers.shared.typed import read
from slipway.runtime.controller import Io, Watch
from slipway.runtime.resources import GROUP, JOB, MODEL_PROJECT, PLATFORM, POD, Key, Object, ResourceType
from slipway.runtime.stores import Stores

PLATFORM_NAME = "default"


def platform(io: Io) -> Platform | None:
    """The Platform that projects use."""
    return read(io, PLATFORM, Platform, PLATFORM_NAME)


def project(io: Io, reference: LocalRef, namespace: str) -> ModelProject | None:
    """A ModelProject that is there to stay: None also while it is being deleted, since its Secrets go with it."""
    found = read(io, MODEL_PROJECT, ModelProject, reference.name, namespace)
    return None if found is None or found.metadata.deletion_timestamp else found


def no_platform() -> str:
    """Sentence for a cluster without a Platform."""
    return f"There is no Platform {PLATFORM_NAME}: ask the cluster's administrators to create it."


def no_project(reference: LocalRef) -> str:
    """Sentence for a project that is not there."""
    return (
        f"spec.projectRef: ModelProject {reference.name} does not exist or is being deleted: create it, or correct "
        "the name."
    )


def jobs_of(owner: ResourceType) -> tuple[Watch, Watch]:
    """Wake the owner of a Job by the Job and by its pods."""

    def by_pod(pod: Object, stores: Stores) -> Iterable[Key]:
        meta = pod["metadata"]
        job = (meta.get("labels") or {}).get(labels.JOB_NAME)
        found = stores.get(JOB.key(job, meta["namespace"])) if job else None
        return by_job(found, stores) if found is not None else ()

    def by_job(job: Object, _: Stores) -> Iterable[Key]:
        for reference in job["metadata"].get("ownerReferences") or ():
            if reference["kind"] == owner.kind and reference["apiVersion"].startswith(f"{GROUP}/"):
                yield owner.key(reference["name"], job["metadata"]["namespace"])

    return Watch(JOB, by_job), Watch(POD, by_pod)


def everyone(target: ResourceType, source: ResourceType) -> Watch:
    """Wake all objects of a kind when the target changes: for what all depend on, such as the Platform."""
    return Watch(target, lambda _, stores: [source.key_of(each) for each in stores.list(source)])


def of_namespace(target: ResourceType, source: ResourceType, relevant: Callable[[Object, Object], bool]) -> Watch:
    """Wake the objects of the target's namespace for which `relevant(source, target)` holds."""

    def keys(obj: Object, stores: Stores) -> Iterable[Key]:
        namespace = obj["metadata"].get("namespace", "")
        return [source.key_of(each) for each in stores.list(source, namespace) if relevant(each, obj)]

    return Watch(target, keys)


def same_project(one: Object, other: Object) -> bool:
    """Whether two objects belong to the same project, one of which may be the project itself."""
    return _project_of(one) == _project_of(other)


def _project_of(obj: Object) -> str:
    if obj.get("kind") == MODEL_PROJECT.kind:
        return str(obj["metadata"]["name"])
    return str(((obj.get("spec") or {}).get("projectRef") or {}).get("name", ""))


def full_name(resource: Resource) -> str:
    """Kind and name, as sentences name an object."""
    return f"{resource.kind_name} {resource.metadata.name}"


def deleted_of_project(one: Object, other: Object) -> bool:
    """Whether `one` is being deleted and belongs to the project `other`, on which its deletion may wait."""
    return bool(one["metadata"].get("deletionTimestamp")) and same_project(one, other)


def everyone_deleted(target: ResourceType, source: ResourceType) -> Watch:
    """Wake those objects of a kind that are being deleted when the target changes."""

    def keys(_: Object, stores: Stores) -> Iterable[Key]:
        return [source.key_of(each) for each in stores.list(source) if each["metadata"].get("deletionTimestamp")]

    return Watch(target, keys)
