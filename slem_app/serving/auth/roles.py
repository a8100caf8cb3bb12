"""Which role a request needs: a table by method and path, the first row that fits counts.

What is not in the table is read by readers and changed by admins, so a route that somebody adds and forgets
here is closed rather than open.
"""

from __future__ import annotations

import re

__all__ = ["PUBLIC", "REVIEWER", "role_of"]

REVIEWER = "reviewer"
"""Who may approve and reject; a route that takes decisions among other things asks for it by itself."""

PUBLIC = re.compile(
    r"/auth/(|token|login|logout|oidc/begin|oidc/end)|/favicon\.ico|/healthz|/readyz|"
    r"/nninteractive(/[^/]+){0,2}/healthz"
)
"""Paths that anybody may ask for: those by which one logs in, and those that tell whether the server
works.
"""

READ = "GET|HEAD|OPTIONS"
ROWS = (
    ("admin", ".*", r"/logs/.*|/metrics|/operations|/reload|/users(/.*)?|/audit"),
    ("admin", "PUT|DELETE", r"/model/.*"),
    ("admin", "DELETE", r"/datastore/.*"),
    ("trainer", READ, r"/model/[^/]*|/datastore/dataset"),  # weights, and all cases at once
    ("trainer", "POST|DELETE", r"/(train|batch|scoring)/.*|/learning/start"),
    ("trainer", "POST|PUT|DELETE", r"/slem/versions/.*"),
    (REVIEWER, "POST", r"/slem/labels/decide|/case/[^/]*/decide"),
    ("reader", READ, ".*"),
    (
        "reader",
        "POST",
        r"/(infer|activelearning)/.*|/next|/slem/(undo|redo|start_over)/.*|/slem/(save|series|worklist/take|results/send|results/fetch)|/case/[^/]*/series",
    ),
    ("reader", "POST", r"/nninteractive/.*"),
    (
        "reader",
        "POST",
        r"/(dicom-web|proxy/dicom)/.*",
    ),  # storing of segmentations; what may be stored is checked there
    ("reader", "PUT", r"/datastore/.*|/session/"),
    ("reader", "DELETE", r"/session/.*"),
    ("admin", ".*", ".*"),
)
TABLE = tuple((role, re.compile(methods), re.compile(path, re.DOTALL)) for role, methods, path in ROWS)


def role_of(method: str, path: str) -> str:
    """The least role that may do this.

    Example:
        >>> role_of("POST", "/train/slem_brain")
        'trainer'
    """
    return next(role for role, methods, paths in TABLE if methods.fullmatch(method) and paths.fullmatch(path))
