"""The log stays short whatever strangers send, and is JSON where that is wanted."""

import json
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path

import pytest

from slem_app.serving.log import FewLines, log_config


def test_a_line_is_written_a_few_times_a_minute() -> None:
    now, written = [0.0], []
    log = logging.Logger("asyncio")
    log.addFilter(FewLines(3, lambda: now[0]))
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    log.addHandler(handler)
    for number in range(1000):
        log.error("no file is left for connection %d", number)
    log.error("another")
    assert written == [
        "no file is left for connection 0",
        "no file is left for connection 1",
        "no file is left for connection 2 (more of these are left out for a minute)",
        "another",
    ]
    now[0] = 61.0
    log.error("no file is left for connection %d", 7)
    assert len(written) == 5


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """What a test configures is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for one in set(root.handlers) - set(handlers):
        one.close()
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_goes_to_the_terminal_and_to_the_file(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture, plain_logging: None
) -> None:
    file = tmp_path / "logs/app.log"
    logging.config.dictConfig(log_config(file, "warning", form))
    try:
        raise ValueError('a "quote"')
    except ValueError:
        logging.getLogger("test_log").exception("case %s", "A\nB")
    logging.getLogger("test_log").info("no more than warnings are wanted")
    written = file.read_text()
    assert written == capsys.readouterr().err
    assert 'ValueError: a "quote"' in (json.loads(written)["exc_info"] if form == "json" else written)
    assert "no more" not in written


def test_lines_are_json_where_that_is_wanted(tmp_path: Path, plain_logging: None) -> None:
    logging.config.dictConfig(log_config(tmp_path / "app.log", "info", "json"))
    logging.getLogger("test_log").error("case %s", "A\nB")
    line = json.loads((tmp_path / "app.log").read_text())
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "test_log", "case A\nB")
