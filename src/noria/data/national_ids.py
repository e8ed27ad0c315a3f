"""National ids by country: what one looks like, and the check that it passes. The checks are python-stdnum's."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module

import msgspec

LENGTHS = (9, 20)  # characters of an id as people write it


class NationalId(msgspec.Struct, frozen=True):
    """``strict``: hardly anything else looks like it and passes. Others count only in a column that is called like an id."""

    country: str
    pattern: re.Pattern[str]  # of a whole value
    module: str  # of stdnum
    strict: bool = False

    def is_valid(self, value: str) -> bool:
        if self.pattern.fullmatch(value) is None:
            return False
        check: Callable[[str], bool] = import_module(f"stdnum.{self.module}").is_valid
        try:
            return check(value)
        except KeyError:  # stdnum 2.2 on a Chinese county that it does not know
            return False


def _id(country: str, pattern: str, module: str, strict: bool = False) -> NationalId:
    return NationalId(country, re.compile(pattern), module, strict)


NATIONAL_IDS = (
    # with letters, a date, or two check digits: chance passes one in a thousand or fewer
    _id("IT", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale", True),
    _id("FI", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", "fi.hetu", True),
    _id("MX", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", "mx.curp", True),
    _id("CH", r"756\.?\d{4}\.?\d{4}\.?\d{2}", "ch.ssn", True),
    _id("CN", r"\d{17}[0-9X]", "cn.ric", True),
    _id("FR", r"[12] ?\d{2} ?(0[1-9]|1[0-2]|[2-9]\d) ?\d[0-9AB] ?\d{3} ?\d{3} ?\d{2}", "fr.nir", True),
    _id("NO", r"\d{6} ?\d{5}", "no.fodselsnummer", True),
    _id("BE", r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}\.?\d{2}", "be.nn", True),
    _id("BR", r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf", True),
    _id("US", r"\d{3}-\d{2}-\d{4}", "us.ssn", True),  # without a check digit; hardly anything else is written so
    _id("RO", r"[1-9]\d{12}", "ro.cnp", True),
    # with a letter or a date, and one check digit
    _id("ES", r"\d{8}-?[A-Z]", "es.dni", True),
    _id("ES", r"[XYZ]-?\d{7}-?[A-Z]", "es.nie", True),
    _id("SE", r"(\d{2})?\d{6}[-+]\d{4}", "se.personnummer", True),
    _id("PL", r"\d{11}", "pl.pesel"),
    _id("DK", r"\d{6}-\d{4}", "dk.cpr"),
    _id("EE", r"[1-8]\d{10}", "ee.ik"),
    _id("BG", r"\d{10}", "bg.egn"),
    _id("CZ", r"\d{6}/\d{3,4}", "cz.rc"),
    _id("ZA", r"\d{13}", "za.idnr"),
    _id("KR", r"\d{6}-?\d{7}", "kr.rrn"),
    # digits with a check digit, as many other numbers have one
    _id("DE", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "de.idnr"),
    _id("GB", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs"),
    _id("NL", r"\d{8,9}", "nl.bsn"),
    _id("BR", r"\d{11}", "br.cpf"),
    _id("AT", r"\d{4} ?\d{6}", "at.vnr"),
    _id("IE", r"\d{7}[A-W][A-I]?", "ie.pps"),
    _id("IN", r"\d{4} ?\d{4} ?\d{4}", "in_.aadhaar"),
    _id("TR", r"[1-9]\d{10}", "tr.tckimlik"),
    _id("HR", r"\d{11}", "hr.oib"),
    _id("CA", r"\d{3}[ -]?\d{3}[ -]?\d{3}", "ca.sin"),
    _id("AU", r"\d{3} ?\d{3} ?\d{3}", "au.tfn"),
    _id("US", r"\d{9}", "us.ssn"),
)
IN_TEXT = re.compile(  # those that are told from other numbers inside a sentence
    r"\b(?:\d{3}-\d{2}-\d{4}|756\.\d{4}\.\d{4}\.\d{2}|\d{3}\.\d{3}\.\d{3}-\d{2}|\d{6}[-+A]\d{3}[0-9A-Y]"
    r"|[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]|[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d|\d{8}-?[A-Z])\b"
)


def countries_of(value: str, *, named: bool) -> frozenset[str]:
    """The countries whose id a value may be; ``named``: its column is called like an id."""
    if not LENGTHS[0] - 1 <= len(value) <= LENGTHS[1]:
        return frozenset()
    return frozenset(one.country for one in NATIONAL_IDS if (named or one.strict) and one.is_valid(value))
