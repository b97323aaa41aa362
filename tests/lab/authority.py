"""The lab's own certificate authority and ssh key."""

from settings import CA, REGISTRY_ADDRESS, REGISTRY_NAME, SSH_KEY
from shell import run


def ensure_ssh_key():
    SSH_KEY.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not SSH_KEY.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "senex-lab", "-f", SSH_KEY)


def ensure_ca():
    CA.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (CA / "ca.crt").exists():
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=Senex lab CA",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", CA / "ca.key", "-out", CA / "ca.crt.new",
        )  # fmt: skip
        (CA / "ca.crt.new").rename(CA / "ca.crt")


def ensure_environment_ca():
    """What playbooks/secrets.yml makes for an environment, here for role scenarios: a CA whose key has a passphrase."""
    CA.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (CA / "environment.crt").exists():
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:molecule-passphrase", "-days", "3650",
            "-subj", "/CN=Senex molecule CA", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", CA / "environment.key", "-out", CA / "environment.crt.new",
        )  # fmt: skip
        (CA / "environment.crt.new").rename(CA / "environment.crt")


def ensure_registry_certificate(directory):
    ensure_ca()
    if (directory / "tls.crt").exists():
        return
    (directory / "tls.ext").write_text(f"subjectAltName=DNS:{REGISTRY_NAME},IP:{REGISTRY_ADDRESS}\nextendedKeyUsage=serverAuth\n", encoding="utf-8")
    run(
        "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={REGISTRY_NAME}",
        "-keyout", directory / "tls.key", "-out", directory / "tls.csr",
    )  # fmt: skip
    run(
        "openssl", "x509", "-req", "-days", "3650", "-in", directory / "tls.csr", "-CA", CA / "ca.crt",
        "-CAkey", CA / "ca.key", "-CAcreateserial", "-extfile", directory / "tls.ext", "-out", directory / "tls.crt.new",
    )  # fmt: skip
    (directory / "tls.crt.new").rename(directory / "tls.crt")
