"""The section ``warehouse`` of a configuration: each mistake is named by its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.aggregations.warehouse.duckdb import DuckDBWarehouse
from recon.aggregations.warehouse.open import open_warehouse
from recon.config.load import load_place
from recon.errors import WrongUsage

YAML = """\
name: orders
store: ./data
key: order_id
windows: {{start: 2026-11-01T00:00Z, every: 1h}}
measures: {{lines: {{count: "*"}}}}
warehouse: {section}
"""
REDSHIFT = "kind: redshift, workgroup: finance, database: recon, staging: 's3://ledger/warehouse'"


@pytest.mark.parametrize(
    ("section", "field", "message"),
    [
        ("{kind: oracle}", "warehouse.kind", "duckdb"),
        ("{kind: postgresql}", "warehouse.url", "is missing; kind: postgresql needs it"),
        ("{url: 'postgresql://host/name'}", "warehouse.url", "is for kind: postgresql, not for duckdb"),
        ("{kind: postgresql, url: 'postgresql://me:word@host/name'}", "warehouse.url", "user and password belong under"),
        ("{kind: postgresql, url: 'mysql://host/name'}", "warehouse.url", "write postgresql://host:5432/name"),
        ("{kind: redshift, workgroup: finance, staging: 's3://ledger/w'}", "warehouse.database", "is missing"),
        ("{kind: redshift, workgroup: finance, database: recon}", "warehouse.staging", "is missing; kind: redshift needs it"),
        ("{kind: redshift, database: recon, staging: 's3://ledger/w'}", "warehouse.workgroup", "either workgroup"),
        ("{" + REDSHIFT + ", cluster: finance}", "warehouse.workgroup", "either workgroup"),
        ("{" + REDSHIFT + ", user: me}", "warehouse.user", "is for kind: postgresql, not for redshift"),
        ("{" + REDSHIFT + ", secret: PASSWORD}", "warehouse.secret", "takes the ARN of a secret"),
        ("{" + REDSHIFT + ", secret: 'hunter2 !'}", "warehouse.secret", "write the name of an environment variable, or the ARN"),
        ("{" + REDSHIFT + ", role: copy}", "warehouse.role", "copy"),
        ("{kind: redshift, workgroup: F, database: recon, staging: 's3://ledger/w'}", "warehouse.workgroup", "F"),
        ("{kind: redshift, workgroup: finance, database: recon, staging: ./w}", "warehouse.staging", "w"),
        ("""{kind: redshift, workgroup: finance, database: recon, staging: "s3://ledger/it's"}""", "warehouse.staging", "has characters"),
        ("{kind: duckdb, staging: 's3://ledger/w'}", "warehouse.staging", "is for kind: redshift, not for duckdb"),
    ],
)
def test_a_mistake_is_named_by_its_field(tmp_path: Path, section: str, field: str, message: str) -> None:
    path = tmp_path / "recon.yaml"
    path.write_text(YAML.format(section=section))
    with pytest.raises(WrongUsage, match=rf"recon\.yaml.*{field}") as caught:
        load_place(path)
    assert message in str(caught.value)
    assert "word@" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_a_section_it_is_a_duckdb_file_beside_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "recon.yaml"
    path.write_text(YAML.format(section="{}"))
    warehouse = open_warehouse(load_place(path))
    assert isinstance(warehouse, DuckDBWarehouse)
    assert warehouse.path == tmp_path / "warehouse.duckdb"
