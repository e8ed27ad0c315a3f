"""What a dataset promises; written in contracts/NAME.yaml, judged file by file as data arrives."""

from __future__ import annotations

from enum import StrEnum

import msgspec

SCALAR_TYPES = ("int", "float", "string", "bool", "datetime", "date")
TYPE_PATTERN = rf"({'|'.join(SCALAR_TYPES)}|decimal(\([0-9]+, ?[0-9]+\))?|list(\(({'|'.join(SCALAR_TYPES)})\))?|struct)"
DECIMAL = (38, 10)  # digits, and how many of them stand after the point, of a decimal without both


def parse_decimal(kind: str) -> tuple[int, int]:
    """The digits of ``decimal(12, 2)``, and how many of them stand after the point."""
    if kind == "decimal":
        return DECIMAL
    digits, places = kind.removeprefix("decimal(").removesuffix(")").split(",")
    return int(digits), int(places)


class Severity(StrEnum):
    """What a broken promise does."""

    QUARANTINE = "quarantine"  # the file is refused
    WARN = "warn"  # the file is accepted, and the warning is recorded and shown


class SchemaChange(StrEnum):
    """What a file does whose columns are others than those of the files accepted before."""

    ALLOW = "allow"
    WARN = "warn"
    REFUSE = "refuse"


class SchemaPolicy(msgspec.Struct, frozen=True):
    """Of columns that the contract does not list, and of the order of all. ``retyped``: of columns whose type it does not say."""

    added: SchemaChange = SchemaChange.REFUSE
    dropped: SchemaChange = SchemaChange.REFUSE
    reordered: SchemaChange = SchemaChange.ALLOW
    retyped: SchemaChange = SchemaChange.REFUSE


class ColumnRule(msgspec.Struct, frozen=True):
    name: str
    type: str | None = None  # int, float, string, bool, datetime, date, decimal(12,2), list(int), struct
    nulls: float = 1.0  # largest share of nulls, 0 to 1; `never` is 0
    low: float | None = None  # smallest and largest value, inclusive
    high: float | None = None
    values: tuple[str, ...] | None = None  # the allowed set, as text
    required: bool = True
    format: str | None = None  # how dates and times of a text file are written: %m/%d/%Y
    pattern: str | None = None  # a regular expression of the whole value
    length_min: int | None = None  # characters of a text, items of a list
    length_max: int | None = None
    severity: Severity | None = None  # None: the contract's
    shift_most: float | None = None  # the largest distance of its distribution from that of the last accepted rows, 0 to 1


class ColumnReference(msgspec.Struct, frozen=True):
    """A column whose values must be among those of another dataset's accepted rows; null counts as holding."""

    column: str
    dataset: str
    key: str  # the column there

    @property
    def target(self) -> str:
        return f"{self.dataset}.{self.key}"


class RowRule(msgspec.Struct, frozen=True):
    """A Polars SQL expression over the file's columns that must hold; null counts as holding."""

    name: str
    expr: str
    at_most: float = 0.0  # tolerated share of failing rows
    severity: Severity | None = None  # None: the contract's


class PersonalDataKind(StrEnum):
    """What a contract may forbid or allow."""

    NAME = "name"
    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    ADDRESS = "address"
    IP_ADDRESS = "ip_address"
    BIRTH_DATE = "birth_date"

    @property
    def words(self) -> str:
        return PERSONAL_DATA_WORDS[self]


PERSONAL_DATA_WORDS = {
    PersonalDataKind.NAME: "names of persons",
    PersonalDataKind.EMAIL: "email addresses",
    PersonalDataKind.PHONE: "phone numbers",
    PersonalDataKind.CARD: "card numbers",
    PersonalDataKind.IBAN: "IBANs",
    PersonalDataKind.NATIONAL_ID: "national ids",
    PersonalDataKind.ADDRESS: "postal addresses",
    PersonalDataKind.IP_ADDRESS: "IP addresses",
    PersonalDataKind.BIRTH_DATE: "dates of birth",
}


class PersonalDataRule(msgspec.Struct, frozen=True):
    """What becomes of personal data in a file."""

    forbid: tuple[PersonalDataKind, ...] = ()
    allow: dict[PersonalDataKind, tuple[str, ...]] = {}  # the columns in which a forbidden kind may stand
    hash: tuple[str, ...] = ()  # columns whose values are replaced by keyed hashes before anything of a file is stored
    drop: tuple[str, ...] = ()  # columns that are left out before that

    @property
    def treated(self) -> tuple[str, ...]:
        """The columns that are not stored as they arrive."""
        return (*self.hash, *self.drop)


class AnomalyRule(msgspec.Struct, frozen=True):
    """What becomes of a file that is unusual beside those accepted before."""

    false_alarm: float = 0.01  # the probability, per file, of an alarm over nothing
    severity: Severity = Severity.WARN


class Contract(msgspec.Struct, frozen=True):
    columns: tuple[ColumnRule, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()  # each: columns that together identify a row
    references: tuple[ColumnReference, ...] = ()
    rows_min: int = 1
    rows_max: int | None = None
    fresh_column: str | None = None  # the newest value must lie within `fresh_within_s` of the project clock
    fresh_within_s: float | None = None
    extra_columns: str = "allow"  # or "forbid"
    rules: tuple[RowRule, ...] = ()
    drop_rows: float | None = None  # the largest share of failing rows that are dropped; None: the file is refused whole
    personal_data: PersonalDataRule | None = None
    anomalies: AnomalyRule | None = None  # None: a warning at 1 %
    source: str = ""  # the file it was read from
    digest: str = ""
    unjudged: tuple[str, ...] = ()  # what a file of the Open Data Contract Standard promises and no judge holds
    order: str | None = None  # a column that never falls from one row to the next
    severity: Severity = Severity.QUARANTINE
    schema: SchemaPolicy = SchemaPolicy()

    @property
    def unjudged_words(self) -> str:
        return f"not judged of {self.source}: {'; '.join(self.unjudged)}"

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns without which it cannot be judged: those that `columns` does not list, or says to be required."""
        optional = {rule.name for rule in self.columns if not rule.required}
        listed = [rule.name for rule in self.columns if rule.required]
        referring = [one.column for one in self.references if one.column not in optional]
        others = filter(None, (self.fresh_column, self.order))
        return tuple(dict.fromkeys([*listed, *self.key_columns, *referring, *others]))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of all its keys, each once."""
        return tuple(dict.fromkeys(name for key in self.unique for name in key))
