"""What each kind of personal data looks like: in a value, in a text, and in the name of its column. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import msgspec

from noria.data.given_names import GIVEN_NAMES
from noria.data.national_ids import IN_TEXT, countries_of
from noria.kernel.contract import PersonalDataKind

# --- names of columns

COLUMN_NAMES: dict[PersonalDataKind, re.Pattern[str]] = {
    PersonalDataKind.NAME: re.compile(
        r"\b(first|last|given|family|full|middle|maiden|sur|fore|nick)[ ]?name\b|\b(customer|person|employee|passenger|patient|"
        r"contact|client|guest|member|student|teacher|user|tenant|holder|owner|author|driver|guardian|buyer|seller|recipient) "
        r"(full )?name\b|\b(vorname|nachname|familienname|prenom|prénom|nom|nombre|apellidos?|cognome|nome|sobrenome)\b|"
        r"\bachternaam\b"
    ),
    PersonalDataKind.EMAIL: re.compile(r"\be ?mails?\b|\bmail\b|\bcourriel\b|\bcorreo\b"),
    PersonalDataKind.PHONE: re.compile(
        r"\b(tele)?(phone|fon)s?\b|\btel\b|\bmobile?\b|\bcell\b|\bfax\b|\bhandy\b|\bmsisdn\b|\bcelular\b|\bportable\b|"
        r"\btelefono\b|\btéléphone\b|\bwhatsapp\b"
    ),
    PersonalDataKind.CARD: re.compile(r"\bcards?\b|\bpan\b|\bcc (num|no|number)\b|\bkreditkarte|\bcarte\b|\btarjeta\b"),
    PersonalDataKind.IBAN: re.compile(r"\biban\b|\bbank ?account\b|\baccount (no|number|num)\b|\bkonto"),
    PersonalDataKind.NATIONAL_ID: re.compile(
        r"\bssn\b|\bsocial (security|insurance)\b|\bnational (id|insurance)\b|\bnin\b|\bbsn\b|\bcpf\b|\bpesel\b|\bcpr\b|"
        r"\bpersonnummer\b|\bfodselsnummer\b|\btax ?(id|file)\b|\btfn\b|\bsin\b|\bnhs\b|\baadhaar\b|\bsteuer ?(id|nummer)\b|"
        r"\bdni\b|\bnie\b|\bcodice fiscale\b|\bcurp\b|\bnir\b|\bpps\b|\bidnr\b|\bid ?card\b|\bcitizen|"
        r"\bpersonal (code|id|number)\b|\bidentity\b|\boib\b|\begn\b|\bcnp\b|\btckn\b|\btc kimlik\b|\bahv\b|\bavs\b|\bvsnr\b"
    ),
    PersonalDataKind.ADDRESS: re.compile(
        r"\b(home|postal|street|billing|shipping|mailing|delivery|residential)? ?addr(ess)?( line)?( ?[12])?\b|\bstreet\b|"
        r"\bstra(ss|ß)e\b|\badresse\b|\banschrift\b|\bdireccion\b|\bdirección\b|\bindirizzo\b|\bendereço\b|\bendereco\b|\brue\b"
    ),
    PersonalDataKind.IP_ADDRESS: re.compile(
        r"\bip(v[46])?( ?addr(ess)?)?\b|\bclient (ip|addr)|\bremote (ip|addr|host)|\bhost\b|\bsource ip\b"
    ),
    PersonalDataKind.BIRTH_DATE: re.compile(
        r"\bdob\b|\bbirth ?(day|date)\b|\bdate of birth\b|\bborn( on)?\b|\bbday\b|\bgeburts(datum|tag)\b|\bgeb ?datum\b|"
        r"\b(date )?(de )?naissance\b|\bnacimiento\b|\bnascita\b|\bnascimento\b|\bgeboortedatum\b"
    ),
}
OTHER_NAMES = re.compile(  # of columns about such a thing, that hold another
    r"\b(id|ids|count|counts|num calls|type|model|brand|os|version|hash|code|flag|is|has|rate|price|cost|share|length|size|"
    r"status|valid|verified|score|amount|usage|minutes|plan|provider|domain)\b"
)
VERSION_NAMES = re.compile(r"\b(version|ver|release|build|oid|revision|firmware|section)\b")
CODE_IDS = re.compile(r"\b(isbn|ean|gtin|upc|imei|iccid|issn|sku|order|invoice|serial|tracking)\b")
_CAMEL = re.compile(r"(?<=[a-zß-ÿ0-9])(?=[A-Z])|[^0-9A-Za-zß-ÿÀ-Þ]+")


def spoken_name(column: str) -> str:
    """``customerEmail_2`` as ``customer email 2``."""
    return " ".join(part for part in _CAMEL.split(column) if part).casefold()


def is_named(kind: PersonalDataKind, column: str) -> bool:
    """Whether a column is called like what it would hold."""
    name = spoken_name(column)
    if COLUMN_NAMES[kind].search(name) is None or CODE_IDS.search(name):
        return False
    if kind is PersonalDataKind.ADDRESS and re.search(r"\b(ip|ipv[46]|e ?mail|mac|web|wallet|memory|url)\b", name):
        return False
    if kind is PersonalDataKind.NATIONAL_ID:
        return True
    return OTHER_NAMES.search(COLUMN_NAMES[kind].sub(" ", name)) is None


# --- values


class Sight(msgspec.Struct, frozen=True):
    """What one value shows of a kind: how many places ``look`` like it, how many of them are, and by which country's check."""

    looks: int
    found: int
    sorts: frozenset[str] = frozenset()  # countries of a national id; `plain` for a number without separators, `cue`
    whole: bool = False  # the value is nothing else


class KindPatterns(msgspec.Struct, frozen=True):
    """``prefilter``: Rust's regex, over unique values, before anything costs; ``see`` decides about one value."""

    prefilter: str
    see: Callable[[str, bool], Sight]  # the value, and whether its column is called so


NOTHING = Sight(0, 0)
EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+'-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+([A-Za-z]{2,24})(?![\w:/-])")
NOT_DOMAINS = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "py", "txt", "json", "local", "csv"])
CARD = re.compile(r"(?<![\w.,/+-])(?:\d[ -]?){13,18}\d(?![\w/-]|[.,]\d)")
CARD_START = re.compile(
    r"4\d{15}(\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|6(?:011|5\d\d|4[4-9]\d)\d{12}|"
    r"3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
CARD_CUE = re.compile(r"\b(card|visa|mastercard|amex|credit|debit|karte|carte|tarjeta|cvc|cvv)\b", re.IGNORECASE)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
PHONE_ABROAD = re.compile(r"(?<![\w+.])(?<!\d[ -])(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){7,14}(?![\w+]|[.,]\d)")
PHONE_HOME = re.compile(r"\(?\d{2,5}\)?(?:[ ()./-]{0,2}\d){4,11}")
PHONE_US = re.compile(r"(?<![\w.-])(?:\(\d{3}\) ?\d{3}-|\d{3}-\d{3}-|\d{3}\.\d{3}\.)\d{4}(?: ?x\d{1,6})?(?![\w-]|\.\d)")
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "MX", "AU", "AT", "CH", "BE", "PL", "SE", "PT", "JP", "ZA")
IP_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*[\w])")
IP_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
IP_CUE = re.compile(r"\b(ip|client|host|remote|addr)\b", re.IGNORECASE)
_KINDS_OF_STREET = (
    r"Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Lane|Ln\.?|Drive|Dr\.?|Boulevard|Blvd\.?|Court|Ct\.?|Place|Terrace|Square|Crescent|"
    r"Close|Highway|Hwy|Parkway|Pkwy|Way"
)
STREET = re.compile(
    rf"\b\d{{1,5}}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z0-9][\w.'-]* ){{1,3}}(?:{_KINDS_OF_STREET})(?!\w)"
    r"|\b[A-ZÄÖÜ][\wäöüß.-]*(?:straße|strasse|str\.|weg|platz|allee|gasse|damm|ufer|straat|laan|gracht|plein|kade|dijk)"
    r" ?\d{1,4}[a-z]?\b"
    r"|\b(?:[A-ZÄÖÜ][\wäöüß-]+[ -])+(?:Straße|Strasse|Str\.|Weg|Platz|Allee|Ring|Damm|Ufer) \d{1,4}[a-z]?\b"
    r"|\b\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai|route)"
    r" (?:de |du |des |la |le |d'|l')*\w+"
    r"|\b(?:[Cc]alle|C/|Avenida|Avda\.?|Paseo|Plaza|[Vv]ia|Viale|Piazza|Corso|Rua|Travessa|ul\.|ulica)"
    r"(?: [A-ZÀ-Þ]?[\w'.-]+){1,4},? \d{1,4}\b"
)
BIRTH_TEXT = re.compile(
    r"\b(?:born(?: on)?|d\.?o\.?b\.?|date of birth|birth ?date|geb(?:oren)?\.?(?: am)?|geburtsdatum|n[ée]e? le)[ :]{1,3}"
    r"(?:(?:19|20)\d\d[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./ ]{1,2}(?:\d{1,2}|[A-Za-z]{3,9})[-./ ]{1,2}(?:19|20)\d\d)",
    re.IGNORECASE,
)
BIRTH_VALUE = re.compile(
    r"(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]00:00(?::00(?:\.0+)?)?Z?)?|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d\d|(?:19|20)\d{6}"
)
TITLED = re.compile(r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|Sr|Sra|Sig)\.? (?:[A-ZÀ-Þ]\.? )?[A-ZÀ-Þ][a-zß-ÿ'-]+")
PERSON = re.compile(
    r"\b([A-ZÀ-Þ][a-zß-ÿ]+)(?: [A-ZÀ-Þ]\.?)? (?:(?:von|van|de|der|di|da|del|la|le) )*([A-ZÀ-Þ][\wß-ÿ'-]*[a-zß-ÿ])\b"
)
PERSON_VALUE = re.compile(r"[^\W\d_][^\W\d_'’.-]*(?:[ ,'’.-]{1,2}[^\W\d_]+\.?){0,4}")
NOT_SURNAMES = frozenset(
    [
        "street", "st", "road", "avenue", "airport", "intl", "international", "hotel", "university", "college",
        "school", "hospital", "park", "station", "city", "county", "island", "church", "center", "centre", "field",
        "lake", "river", "beach", "inc", "ltd", "corp", "company", "airlines", "museum", "library", "institute",
        "award", "bridge", "square", "day", "memorial", "house", "store",
    ]
)  # fmt: skip


def _whole(value: str, match: str) -> bool:
    return len(match) >= 0.9 * len(value.strip())


def _see_email(value: str, named: bool) -> Sight:
    found = [m for m in EMAIL.finditer(value) if m[1].lower() not in NOT_DOMAINS]
    return Sight(len(found), len(found), whole=bool(found) and _whole(value, found[0][0])) if found else NOTHING


def _see_card(value: str, named: bool) -> Sight:
    from stdnum import luhn  # stdnum and phonenumbers are loaded where a value looks like something

    looks = [m[0] for m in CARD.finditer(value)]
    digits = [re.sub(r"[ -]", "", one) for one in looks]
    found = [one for one in digits if CARD_START.fullmatch(one) and len(set(one)) > 2 and luhn.is_valid(one)]
    grouped = any(re.fullmatch(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5}", one) for one in looks)
    cue = grouped or CARD_CUE.search(value) is not None
    sorts = frozenset(["cue"] if cue else ["plain"])
    return Sight(len(looks), len(found), sorts, bool(looks) and _whole(value, looks[0])) if looks else NOTHING


def _see_iban(value: str, named: bool) -> Sight:
    from stdnum import iban  # only here

    looks = [m[0] for m in IBAN.finditer(value)]
    found = [one for one in looks if any(iban.is_valid(part) for part in _beginnings(one))]
    return Sight(len(looks), len(found), whole=bool(looks) and _whole(value, looks[0])) if looks else NOTHING


def _beginnings(text: str) -> list[str]:
    """A match and, where capital words follow it, the shorter ones that it may be."""
    parts = text.split(" ")
    return [" ".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _is_phone(text: str, region: str | None) -> bool:
    import phonenumbers  # only here

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _see_phone(value: str, named: bool) -> Sight:
    abroad = [m[0] for m in PHONE_ABROAD.finditer(value)]
    if abroad:
        found = [one for one in abroad if _is_phone(f"+{one.removeprefix('00').removeprefix('+')}", None)]
        cue = frozenset(["cue"] if any(one.startswith("+") for one in abroad) else ["plain"])
        return Sight(len(abroad), len(found), cue, _whole(value, abroad[0]))
    home = [m[0] for m in PHONE_US.finditer(value)]
    if home:
        return Sight(len(home), sum(_is_phone(one, "US") for one in home), frozenset(["cue"]), _whole(value, home[0]))
    text = value.strip()
    if not named or PHONE_HOME.fullmatch(text) is None or not 7 <= sum(c.isdigit() for c in text) <= 15:
        return NOTHING
    plain = text.isdigit()
    valid = any(_is_phone(text, region) for region in REGIONS) or (plain and _is_phone(f"+{text}", None))
    return Sight(1, int(valid), frozenset(["plain"] if plain else []), whole=True)


def _see_ip(value: str, named: bool) -> Sight:
    v4, v6 = [m[0] for m in IP_V4.finditer(value)], [m[0] for m in IP_V6.finditer(value)]
    v6 = [one for one in v6 if sum(bool(part) for part in one.split(":")) >= 3]
    found = [one for one in (*v4, *v6) if _is_host(one)]
    if not v4 and not v6:
        return NOTHING
    likely = bool(v6) or named or IP_CUE.search(value) is not None or any(max(map(int, one.split("."))) > 60 for one in v4)
    whole = _whole(value, (v4 or v6)[0])
    return Sight(len(v4) + len(v6), len(found) if likely else 0, frozenset(["v6"] if v6 else []), whole)


def _is_host(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255")


def _see_national_id(value: str, named: bool) -> Sight:
    text = value.strip()
    if len(text) <= 20:
        found = countries_of(text.upper(), named=named)
        return Sight(1, int(bool(found)), found, whole=True)
    looks = [m[0] for m in IN_TEXT.finditer(value)]
    sorts = [countries_of(one, named=False) for one in looks]
    return Sight(len(looks), sum(map(bool, sorts)), frozenset().union(*sorts)) if looks else NOTHING


def _see_address(value: str, named: bool) -> Sight:
    match = STREET.search(value)
    if match is not None:
        return Sight(1, 1, whole=len(value) <= 120 and len(match[0]) >= 0.4 * len(value))
    if named and re.search(r"\d", value) and re.search(r"[^\W\d_]{3,}", value) and " " in value.strip() and len(value) <= 120:
        return Sight(1, 1, frozenset(["plain"]), whole=True)
    return NOTHING


def _see_birth_date(value: str, named: bool) -> Sight:
    if BIRTH_TEXT.search(value):
        return Sight(1, 1)
    return Sight(1, 1, whole=True) if named and BIRTH_VALUE.fullmatch(value.strip()) else NOTHING


def _see_name(value: str, named: bool) -> Sight:
    text = value.strip()
    words = [word.casefold().strip(".,'’") for word in re.split(r"[ ,-]+", text)]
    given = words[0] in GIVEN_NAMES or ("," in text and words[-1] in GIVEN_NAMES)
    if len(text) <= 50 and len(words) <= 5 and PERSON_VALUE.fullmatch(text) and (named or len(words) >= 2):
        ends = bool(NOT_SURNAMES.intersection(words))
        is_given = given and not ends and (named or text[0].isupper())
        return Sight(1, int(is_given or (named and not ends)), frozenset(["given"] if is_given else ["plain"]), whole=True)
    pairs = [m for m in PERSON.finditer(value) if m[1].casefold() in GIVEN_NAMES and m[2].casefold() not in NOT_SURNAMES]
    found = len(pairs) + sum(m.group().split()[-1].casefold() not in NOT_SURNAMES for m in TITLED.finditer(value))
    return Sight(found, found) if found else NOTHING


KINDS: dict[PersonalDataKind, KindPatterns] = {
    PersonalDataKind.EMAIL: KindPatterns(r"[A-Za-z0-9]@[A-Za-z0-9]", _see_email),
    PersonalDataKind.CARD: KindPatterns(r"(?:\d[ -]?){13}\d", _see_card),
    PersonalDataKind.IBAN: KindPatterns(r"[A-Z]{2}\d{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}", _see_iban),
    PersonalDataKind.PHONE: KindPatterns(r"(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){7}|\d{3}\)?[ .-]{0,2}\d{3}[.-]\d{4}", _see_phone),
    PersonalDataKind.IP_ADDRESS: KindPatterns(
        r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{2}", _see_ip
    ),
    PersonalDataKind.NATIONAL_ID: KindPatterns(
        r"\d{5}|\d{3}-\d{2}-\d{4}|\d{3}\.\d{3}\.\d{3}|756\.\d{4}\.|[A-Z]{4,6}\d{2,6}", _see_national_id
    ),
    PersonalDataKind.ADDRESS: KindPatterns(r"\d.*[A-Za-z]|[A-Za-zß.,].*\d", _see_address),
    PersonalDataKind.BIRTH_DATE: KindPatterns(
        r"(?i)(?:born|d\.?o\.?b|birth|geb|n[ée]e? le).{0,12}\d", _see_birth_date
    ),
    PersonalDataKind.NAME: KindPatterns(r"[A-ZÀ-Þ][a-zß-ÿ'-]*[., ]+[A-ZÀ-Þ]", _see_name),
}  # fmt: skip
NAMED_PREFILTERS = {  # in a column that is called so, plainer values are looked at too
    PersonalDataKind.PHONE: r"\d[\d ()./-]{5,}",
    PersonalDataKind.BIRTH_DATE: r"\d{2,4}[-/.]?\d{1,2}",
    PersonalDataKind.NAME: r"\pL",
}
