"""Field names on the wire: camelCase with acronyms in one case, as the Kubernetes API conventions have it."""

_ACRONYMS = {"id": "ID", "ids": "IDs", "ip": "IP", "ips": "IPs"}


def kubernetes_name(field: str) -> str:
    """The wire name of a Python field.

    >>> kubernetes_name("virtual_router_id"), kubernetes_name("advertisement_interval_milliseconds")
    ('virtualRouterID', 'advertisementIntervalMilliseconds')
    """
    first, *rest = field.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)
