"""The lab: hosts as network namespaces on one machine."""
