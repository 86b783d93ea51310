"""Who asks: the holder of a token, or whom a proxy has logged in; and whether its roles suffice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from recon.web.port import Holder, Role
from recon.web.problems import ProblemError, not_found
from recon.web.site import Site, SiteOf

_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/=-]{1,200})", re.IGNORECASE)
OF_A_PROXY = frozenset({"submit", "read-own"})
"""The roles of whom a proxy has logged in."""


def logged_in(request: Request, site: SiteOf) -> Holder:
    """The holder of the token in ``Authorization``. Raises ProblemError."""
    given = request.headers.getlist("authorization")
    holder = None
    if len(given) == 1 and (found := _BEARER.fullmatch(given[0])) is not None:
        holder = site.service.tokens.holder(found[1])
    elif not given and site.service.settings.oidc_header is not None:
        holder = _of_a_proxy(request, site, site.service.settings.oidc_header)
    if holder is None:
        reason = "Send a valid token: Authorization: Bearer recon_…"
        raise ProblemError("not-logged-in", reason, headers={"WWW-Authenticate": 'Bearer realm="recon"'})
    request.state.holder = holder
    return holder


def _of_a_proxy(request: Request, site: Site, header: str) -> Holder | None:
    """Whom a proxy has logged in: one header with the name of an owner that the configuration has."""
    names = request.headers.getlist(header)
    if len(names) != 1 or names[0] not in site.service.settings.owners:
        return None
    return Holder(names[0], OF_A_PROXY)


LoggedIn = Annotated[Holder, Depends(logged_in)]


def _with(role: Role) -> Callable[[Holder], Holder]:
    def permitted(holder: LoggedIn) -> Holder:
        if not holder.has(role):
            raise ProblemError("not-permitted", f"This needs a token with the role {role}")
        return holder

    return permitted


Submitter = Annotated[Holder, Depends(_with("submit"))]
Reader = Annotated[Holder, Depends(_with("read-own"))]
ReaderOfAll = Annotated[Holder, Depends(_with("read-all"))]
Administrator = Annotated[Holder, Depends(_with("admin"))]


def refuse_others(holder: Holder, owner: str) -> None:
    """Only its owner and an administrator change something. Who may only read it learns that; all others learn nothing."""
    if holder.owner == owner or holder.has("admin"):
        return
    if holder.has("read-all"):
        raise ProblemError("not-permitted", "This belongs to another owner")
    raise not_found()
