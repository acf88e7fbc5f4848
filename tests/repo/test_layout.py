from __future__ import annotations

import re
from pathlib import Path


def test_operator_folder_does_not_shadow_the_standard_library(root: Path) -> None:
    assert not (root / "operator" / "__init__.py").exists()


def test_tests_are_no_package(root: Path, tree: list[Path]) -> None:
    assert [path for path in tree if path.name == "__init__.py" and path.is_relative_to(root / "tests")] == []


def test_every_package_is_typed(packages: dict[str, Path], tree: list[Path]) -> None:
    for package, folder in packages.items():
        assert folder / package / "py.typed" in tree


def test_every_folder_of_a_package_is_a_package(packages: dict[str, Path], tree: list[Path]) -> None:
    tops = [top / name for name, top in packages.items()]
    folders = {path.parent for path in tree if path.suffix == ".py" and any(map(path.is_relative_to, tops))}
    assert folders >= set(tops)
    assert {folder for folder in folders if folder / "__init__.py" not in tree} == set()


def test_tests_are_named_after_a_package(root: Path, packages: dict[str, Path], tree: list[Path]) -> None:
    parts = "|".join(name.removeprefix("holdfast_") for name in packages)
    pattern = re.compile(rf"test_({parts}|bench)_\w+\.py|conftest\.py")
    unit = [path for path in tree if path.parent == root / "tests" / "unit" and path.suffix == ".py"]
    assert unit
    assert [path.name for path in unit if not pattern.fullmatch(path.name)] == []


def test_scripts_are_programs(root: Path, tree: list[Path]) -> None:
    scripts = [path for path in tree if path.parent == root / "scripts"] + [root / ".ci" / "run"]
    assert len(scripts) > 1
    for script in scripts:
        assert script.stat().st_mode & 0o111, f"{script.name} is not executable"
        assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
