"""A vault that is not the host's is refused before any part has one of its passwords, whichever part the run is for."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import field_key


@pytest.mark.parametrize(
    ("here", "coming", "another"),
    [
        (b"A=1\nK=old\n", ["old"], False),
        (b"K=old,new\n", ["new", "old"], False),
        (b"A=1\nK=old\n", ["new"], True),
        (b"A=1\nK=old\n", ["new", "old"], True),
        # A vault from before a rotation: what was written since is readable with the new one alone
        (b"K=new,old\n", ["old"], True),
        (b"K=new,old\n", ["old", "new"], False),
        (b"K=new,old\n", ["new"], False),
        (b"K=old,new\n", ["old"], False),
        (b"A=1\n", ["new"], False),
        (b"K=\n", ["new"], False),
        (b"K=old\n", [], True),
        (b"A=1\n", [], False),
        (None, ["new"], False),
    ],
)
def test_another_key_is_one_that_the_host_does_not_know(tmp_path, here, coming, another):
    path = tmp_path / "env"
    if here is not None:
        path.write_bytes(here)
    assert field_key.is_another(str(path), "K", coming) is another


def test_who_cannot_read_the_file_says_so(tmp_path):
    (tmp_path / "env").mkdir()
    with pytest.raises(OSError, match="env"):
        field_key.is_another(str(tmp_path / "env"), "K", ["new"])
