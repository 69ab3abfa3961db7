"""What personal data and credentials look like in text: names of patterns and a text in, the text with them masked out.

A few false positives are accepted where a miss would leak a credential; where it is only a number, checksums decide. Every
pattern takes time linear in the text, whatever it holds: tokens begin where no other can (a look-behind), and what repeats
without bound is possessive. Loaded when something is captured, and then used in the exporter's thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_Mask = Callable[[str], str]

# A first character or literal that the engine can search for fast comes before the look-behind, which then includes it.

_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]++(?:@|%40)[\w-]++(?:\.[\w-]++)++")

_JWT: Final = re.compile(r"eyJ(?<![\w-]eyJ)[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]++)?")
_BEARER: Final = re.compile(r"[Bb](?<![\w-][Bb])(?:earer|EARER|asic|ASIC)[ ]{1,4}[\w.~+/-]{16,}+={0,2}")

# Prefixes as the vendors document them. A digit is asked for where a prefix could begin ordinary words.
_VENDOR_KEY: Final = re.compile(
    r"(?<![\w-])(?:"
    r"(?=[A-Za-z_-]*+[0-9])(?:sk|rk|gsk|tvly|pplx|xai|glpat)[_-][\w-]{16,}+"
    r"|gh[opsur]_\w{20,}+|github_pat_\w{20,}+|hf_\w{20,}+|lsv2_\w{20,}+|npm_\w{30,}+|r8_\w{30,}+|dop_v1_\w{30,}+"
    r"|xox[abceoprs]-[\w-]{10,}+|xapp-[\w-]{10,}+|pypi-[\w-]{30,}+|GOCSPX-[\w-]{20,}+"
    r"|AIza[\w-]{30,}+|ya29\.[\w-]{20,}+|SG\.[\w-]{16,}+\.[\w-]{16,}+"
    r")"
)
_VENDOR_HINTS: Final = (
    *("sk-", "sk_", "rk_", "tvly-", "pplx-", "xai-", "glpat-", "gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_"),
    *("hf_", "lsv2_", "npm_", "r8_", "dop_v1_", "xox", "xapp-", "pypi-", "GOCSPX-", "AIza", "ya29.", "SG."),
)
# `password: …`, `"api_key": "…"`: the name stays.
SECRET_NAME: Final = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|passw(?:or)?d|passphrase|private[_-]?key"
    r"|(?:access|auth|refresh|id|session)[_-]?token|client[_-]?secret|credentials?)",
    re.IGNORECASE,
)
_SECRET_HINTS: Final = ("key", "secret", "passw", "passphrase", "token", "credential")
_ASSIGNED: Final = re.compile(
    rf"(?<![A-Za-z])({SECRET_NAME.pattern}(?:\\?[\"'])?[ ]{{0,3}}[:=][ ]{{0,3}}(?:\\?[\"'])?)"
    r"([^\s\"'\\,;&(){}\[\]<>]{6,}+)",
    re.IGNORECASE,
)
_USERINFO: Final = re.compile(r"://[^\s/:@]{0,64}:[^\s/@]{1,256}(?=@)")
_AWS: Final = re.compile(r"A(?<![A-Za-z0-9]A)(?:KIA|SIA|GPA|IDA|ROA|NPA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])")
# To the end of the text where the closing line is missing: a cut key is still a key.
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[^-]*+(?:-(?!----)[^-]*+)*+(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
)

_DIGITS: Final = re.compile(r"[0-9](?<![0-9A-Za-z.].)(?:[ -]?[0-9]){12,18}(?!\.?[0-9])")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,30}")
# International numbers; of national forms only the North American one, the others look like any number.
_PHONES: Final = (
    re.compile(r"\+(?<![\w+]\+)[1-9](?:[ ().\-/]{0,3}[0-9]){7,13}(?![0-9])"),
    re.compile(r"00(?<![\w+.,-]00)[1-9](?:[ ().\-/]{0,3}[0-9]){7,13}(?![0-9])"),
    re.compile(r"\((?<!\w\()[0-9]{3}\) ?[0-9]{3}[-. ][0-9]{4}(?![\w-])"),
    re.compile(r"[0-9](?<![\w.+-].)[0-9]{2}[-. ][0-9]{3}[-. ][0-9]{4}(?![\w-])"),
)
_IPV4: Final = re.compile(r"[0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\.?[0-9])")
_IPV6: Final = re.compile(r"(?<![\w:])[0-9A-Fa-f:]{6,39}(?![\w:])")

# https://www.swift.com/resource/iban-registry-pdf
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def luhn(digits: str) -> bool:
    """Whether the last of `digits` checks the others, as on payment cards. https://www.iso.org/standard/70484.html"""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(number - 9 * (number > 9) for number in doubled)) % 10 == 0


def _card_length(candidate: str) -> int:
    digits = candidate.replace(" ", "").replace("-", "")
    # 2 Mastercard, 3 Amex, Diners, JCB, 4 Visa, 5 Mastercard, 6 Discover, UnionPay, Maestro
    return len(candidate) if digits[0] in "23456" and luhn(digits) else 0


def _iban_length(candidate: str) -> int:
    """How much of the beginning of `candidate` is an IBAN; words in capitals may follow it."""
    wanted = _IBAN_LENGTHS.get(candidate[:2].upper(), 0)
    seen = end = 0
    while end < len(candidate) and seen < wanted:
        seen += candidate[end] != " "
        end += 1
    if not wanted or seen < wanted or candidate[end : end + 1].isalnum():
        return 0
    account = candidate[:end].replace(" ", "").upper()
    # ISO 13616: letters count 10 to 35.
    number = "".join(str(int(character, 36)) for character in account[4:] + account[:4])
    return end if int(number) % 97 == 1 else 0


def _ipv6_length(candidate: str) -> int:
    # Fewer groups are clock times, slices (`[::2]`) and link-local addresses.
    if sum(map(bool, candidate.split(":"))) < 3:
        return 0
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(candidate)
    except AddressValueError:
        return 0
    return len(candidate)


def _ipv4_length(candidate: str) -> int:
    # Loopback and "any" tell nothing of anybody.
    if candidate.startswith(("127.", "0.0.0.0")):  # noqa: S104 - nothing is bound
        return 0
    return len(candidate) if all(int(octet) <= 255 for octet in candidate.split(".")) else 0


def _checked(pattern: re.Pattern[str], length_of: Callable[[str], int], mark: str) -> _Mask:
    """Mask candidates as far as `length_of` confirms them; a refused one may have the next inside."""

    def mask(text: str) -> str:
        done = at = 0
        parts: list[str] = []
        while (found := pattern.search(text, at)) is not None:
            length = length_of(found[0])
            if not length:
                at = found.start() + 1
                continue
            parts += (text[done : found.start()], mark)
            done = at = found.start() + length
        return "".join((*parts, text[done:])) if parts else text

    return mask


def _pem(text: str) -> str:
    return _PEM.sub("[redacted:pem]", text) if "-----BEGIN" in text else text


def _token(text: str) -> str:
    return _BEARER.sub("[redacted:token]", _JWT.sub("[redacted:token]", text))


def _key(text: str) -> str:
    if any(hint in text for hint in _VENDOR_HINTS):
        text = _VENDOR_KEY.sub("[redacted:key]", text)
    if ":" in text or "=" in text:
        lower = text.lower()
        if any(hint in lower for hint in _SECRET_HINTS):
            text = _ASSIGNED.sub(r"\1[redacted:key]", text)
        if "@" in text:
            text = _USERINFO.sub("://[redacted:key]", text)
    return text


def _aws(text: str) -> str:
    return _AWS.sub("[redacted:aws]", text)


def _email(text: str) -> str:
    return _EMAIL.sub("[redacted:email]", text) if "@" in text or "%40" in text else text


def _phone(text: str) -> str:
    for pattern in _PHONES:
        text = pattern.sub("[redacted:phone]", text)
    return text


def _ip(text: str) -> str:
    text = _masked_ipv4(text)
    return _masked_ipv6(text) if text.count(":") > 1 else text


_masked_ipv4: Final = _checked(_IPV4, _ipv4_length, "[redacted:ip]")
_masked_ipv6: Final = _checked(_IPV6, _ipv6_length, "[redacted:ip]")

MASKS: Final[dict[str, _Mask]] = {
    # In this order: what contains others comes first.
    "pem": _pem,
    "token": _token,
    "key": _key,
    "aws": _aws,
    "email": _email,
    "iban": _checked(_IBAN, _iban_length, "[redacted:iban]"),
    "card": _checked(_DIGITS, _card_length, "[redacted:card]"),
    "phone": _phone,
    "ip": _ip,
}
"""What replaces each pattern in a text, by the pattern's name."""
