"""What is to be done where a part of rawtap was left out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rawtap.host import extras


def test_the_environments_own_pip_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert extras.cure("rawtap[watch]") == f"Run: {tmp_path}/bin/pip install 'rawtap[watch]'"


def test_an_environment_without_a_pip_gets_it_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    program = f"sudo python3 -m pip --python {tmp_path}/bin/python3"
    assert extras.cure("lz4") == f"Run: {program} install 'lz4'"
