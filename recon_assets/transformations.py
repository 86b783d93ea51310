"""The transformations of a reconciliation as assets, one per request in ``transformations/``. Materializing one carries out its request."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from recon.api import Reconciliation
from recon.config import Config, yaml_file
from recon.errors import WrongUsage
from recon.storage.roles import role_of
from recon.transformations.request.files import S3
from recon.transformations.request.model import Request
from recon.transformations.run import request_in
from recon_assets.aggregations import aggregation_key
from recon_assets.assets import asset_key
from recon_assets.reporting import tag
from recon_assets.retries import COMPUTE, errors_as_failures
from recon_assets.transformation_metadata import errors_of, logged_progress, metadata, place_of, verdict

FOLDER = "transformations"
ROLE = "pipeline"
"""The stage whose AWS role it has: it reads the store and the warehouse."""
NO_ERRORS = "no_errors"
_KINDS_MAX = 2
"""Formats that are shown as kinds: Dagster takes three kinds of an asset, and one is the engine."""
_NAME = re.compile(r"[A-Za-z0-9_]+\Z")


@dataclass(frozen=True)
class Requests:
    """``good``: name → file and request. ``broken``: name → mistake."""

    good: Mapping[str, tuple[Path, Request]]
    broken: Mapping[str, str]


def known_requests(config: Config) -> Requests:
    """The requests beside ``recon.yaml``. Only their files are read: neither inputs nor the store."""
    good: dict[str, tuple[Path, Request]] = {}
    broken: dict[str, str] = {}
    for path in sorted((config.path.parent / FOLDER).glob("*.yaml")):
        try:
            if not _NAME.match(path.stem):
                raise WrongUsage(f"{path}: the name of an asset has letters, digits and '_'; rename the file")
            good[path.stem] = (path, request_in(yaml_file.read(path)))
        except WrongUsage as error:
            broken[path.stem] = str(error)
    return Requests(good, broken)


def transformation_key(config: Config, name: str) -> dg.AssetKey:
    """Such as ``orders/transformations/aging``."""
    return dg.AssetKey([config.name, FOLDER, name])


def transformation_assets(config: Config, requests: Requests, pool: str | None = None) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """One asset per request, and one for each of their input files, which Dagster does not make."""
    made = {place_of(path, output.path): name for name, (path, request) in requests.good.items() for output in request.outputs}
    files: dict[str, dg.AssetKey] = {}
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    for name, (path, request) in requests.good.items():
        deps = list(dict.fromkeys(_upstream(config, path, request, made, files)))
        upstream = [key for key in deps if key != transformation_key(config, name)]
        assets.append(_asset(config, name, path, request, upstream, pool or f"{config.name}_transformations"))
    return [*assets, *(_file(config, place, key) for place, key in files.items())]


def transformations_job(config: Config, requests: Requests) -> Any:
    """``<name>_transform``: carries out all requests, each after those whose outputs it reads."""
    keys = [transformation_key(config, name) for name in requests.good]
    return dg.define_asset_job(
        f"{config.name}_transform",
        dg.AssetSelection.assets(*keys),
        description="Carries out all transformations.",
        executor_def=dg.in_process_executor,
        tags={"recon/reconciliation": config.name},
    )


def _upstream(
    config: Config, path: Path, request: Request, made: Mapping[str, str], files: dict[str, dg.AssetKey]
) -> Iterator[dg.AssetKey]:
    """The assets that a request reads. Adds to ``files`` the files that no other request makes."""
    for given in request.inputs.values():
        if given.from_ == "table":
            yield aggregation_key(config, str(given.table))
        elif given.from_ is not None:
            yield asset_key(config.name, "stateful_artifacts")
        for named in given.path:
            place = place_of(path, named)
            if place in made:
                yield transformation_key(config, made[place])
            else:
                yield files.setdefault(place, dg.AssetKey([config.name, "files", re.sub(r"[^A-Za-z0-9]+", "_", named).strip("_")]))


def _file(config: Config, place: str, key: dg.AssetKey) -> dg.AssetSpec:
    shown = place if place.startswith(S3) else dg.MetadataValue.path(place)
    description = f"The file {place}, which a transformation reads."
    return dg.AssetSpec(key, description=description, group_name=config.name, kinds={"file"}, metadata={"path": shown})


def _asset(config: Config, name: str, path: Path, request: Request, deps: Sequence[dg.AssetKey], pool: str) -> dg.AssetsDefinition:
    key = transformation_key(config, name)
    check = dg.AssetCheckSpec(NO_ERRORS, asset=key, description="No value of an output is an error, such as #N/A, and no row was rejected.")

    @dg.asset(
        key=key,
        deps=deps,
        check_specs=[check],
        pool=pool,
        group_name=config.name,
        owners=[f"team:{config.name}"],
        kinds={"spark" if request.engine == "spark" else "duckdb", *sorted({output.kind for output in request.outputs})[:_KINDS_MAX]},
        tags={"recon/reconciliation": config.name, "recon/transformation": name},
        description=_description(path, request),
        metadata={"request": dg.MetadataValue.path(str(path))},
    )
    def transformation(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        tag(context)
        with errors_as_failures(context, COMPUTE), role_of(ROLE):
            # Its own certificate where the request names none, so that the figures are kept.
            file = request.certificate or f"certificates/{name}.json"
            certificate = Reconciliation(config.path).transform(path, file, logged_progress(context))
            passed = dg.AssetCheckResult(
                passed=not errors_of(certificate),
                check_name=NO_ERRORS,
                asset_key=key,
                severity=dg.AssetCheckSeverity.WARN,
                description=verdict(certificate),
            )
            yield dg.MaterializeResult(metadata=metadata(path, request, certificate, file), check_results=[passed])

    return transformation


def _description(path: Path, request: Request) -> str:
    kinds = list(dict.fromkeys(operation.KIND for operation in request.operations))
    done = f" by {_listed(kinds)}" if kinds else ""
    outputs = _listed([f"`{output.path}`" for output in request.outputs])
    return f"Makes {outputs} from {_listed(list(request.inputs))}{done}. The request is `{FOLDER}/{path.name}`."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
