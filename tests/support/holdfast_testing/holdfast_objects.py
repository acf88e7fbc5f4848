"""Holdfast's objects as JSON, and where they are, for tests that talk to an API server."""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

API: Final = "/apis/holdfast.dev/v1alpha1"
NAMESPACE: Final = "holdfast-system"
"""Where the chart is installed."""
OPERATOR: Final = "holdfast-operator"
"""The operator's service account, and its field manager."""
SPEAKER: Final = "holdfast-speaker"
"""The agents' service account."""
SPEAKER_CONFIGS: Final = f"{API}/speakerconfigs"


def virtual_ips(namespace: str = "default") -> str:
    """The collection's path."""
    return f"{API}/namespaces/{namespace}/virtualips"


def virtual_ip(name: str, namespace: str = "default", **spec: Any) -> Object:
    """A VirtualIP with an address of TEST-NET-1 (RFC 5737), which nobody has."""
    return {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "VirtualIP",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"addresses": ["192.0.2.1/32"]} | spec,
    }


def virtual_ip_status(name: str, status: Object, namespace: str = "default") -> Object:
    """What is applied to a VirtualIP's status."""
    made = virtual_ip(name, namespace)
    del made["spec"]
    return made | {"status": status}


def speaker_config(node: str, **fields: Any) -> Object:
    """A node's SpeakerConfig; `fields` are its spec or status."""
    return {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "SpeakerConfig",
        "metadata": {"name": node},
        **fields,
    }


def entry(node: str, **fields: Any) -> Object:
    """What a node's agent says of a VirtualIP."""
    return {
        "nodeName": node,
        "state": "Backup",
        "since": "2026-01-01T00:00:00.000Z",
        "priority": 100,
        "health": "Healthy",
    } | fields
