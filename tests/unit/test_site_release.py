"""Which image a unit names. What is refused because of it: tests/integration/playbooks/test_site_release_runs.py."""

import pytest
from ansible_collections.senex.trader.plugins.modules import facts

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("Image=r/shop:1\n", "r/shop:1"),
        (f"x\nImage= r:5000/a/shop@{DIGEST}\nImage=other\n", f"r:5000/a/shop@{DIGEST}"),
        ("Image=\x1b[2J\n", ""),  # the service user may write anything there
        ("Image=a b\n", ""),
        ("Image=-v\n", ""),
        ("Image=\n", ""),
        ("", ""),
    ],
)
def test_what_a_unit_names_is_an_image_or_nothing(tmp_path, text, image):
    unit = tmp_path / "web-1.container"
    unit.write_text(text)
    assert facts.image_of(str(unit)) == image
    assert facts.image_of(str(tmp_path / "none")) == ""
