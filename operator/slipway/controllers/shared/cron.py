"""Times of a cron schedule, in its time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from slipway.api.reasons import Reason
from slipway.runtime.errors import UserError


def next_tick(expression: str, zone: str | None, after: datetime, field: str) -> datetime:
    """The first time after `after`, in UTC. :raises UserError: the expression or the zone is none"""
    return _first(expression, zone, after, field, reverse=False)


def last_tick(expression: str, zone: str | None, before: datetime, field: str) -> datetime:
    """The last time not after `before`, in UTC. :raises UserError: the expression or the zone is none"""
    probe = before.replace(microsecond=0)
    if (tick := _first(expression, zone, probe, field, reverse=False, inclusive=True)) == probe:
        return tick
    return _first(expression, zone, probe, field, reverse=True)


def _first(
    expression: str, zone: str | None, start: datetime, field: str, *, reverse: bool, inclusive: bool = False
) -> datetime:
    try:
        local = start.astimezone(ZoneInfo(zone or "Etc/UTC"))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UserError(
            Reason.InvalidSpec, f"{zone} is no time zone: write one such as Etc/UTC or America/New_York.", field=field
        ) from error
    if inclusive:
        local = datetime.fromtimestamp(local.timestamp() - 1, local.tzinfo)
    try:
        return next(CronSim(expression, local, reverse=reverse)).astimezone(UTC)
    except (CronSimError, StopIteration) as error:
        raise UserError(
            Reason.InvalidSpec,
            f"{expression!r} is no schedule that ever comes: write five cron fields, such as 0 3 * * 1.",
            field=field,
        ) from error
