"""Controller side of senex.trader.rotation: hands over the lock that this run has."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import LeasedAction


class ActionModule(LeasedAction):
    """See plugins/modules/rotation.py."""

    MODULE = "rotation"
