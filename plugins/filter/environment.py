# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The application's environment: addresses that have passwords in them, the names that the application asks for, and what it gets as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.senex.trader.plugins.filter.quoting import quote_url


def database_url(parts: Mapping[str, Any]) -> str:
    """PostgreSQL's address in one text, as libpq, dj-database-url and django-environ take it apart again.

    Without TLS nothing is verified, so no authority is named.
    """
    login = f"{quote_url(parts['user'])}:{quote_url(parts['password'])}"
    query = {"sslmode": str(parts["sslmode"])}
    if query["sslmode"] != "disable" and parts.get("ca"):
        query["sslrootcert"] = str(parts["ca"])
    words = "&".join(f"{key}={quote(value, safe='/')}" for key, value in query.items())
    return f"postgresql://{login}@{url_host(parts['host'])}:{int(parts['port'])}/{quote_url(parts['name'])}?{words}"


def url_host(host: Any) -> str:
    """A server in an address: an IPv6 address in brackets, for its colons are no port's."""
    return f"[{host}]" if ":" in str(host) else str(host)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "database_url": database_url,
            "url_host": url_host,
        }
