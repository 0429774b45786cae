"""What people order of a rollout, as its status remembers it, and the window in which going back skips the steps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ApiModel, Duration, ObjectName, Text, rule

Time = Annotated[str, Field(max_length=40)]
Who = Annotated[str, Field(min_length=1, max_length=256)]
"""A user name, as the API server knows it."""
Verb = Literal["promote", "promote-full", "pause", "resume", "abort", "retry", "undo"]


class RollbackWindow(ApiModel):
    """Versions that users relied on lately: going back to one of them takes no steps."""

    rules: ClassVar = (rule("has(self.versions) || has(self.within)", "set versions, within, or both"),)

    versions: int | None = Field(
        None, ge=1, le=20, description="Only the last so many versions that were stable before the present one."
    )
    within: Duration | None = Field(None, description="Only versions that were stable until so long ago.")


class PausedStatus(ApiModel):
    """A person holds the candidate where it is."""

    since: Time = Field(description="When.")
    by: Who = Field(description="Who.")


class PromoteFullStatus(ApiModel):
    """The candidate takes no (further) steps."""

    since: Time = Field(description="When that was decided.")
    by: Who | None = Field(None, description="Who ordered it; nobody when a version is warm or in the window.")
    reason: Text = Field(description="Why.")


class UndoStatus(ApiModel):
    """A person goes back to an earlier version."""

    version: ObjectName = Field(description="The version that users relied on.")
    to: ObjectName = Field(description="The version that takes over.")
    since: Time = Field(description="When.")
    by: Who = Field(description="Who.")


class OrderStatus(ApiModel):
    """An order that was heard: `slipway.dev/order`."""

    order: Verb = Field(description="What was ordered.")
    version: ObjectName = Field(description="The version that it is about.")
    token: Annotated[str, Field(max_length=32)] = Field(description="Its token: an order with it never acts again.")
    by: Who = Field(description="Who.")
    at: Time = Field(description="When it was heard.")
    obeyed: bool = Field(description="Whether it fitted, and so acted; if not, it is spent all the same.")
    message: Text = Field(description="What it did, or why it did nothing.")
