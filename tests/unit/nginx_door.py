"""The nginx role's variables and templates as on a host, without one; and what they render behind a real nginx on loopback ports."""

import contextlib
import datetime
import http.client
import json
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rendered import ROLES, loaded, trust_as_template, trusted

REPOSITORY = ROLES.parent
ROLE = ROLES / "nginx"
BARE_FACTS = {"all_ipv6_addresses": ["fe80::1"], "default_ipv4": {"address": "10.0.0.5"}, "memtotal_mb": 8000, "ansible_local": {}}


def variables(nginx="1.26.3", openssl="3.5.0", **inputs):
    """The role's variables as on a host with these versions."""
    merged = {}
    for path in (ROLES / "senex/defaults/main.yml", ROLE / "defaults/main.yml", ROLE / "vars/main.yml"):
        merged |= loaded(path)
    facts = BARE_FACTS | {"ansible_local": {"senex": {"nginx_version": nginx, "openssl_version": openssl}}}
    merged |= {
        "senex_domain": "www.senex.test",
        "inventory_hostname": "web1",
        "groups": {"web": ["web1"]},
        "ansible_facts": facts,
        "nginx_tls_mode": "ownca",
        "hostvars": {},
    } | inputs
    return trusted(merged)


def rendered(name, **inputs):
    templar = Templar(loader=DataLoader(), variables=variables(**inputs))
    text = trust_as_template((ROLE / "templates" / name).read_text())
    return templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True})


def evaluated(name, **inputs):
    return Templar(loader=DataLoader(), variables=variables(**inputs)).template(trust_as_template("{{ " + name + " }}"))


def pair(directory, name, domain, days=30):
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]), datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(60), now + datetime.timedelta(days)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), begin, end)
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    (directory / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    paths = {"nginx_tls_certificate": f"{directory}/{name}.crt", "nginx_tls_private_key": f"{directory}/{name}.key"}
    return {"nginx_tls_mode": "provided", "nginx_tls_ca_certificate": f"{directory}/{name}.crt", **paths}


DOMAIN = "www.senex.test"
UPSTREAM = REPOSITORY / "molecule/nginx/files/upstream.py"
needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed here")


def version():
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.split("/")[1].split()[0]


def written(directory, **inputs):
    """All that nginx reads, with each path of a host below the directory; the main file."""
    inputs = {"nginx": version(), "openssl": "3.0.0", "nginx_ipv6": False} | inputs
    pair(directory, "ownca", DOMAIN)
    for name in ("site.d", "pages", "run", "acme", "temporary"):
        (directory / name).mkdir(exist_ok=True)
    places = {"/etc/nginx/senex/tls": ".", "/etc/nginx/senex/site.d": "site.d", "/etc/nginx/senex": ".", "/etc/nginx/conf.d/": "conf-", "/run/nginx.pid": "pid",
              "/usr/share/senex-nginx": "pages", "/run/senex.trader": "run", "/var/lib/senex-acme": "acme", "/var/log/nginx": "."}  # fmt: skip
    for name in ("maps.conf", "site.conf", "nginx.conf"):
        text = rendered(f"{name}.j2", **inputs)
        for path, place in places.items():
            text = text.replace(path, f"{directory}/{place}")
        (directory / ("nginx.main" if name == "nginx.conf" else f"conf-{name}")).write_text(text)
    main = directory / "nginx.main"
    temporary = "".join(f"    {kind}_temp_path {directory}/temporary;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = main.read_text().replace("include /etc/nginx/modules-enabled/*.conf;", "").replace("http {\n", f"http {{\n{temporary}")
    main.write_text("user root;\n" + text.partition("user www-data www-data;\n")[2])
    for code, page in evaluated("__nginx_error_pages", **inputs).items():
        (directory / f"pages/{code}.html").write_text(rendered("page.html.j2", **inputs, **page, code=code))
    return main


def free_ports(count):
    """So many ports in a row on which nobody listens. Tests run beside each other: whoever begins to look next door may take what was just seen free."""
    for first in range(20000 + secrets.randbelow(10000), 60000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Door:
    """A real nginx with what the role renders, and stand-ins for the instances behind it."""

    def __init__(self, directory, **inputs):
        self.directory, self.instances = directory, inputs.get("senex_web_instances", 2)
        self.first = free_ports(self.instances + 2)
        self.http, self.https = self.first + self.instances, self.first + self.instances + 1
        main = written(directory, **{"senex_web_base_port": self.first, "senex_web_instances": self.instances, "nginx_worker_connections": 512} | inputs)
        site = directory / "conf-site.conf"
        text = site.read_text().replace("listen 127.0.0.1:", "listen ").replace("listen 80", f"listen 127.0.0.1:{self.http}")
        site.write_text(text.replace("listen 443", f"listen 127.0.0.1:{self.https}"))
        self.processes = [subprocess.Popen([sys.executable, UPSTREAM, str(self.first + number)]) for number in range(self.instances)]
        self.processes.append(subprocess.Popen(["nginx", "-p", directory, "-c", main, "-g", "daemon off;"]))
        try:
            for port in range(self.first, self.first + self.instances + 2):
                self.wait_for(port)
        except BaseException:  # nobody else knows of what was started
            self.close()
            raise

    def wait_for(self, port, end=10):
        end += time.monotonic()
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < end and self.processes[-1].poll() is None, (self.directory / "error.log").read_text()
                time.sleep(0.05)

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(10)

    def ask(self, path, source="127.0.0.1", method="GET", headers=None, tls=True, host=DOMAIN, timeout=20, body=None):
        """One request on a connection of its own."""
        raw = socket.create_connection(("127.0.0.1", self.https if tls else self.http), timeout, source_address=(source, 0))
        connection = http.client.HTTPConnection(host, timeout=timeout)
        context = ssl._create_unverified_context()
        connection.sock = context.wrap_socket(raw, server_hostname=host) if tls else raw
        try:
            connection.request(method, path, body=body, headers={"Host": host, **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def statuses(self, count, path, at_once=1, **options):
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: self.ask(path, **options).status, range(count)))

    def asked(self, path):
        """How often the instances were asked for a path, together."""
        found = 0
        for port in range(self.first, self.first + self.instances):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", f"/asked?{path}")
            found += json.loads(connection.getresponse().read())["asked"]
        return found


@contextlib.contextmanager
def door(directory, **inputs):
    opened = Door(directory, **inputs)
    try:
        yield opened
    finally:
        opened.close()
