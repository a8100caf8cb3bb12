"""Log-in by another service, such as a hospital's: OpenID Connect, by authlib.

The service says who somebody is and which roles they have: those called `slem-reader`, `slem-trainer` and
`slem-admin` in the claim that a setting names. Whoever has none of them is not let in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.starlette_client import OAuth
from fastapi import Request
from fastapi.responses import Response
from httpx2 import HTTPError
from joserfc.errors import JoseError

from slem_app.errors import BadSetting, NotAllowed, NotLoggedIn, ProviderFailed
from slem_app.serving.auth.access import on_this_machine
from slem_app.users import ROLES, User

__all__ = ["Provider"]

PREFIX = "slem-"
SECRET = "SLEM_OIDC_SECRET"
NEXT = "slem_next"
NAMES = ("preferred_username", "email", "sub")  # claims that may name a user, the first that is there counts


class Provider:
    """A service that says who somebody is.

    Args:
        issuer: its address; `/.well-known/openid-configuration` below it describes it.
        client_id: as which this server is known to it.
        claim: where the roles are, parts separated by dots: `roles`, `realm_access.roles`.
        passwords: users may give their password to this server, which asks the service; 3D Slicer's dialog
            needs that.
    """

    def __init__(self, issuer: str, client_id: str, claim: str = "roles", passwords: bool = False) -> None:
        _check_address(issuer)
        self.issuer, self.claim, self.passwords = issuer.rstrip("/"), claim, passwords
        self.client = OAuth().register(
            "provider",
            client_id=client_id,
            client_secret=os.environ.get(SECRET),
            server_metadata_url=f"{self.issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256", "timeout": 10.0},
        )

    async def begin(self, request: Request, wanted: str) -> Response:
        """Send a browser to the service.

        Raises:
            ProviderFailed: the service does not answer.
        """
        request.session[NEXT] = wanted
        try:
            return await self.client.authorize_redirect(request, str(request.base_url) + "auth/oidc/end")
        except (HTTPError, OAuthError, RuntimeError, ValueError) as error:
            raise ProviderFailed(
                f"the log-in service {self.issuer} cannot be reached ({type(error).__name__}): try again, or "
                "tell its administrators"
            ) from error

    async def end(self, request: Request) -> tuple[User, str]:
        """Who came back from the service, and where they wanted to go.

        Raises:
            NotLoggedIn: the answer is not one to a log-in that began here.
            NotAllowed: the user has no role here.
            ProviderFailed: the service does not answer.
        """
        try:
            token = await self.client.authorize_access_token(request)
        except (OAuthError, JoseError, KeyError) as error:
            raise NotLoggedIn(
                f"the log-in service did not confirm the log-in ({type(error).__name__}): begin again at "
                f"/auth/login"
            ) from error
        except (HTTPError, RuntimeError, ValueError) as error:
            raise ProviderFailed(
                f"the log-in service {self.issuer} cannot be reached ({type(error).__name__}): try again, or "
                "tell its administrators"
            ) from error
        return self._user(token.get("userinfo")), str(request.session.pop(NEXT, "/"))

    async def check(self, name: str, password: str) -> User:
        """The user of that name and password at the service.

        Raises:
            NotLoggedIn: the service does not confirm them.
            NotAllowed: the user has no role here.
            ProviderFailed: the service does not answer.
        """
        try:
            token = await self.client.fetch_access_token(
                grant_type="password", username=name, password=password
            )
            claims = await self.client.parse_id_token(token, nonce=None)
        except (OAuthError, JoseError) as error:
            raise NotLoggedIn("unknown user or wrong password") from error
        except (HTTPError, RuntimeError, ValueError) as error:
            raise ProviderFailed(
                f"the log-in service {self.issuer} cannot be reached ({type(error).__name__}): try again, or "
                "tell its administrators"
            ) from error
        return self._user(claims)

    def _user(self, claims: Mapping[str, Any] | None) -> User:
        if not claims:
            raise NotLoggedIn(
                "the log-in service did not say who this is: the scope `openid` must be granted"
            )
        name = next((str(claims[key]) for key in NAMES if claims.get(key)), "")
        found: Any = claims
        for part in self.claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        told = {found} if isinstance(found, str) else set(found) if isinstance(found, list) else set()
        roles = [role for role in ROLES if PREFIX + role in told]
        if not roles:
            raise NotAllowed(
                f"{name} has none of the roles {', '.join(PREFIX + role for role in ROLES)} (claim "
                f"{self.claim})"
            )
        return User(name, roles[-1])


def _check_address(issuer: str) -> None:
    """An address to which a secret may be sent.

    Raises:
        BadSetting: no address, or one that is not encrypted and not this machine's own.
    """
    try:
        parts = urlsplit(issuer)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadSetting(f"oidc_issuer {issuer!r} is not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise BadSetting(
            f"oidc_issuer {issuer!r} is not the address of a log-in service: https://HOST/PATH is needed, "
            "without user, query or fragment"
        )
    if parts.scheme == "http" and not on_this_machine(host):
        raise BadSetting(
            f"oidc_issuer {issuer!r} is not encrypted: an address that begins with https:// is needed"
        )
