"""`make mutants`: breaks the code by hand-made mutants, one at a time in a copy of the tree, and prints those that no test notices.

    python tests/mutants/run.py [WORD …] only mutants with one of these words in their module or reason

Exit status 1 where a mutant survives, cannot be applied, or its tests fail without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from mutant import Mutant
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = int(os.environ.get("RECON_MUTANTS_AT_ONCE", str(os.cpu_count() or 1)))
ENDLESS_S = 1800
"""A mutant whose tests take longer made a loop without an end: it was noticed."""
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "docs", "node_modules", ".hypothesis")


def main(words: list[str]) -> int:
    chosen = [one for one in MUTANTS if not words or any(word in one.module or word in one.why for word in words)]
    if unfit := [f"{one.module}: {one.why}: {problem}" for one in MUTANTS if (problem := unfit_because(ROOT, one))]:
        print("correct tests/mutants/mutants.py:", *unfit, sep="\n", flush=True)
        return 1
    print(f"{len(chosen)} mutants, {AT_ONCE} at a time", flush=True)
    with tempfile.TemporaryDirectory(prefix="recon-mutants-") as folder:
        trees = SimpleQueue[Path]()
        for number in range(AT_ONCE):
            tree = Path(folder) / str(number)
            shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
            trees.put(tree)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tests = tuple(sorted({test for one in chosen for test in one.tests}))
            if broken := failure(trees, tests):
                print(f"a test fails without any mutant:\n{broken}", flush=True)
                return 1
            verdicts = list(pool.map(lambda one: told(trees, one), chosen))
    killed = sum(verdicts)
    print(f"{killed} killed, {len(chosen) - killed} survived", flush=True)
    return 0 if killed == len(chosen) else 1


def told(trees: SimpleQueue[Path], mutant: Mutant) -> bool:
    """Whether a test notices the mutant; prints one line."""
    start = time.monotonic()
    try:
        killed = bool(failure(trees, mutant.tests, mutant))
        verdict = "killed  " if killed else "SURVIVED"
    except ValueError as error:
        killed, verdict = False, f"SURVIVED ({error})"
    print(f"{verdict}  {mutant.module}: {mutant.why}  ({time.monotonic() - start:.0f} s)", flush=True)
    return killed


def failure(trees: SimpleQueue[Path], tests: tuple[str, ...], mutant: Mutant | None = None) -> str:
    """What pytest says where one of the tests fails, "" where all pass."""
    tree = trees.get()
    try:
        with applied(tree, mutant):
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
            environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
            done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=ENDLESS_S)
    except subprocess.TimeoutExpired:
        return f"no end after {ENDLESS_S} s"
    finally:
        trees.put(tree)
    if done.returncode == 0:
        return ""
    if done.returncode != 1:  # pytest could not run: nothing is known of the mutant
        raise ValueError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return done.stdout[-2000:]


def unfit_because(tree: Path, mutant: Mutant) -> str:
    """Why a mutant cannot be applied to the tree, "" where it can: its text is in its module exactly once, and its tests are there."""
    file = tree / mutant.module
    if not file.is_file():
        return "there is no such module"
    if (found := file.read_text(encoding="utf-8").count(mutant.old)) != 1:
        return f"its text is in the module {found} times"
    absent = [test for test in mutant.tests if not (tree / "tests" / test.partition("::")[0]).is_file()]
    return f"there is no {', '.join(absent)}" if absent else ""


@contextmanager
def applied(tree: Path, mutant: Mutant | None) -> Iterator[None]:
    """The tree with the mutant in it."""
    if mutant is None:
        yield
        return
    file = tree / mutant.module
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
