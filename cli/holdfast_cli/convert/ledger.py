"""The account of a conversion: every line of the configuration is carried over, remarked on, or refused."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NoReturn

from holdfast_api.errors import ConfigurationError, ConfigurationErrors


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(eq=False, slots=True)
class Statement:
    """One line of the configuration once parameters are replaced, with the block that follows it, if any."""

    words: list[str]
    place: Place
    block: list[Statement] | None = None
    last_line: int = 0
    """The line of the block's closing brace; 0 without a block."""

    @property
    def keyword(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        """What follows the first word."""
        return self.words[1:]


class Kind(enum.StrEnum):
    """What happens with a line that is not simply carried over."""

    DIFFERS = "differs"
    """Carried over, and Holdfast behaves otherwise than keepalived."""
    LEFT_OUT = "left out"
    """Not carried over."""
    NOTE = "note"
    """Carried over in a way that is worth knowing."""


@dataclass(frozen=True, slots=True)
class Note:
    """What happens instead with one line, or with a block as a whole."""

    place: Place
    keyword: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.keyword}: {self.kind}: {self.text}"


@dataclass(slots=True)
class Ledger:
    """Collects what happens with each statement; errors too, so that all of them can be mended in one go."""

    strict: bool = False
    """Refuse what keepalived complains of, also where it runs all the same."""
    errors: list[ConfigurationError] = field(default_factory=list)
    _notes: dict[Note, None] = field(default_factory=dict)
    _settled: set[Statement] = field(default_factory=set)

    @property
    def notes(self) -> list[Note]:
        """Each once, in the order in which they were made."""
        return list(self._notes)

    def carry(self, statement: Statement) -> None:
        """The statement has its counterpart in the VirtualIP."""
        self._settled.add(statement)

    def differs(self, statement: Statement, text: str) -> None:
        """It is carried over, but does something else than in keepalived."""
        self._tell(statement, Kind.DIFFERS, text)

    def leave_out(self, statement: Statement, text: str) -> None:
        """It is not carried over, and neither is its block."""
        self._tell(statement, Kind.LEFT_OUT, text)

    def remark(self, statement: Statement, text: str) -> None:
        """It is carried over in a way that is worth knowing."""
        self._tell(statement, Kind.NOTE, text)

    def _tell(self, statement: Statement, kind: Kind, text: str) -> None:
        self._settled.add(statement)
        self.note(Note(statement.place, statement.keyword, kind, text))

    def note(self, note: Note) -> None:
        """Something about a line that never became a statement."""
        self._notes[note] = None

    def refuse(self, place: Place, keyword: str, reason: str) -> None:
        """Something that keepalived refuses, or that no VirtualIP can say; reading goes on."""
        self.errors.append(ConfigurationError(reason, file=str(place), field=keyword))

    def complain(
        self, statement: Statement, reason: str, instead: str, *, keyword: str = "", kind: Kind = Kind.LEFT_OUT
    ) -> None:
        """Something that keepalived complains of, and runs all the same: `instead` says how, after "keepalived"."""
        self._settled.add(statement)
        self.complain_at(statement.place, keyword or statement.keyword, reason, instead, kind=kind)

    def complain_at(self, place: Place, keyword: str, reason: str, instead: str, *, kind: Kind = Kind.LEFT_OUT) -> None:
        """The same of a line that never became a statement."""
        if self.strict:
            self.refuse(place, keyword, reason)
        else:
            self.note(Note(place, keyword, kind, f"{reason}: keepalived {instead}"))

    def settles(self, statement: Statement) -> bool:
        """Whether anything was said about this statement."""
        return statement in self._settled

    def raise_errors(self) -> None:
        """Raise ConfigurationErrors if there are any."""
        if self.errors:
            raise ConfigurationErrors(self.errors)

    def give_up(self, place: Place, keyword: str, reason: str) -> NoReturn:
        """Refuse something that leaves nothing to go on with: raises ConfigurationErrors."""
        self.refuse(place, keyword, reason)
        raise ConfigurationErrors(self.errors)
