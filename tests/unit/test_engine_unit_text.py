"""What a unit file says: keys, and what its container reads when it starts."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text

TEXT = """\
# Image=comment
[Unit]
Image=elsewhere
[Container]
Image=registry/one:1
Image=registry/two%%:2
; Volume=/not:/this
Exec=sh -c \\
  "a=b \\
  # a comment between
  c"
Volume=%h/config/x:/etc/x:ro
Volume=/srv/data:/data
Volume=named.volume:/n
Volume=./beside:/b
EnvironmentFile=-/opt/x/.env
EnvironmentFile=%h/y.env
Secret=pw,type=mount,mode=0400
Secret=plain
[Service]
MemoryMax=512M
Broken line
"""


def test_assignments_belong_to_their_section():
    assert unit_text.values(TEXT, "Container", "Image") == ["registry/one:1", "registry/two%%:2"]
    assert unit_text.values(TEXT, "Service", "MemoryMax") == ["512M"]
    assert unit_text.values(TEXT, "Container", "MemoryMax") == []
    assert unit_text.values(TEXT, "Container", "c") == []


def test_continued_lines_are_one():
    (value,) = unit_text.values(TEXT, "Container", "Exec")
    assert value.startswith("sh -c") and "a=b" in value and value.endswith('c"') and "comment" not in value


def test_what_a_container_reads():
    assert unit_text.image(TEXT) == "registry/two%:2"
    assert unit_text.image("[Unit]\n") is None
    assert unit_text.secrets_read(TEXT) == ["pw", "plain"]
    assert unit_text.paths_read(TEXT, "/home/s", "/home/s/.config/containers/systemd") == [
        "/opt/x/.env", "/home/s/y.env", "/home/s/config/x", "/srv/data", "/home/s/.config/containers/systemd/beside",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "service"),
    [("web-1.container", "web-1.service"), ("senex.network", "senex-network.service"), ("d.volume", "d-volume.service"),
     ("p.pod", "p-pod.service"), ("k.kube", "k.service"), ("x.timer", "x.timer"), ("web.target", "web.target")],
)  # fmt: skip
def test_the_service_of_a_file(name, service):
    assert unit_text.service_of(name) == service


def test_the_name_of_a_container():
    assert unit_text.container_name("[Container]\nContainerName=redis\n", "r.container") == "redis"
    assert unit_text.container_name("[Container]\n", "web-1.container") == "systemd-web-1"
