"""The log stays short whatever strangers send, and is JSON where that is wanted."""

import json
import logging
import logging.config
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


def test_lines_are_json_where_that_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(message)s"}},
        "handlers": {
            "out": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}
        },
        "loggers": {"test_log": {"handlers": ["out"], "propagate": False}},
    }
    (tmp_path / "logging.json").write_text(json.dumps(config))
    logging.config.dictConfig(log_config(tmp_path / "logging.json", "json"))
    try:
        raise ValueError('a "quote"')
    except ValueError:
        logging.getLogger("test_log").exception("case %s", "A\nB")
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "test_log", "case A\nB")
    assert 'ValueError: a "quote"' in line["exc_info"]
    assert log_config(tmp_path / "logging.json", "text") == config
