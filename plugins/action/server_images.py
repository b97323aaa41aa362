"""Controller side of senex.trader.server_images: hands over the lock that this run has."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction


class ActionModule(LockedAction):
    """See plugins/modules/server_images.py."""

    MODULE = "server_images"
