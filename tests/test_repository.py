"""Rules of the house that no other tool holds."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from securecfg import errors
from securecfg.errors import SecurecfgError
from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
CODE_FOLDERS = ("securecfg", "tests", "benchmarks", "examples")
BANNED_MODULES = {"base", "common", "core", "helpers", "types", "utils"}
BANNED_CLASSES = re.compile(r"(Manager|Handler|Service|Helper|Factory)$|^(Base|Secure|Enhanced|Enterprise)[A-Z]")
# In parts, so that this file does not find itself.
MACHINE_TEXT = re.compile(
    "|".join(
        (
            r"(?<![\w.~-])/(?:work|ro" + r"ot|opt/wheels)/",
            r"pypi\.org" + r"/simple",
            r"files\.python" + r"hosted\.org",
            r"--(?:extra-)?index" + r"-url",
            r"--find" + r"-links",
            r"--trusted" + r"-host",
        )
    )
)


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    if listed.returncode:
        pytest.skip("not applicable: not a git repository")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def _python_files() -> list[Path]:
    return sorted(path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py"))


def _error_classes() -> list[type[SecurecfgError]]:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in classes if issubclass(value, SecurecfgError)]


# --- files ------------------------------------------------------------------------------------------------------------


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    found = []
    for path in _tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_TEXT.finditer(text)]
    assert found == []


def test_no_tool_left_its_own_folder_behind() -> None:
    hidden = {part for path in _tracked_files() for part in path.relative_to(ROOT).parts[:-1] if part.startswith(".")}
    assert hidden <= {".ci", ".github"}


def test_every_locked_package_has_hashes() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert [path.name for path in locks] == ["bench.txt", "core.txt", "dev.txt", "docs.txt"]
    for path in locks:
        entries = re.split(r"\n(?=\S)", path.read_text().strip())
        unpinned = [entry for entry in entries if not re.match(r"#|\S+==\S+ .*\n    --hash=sha256:[0-9a-f]{64}", entry)]
        assert unpinned == [], path.name


def test_the_extra_all_holds_every_other_extra() -> None:
    extras = _pyproject()["project"]["optional-dependencies"]
    [everything] = extras.pop("all")
    assert everything == f"securecfg-vault[{','.join(sorted(extras))}]"


def test_every_exemption_carries_its_reason() -> None:
    bare = re.compile(
        r"#\s*(?:ruff:\s*)?noqa(?!: [A-Z0-9]+(?:, ?[A-Z0-9]+)* - \S)|# type: ignore(?!\[[\w, -]+\]  # \S)"
    )
    found = []
    for path in _python_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if bare.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


# --- names and layers -------------------------------------------------------------------------------------------------


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in _python_files() if BANNED_MODULES & {path.stem, path.parent.name}] == []


def test_no_class_has_a_name_that_says_nothing() -> None:
    found = []
    for path in (ROOT / "securecfg").rglob("*.py"):
        classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
        found += [f"{path.name}: {node.name}" for node in classes if BANNED_CLASSES.search(node.name)]
    assert found == []


def test_every_package_has_its_layer() -> None:
    [layers] = (
        contract["layers"]
        for contract in _pyproject()["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["securecfg"]
    )
    placed = {name for layer in layers for name in re.findall(r"\w+", layer)}
    children = {path.stem for path in (ROOT / "securecfg").glob("*.py")} | {
        path.name for path in (ROOT / "securecfg").iterdir() if any(path.glob("*.py"))
    }
    assert children - {"__init__", "__main__"} <= placed


# --- errors -----------------------------------------------------------------------------------------------------------


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.__dict__.get("code", f"missing in {cls.__name__}") for cls in _error_classes()]
    assert sorted(codes) == sorted(set(codes))
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_every_error_is_used() -> None:
    used: set[str] = set()
    for path in (ROOT / "securecfg").rglob("*.py"):
        if path.name != "errors.py":
            used |= {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert {cls.__name__ for cls in _error_classes()} - used == set()


def test_every_family_has_one_exit_code() -> None:
    for cls in _error_classes():
        if SecurecfgError not in cls.__bases__ and cls is not SecurecfgError:
            assert "exit_code" not in cls.__dict__, cls.__name__
    families = [cls.exit_code for cls in SecurecfgError.__subclasses__()]
    assert sorted(families) == list(range(2, 11))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Za-z]*\b", (errors.__doc__ or "").split("A message says")[0]))
    assert {cls.__name__ for cls in _error_classes()} <= named


def test_the_module_of_errors_imports_nothing() -> None:
    tree = ast.parse((ROOT / "securecfg" / "errors.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"__future__", "typing"}


def test_the_reference_lists_every_error_as_it_is() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    rows = set(re.findall(r"^\| `[a-z-]+` \|.*$", page, re.MULTILINE))
    expected = set()
    for cls in _error_classes():
        summary = (cls.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("|", "\\|")
        expected.add(f"| `{cls.code}` | `{cls.__name__}` | {cls.exit_code} | {summary} |")
    assert sorted(rows) == sorted(expected)


# --- imports ----------------------------------------------------------------------------------------------------------


def _modules_after(statement: str, *flags: str) -> set[str]:
    script = f"import sys; before = set(sys.modules); sys.path.insert(0, {str(ROOT)!r}); {statement}; "
    script += "print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, *flags, "-c", script], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().split())


def test_importing_the_package_imports_nothing_else() -> None:
    # Without `site`, so that nothing that is installed can help or disturb.
    modules = _modules_after("import securecfg", "-S", "-E")
    assert {name.partition(".")[0] for name in modules} <= {"__future__", "importlib", "securecfg", "warnings"}
    assert {name for name in modules if name.startswith("securecfg")} == {"securecfg", "securecfg.lazy"}


def test_configuration_is_loaded_without_cryptography_or_models() -> None:
    modules = _modules_after("import securecfg.config")
    assert modules & {"apsw", "cedarpy", "cryptography", "pydantic", "rich", "click"} == set()


def test_the_settings_of_a_project_are_read_without_cryptography(tmp_path: Path) -> None:
    (tmp_path / "securecfg.toml").write_text('vault = "a.vault"\nkey = "keyring:"\n')
    read = f"from securecfg.vault.settings import read_project; read_project(Path({str(tmp_path)!r}))"
    loaded = _modules_after(f"from pathlib import Path; {read}")
    assert "securecfg.vault.settings" in loaded
    assert loaded & {"cryptography", "apsw", "cedarpy"} == set()


def test_the_vault_is_loaded_without_the_packages_that_are_built_on_it() -> None:
    folder = ROOT / "securecfg" / "vault"
    packages = {f"securecfg.vault.{path.name}" for path in folder.iterdir() if (path / "__init__.py").is_file()}
    modules = {f"securecfg.vault.{path.stem}" for path in folder.glob("[a-z]*.py")}
    loaded = _modules_after(f"import {', '.join(sorted(modules))}")
    assert packages & loaded == {f"securecfg.vault.{name}" for name in ("commits", "index", "state")}


def test_every_entry_point_leads_somewhere() -> None:
    project = _pyproject()["project"]
    for group in [project["scripts"], *project.get("entry-points", {}).values()]:
        for name, reference in group.items():
            module, _, attribute = reference.partition(":")
            assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_defect_has_its_place_and_its_test(mutant: Mutant) -> None:
    assert (ROOT / "securecfg" / mutant.file).read_text().count(mutant.old) == 1
    file, *names = mutant.test.split("::")
    content = (ROOT / "tests" / file).read_text()
    if len(names) == 1:
        assert f"def {names[0].partition('[')[0]}(" in content
