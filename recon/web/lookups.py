"""Look-ups in the reconciliation, for tokens that may read all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query

from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.web.logins import ReaderOfAll
from recon.web.models import PAGE, Most, Rows
from recon.web.openapi import answers, documented
from recon.web.port import Chosen
from recon.web.problems import ProblemError, not_found, wrong_parameter
from recon.web.site import Site, SiteOf

router = APIRouter(tags=["look-ups"])
T = TypeVar("T")
_TIME = {"min_length": 1, "max_length": 40}
Key = Annotated[str, Path(min_length=1, max_length=2_000, description='The key; the text of a key of several columns is ["a","b"]')]
AsOf = Annotated[str | None, Query(**_TIME, description="Count the windows that ended by this time, with zone")]
Through = Annotated[str | None, Query(**_TIME, description="Count the windows up to and including this one")]
KnownAt = Annotated[str | None, Query(**_TIME, description="What was known at this time, with zone")]
OnlyStatus = Annotated[list[str] | None, Query(max_length=100, description="Only breaks with one of these statuses")]
MinAge = Annotated[int | None, Query(ge=0, le=100_000, description="Only breaks that are at least so many days old")]
MinAmount = Annotated[str | None, Query(pattern=r"^[0-9]{1,20}(\.[0-9]{1,10})?$", description="Only breaks of at least this amount")]
After = Annotated[str | None, Query(max_length=2_000, description="`next` of the page before: a key")]
Window = Annotated[str, Path(**_TIME, description="A window, named by its start in UTC: 2026-11-01T00:00Z")]
OnlyWindow = Annotated[str | None, Query(**_TIME, description="Only suppressed rows of this window")]
Cursor = Annotated[str | None, Query(pattern=r"^d[0-9]{1,9}-[0-9]{1,12}$", description="`next` of the page before")]
Limit = Annotated[Most, Query()]
_OBJECT: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


async def _asked(site: Site, question: Callable[[Reconciliation], T]) -> T:
    """The answer of a reconciliation. Raises ProblemError where it has no data yet, and for a moment or a window that is none."""

    def asked(reconciliation: Reconciliation) -> T:
        try:
            reconciliation.store()
        except WrongUsage:
            raise not_found() from None
        try:
            return question(reconciliation)
        except ModuleNotFoundError as error:
            if error.name != "duckdb":
                raise
            raise ProblemError("not-here", "Lists of rows need DuckDB, which this server does not have; ask another one") from None
        except WrongUsage as error:
            raise wrong_parameter(error) from None

    return await site.look_up(asked)


@router.get(
    "/v1/artifacts/{key:path}",
    operation_id="show_artifact",
    responses=documented({200: {"description": "The artifact, as `recon show --json` has it", **_OBJECT}}, 401, 403, 404),
)
async def show_artifact(
    site: SiteOf, holder: ReaderOfAll, key: Key, as_of: AsOf = None, through: Through = None, known_at: KnownAt = None
) -> dict[str, Any]:
    """Looks an artifact up by its key."""

    def question(reconciliation: Reconciliation) -> dict[str, Any]:
        try:
            return reconciliation.show(key, as_of=as_of, through=through, known_at=known_at)
        except WrongInput as error:
            if type(error) is not WrongInput:
                raise
            raise not_found() from None

    return await _asked(site, question)


@router.get("/v1/breaks", operation_id="list_breaks", responses=documented({200: answers("A page", Rows)}, 401, 403, 404, 501))
async def list_breaks(
    site: SiteOf,
    holder: ReaderOfAll,
    status: OnlyStatus = None,
    min_age: MinAge = None,
    min_amount: MinAmount = None,
    as_of: AsOf = None,
    through: Through = None,
    known_at: KnownAt = None,
    after: After = None,
    limit: Limit = PAGE,
) -> Rows:
    """Lists the artifacts that are not matched, in order of key. A break that is there all the while is on exactly one page, whatever is
    committed between two pages."""
    chosen = Chosen(tuple(status or ()), min_age, min_amount)

    def question(reconciliation: Reconciliation) -> Rows:
        import pyarrow.compute as pc

        from recon.reading.breaks import UnknownStatus

        try:
            found = reconciliation.breaks(chosen, as_of=as_of, through=through, known_at=known_at).sort_by("key")
        except UnknownStatus as error:
            known = ", ".join(error.known)
            raise ProblemError(
                "not-found", f"No artifact can have the status {error.name[:100]!r}; there are {known}", field="status"
            ) from None
        if after is not None:
            found = found.filter(pc.greater(found["key"], after))
        items = found.slice(0, limit).to_pylist()
        return Rows(items=items, next=items[-1]["key"] if found.num_rows > limit else None)

    return await _asked(site, question)


@router.get("/v1/duplicates", operation_id="list_duplicates", responses=documented({200: answers("A page", Rows)}, 401, 403, 404, 409, 501))
async def list_duplicates(site: SiteOf, holder: ReaderOfAll, window: OnlyWindow = None, cursor: Cursor = None, limit: Limit = PAGE) -> Rows:
    """Lists suppressed rows, each with the row that counts; conflicts first. A cursor is valid until the next commit."""

    def question(reconciliation: Reconciliation) -> Rows:
        commit, _, start = (cursor or "d0-0")[1:].partition("-")
        now = reconciliation.state().commit
        if cursor is not None and int(commit) != now:
            raise ProblemError("outdated", f"The cursor is of commit {int(commit)}, and there is commit {now}; begin again", field="cursor")
        found = reconciliation.duplicates(window)
        end = int(start) + limit
        return Rows(
            items=found.slice(min(int(start), found.num_rows), limit).to_pylist(), next=f"d{now}-{end}" if found.num_rows > end else None
        )

    return await _asked(site, question)


@router.get(
    "/v1/certificates/{window}",
    operation_id="show_certificate",
    responses=documented({200: {"description": "The newest certificate of the window", **_OBJECT}}, 401, 403, 404),
)
async def show_certificate(site: SiteOf, holder: ReaderOfAll, window: Window) -> dict[str, Any]:
    """Shows the certificate of a window: its rows and its money."""

    def question(reconciliation: Reconciliation) -> dict[str, Any]:
        try:
            found = reconciliation.certificate(window)
        except WrongUsage:
            found = None
        if found is None:
            raise not_found()
        return found

    return await _asked(site, question)
