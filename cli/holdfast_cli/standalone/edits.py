"""Which edits of the files count, and which may give VirtualIPs up. Pure.

A file is often seen while somebody writes it: emptied and not filled yet, cut off in the middle, gone and not there
again. A VIP that is given up for such a moment is an outage on every host that reads the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast_api.documents import Contents, Document, Reading
from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.listing import some_of

Look = tuple[Contents, ...]
_TOLD_MAX = 8


class Looks:
    """Tells of each look at the files whether it is to be put in force: if it is new, and the one before it agrees."""

    def __init__(self, first: Look) -> None:
        self._judged = first
        self._last = first

    def counts(self, look: Look, *, at_once: bool) -> bool:
        """Take in one more look; `at_once`: somebody says that the files are as he wants them."""
        agrees = look == self._last
        self._last = look
        if not at_once and (not agrees or look == self._judged):
            return False
        self._judged = look
        return True


def require_intended(before: Reading, after: Reading, look: Look) -> None:
    """Whether everything that `after` (what `look` showed) gives up of `before` was meant to be.

    A VirtualIP may go with its file, or from a file that has others. A file that has none left must say so, with
    `items: []`; so must somebody where none is left at all.

    Raises ConfigurationErrors.
    """
    kept = {document.virtual_ip.key for document in after.documents}
    dropped = [document for document in before.documents if document.virtual_ip.key not in kept]
    if not dropped or (after.says_none and not after.documents):
        return
    errors = list(_unfinished(dropped, after, {contents.file for contents in look}))
    if not errors and not after.documents:
        files = sorted({document.file for document in dropped})
        errors.append(ConfigurationError(f"no VirtualIP is left at all: {_NONE_IS_MEANT}", file=_listed(files)))
    if errors:
        raise ConfigurationErrors(errors)


_NONE_IS_MEANT = "write a document `items: []` if that is meant"


def _unfinished(dropped: Sequence[Document], after: Reading, files: set[str]) -> Iterator[ConfigurationError]:
    inhabited = {document.file for document in after.documents}
    for file in sorted({document.file for document in dropped} & files):
        names = _listed([document.virtual_ip.key for document in dropped if document.file == file])
        if file in after.open_ended:
            reason = f"ends at `---` as if there was more to come, and does not have {names} any more"
            yield ConfigurationError(reason, file=file)
        elif file not in inhabited | after.says_none:
            yield ConfigurationError(f"does not have {names} any more, nor another: {_NONE_IS_MEANT}", file=file)


def _listed(names: Sequence[str]) -> str:
    return some_of(names, _TOLD_MAX)
