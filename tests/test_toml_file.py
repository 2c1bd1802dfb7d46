"""A file is read and checked as its kind says, and what may be secret is not repeated in a message."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from bloodcell.errors import ConfigurationError
from bloodcell.toml_file import TomlFile


class Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int
    url: int = 0


OPEN = TomlFile("test file", Content, "BLOODCELL_TEST_FILE", "write it again.")
SECRET = TomlFile("test file", Content, "BLOODCELL_TEST_FILE", "write it again.", frozenset({"url"}))


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "test.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_is_read_again_only_once_it_has_changed(tmp_path: Path) -> None:
    first = OPEN.read(file(tmp_path, "port = 1"))
    assert OPEN.read(file(tmp_path, "port = 1")) is first
    assert OPEN.read(file(tmp_path, "port = 2")).port == 2


def test_every_problem_is_named_with_what_was_received_and_the_next_step(tmp_path: Path) -> None:
    path = file(tmp_path, 'port = "x"\nport_number = 7')
    told = rf"The test file {path} is not valid: port: .*\(received 'x'\); port_number: .*\(received 7\)\. Next: write"
    with pytest.raises(ConfigurationError, match=told):
        OPEN.read(path)


@pytest.mark.parametrize("key", ["url", "urls"])
def test_a_value_that_may_be_secret_is_not_shown(tmp_path: Path, key: str) -> None:
    path = file(tmp_path, f'port = "x"\n{key} = "hunter2"')
    with pytest.raises(ConfigurationError, match=r"received 'x'") as raised:
        SECRET.read(path)
    assert "hunter2" not in str(raised.value)
    assert f"; {key}: " in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [("port = ", "Invalid value"), (b"port = 1 # \xff", "utf-8"), (b"#" * 300_000, "at most 262,144 bytes")],
    ids=["not TOML", "not UTF-8", "too long"],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        OPEN.read(file(tmp_path, text))


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read .*\. Correct BLOODCELL_TEST_FILE\."):
        OPEN.read(tmp_path / "none.toml")
