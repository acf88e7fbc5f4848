"""The contract between Holdfast's parts: resources, the engine's configuration, and its socket messages.

Pure and small to import: the engine imports it too. It imports none of the other parts.
"""

__version__ = "0.1.0"
