"""Delivers alerts of the queues to the channels of the environment. A sensor of its own, so that a receiver that does
not answer never keeps anybody from watching (queue_watch.py). How it is sent: lib/queue/notify.py.
"""

import dagster as dg

from penguin_pipelines.lib.queue import notify
from penguin_pipelines.resources import TierResource, runs_by_default
from penguin_pipelines.settings import load_settings


@dg.sensor(
    name="alert_notifications",
    description="Sends alerts of the queues by webhook, Slack or e-mail; what does not arrive is sent again.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING if runs_by_default() else dg.DefaultSensorStatus.STOPPED,
)
def alert_notifications(queue: TierResource) -> dg.SkipReason:
    channels = notify.channels_of(load_settings())
    if not channels.names:
        return dg.SkipReason("No channel is configured; set PENGUIN_ALERT_WEBHOOK_URL, for example.")
    done = notify.deliver(queue.url, channels)
    said = [f"{d.channel}: {d.arrived} delivered" + (f", {d.failed} not: {d.error}" if d.error else "") for d in done]
    return dg.SkipReason("; ".join(said) or f"Nothing to tell ({', '.join(channels.names)}).")
