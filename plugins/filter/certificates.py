"""What the host's facts say of a certificate, beside what is wanted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError


def _key_id(pem: str) -> str:
    """Subject key identifier of a certificate, as the facts write it: hexadecimal digits, small."""
    from cryptography import x509  # here, so that what needs no certificate needs no cryptography either

    try:
        found = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise AnsibleFilterError(f"senex_ca_certificate: cannot be read as a certificate with a subject key identifier: {error}") from error
    return found.value.digest.hex()


def certificate_good(certificates: Mapping[str, Mapping], path: str, sans: Sequence[str], authority: str, renew_days: float = 30) -> bool:
    """Whether the certificate at `path` is for exactly these names, by this authority (PEM), and for `renew_days` more.

    `certificates` is the fact of that name of ansible_local.senex.
    """
    found = certificates.get(path)
    if not found:
        return False
    wanted = {name.removeprefix("DNS:").removeprefix("IP:") for name in sans}
    return (
        float(found.get("not_after") or 0) > time.time() + float(renew_days) * 86400
        and set(found.get("sans") or []) == wanted
        and str(found.get("issuer_key_id") or "-").replace(":", "").lower() == _key_id(authority)
    )


class FilterModule:
    """Filters about certificates."""

    def filters(self) -> dict:
        """Names in templates."""
        return {"certificate_good": certificate_good}
