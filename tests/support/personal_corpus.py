"""Made-up tables with and without personal data: every value is generated here, most by the check digits of python-stdnum."""

from __future__ import annotations

import hashlib
import random
import string
import uuid
from collections.abc import Callable
from importlib import import_module

import phonenumbers
import polars as pl
from stdnum import iban, isbn, luhn
from stdnum.iso7064 import mod_97_10

from noria.data.personal_kinds import PersonalDataKind as Kind

ROWS = 200
GIVEN = ["Anna", "Robert", "Julia", "Michael", "Sofia", "Thomas", "Maria", "Jürgen", "Claire", "Pedro", "Katarzyna", "Ahmed"]
RARE = ["Ottokar", "Wilburga", "Xiomara", "Ngozi", "Siobhan", "Tadeusz"]
FAMILY = [
    "Berger",
    "Smith",
    "Novak",
    "Rossi",
    "García",
    "O'Neill",
    "Kowalska",
    "Müller",
    "Lindqvist",
    "Dubois",
    "Santos",
    "Patel",
]
STREETS = ["Maple", "Oak", "Station", "Church", "Mill", "Highland"]
TALK = ["please call back", "the parcel did not arrive", "wants a refund", "asked about delivery", "was very friendly today"]
Maker = Callable[[random.Random], str]


def digits(rng: random.Random, count: int, first: str = "123456789") -> str:
    return rng.choice(first) + "".join(rng.choices(string.digits, k=count - 1))


def person(rng: random.Random) -> str:
    return f"{rng.choice(GIVEN) if rng.random() < 0.8 else rng.choice(RARE)} {rng.choice(FAMILY)}"


def email(rng: random.Random) -> str:
    return (
        f"{rng.choice(GIVEN).lower().replace('ü', 'ue')}.{rng.randrange(1000)}@{rng.choice(['mail', 'post', 'office'])}.example"
    )


def card(rng: random.Random) -> str:
    body = rng.choice(["4", "52", "2300", "6011"])
    body += "".join(rng.choices(string.digits, k=15 - len(body)))
    return body + luhn.calc_check_digit(body)


def card_grouped(rng: random.Random) -> str:
    number = card(rng)
    return " ".join(number[at : at + 4] for at in range(0, 16, 4))


def account(rng: random.Random) -> str:
    while True:
        country, count = rng.choice([("DE", 18), ("AT", 16), ("CH", 17), ("DK", 14)])
        number = "".join(rng.choices(string.digits, k=count))
        made = f"{country}{mod_97_10.calc_check_digits(number + country)}{number}"
        if iban.is_valid(made):
            return made


def phone(region: str, form: int) -> Maker:
    def make(rng: random.Random) -> str:
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        while True:
            national = str(example.national_number)[:-5] + "".join(rng.choices(string.digits, k=5))
            made = phonenumbers.PhoneNumber(country_code=example.country_code, national_number=int(national))
            if phonenumbers.is_valid_number(made):
                return phonenumbers.format_number(made, form)

    return make


def home_address(rng: random.Random) -> str:
    number = rng.randrange(1, 400)
    return rng.choice(
        [
            f"{number} {rng.choice(STREETS)} {rng.choice(['Street', 'Avenue', 'Road', 'Ln'])}",
            f"{rng.choice(['Linden', 'Haupt', 'Garten', 'Schiller'])}straße {number}",
            f"{number} rue de {rng.choice(['Lyon', 'Rivoli', 'Nantes'])}",
            f"Calle {rng.choice(['Mayor', 'Serrano', 'Alcalá'])} {number}",
        ]
    )


def ip4(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(1, 255)) for _ in range(4))


def ip6(rng: random.Random) -> str:
    return ":".join(["2001", "db8", *(f"{rng.randrange(1, 65536):x}" for _ in range(6))])


def day(rng: random.Random) -> str:
    return f"{rng.randrange(1940, 2006)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"


def valid_id(module: str, begin: Maker) -> Maker:
    """Numbers that pass a check of stdnum, found by trying check digits."""
    check = import_module(f"stdnum.{module}").is_valid

    def make(rng: random.Random) -> str:
        while True:
            body = begin(rng)
            ends = [a + b for a in string.digits for b in string.digits] if module in TWO else string.digits
            for end in ends:
                if check(body + end):
                    return body + end

    return make


TWO = {"br.cpf", "no.fodselsnummer", "be.nn", "fr.nir", "tr.tckimlik"}


def short_day(rng: random.Random, form: str = "ymd") -> str:
    parts = {"y": f"{rng.randrange(40, 100)}", "m": f"{rng.randrange(1, 13):02}", "d": f"{rng.randrange(1, 29):02}"}
    return "".join(parts[part] for part in form)


def dni(rng: random.Random) -> str:
    number = digits(rng, 8)
    return number + import_module("stdnum.es.dni").calc_check_digit(number)


def codice(rng: random.Random) -> str:
    letters = "".join(rng.choices("BCDFGLMNPRSTV", k=6))
    body = f"{letters}{rng.randrange(40, 100)}{rng.choice('ABCDEHLMPRST')}{rng.randrange(1, 29):02}H501"
    return body + import_module("stdnum.it.codicefiscale").calc_check_digit(body)


def hetu(rng: random.Random) -> str:
    body, serial = short_day(rng, "dmy"), f"{rng.randrange(2, 899):03}"
    return f"{body}-{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(body + serial) % 31]}"


IDS: dict[str, Maker] = {
    "ssn": lambda rng: f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
    "steuer_id": valid_id("de.idnr", lambda rng: "".join(rng.sample(string.digits[1:], 9)) + rng.choice("23")),
    "bsn": valid_id("nl.bsn", lambda rng: digits(rng, 8)),
    "pesel": valid_id("pl.pesel", lambda rng: short_day(rng) + digits(rng, 4)),
    "cpf": valid_id("br.cpf", lambda rng: digits(rng, 9)),
    "nhs_number": valid_id("gb.nhs", lambda rng: digits(rng, 9, "4")),
    "nir": valid_id("fr.nir", lambda rng: f"{rng.choice('12')}{short_day(rng, 'ym')}75{digits(rng, 6)}"),
    "dni": dni,
    "national_id": codice,
    "aadhaar": valid_id("in_.aadhaar", lambda rng: digits(rng, 11, "3456789")),
}
STRICT: dict[str, Maker] = {
    "ref": codice,
    "column_7": hetu,
    "document": dni,
    "code": lambda rng: f"756.{digits(rng, 4)}.{digits(rng, 4)}.{digits(rng, 1)}",
    "kennung": valid_id("no.fodselsnummer", lambda rng: short_day(rng, "dmy") + f"{rng.randrange(0, 499):03}"),
}


def ahv(rng: random.Random) -> str:
    body = f"756{digits(rng, 9)}"
    whole = body + import_module("stdnum.ean").calc_check_digit(body)
    return f"{whole[:3]}.{whole[3:7]}.{whole[7:11]}.{whole[11:]}"


STRICT["code"] = ahv
NATIONAL, ABROAD, E164 = (
    phonenumbers.PhoneNumberFormat.NATIONAL,
    phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    phonenumbers.PhoneNumberFormat.E164,
)
OWN: list[tuple[str, Kind, Maker]] = [
    ("email", Kind.EMAIL, email),
    ("kontakt", Kind.EMAIL, email),
    ("c3", Kind.EMAIL, email),
    ("customerName", Kind.NAME, person),
    ("first_name", Kind.NAME, lambda rng: rng.choice(GIVEN + RARE)),
    ("Nachname", Kind.NAME, lambda rng: rng.choice(FAMILY)),
    ("col_b", Kind.NAME, person),
    ("phone", Kind.PHONE, phone("US", NATIONAL)),
    ("Telefon", Kind.PHONE, phone("DE", NATIONAL)),
    ("mobile_number", Kind.PHONE, phone("GB", NATIONAL)),
    ("contact", Kind.PHONE, phone("FR", E164)),
    ("c9", Kind.PHONE, phone("BR", ABROAD)),
    ("card_number", Kind.CARD, card),
    ("payment", Kind.CARD, card_grouped),
    ("c4", Kind.CARD, card),
    ("iban", Kind.IBAN, account),
    ("reference", Kind.IBAN, account),
    *((name, Kind.NATIONAL_ID, make) for name, make in (IDS | STRICT).items()),
    ("address", Kind.ADDRESS, home_address),
    ("c12", Kind.ADDRESS, home_address),
    ("client_ip", Kind.IP_ADDRESS, ip4),
    ("origin", Kind.IP_ADDRESS, ip4),
    ("peer", Kind.IP_ADDRESS, ip6),
    ("birth_date", Kind.BIRTH_DATE, day),
    ("dob", Kind.BIRTH_DATE, lambda rng: "/".join(day(rng).split("-")[::-1])),
]
INSIDE: list[tuple[Kind, str, Maker]] = [
    (Kind.EMAIL, "write to {}, thanks", email),
    (Kind.PHONE, "call back under {} after lunch", phone("DE", ABROAD)),
    (Kind.PHONE, "number is {} (evening)", phone("US", NATIONAL)),
    (Kind.CARD, "paid by card {} yesterday", card_grouped),
    (Kind.IBAN, "transfer it to {} please", account),
    (Kind.NATIONAL_ID, "the ssn given was {} in the form", IDS["ssn"]),
    (Kind.NATIONAL_ID, "identified by {} at the counter", codice),
    (Kind.ADDRESS, "deliver it to {} instead of the shop", home_address),
    (Kind.IP_ADDRESS, "login failed from {} three times", ip4),
    (Kind.BIRTH_DATE, "patient born on {}, no allergies", day),
    (Kind.NAME, "spoke with {} about the order", person),
]
NONE: list[tuple[str, Maker]] = [
    ("flight_number", lambda rng: f"{rng.choice(['UA', 'DL', 'LH'])}{rng.randrange(1, 9999)}"),
    ("flight", lambda rng: str(rng.randrange(1, 9999))),
    ("tailnum", lambda rng: f"N{rng.randrange(100, 999)}{rng.choice(['UA', 'JB'])}"),
    ("price", lambda rng: f"{rng.uniform(1, 5000):.2f}"),
    ("amount_cents", lambda rng: digits(rng, 9)),
    ("created_ms", lambda rng: str(1_700_000_000_000 + rng.randrange(10**10))),
    ("created_us", lambda rng: str(1_700_000_000_000_000 + rng.randrange(10**13))),
    ("epoch", lambda rng: str(1_600_000_000 + rng.randrange(10**8))),
    ("stamp", lambda rng: f"2024{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{rng.randrange(24):02}3015"),
    ("time", lambda rng: f"2024-03-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:15:00Z"),
    ("departure_date", day),
    ("sha256", lambda rng: hashlib.sha256(str(rng.random()).encode()).hexdigest()),
    ("md5", lambda rng: hashlib.md5(str(rng.random()).encode(), usedforsecurity=False).hexdigest()),
    ("uuid", lambda rng: str(uuid.UUID(int=rng.getrandbits(128)))),
    ("app_version", lambda rng: f"{rng.randrange(1, 130)}.0.{rng.randrange(7000)}.{rng.randrange(250)}"),
    ("firmware", lambda rng: f"{rng.randrange(1, 9)}.{rng.randrange(20)}.{rng.randrange(20)}.{rng.randrange(20)}"),
    ("build", lambda rng: f"{rng.randrange(1, 9)}.{rng.randrange(20)}.{rng.randrange(200)}"),
    ("parts", lambda rng: f"{rng.randrange(1, 9)}.{rng.randrange(20)}.{rng.randrange(20)}.{rng.randrange(20)}"),
    *((f"id_{n}", lambda rng, n=n: digits(rng, n)) for n in range(8, 20)),
    ("card_id", lambda rng: digits(rng, 16, "45")),
    ("account_id", lambda rng: digits(rng, 12)),
    ("snowflake", lambda rng: str(10**18 + rng.randrange(10**17))),
    ("isbn", lambda rng: isbn.to_isbn13("9783" + digits(rng, 8) + "0")[:12] + digits(rng, 1)),
    ("isbn10", lambda rng: (body := digits(rng, 9)) + import_module("stdnum.isbn")._calc_isbn10_check_digit(body)),
    ("imei", lambda rng: (body := "35" + digits(rng, 12)) + luhn.calc_check_digit(body)),
    ("ean", lambda rng: (body := "40" + digits(rng, 10)) + import_module("stdnum.ean").calc_check_digit(body)),
    ("customer_no", lambda rng: (body := digits(rng, 8)) + luhn.calc_check_digit(body)),
    ("phone_model", lambda rng: f"SM-{rng.choice('AGS')}{rng.randrange(100, 999)}"),
    ("phone_calls", lambda rng: str(rng.randrange(300))),
    ("email_opens", lambda rng: str(rng.randrange(50))),
    ("ip_count", lambda rng: str(rng.randrange(50))),
    ("card_type", lambda rng: rng.choice(["visa", "mastercard"])),
    ("delta", lambda rng: f"{rng.choice('+-')}{rng.randrange(10**10)}"),
    ("plus", lambda rng: f"+{rng.uniform(0, 10**6):.2f}"),
    ("latitude", lambda rng: f"{rng.uniform(-90, 90):.6f}"),
    ("coordinates", lambda rng: f"{rng.uniform(40, 50):.6f}, {rng.uniform(5, 10):.6f}"),
    ("mac", lambda rng: ":".join(f"{rng.randrange(256):02x}" for _ in range(6))),
    ("duration", lambda rng: f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"),
    ("city", lambda rng: rng.choice(["New York", "San Jose", "Santa Maria", "Saint Paul", "Los Angeles", "Berlin"])),
    ("airport_name", lambda rng: rng.choice(["John F Kennedy Intl", "La Guardia", "Newark Liberty Intl", "Charles De Gaulle"])),
    ("carrier", lambda rng: rng.choice(["Delta Air Lines", "Frontier Airlines", "JetBlue Airways", "Air Berlin"])),
    ("product", lambda rng: rng.choice(["Red Chair", "Oak Table", "Garden Lamp", "Super Soft Towel", "Steel Pan 28 cm"])),
    ("product_name", lambda rng: rng.choice(["Anna Chair", "Oak Table", "Garden Lamp", "Super Soft Towel"])),
    ("file_name", lambda rng: f"logo-{rng.randrange(99)}@2x.png"),
    ("package", lambda rng: f"@scope/name@{rng.randrange(9)}.{rng.randrange(20)}.1"),
    ("remote_url", lambda rng: f"git@host.example:team/repo{rng.randrange(99)}.git"),
    ("handle", lambda rng: f"@user{rng.randrange(9999)}"),
    ("sku", lambda rng: f"DE{digits(rng, 2)} {digits(rng, 4)} {digits(rng, 4)}"),
    ("token", lambda rng: "".join(rng.choices(string.ascii_uppercase + string.digits, k=22))),
    ("order_code", lambda rng: f"{digits(rng, 3)}-{digits(rng, 7)}-{digits(rng, 7)}"),
    ("case", lambda rng: f"{digits(rng, 6)}-{digits(rng, 4)}"),
    ("note", lambda rng: f"{rng.choice(TALK)}, {rng.choice(TALK)}"),
    ("comment", lambda rng: f"ticket {digits(rng, 16)} was closed, see {digits(rng, 7)}"),
    ("log", lambda rng: f"upgraded from version {rng.randrange(9)}.1.{rng.randrange(20)}.3 to 5.0.1.2 in {rng.randrange(9)} ms"),
    ("code_line", lambda rng: f"std::vector<int> a{rng.randrange(9)} = f::g(0x{rng.randrange(99)});"),
    ("room", lambda rng: f"{rng.randrange(1, 40)} {rng.choice(['North Wing', 'East Hall', 'Floor', 'rows'])}"),
    ("score", lambda rng: f"{rng.randrange(9)}:{rng.randrange(9)}"),
    ("ratio", lambda rng: f"{rng.random():.16f}"),
    ("status", lambda rng: rng.choice(["active", "closed", "Pending Review"])),
]  # fmt: skip


def column(name: str, make: Maker, seed: int, share: float = 1.0) -> pl.Series:
    rng = random.Random(f"{name}{seed}")
    return pl.Series(name, [make(rng) if rng.random() < share else None for _ in range(ROWS)], dtype=pl.String)


def inside(at: int, seed: int, share: float) -> tuple[pl.Series, Kind]:
    """A column of sentences, of which some hold the kind."""
    kind, sentence, make = INSIDE[at]
    rng = random.Random(f"{at}{seed}")
    texts = [sentence.format(make(rng)) if rng.random() < share else rng.choice(TALK) for _ in range(ROWS)]
    return pl.Series("remarks", texts), kind
