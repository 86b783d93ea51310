"""recon requests forget: all data of one owner, and nothing of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import web_site as w
from cli_calls import Call
from service_site import sums

from recon.database import tables
from recon.errors import TryAgain
from recon.service.site import Service


def rows_of(served: w.Served, owner: str) -> dict[str, int]:
    """Rows with this owner by table, of every table that names owners."""
    named = [table for table in tables.METADATA.sorted_tables if "owner" in table.c]
    with served.service.database.read() as connection:
        return {table.name: connection.scalar(sa.select(sa.func.count()).where(table.c.owner == owner)) or 0 for table in named}


def files(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in (folder / ".recon" / "results").rglob("*") if path.is_file() and not path.name.endswith(".json")}


def test_forget_removes_all_of_an_owner_and_nothing_of_another(tmp_path: Path, recon: Call) -> None:
    config = ("--config", str(tmp_path / "recon.yaml"))
    with w.served_here(tmp_path) as served:
        names: dict[str, Any] = {}
        for owner in ("finance", "sales"):
            with served.client(owner) as client:
                assert client.post("/v1/uploads", params={"name": "t.csv"}, content=f"upload of {owner}".encode()).status_code == 201
                names[owner] = w.submitted(client, tmp_path).json()["name"]
        w.finished(served, names["sales"], b"result of sales")
        refused = recon("requests", "forget", "finance", *config)
        assert (refused.status, "1 requests of finance have not ended; cancel them first" in refused.err) == (2, True)
        w.finished(served, names["finance"], b"result of finance")
        before = rows_of(served, "sales")
        assert min(rows_of(served, "finance").values()) > 0
        assert {b"upload of finance", b"result of finance", b"upload of sales", b"result of sales"} <= files(tmp_path)
        assert recon("requests", "forget", "finance", *config).status == 0
        assert set(rows_of(served, "finance").values()) == {0}
        assert rows_of(served, "sales") == before
        assert not {b"upload of finance", b"result of finance"} & files(tmp_path)
        assert {b"upload of sales", b"result of sales"} <= files(tmp_path)
        with served.client("finance") as client:
            w.problem(client.get(f"/v1/requests/{names['finance']}"), 401, "not-logged-in")
        with served.client("sales") as client:
            assert client.get(f"/v1/requests/{names['sales']}").json()["state"] == "done"


def test_a_request_that_comes_in_meanwhile_is_not_left_without_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with w.served_here(tmp_path) as served, served.client("finance") as client:
        w.finished(served, w.submitted(client, tmp_path).json()["name"], b"result")
        service, remove = served.service, Service._remove
        holder = service.tokens.holder(client.headers["Authorization"].removeprefix("Bearer "))
        assert holder is not None

        def slowly(self: Service, numbers: Sequence[int]) -> None:
            """A request whose token was checked before it was withdrawn."""
            remove(self, numbers)
            service.submit(holder, sums(str(tmp_path / "in" / "t.csv")))

        monkeypatch.setattr(Service, "_remove", slowly)
        with pytest.raises(TryAgain, match="1 requests of finance came in meanwhile"):
            service.forget("finance")
        monkeypatch.undo()
        w.problem(client.get("/v1/requests"), 401, "not-logged-in")
        (late,) = service.requests.active("finance")
        w.finished(served, late, b"result")
        assert service.forget("finance") == 1
        assert set(rows_of(served, "finance").values()) == {0}
