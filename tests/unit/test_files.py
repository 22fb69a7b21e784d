"""Writing files whole or not at all, also where others hold on to them."""

import os
import sys

import pytest

from understudy.core.errors import UnderstudyError
from understudy.core.files import atomic


@pytest.mark.parametrize("held", [2, 99])
def test_windows_does_not_replace_what_somebody_reads(tmp_path, monkeypatch, held):
    path, tries, replace = tmp_path / "model.txt", [], os.replace
    path.write_text("old")

    def refuse(*paths):
        tries.append(paths)
        if len(tries) <= held:
            raise PermissionError(13, "The process cannot access the file")
        replace(*paths)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def write():
        with atomic(path) as temporary:
            temporary.write_text("new")

    if held == 2:  # for a moment
        write()
        assert path.read_text() == "new"
    else:
        with pytest.raises(UnderstudyError, match="Cannot write .*model.txt: The process cannot access"):
            write()
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["model.txt"]
