"""What routes read from a request beside its files: who asks, and form fields that hold JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Form, Request

from slem_app.errors import NotAllowed, NotFound
from slem_app.serving.auth.roles import REVIEWER
from slem_app.strict_json import parse_object

__all__ = ["NOBODY", "Fields", "ReviewerCheck", "UserName", "check_id", "json_object", "parse_fields"]

NOBODY = "admin"
"""Who asks where nobody logs in, as MONAI Label calls them."""


def _user_name(request: Request) -> str:
    login = request.scope.get("slem.login")
    return login.user.name if login else NOBODY


UserName = Annotated[str, Depends(_user_name)]
"""The name of the user who is logged in."""


def _check_reviewer(request: Request) -> Callable[[], None]:
    login = request.scope.get("slem.login")

    def check() -> None:
        if login is not None and not login.user.may(REVIEWER):
            raise NotAllowed(
                f"approving and rejecting requires the role {REVIEWER}; {login.user.name} is a "
                f"{login.user.role}"
            )

    return check


ReviewerCheck = Annotated[Callable[[], None], Depends(_check_reviewer)]
"""Called where a request turns out to decide of a label; raises NotAllowed unless its user is a reviewer."""
Fields = Annotated[str, Form()]
"""A form field with JSON in it."""


def json_object(text: str, name: str) -> dict[str, Any]:
    """The JSON object in the field `name` of a request.

    Raises:
        BadSetting, TooLarge: it is none, or one that `strict_json` refuses.
    """
    return parse_object(text, f"the field `{name}`")


def parse_fields(text: str) -> dict[str, Any]:
    """The field `params` of a request.

    Raises:
        BadSetting: not a JSON object.
        NotFound: a path of this machine where an id belongs.
    """
    fields = json_object(text, "params")
    for name in ("image", "label", "session"):
        if fields.get(name) is not None:
            check_id(name, fields[name])
    return fields


def check_id(what: str, value: object) -> None:
    """Refuse a path of this machine where an id belongs.

    Args:
        what: of what the id is, for the message.
        value: as it came.

    Raises:
        NotFound: a path, or no text.
    """
    if not isinstance(value, str) or Path(value).is_absolute():
        raise NotFound(f"no {what} {str(value)[:80]!r}: paths on the server are not ids")
