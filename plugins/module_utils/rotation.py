"""One server of an nginx upstream out of rotation while what listens there is replaced, and back in when it is healthy."""

from __future__ import annotations

import re
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils import fileset

SYSTEMCTL = "/usr/bin/systemctl"
# Long enough for a usual request to end; a longer one is what the instance's own stop timeout is for
DRAIN_SECONDS = 1.0


class Rotation:
    """`wanted` has `file` (of the nginx role, which puts it right again if a run is killed in between) and `server` (address:port)."""

    def __init__(self, wanted: dict | None):
        self.wanted = wanted

    def leave(self) -> bool:
        """Send no more requests to the server, where another one of the upstream can take them. Whether it left."""
        lines = self._servers()
        others = [text for server, text in lines.items() if server != (self.wanted or {}).get("server") and not text.endswith(" down;")]
        if not others or not self._mark(" down"):
            return False
        time.sleep(DRAIN_SECONDS)
        return True

    def back(self) -> None:
        """Send requests to the server again."""
        self._mark("")

    def _content(self) -> tuple[str, tuple]:
        content, owner = fileset.read(self.wanted["file"]) if self.wanted else (None, (0, 0, 0))
        return (content or b"").decode(errors="replace"), owner

    def _servers(self) -> dict[str, str]:
        return {match[2]: match[0].strip() for match in re.finditer(r"^( *server )(\S+)( [^;\n]*)?;", self._content()[0], re.MULTILINE)}

    def _mark(self, state: str) -> bool:
        """Write the server's line with or without `down`, and tell nginx, where that changes anything."""
        text, owner = self._content()
        if not text:
            return False
        line = re.compile(rf"^( *server {re.escape(self.wanted['server'])}(?: [^;\n]*?)?)(?: down)?;", re.MULTILINE)
        marked = line.sub(rf"\g<1>{state};", text)
        if marked == text:
            return False
        fileset.swap([(self.wanted["file"], marked.encode(), owner)])
        subprocess.run([SYSTEMCTL, "try-reload-or-restart", "nginx.service"], capture_output=True, check=False, timeout=60)
        return True
