"""A small reconciliation in a folder, for the tests of its Dagster assets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import recon
from jobs.asset_jobs import job_name
from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.errors import WrongInput
from recon.stages import merge

YAML = """
name: {name}
store: ./{name}_data
key: order_id
windows: {{start: 2026-11-01T00:00Z, every: 1h}}
events:
  types: {{amount: "decimal(18,2)"}}
  id: event_id
measures:
  billed: {{sum: amount, where: "event_type = 'INVOICE'"}}
  lines: {{count: "*"}}
derived:
  balance: coalesce(billed, 0)
status:
  - {{MATCHED: "balance = 0"}}
  - {{BREAK: "true"}}
control: {{amount: {{sum: amount, by: currency}}}}
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
HEADER = "order_id,event_id,event_type,amount,currency\n"


def window(hour: int) -> str:
    return f"2026-11-01T{hour:02d}:00Z"


def made(folder: Path, name: str = "orders", hours: int = 0) -> Reconciliation:
    """A reconciliation ``<name>.yaml`` in ``folder``, with ``hours`` closed windows."""
    path = folder / f"{name}.yaml"
    path.write_text(YAML.format(name=name))
    opened = recon.open(path)
    opened.store(create=True)
    for hour in range(hours):
        landed(opened, hour)
    return opened


def landed(opened: Reconciliation, hour: int, rows: str | None = None, *, close: bool = True, replace: str | None = None) -> None:
    """Lands one file in a window: two orders in two currencies, unless ``rows`` says otherwise."""
    text = rows or f"A{hour},e{hour}-1,INVOICE,10.00,EUR\nB,e{hour}-2,INVOICE,0.50,USD\n"
    name = f"file-{hour:02d}{'-corrected' if replace else ''}.csv"
    path = opened.config.path.parent / name
    path.write_text(HEADER + text)
    opened.land([path], window(hour), close=close, replace=replace, again=True)


def run(
    opened: Reconciliation, tags: dict[str, str], instance: dg.DagsterInstance, stage: str = "everything", **overrides: Any
) -> dg.ExecuteInProcessResult:
    """Runs a job of the reconciliation in process; a failure is in the result."""
    job = build_definitions(opened.config.path, **overrides).resolve_job_def(job_name(opened.config, stage))
    return job.execute_in_process(instance=instance, tags=tags, run_config=QUIET, raise_on_error=False)


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """Descriptions of the failed steps."""
    told = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    return [one.description or "" for one in told if one is not None]


def materialized(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """Window → metadata of one asset's materializations in a run."""
    found: dict[str, dict[str, Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key and event.asset_key.path[-1] == asset and event.partition:
            shown = event.step_materialization_data.materialization.metadata
            found[event.partition] = {name: value.value for name, value in shown.items()}
    return found


def refuse_to_merge(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    """From now on a range with the window ``bad`` cannot be merged."""
    real = merge.merge_windows

    def merged(store: Any, config: Any, timeline: Any, block: Any, *more: Any) -> Any:
        if bad in {figures.window for figures in block}:
            raise WrongInput("the totals do not tie")
        return real(store, config, timeline, block, *more)

    monkeypatch.setattr(merge, "merge_windows", merged)


def die_before_certifying(monkeypatch: pytest.MonkeyPatch, opened: Reconciliation) -> None:
    """A run that dies when its windows are committed but not certified."""

    def died(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("recon.stages.certify.certify_windows", died)
        with pytest.raises(KeyboardInterrupt):
            opened.run()
