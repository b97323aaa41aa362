"""Controller side of senex.trader.nginx_upstream: hands over the lock that this run has."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction


class ActionModule(LockedAction):
    """See plugins/modules/nginx_upstream.py."""

    MODULE = "nginx_upstream"
