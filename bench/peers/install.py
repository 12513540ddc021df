"""The published packages of the peers: found, or installed into a folder that git ignores, or a reason why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers.children import Command, Peer, PeerLost, npm_command, pypi_command

CACHE = Path(__file__).parents[2] / "build" / "peers"
PYPI_PACKAGE, PYPI_VERSION = "ruvector", "0.1.4"
NPM_PACKAGE, NPM_VERSION = "@ruvector/sona", "0.1.8"
_LIMIT_S = 300.0


@dataclass(slots=True)
class Field:
    """The peers that compete, and why others do not."""

    peers: dict[str, Peer] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """End all their processes."""
        for peer in self.peers.values():
            peer.close()


def assembled(*, may_install: bool, cache: Path = CACHE) -> Field:
    """Return the peers that can be started; installs those that are missing when it may."""
    found = Field()
    for name, command in (("pypi", _pypi), ("npm", _npm)):
        try:
            found.peers[name] = Peer(command(cache / name, may_install))
        except (PeerLost, OSError) as error:
            found.skipped[name] = str(error)
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _pypi(folder: Path, may_install: bool) -> Command:
    if not (folder / PYPI_PACKAGE).is_dir():
        wanted = f"{PYPI_PACKAGE}=={PYPI_VERSION}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _install([*pip, "--only-binary=:all:", "--target", str(folder), wanted], folder, may_install)
    return pypi_command(folder, _environment())


def _npm(folder: Path, may_install: bool) -> Command:
    node = shutil.which("node")
    if node is None:
        raise PeerLost("node is not installed")
    if not (folder / "node_modules" / NPM_PACKAGE).is_dir():
        npm, wanted = shutil.which("npm"), f"{NPM_PACKAGE}@{NPM_VERSION}"
        if npm is None:
            raise PeerLost("npm is not installed")
        quietly = ["--silent", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
        _install([npm, "install", "--prefix", str(folder), *quietly, wanted], folder, may_install)
    return npm_command(node, folder / "node_modules" / NPM_PACKAGE, _environment())


def _install(command: Sequence[str], folder: Path, may_install: bool) -> None:
    wanted = command[-1]
    if not may_install:
        raise PeerLost(f"{wanted} is not in build/peers, and nothing may be installed")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerLost(f"{wanted} was not installed within {_LIMIT_S:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PeerLost(f"{wanted} cannot be installed: {said[-1] if said else 'no reason given'}")
