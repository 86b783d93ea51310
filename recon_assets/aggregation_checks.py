"""Checks of the tables that aggregations load: by queries on the table itself, and on the runs behind it."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import dagster as dg

from recon.aggregations.definitions.load import Definition
from recon.aggregations.health import allowed, incomplete, late
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.warehouse.port import Audit
from recon.config import Config
from recon.storage.roles import role_of
from recon_assets.aggregations import ROLE, Known, aggregation_key
from recon_assets.retries import COMPUTE, errors_as_failures
from resources.database import SiteDatabase, database_key

UNIQUE, NOT_NULL, TIES, COMPLETE, FRESH = "keys_are_unique", "keys_are_not_null", "totals_tie", "inputs_are_complete", "table_is_fresh"
DESCRIPTIONS = {
    UNIQUE: "No key is in the table more than once.",
    NOT_NULL: "No row of the table lacks a value in a key column.",
    TIES: "Rows and sums of each window in the table are those of its last load, by the warehouse's ledger.",
    COMPLETE: "No window was loaded while a condition was set aside, by a person or by its deadline, such as a file that is missing.",
    FRESH: "Every window is loaded whose deadline, or whose files' time, has passed. The metadata say what the others wait for.",
}
_FAILING_MAX, _NAMED_MAX = 100, 3
NOTHING = "nothing is loaded yet"


def aggregation_checks(config: Config, known: Known) -> list[dg.AssetChecksDefinition]:
    """The checks of every aggregation's table: one step each."""
    return [_checks(config, definition) for definition in known.definitions.good.values()]


def _checks(config: Config, definition: Definition) -> dg.AssetChecksDefinition:
    key, database, name = aggregation_key(config, definition.name), database_key(config.name), definition.name

    @dg.multi_asset_check(
        name=f"{config.name}_{name}_table_checks",
        specs=[dg.AssetCheckSpec(check, asset=key, description=text) for check, text in DESCRIPTIONS.items()],
        required_resource_keys={database},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with errors_as_failures(context, COMPUTE), role_of(ROLE):
            opened: SiteDatabase = getattr(context.resources, database)
            site = Aggregations(opened.intake(config, context.run.run_id))
            definitions = site.definitions()
            current = definitions.named(name)
            evaluations = site.evaluator.evaluate([current], known=definitions.good)
            yield from of_table(key, site.warehouse.audit(current.section.target, list(current.key_types)))
            yield of_inputs(key, incomplete(site, name), bool(site.runs.all(name, state="completed", most=1)))
            yield of_freshness(key, late_scopes(site, current, evaluations, site.runs.now()))

    return checks


def of_table(key: dg.AssetKey, audit: Audit) -> Iterator[dg.AssetCheckResult]:
    """The results that rest on the table."""
    empty = audit.rows is None
    for name, count, what in ((UNIQUE, audit.doubled, "keys are there more than once"), (NOT_NULL, audit.nulls, "rows lack a key's value")):
        described = NOTHING if empty else f"{count:,} {what}" if count else f"{audit.rows:,} rows"
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=not (empty or count),
            severity=dg.AssetCheckSeverity.WARN if empty else dg.AssetCheckSeverity.ERROR,
            description=described,
            metadata={"rows": audit.rows or 0, "failing": count},
        )
    yield _by_scope(key, TIES, audit.untied, f"{audit.rows:,} rows tie" if not empty else NOTHING, unknown=empty)


def of_inputs(key: dg.AssetKey, found: Mapping[str, str], loaded: bool) -> dg.AssetCheckResult:
    """``found``: as ``recon.aggregations.health.incomplete`` says. ``loaded``: whether a run has completed."""
    return _by_scope(key, COMPLETE, found, "no condition was set aside" if loaded else NOTHING, unknown=not loaded)


def of_freshness(key: dg.AssetKey, found: Mapping[str, str]) -> dg.AssetCheckResult:
    """``found``: as ``recon.aggregations.health.late`` says."""
    return _by_scope(key, FRESH, found, "nothing is late", severity=dg.AssetCheckSeverity.WARN)


def late_scopes(site: Aggregations, definition: Definition, evaluations: list[Evaluation], now: datetime) -> dict[str, str]:
    """Scope → why it is late; of the evaluations' definition."""
    grace = allowed(definition, site.config.freshness)
    return late(definition, evaluations, site.evaluator.files.windows(definition.source.name), grace, now)


def _by_scope(
    key: dg.AssetKey,
    name: str,
    failing: Mapping[str, str],
    good: str,
    *,
    unknown: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Fails where a scope does, and, as a warning, while nothing is known."""
    newest = list(failing)[-_FAILING_MAX:]
    more = f"; and {len(failing) - _NAMED_MAX:,} more" if len(failing) > _NAMED_MAX else ""
    named = "; ".join(f"{scope}: {failing[scope]}" for scope in newest[-_NAMED_MAX:])
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not failing and not unknown,
        severity=severity if failing or not unknown else dg.AssetCheckSeverity.WARN,
        description=f"{named}{more}" if failing else good,
        metadata={"scopes_failing": len(failing), "failing": dg.MetadataValue.json({scope: failing[scope] for scope in newest})},
    )
