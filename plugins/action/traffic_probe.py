"""Controller side of senex.trader.traffic_probe: hands over the lock that this run has."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction


class ActionModule(LockedAction):
    """See plugins/modules/traffic_probe.py."""

    MODULE = "traffic_probe"
