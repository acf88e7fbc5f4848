"""What two VirtualIPs cannot both have: a name, an address, a virtual router id on one link. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from holdfast_api.addresses import Address, parse_interface
from holdfast_api.documents import Document
from holdfast_api.errors import ConfigurationError
from holdfast_operator.planner.host.links import families, interfaces, is_link_local, link_key


def error_in(document: Document, field: str, reason: str) -> ConfigurationError:
    """An error that names the file, the VirtualIP and its field."""
    name = document.virtual_ip.metadata.name
    return ConfigurationError(reason, file=document.file, field=f"VirtualIP {name}: {field}")


def repeated_names(documents: Sequence[Document]) -> Iterator[ConfigurationError]:
    """Namespace and name are a VirtualIP's identity."""
    first: dict[str, Document] = {}
    for document in documents:
        other = first.setdefault(document.virtual_ip.key, document)
        if other is not document:
            where = "in this file already" if other.file == document.file else f"in {other.file} too"
            yield error_in(document, "metadata.name", f"must be unique in its namespace: {_told(document)} is {where}")


def repeated_addresses(
    documents: Sequence[Document], default_interface: str | None, networks: Mapping[str, Sequence[str]]
) -> Iterator[ConfigurationError]:
    """An address belongs to one VirtualIP; a link-local one to one on each link."""
    first: dict[tuple[str, Address], Document] = {}
    for document in documents:
        for index, text in enumerate(document.virtual_ip.spec.addresses):
            interface = parse_interface(text)
            if interface is None:
                continue
            scope = link_key(document.virtual_ip, default_interface, networks) if is_link_local(interface) else ""
            other = first.setdefault((scope, interface.ip), document)
            if other.virtual_ip.key != document.virtual_ip.key:
                yield error_in(
                    document,
                    f"spec.addresses[{index}]",
                    f"must be in one VirtualIP: {interface.ip} is in {_place(other)}",
                )


def repeated_vrids(
    documents: Sequence[Document],
    vrids: Mapping[str, int],
    default_interface: str | None,
    networks: Mapping[str, Sequence[str]],
) -> Iterator[ConfigurationError]:
    """A virtual router is known on its link by id and family alone (RFC 9568 section 5.2.3)."""
    first: dict[tuple[str, int, int], Document] = {}
    for document in documents:
        virtual_ip = document.virtual_ip
        if virtual_ip.key not in vrids or not interfaces(virtual_ip):
            continue
        link, vrid = link_key(virtual_ip, default_interface, networks), vrids[virtual_ip.key]
        others = [first.setdefault((link, family, vrid), document) for family in sorted(families(virtual_ip))]
        other = next((other for other in others if other.virtual_ip.key != virtual_ip.key), None)
        if other is not None:
            yield error_in(
                document,
                "spec.virtualRouterID",
                f"must be unique on the link {link}: {vrid} is that of {_place(other)}",
            )


def _place(document: Document) -> str:
    return f"{_told(document)} ({document.file})"


def _told(document: Document) -> str:
    return f"VirtualIP {document.virtual_ip.key}"
