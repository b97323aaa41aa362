# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The login at a mail server, for those who send mail and for who asks before whether it will be taken."""

from __future__ import annotations

import base64
import smtplib


def _word(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """smtplib knows ASCII alone. PLAIN takes any password in UTF-8 (RFC 4616), and servers that offer only LOGIN read that so too."""
    if (user + password).isascii():
        server.login(user, password)
        return
    server.ehlo_or_helo_if_needed()
    offered = server.esmtp_features.get("auth", "").upper().split()
    if "PLAIN" in offered or "LOGIN" not in offered:
        code, said = server.docmd("AUTH", f"PLAIN {_word(f'{chr(0)}{user}{chr(0)}{password}')}")
    else:
        code, said = server.docmd("AUTH", f"LOGIN {_word(user)}")
        if code == 334:
            code, said = server.docmd(_word(password))
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, said)
