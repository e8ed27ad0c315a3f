"""The language of a contract's rules: expressions of SQL over the columns of one file, and nothing that could read another.

``parse`` knows what is allowed and writes it anew, every name quoted and every part in brackets: the engine that computes it
reads that text, never what a person wrote. What `--where` says is the same language over fields: see ``where``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches

import msgspec

LONGEST = 4_000  # characters
DEEPEST = 20  # parts within parts: the engine takes 50
LIGHT = 100  # words and signs: the engine's own planning takes milliseconds up to here, and 12 s for 2,000
CASTS = 8  # conversions: what 40 within each other take doubles with each one more

OF_NUMBERS = """abs cbrt ceil ceiling cos div exp floor greatest least ln log log10 log1p log2 mod pi pow power round sign sin
    sqrt tan"""
OF_TEXT = """char_length character_length concat concat_ws ends_with initcap left length lower ltrim octet_length regexp_like
    replace reverse right rtrim starts_with strpos substr substring trim upper"""
OF_TIMES = "date date_part strftime strptime timestamp"
OF_NULLS = "coalesce if ifnull nullif"
OF_ALL_ROWS = "avg count first last max median min quantile_cont stddev sum var variance"
FUNCTIONS = frozenset(f"{OF_NUMBERS} {OF_TEXT} {OF_TIMES} {OF_NULLS} {OF_ALL_ROWS}".split())
TOGETHER = frozenset(OF_ALL_ROWS.split())
HEAVY = frozenset(("concat", "concat_ws", "regexp_like", "replace", "strftime", "strptime"))
_TYPES = "bigint bool boolean date double float int integer real smallint string text timestamp tinyint varchar"
_PARTS = "century day decade doy dow epoch hour isodow isoyear millennium minute month quarter second week year"
_WORDS = """and as between case cast distinct else end false from ilike in is like not null or regexp rlike select then true
    try_cast"""
TYPES, PARTS, WORDS = (frozenset(words.split()) for words in (_TYPES, _PARTS, _WORDS))
COMPARE = {"==": "=", "=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
MATCH = frozenset(("~", "~*", "!~", "!~*"))
TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<text>'(?:[^']|'')*'(?!'))
    |(?P<quoted>"(?:[^"]|"")+"(?!")|`[^`]+`)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><=>|!~\*|==|!=|<>|<=|>=|\|\||::|//|~\*|!~|[-+*/%(),<>=~])""",
    re.VERBOSE,
)


class ExpressionError(ValueError):
    """What is not allowed, or not understood, and ``position``: its first character, counted from 1."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(f"at character {position}: {text}")
        self.position = position


class Expression(msgspec.Struct, frozen=True):
    """An expression that is allowed. ``sql``: as the engine is given it; ``columns``: those that it reads.

    ``heavy``: what it takes does not follow from the rows alone: texts that it builds, patterns, or what the engine makes of its
    length. It needs limits. ``parts``: its words and signs; each is a pass over the columns at most. ``of_all_rows``: it asks of
    them together, as for a mean, so that no row can be judged without the others.
    """

    sql: str
    columns: tuple[str, ...]
    heavy: bool
    parts: int
    of_all_rows: bool = False


class UncomputedError(Exception):
    """Why an expression could not be computed, for people."""


class Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """In lower case, of a word that is not quoted."""
        return self.text.lower() if self.kind in ("word", "sign") else ""


def parse(text: str) -> Expression:
    """Raises ExpressionError."""
    tokens = tokens_of(text)
    reader = Parser(tokens)
    sql = reader.either()
    reader.demand_end()
    parts = len(tokens) - 1
    heavy = reader.heavy or parts > LIGHT or reader.casts > CASTS
    return Expression(sql, tuple(dict.fromkeys(reader.columns)), heavy, parts, reader.of_all_rows)


def tokens_of(text: str, pattern: re.Pattern[str] = TOKEN) -> list[Token]:
    """The words and signs of a text, behind them one of the kind ``end``. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(LONGEST + 1, f"an expression has at most {LONGEST:,} characters")
    found, at = [], 0
    while at < len(text):
        match = pattern.match(text, at) if not text.startswith(("--", "/*"), at) else None
        if match is None:
            hint = ": it is not closed" if text[at] in "'\"`" else ""
            raise ExpressionError(at + 1, f"{text[at]!r} is not understood{hint}")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at + 1))
        at = match.end()
    return [*found, Token("end", "", len(text) + 1)]


class Parser:
    """By recursive descent, the loosest operators first. Each method returns SQL that stands by itself."""

    noun = "a rule"
    functions = FUNCTIONS
    cast = "CAST"

    def __init__(self, tokens: list[Token]) -> None:
        self.columns: list[str] = []
        self.heavy = False
        self.of_all_rows = False
        self.casts = 0
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def demand_end(self) -> None:
        if self._next.kind != "end":
            raise self._error(f"{self._next.text!r} is not expected here")

    def either(self) -> str:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error(f"parts lie within parts more than {DEEPEST} deep")
        sql = self._chain(self._both, ("or",))
        self._depth -= 1
        return sql

    def _both(self) -> str:
        return self._chain(self._negation, ("and",))

    def _negation(self) -> str:
        turns = 0
        while self._take("not"):
            turns += 1
        sql = self._tested()
        return f"(NOT {sql})" if turns % 2 else sql

    def _tested(self) -> str:
        sql = self._compared()
        while self._take("is"):
            no = "NOT " if self._take("not") else ""
            if self._take("distinct"):
                self._demand("from")
                sql = f"({sql} IS {no}DISTINCT FROM {self._compared()})"
            elif self._next.word in ("null", "true", "false"):
                sql = f"({sql} IS {no}{self._advance().text.upper()})"
            else:
                raise self._error("after IS comes [NOT] NULL, TRUE, FALSE or DISTINCT FROM")
        return sql

    def _compared(self) -> str:
        sql = self._sum()
        while True:
            token = self._next
            self.heavy |= token.kind == "sign" and token.text in MATCH
            if token.text in COMPARE or token.text in MATCH or token.text == "<=>":
                self._advance()
                sql = self._comparison(sql, token, self._sum())
                continue
            no = (
                "NOT "
                if token.word == "not" and self._after.word in ("in", "between", "like", "ilike", "rlike", "regexp")
                else ""
            )
            if no:
                self._advance()
            if self._take("between"):
                low = self._sum()
                self._demand("and")
                sql = f"({sql} {no}BETWEEN {low} AND {self._sum()})"
            elif self._take("in"):
                self._demand("(")
                sql = self._membership(sql, no, self._rest())
            elif self._next.word in ("like", "ilike", "rlike", "regexp"):
                self.heavy = True
                sql = f"({sql} {no}{self._advance().text.upper()} {self._sum()})"
            else:
                return sql

    def _comparison(self, left: str, sign: Token, right: str) -> str:
        return f"({left} {COMPARE.get(sign.text, sign.text)} {right})"

    def _membership(self, left: str, no: str, among: list[str]) -> str:
        return f"({left} {no}IN ({', '.join(among)}))"

    def _sum(self) -> str:
        return self._chain(self._product, ("+", "-"))

    def _product(self) -> str:
        return self._chain(self._signed, ("*", "/", "%", "//", "||"))

    def _signed(self) -> str:
        minus = False
        while self._next.text in ("+", "-") and self._next.kind == "sign":
            minus ^= self._advance().text == "-"
        sql = self._cast()
        return f"(-{sql})" if minus else sql

    def _cast(self) -> str:
        sql = self._single()
        while self._take("::"):
            sql = f"{self.cast}({sql} AS {self._type()})"
        return sql

    def _single(self) -> str:
        token = self._advance()
        if token.kind == "number":
            return token.text if token.text[0] != "." else f"0{token.text}"
        if token.kind == "text":
            return token.text
        if token.kind == "quoted":
            return self._column(token.text[1:-1].replace('""', '"'), token)
        if token.text == "(":
            sql = self.either()
            self._demand(")")
            return f"({sql})"
        if token.kind != "word":
            raise self._error(
                "a column or a value is missing" if token.kind == "end" else f"{token.text!r} is not expected", token
            )
        return self._word(token)

    def _word(self, token: Token) -> str:
        word = token.word
        if word in ("null", "true", "false"):
            return word.upper()
        if word == "case":
            return self._case()
        if word in ("date", "timestamp", "interval") and self._next.kind == "text":
            return f"({word.upper()} {self._advance().text})"
        if self._next.text == "(":
            return self._call(token)
        if word in WORDS:
            raise self._error(f"{token.text!r} is not expected here; a column of that name stands in double quotes", token)
        return self._column(token.text, token)

    def _column(self, name: str, token: Token) -> str:
        self.columns.append(name)
        return '"' + name.replace('"', '""') + '"'

    def _call(self, token: Token) -> str:
        name = token.word
        self._demand("(")
        if name in ("cast", "try_cast"):
            sql = self.either()
            self._demand("as")
            word = self.cast if name == "cast" else "TRY_CAST"
            return self._closed(f"{word}({sql} AS {self._type()}")
        if name == "extract":
            part = self._advance()
            if part.word not in PARTS:
                raise self._error(f"{part.text!r} is no part of a time; there are {', '.join(sorted(PARTS))}", part)
            self._demand("from")
            return self._closed(f"EXTRACT({part.word} FROM {self.either()}")
        if name == "position":
            sought = self._sum()
            self._demand("in")
            return self._closed(f"POSITION({sought} IN {self._sum()}")
        if name not in self.functions:
            near = get_close_matches(name[:40], self.functions, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self._error(f"{token.text[:40]!r} is no function that {self.noun} may use{hint}", token)
        self.heavy |= name in HEAVY
        self.of_all_rows |= name in TOGETHER
        if name == "count" and self._next.text == "*":
            self._advance()
            return self._closed("count(*")
        if self._take(")"):
            return f"{name}()"
        return f"{name}({', '.join(self._rest())})"

    def _case(self) -> str:
        sql = "CASE" if self._next.word == "when" else f"CASE {self.either()}"
        if self._next.word != "when":
            raise self._error("CASE needs a WHEN")
        while self._take("when"):
            sql += f" WHEN {self.either()}"
            self._demand("then")
            sql += f" THEN {self.either()}"
        if self._take("else"):
            sql += f" ELSE {self.either()}"
        self._demand("end")
        return f"({sql} END)"

    def _type(self) -> str:
        self.casts += 1
        token = self._advance()
        if token.word not in TYPES:
            raise self._error(f"{token.text!r} is no type; there are {', '.join(sorted(TYPES))}", token)
        return token.word.upper()

    def _rest(self) -> list[str]:
        """Expressions between commas, up to the closing bracket."""
        found = [self.either()]
        while self._take(","):
            found.append(self.either())
        self._demand(")")
        return found

    def _closed(self, sql: str) -> str:
        self._demand(")")
        return f"{sql})"

    def _chain(self, part: Callable[[], str], operators: tuple[str, ...]) -> str:
        """Operators of one strength, from left to right, in one pair of brackets."""
        sql = first = part()
        while self._next.word in operators:
            self.heavy |= self._next.text == "||"
            sql += f" {self._advance().text.upper()} {part()}"
        return sql if sql is first else f"({sql})"

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    @property
    def _after(self) -> Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _advance(self) -> Token:
        token = self._next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _take(self, word: str) -> bool:
        if self._next.word != word:
            return False
        self._advance()
        return True

    def _demand(self, word: str) -> None:
        if not self._take(word):
            found = f"found {self._next.text!r}" if self._next.kind != "end" else "the text ends"
            raise self._error(f"expected {word.upper()}, {found}")

    def _error(self, text: str, token: Token | None = None) -> ExpressionError:
        return ExpressionError((token or self._next).at, text)
