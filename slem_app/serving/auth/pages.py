"""The log-in page: one form, no script, nothing from elsewhere."""

from __future__ import annotations

from html import escape

from fastapi.responses import HTMLResponse

from slem_app.users import User

__all__ = ["logged_in_page", "login_page"]

STYLE = (
    "body{font:16px "
    "system-ui,sans-serif;background:#090c29;color:#e6e6f0;display:grid;place-items:center;min-height:90vh}"
    "main{width:20rem}label{display:block;margin:.8rem "
    "0}input,button{font:inherit;width:100%;box-sizing:border-box;padding:.5rem}"
    "button{margin-top:.8rem;background:#1f6feb;border:0;border-radius:4px;color:#fff}a{color:#7bb2ce}.wrong{color:#ff9b9b}"
)
PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>SLeM Label: {title}</title><style>{style}</style><main><h1>SLeM Label</h1>{body}</main></html>"
)
FORM = """{wrong}<form method="post" action="/auth/login"><input type="hidden" name="next" value="{wanted}">
<label>User <input name="username" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form>{other}<p>Research use only, not for diagnostic use.</p>"""
OTHER = '<p><a href="/auth/oidc/begin?next={wanted}">Log in with the account of your institution</a></p>'
THERE = """<p>Logged in as {name} ({role}).</p><p><a href="/">Worklist</a></p>
<form method="post" action="/auth/logout"><button>Log out</button></form>"""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def login_page(wanted: str, provider: bool, wrong: str = "", status: int = 200) -> HTMLResponse:
    """The form.

    Args:
        wanted: the address to go to afterwards.
        provider: another service can say who somebody is.
        wrong: what was wrong with the last attempt.
        status: of the answer.
    """
    form = FORM.format(
        wrong=f'<p class="wrong">{escape(wrong)}</p>' if wrong else "",
        wanted=escape(wanted, quote=True),
        other=OTHER.format(wanted=escape(wanted, quote=True)) if provider else "",
    )
    return HTMLResponse(
        PAGE.format(title="log in", style=STYLE, body=form), status_code=status, headers=HEADERS
    )


def logged_in_page(user: User) -> HTMLResponse:
    """Who is logged in, and the way out."""
    return HTMLResponse(
        PAGE.format(
            title="logged in", style=STYLE, body=THERE.format(name=escape(user.name), role=user.role)
        ),
        headers=HEADERS,
    )
