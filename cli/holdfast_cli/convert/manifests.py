"""Kubernetes manifests of MetalLB and kube-vip, as files have them: read, shared out, and written as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.pools import AddressPool
from holdfast_api.resources import VirtualIP
from holdfast_cli.convert import Input, kube_vip, metallb, report
from holdfast_cli.convert.ledger import Kind, Ledger, Note, Place
from holdfast_cli.convert.objects import Manifest

_IS_A_MANIFEST = re.compile(r'^[- {"]*apiVersion"?\s*:', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ConvertedManifests:
    """AddressPools and VirtualIPs as YAML, and what was made of what."""

    yaml: str
    report: list[str]
    made: Sequence[AddressPool | VirtualIP]
    ledger: Ledger


def are_manifests(inputs: Sequence[Input]) -> bool:
    """Whether these are Kubernetes manifests, and not files of keepalived. One of each kind is refused.

    Raises ConfigurationErrors.
    """
    found = [given for given in inputs if _IS_A_MANIFEST.search(_text(given))]
    if found and len(found) < len(inputs):
        reason = "is a Kubernetes manifest, and other files are keepalived's: convert them by themselves"
        raise ConfigurationErrors([ConfigurationError(reason, file=str(found[0].path))])
    return bool(found)


def convert_manifests(inputs: Sequence[Input]) -> ConvertedManifests:
    """What MetalLB's and kube-vip's objects in these files become.

    Raises ConfigurationErrors with everything that cannot be read, or that no AddressPool or VirtualIP can say.
    """
    ledger = Ledger()
    manifests = [manifest for given in inputs for manifest in _read(given)]
    made: list[AddressPool | VirtualIP] = [*metallb.pools(manifests, ledger), *kube_vip.resources(manifests, ledger)]
    for manifest in manifests:
        if not (metallb.knows(manifest) or kube_vip.knows(manifest)):
            text = "is neither MetalLB's nor kube-vip's, or says nothing that a VIP depends on"
            ledger.note(Note(manifest.place, str(manifest), Kind.LEFT_OUT, text))
    if not made:
        ledger.refuse(
            Place(str(inputs[0].path), 1), "kind", "no file has an IPAddressPool or a kube-vip with an address"
        )
    ledger.raise_errors()
    text = "---\n".join(
        yaml.safe_dump(_written(one), sort_keys=False, default_flow_style=None, width=120) for one in made
    )
    lines = [f"{one.kind} {one.metadata.name}: {', '.join(one.spec.addresses)}" for one in made]
    lines += report.once_each(ledger.notes, [str(given.path) for given in inputs])
    return ConvertedManifests(text, lines, made, ledger)


def _written(one: AddressPool | VirtualIP) -> dict[str, Any]:
    """As a person would write it: without what says nothing."""
    value = msgspec.to_builtins(one)
    value["spec"] = {name: said for name, said in value["spec"].items() if said != {}}
    return dict(value)


def _text(given: Input) -> str:
    return given.content.decode("utf-8", "replace")


def _read(given: Input) -> Iterator[Manifest]:
    file = str(given.path)
    try:
        loader = yaml.SafeLoader(_text(given))
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield from _objects(file, node.start_mark.line + 1, loader.construct_document(node))
    except yaml.YAMLError as error:
        reason = "is not YAML: " + " ".join(str(error).split())
        raise ConfigurationErrors([ConfigurationError(reason, file=file)]) from error


def _objects(file: str, line: int, value: Any) -> Iterator[Manifest]:
    if isinstance(value, dict) and isinstance(value.get("items"), list):  # what `kubectl get -o yaml` prints
        for item in value["items"]:
            yield from _objects(file, line, item)
    elif isinstance(value, dict):
        yield Manifest(Place(file, line), value)
    elif value is not None:
        raise ConfigurationErrors([ConfigurationError("must be an object with a kind", file=f"{file}:{line}")])
