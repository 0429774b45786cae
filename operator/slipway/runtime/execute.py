"""Executes plans: the only place where the operator writes to the API.

A plan that already holds costs no request. What was written is put into the stores at once, so that the next observe
sees it even if the watch is slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from slipway.runtime import compare
from slipway.runtime.client import Client
from slipway.runtime.conditions import Note, transitions
from slipway.runtime.controller import Action, Apply, Call, Create, Delete, Plan, WriteStatus
from slipway.runtime.errors import AlreadyExists, ApiError, Fenced, MissingDependency, NotFound, Unavailable, UserError
from slipway.runtime.resources import (
    APPLIED_HASH,
    EVENT,
    FIELD_MANAGER,
    FINALIZER,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    Catalogue,
    Key,
    Object,
    ResourceType,
    is_deleting,
    label_value,
    owner_label,
    uid_of,
)
from slipway.runtime.stores import Stores, version_of

logger = logging.getLogger(__name__)

_MAX_NOTE = 1024  # the Events API refuses longer ones
_REMEMBERED = 1024
_STILL_DELETING = 2.0  # seconds until we look again at an object whose predecessor is still going away


class Executor:
    """Brings plans about, for all controllers."""

    def __init__(
        self,
        client: Client,
        stores: Stores,
        catalogue: Catalogue,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._stores = stores
        self._catalogue = catalogue
        self._clock = clock
        self._futile = compare.Futile()
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._pruned: OrderedDict[Key, tuple[str, str]] = OrderedDict()

    async def execute(
        self, type_: ResourceType, obj: Object, plan: Plan, ports: Mapping[str, Any] | None = None
    ) -> float | None:
        """Bring `plan` about for `obj`; returns seconds until the next look.

        :param ports: the controller's adapters, which `Call` actions name

        :raises: what the actions raise; the status is then not written, the caller writes the error's condition
        """
        obj, written = await self._keep_finalizer(type_, obj, plan)
        requeue = plan.requeue_after
        for action in plan.actions:
            done, again = await self._act(type_, obj, action, ports or {})
            written = written or done
            if again is not None:
                requeue = again if requeue is None else min(again, requeue)
        if plan.status is not None:
            updated = await self.write_status(type_, obj, plan.status)
            obj, written = updated or obj, written or updated is not None
        if written:
            await self.send(type_, obj, plan.events)
        if plan.finalizer == "drop":
            await self._drop_finalizer(type_, obj)
        return requeue

    async def write_status(
        self, type_: ResourceType, obj: Object, status: Mapping[str, Any], notes: tuple[Note, ...] = ()
    ) -> Object | None:
        """Write a status if it differs, and an Event for each transition of a condition (and `notes`).

        Returns the updated object, or None when nothing was written.

        :raises Conflict: the object changed since it was read
        """
        live, wanted = obj.get("status") or {}, _without_nulls(status)
        if wanted == live or compare.canonical(wanted) == compare.canonical(live):
            return None
        if self._futile_status(type_, obj, wanted):
            return None
        try:
            updated = await self._client.replace_status(obj, type_, wanted)
        except NotFound:
            return None  # deleted in between: nothing to report to
        self._take(type_, updated)
        if compare.canonical(updated.get("status") or {}) != compare.canonical(wanted):
            self._remember_status(type_, updated, wanted)
        changes = transitions(live.get("conditions") or (), status.get("conditions") or ())
        await self.send(type_, obj, (*changes, *notes))
        return updated

    async def send(self, type_: ResourceType, obj: Object, notes: tuple[Note, ...]) -> None:
        """Send Events about `obj`, each once; one that fails is only logged."""
        for note in dict.fromkeys(notes):
            event = self._event(type_, obj, note)
            name = event["metadata"]["name"]
            if name in self._sent:
                continue
            try:
                await self._client.create(EVENT, event)
            except AlreadyExists:
                pass
            except (ApiError, Unavailable, Fenced) as error:
                logger.warning("An Event could not be sent: %s", error)
                continue
            self._sent[name] = None
            if len(self._sent) > _REMEMBERED:
                self._sent.popitem(last=False)

    # Actions: each returns whether something was written, and after how many seconds to look again

    async def _act(
        self, type_: ResourceType, owner: Object, action: Action, ports: Mapping[str, Any]
    ) -> tuple[bool, float | None]:
        if isinstance(action, Apply):
            return await self._apply(type_, owner, action)
        if isinstance(action, Create):
            return await self._create(type_, owner, action), None
        if isinstance(action, Delete):
            return await self._delete(action), None
        if isinstance(action, WriteStatus):
            return await self._write_other_status(action), None
        return await self._call(action, ports), None

    async def _apply(self, type_: ResourceType, owner: Object, action: Apply) -> tuple[bool, float | None]:
        child = self._catalogue.type_of(action.manifest)
        desired = compare.with_hash(self._dressed(type_, owner, child, action.manifest, action.owned))
        key = child.key_of(desired)
        live = await self._live(key)
        if live is not None:
            if is_deleting(live):
                logger.info("%s is still being deleted; it will be made anew.", key)
                return False, _STILL_DELETING
            if not action.adopt:
                _refuse_foreign(key, live, type_.key_of(owner), uid_of(owner), action.owned)
            if compare.is_applied(live, desired) or self._futile(key, desired, live):
                return False, None
        edited = live is not None and compare.is_edited(live, desired)
        try:
            result = await self._client.apply(child, desired)
        except NotFound as error:
            raise MissingDependency("NotServed", f"{key} cannot be written: {error.message}.") from error
        if self._futile.remember(key, desired, result):
            logger.debug("%s does not compare equal after the apply; it is left until it changes.", key)
        self._take(child, result)
        logger.info("applied %s", key)
        if live is not None and edited and compare.is_applied(result, desired):
            await self.send(type_, owner, (_put_back(key, compare.first_difference(live, desired)),))
        return True, None

    async def _create(self, type_: ResourceType, owner: Object, action: Create) -> bool:
        child = self._catalogue.type_of(action.manifest)
        desired = self._dressed(type_, owner, child, action.manifest, action.owned)
        key = child.key_of(desired)
        live = await self._live(key)
        if live is None:
            try:
                self._take(child, await self._client.create(child, desired))
            except AlreadyExists:
                live = await self._client.get(key)
            else:
                logger.info("created %s", key)
                return True
        if not compare.covers(_content(live), _content(desired)):
            raise UserError("RecordDiffers", f"{key} exists with other content; records never change.")
        return False

    async def _delete(self, action: Delete) -> bool:
        if self._stores.watches(action.key.type):
            known = self._stores.get(action.key)
            if known is not None and is_deleting(known):
                return False
        deleted = await self._client.delete(action.key, uid=action.uid, propagation=action.propagation)
        if deleted:
            logger.info("deleted %s", action.key)
        return deleted

    async def _write_other_status(self, action: WriteStatus) -> bool:
        live = await self._live(action.key)
        if live is None:
            raise NotFound(404, "NotFound", f"{action.key} is gone; its status cannot be written.")
        return await self.write_status(action.key.type, live, action.status) is not None

    async def _call(self, action: Call, ports: Mapping[str, Any]) -> bool:
        await getattr(ports[action.port], action.method)(**action.arguments)
        logger.info("called %s.%s", action.port, action.method)
        return True

    # Finalizers

    async def _keep_finalizer(self, type_: ResourceType, obj: Object, plan: Plan) -> tuple[Object, bool]:
        finalizers = obj["metadata"].get("finalizers") or []
        if plan.finalizer != "keep" or FINALIZER in finalizers or is_deleting(obj):
            return obj, False
        return await self._set_finalizers(type_, obj, [*finalizers, FINALIZER]), True

    async def _drop_finalizer(self, type_: ResourceType, obj: Object) -> None:
        finalizers = obj["metadata"].get("finalizers") or []
        if FINALIZER in finalizers:
            with contextlib.suppress(NotFound):
                await self._set_finalizers(type_, obj, [each for each in finalizers if each != FINALIZER])

    async def _set_finalizers(self, type_: ResourceType, obj: Object, finalizers: list[str]) -> Object:
        meta = {"finalizers": finalizers, "resourceVersion": obj["metadata"]["resourceVersion"]}
        updated = await self._client.merge(type_.key_of(obj), {"metadata": meta})
        if not (is_deleting(updated) and not finalizers):  # else the object is gone with this very write
            self._take(type_, updated)
        return updated

    # Objects

    def _dressed(
        self, type_: ResourceType, owner: Object, child: ResourceType, manifest: Mapping[str, Any], owned: bool
    ) -> Object:
        """The manifest with our labels and, if owned, an owner reference."""
        meta = dict(manifest["metadata"])
        meta["labels"] = {
            owner_label(type_.kind): label_value(owner["metadata"]["name"]),
            **(meta.get("labels") or {}),
            MANAGED_BY_LABEL: MANAGED_BY,
        }
        if owned:
            namespace = owner["metadata"].get("namespace", "") if type_.namespaced else ""
            if namespace and (not child.namespaced or meta.get("namespace") != namespace):
                raise ValueError(f"{child.kind} {meta['name']} cannot be owned across namespaces; use owned=False")
            meta["ownerReferences"] = [*(meta.get("ownerReferences") or ()), owner_reference(type_, owner)]
        return {**manifest, "metadata": meta}

    async def _live(self, key: Key) -> Object | None:
        """From memory if it is there; otherwise asked for, since an object without our label is not in memory."""
        if self._stores.watches(key.type):
            known = self._stores.get(key)
            if known is not None:
                return known
        return await self._client.find(key)

    def _remember_status(self, type_: ResourceType, updated: Object, wanted: Mapping[str, Any]) -> None:
        """The CRD prunes or defaults a field of this status: do not write the same again and again."""
        logger.warning("The API server changed the status that was written: its CRD prunes or defaults a field.")
        self._pruned[type_.key_of(updated)] = (compare.digest(wanted), compare.digest(updated.get("status") or {}))
        if len(self._pruned) > _REMEMBERED:
            self._pruned.popitem(last=False)

    def _futile_status(self, type_: ResourceType, obj: Object, wanted: Mapping[str, Any]) -> bool:
        known = self._pruned.get(type_.key_of(obj))
        return known is not None and known == (compare.digest(wanted), compare.digest(obj.get("status") or {}))

    def _take(self, type_: ResourceType, obj: Object) -> None:
        if self._stores.watches(type_):
            self._stores.of(type_).put(obj)

    def _event(self, type_: ResourceType, obj: Object, note: Note) -> Object:
        """An `events.k8s.io/v1` Event whose name is its content's digest, so that a repetition is refused."""
        meta = obj["metadata"]
        text = "\n".join((uid_of(obj), note.type, note.reason, note.message, str(version_of(obj))))
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{meta['name'][:230]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}",
                "namespace": meta.get("namespace") or "default",
            },
            "eventTime": self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{MANAGED_BY}.dev/operator",
            "reportingInstance": FIELD_MANAGER,
            "action": "Reconcile",
            "reason": note.reason,
            "type": note.type,
            "note": note.message[:_MAX_NOTE],
            "regarding": {
                "apiVersion": type_.api_version,
                "kind": type_.kind,
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": uid_of(obj),
                "resourceVersion": str(meta.get("resourceVersion", "")),
            },
        }


def owner_reference(type_: ResourceType, owner: Mapping[str, Any]) -> Object:
    """A controller reference that does not block the owner's deletion."""
    return {
        "apiVersion": type_.api_version,
        "kind": type_.kind,
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _put_back(key: Key, field: str) -> Note:
    return Note(
        "Warning",
        "PutBack",
        f"{key} was changed by someone else ({field}) and is put back: change what it is made from.",
    )


def _refuse_foreign(key: Key, live: Mapping[str, Any], owner: Key, owner_uid: str, owned: bool) -> None:
    """Refuse to overwrite what Slipway did not make, or made for another owner.

    Any of our marks (owner reference, label, annotation) is enough to recognise our own: people remove labels.

    :raises UserError: NameTaken
    """
    meta = live["metadata"]
    controllers = [each for each in meta.get("ownerReferences") or () if each.get("controller")]
    if any(each.get("uid") == owner_uid for each in controllers):
        return
    if owned and controllers:
        holder = f"belongs to {controllers[0]['kind']} {controllers[0]['name']}"
    elif _has_mark(meta):
        return
    else:
        holder = "was not made by Slipway"
    raise UserError("NameTaken", f"{key} exists and {holder}; rename or delete it, or rename {owner}.")


def _has_mark(meta: Mapping[str, Any]) -> bool:
    managed = (meta.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY
    return managed or APPLIED_HASH in (meta.get("annotations") or {})


def _content(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status", "apiVersion", "kind")}


def _without_nulls(value: Any) -> Any:
    """The value without null fields: the API drops them, so they must not count as a difference."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(each) for each in value]
    return value
