from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture(scope="module")
def lines(root: Path) -> list[str]:
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def pinned(lines: list[str]) -> dict[str, Version]:
    versions = (line.partition("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, _, version in versions}


def requirements_of(pyproject: dict[str, Any]) -> Iterator[Requirement]:
    project = pyproject["project"]
    yield from map(Requirement, pyproject["build-system"]["requires"])
    yield from map(Requirement, project["dependencies"])
    for extra in project["optional-dependencies"].values():
        yield from map(Requirement, extra)


def test_constraints_are_exact_versions_and_name_no_address(lines: list[str]) -> None:
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_constraints_are_sorted_and_unique(lines: list[str]) -> None:
    names = [canonicalize_name(line.partition("==")[0]) for line in lines]
    assert names == sorted(set(names))


def test_constraints_cover_and_satisfy_what_pyproject_asks_for(
    pyproject: dict[str, Any], pinned: dict[str, Version]
) -> None:
    for requirement in requirements_of(pyproject):
        if requirement.name == "holdfast":
            continue
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is in no line of constraints.txt"
        assert version in requirement.specifier, f"{requirement} does not allow {version}"


def test_constraints_cover_what_the_dependencies_ask_for(pinned: dict[str, Version]) -> None:
    missing = set()
    for name in pinned:
        try:
            asked = requires(name) or []
        except PackageNotFoundError:
            continue  # the build backend's, which a wheel's installation does without
        for requirement in map(Requirement, asked):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in pinned:
                missing.add(f"{name}: {requirement}")
    assert missing == set()


@pytest.mark.parametrize(("library", "bringing"), [("scapy", "sniff"), ("pyroute2", "lab")])
def test_only_one_extra_and_the_tests_bring(library: str, bringing: str, pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    shipped = {"": project["dependencies"], **project["optional-dependencies"]}
    found = {
        extra
        for extra, requirements in shipped.items()
        if any(Requirement(text).name == library or bringing in Requirement(text).extras for text in requirements)
    }
    assert found == {bringing, "test"}


def test_every_dependency_of_a_host_is_explained(pyproject: dict[str, Any], root: Path) -> None:
    record = (root / "docs" / "adr" / "0002-dependencies.md").read_text(encoding="utf-8").lower()
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    shipped = project["dependencies"] + [text for extra, texts in extras.items() if extra != "test" for text in texts]
    assert [text for text in shipped if f"| {Requirement(text).name.lower()} |" not in record] == []
