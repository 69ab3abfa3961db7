"""What is masked, what is not, and that no text makes it slow."""

from __future__ import annotations

import logging

import pytest

from graphmeter import guard, patterns
from graphmeter.redact import PATTERNS, Redactor, Unusable, Where, choose

WHERE = Where("gen_ai.input.messages", "support", "answer", "gpt-4o-mini")

# Put together here, so that no scanner of this repository takes them for real.
JWT = ".".join(("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTYifQ", "abc-_123"))
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow+/=\n-----END RSA " + "PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c@ex-ample.co.uk.", "write to [redacted:email]."),
        ("in a URL: john%40example.com&x", "in a URL: [redacted:email]&x"),
        ("žofie@příklad.cz", "[redacted:email]"),
        ("4111 1111 1111 1111, 4111-1111-1111-1111", "[redacted:card], [redacted:card]"),
        ("amex 378282246310005 5500005555555559 mc", "amex [redacted:card] [redacted:card] mc"),
        ("DE89 3704 0044 0532 0130 00 AND MORE", "[redacted:iban] AND MORE"),
        ("AB12 gb82west12345698765432.", "AB12 [redacted:iban]."),
        ("+49 (0)170 123-4567", "[redacted:phone]"),
        ("call 0049 170 1234567 or (555) 123-4567", "call [redacted:phone] or [redacted:phone]"),
        ("555-123-4567", "[redacted:phone]"),
        ("from 10.20.30.40:80 and 2001:db8::8a2e:370:7334", "from [redacted:ip]:80 and [redacted:ip]"),
        ("sk-proj-" + "abcDEF1234567890abcd", "[redacted:key]"),
        ("ghp_" + "abcdefghijklmnopqrst1234", "[redacted:key]"),
        ("xoxb-" + "1234567890-abc", "[redacted:key]"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "[redacted:aws]"),
        ("Authorization: Bearer abcdefghijklmnop1234==", "Authorization: [redacted:token]"),
        (f"jwt={JWT};", "jwt=[redacted:token];"),
        (f"{PEM} and on", "[redacted:pem] and on"),
        (PEM[:40], "[redacted:pem]"),
        ('{"password": "hunter22", "n": 1}', '{"password": "[redacted:key]", "n": 1}'),
        (r"{\"api_key\": \"x1234567\"}", r"{\"api_key\": \"[redacted:key]\"}"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted:key]"),
        ("postgres://me:pa55w0rd@db/x", "postgres://[redacted:key]@db/x"),
    ],
)
def test_personal_data_and_credentials_are_masked(text: str, expected: str) -> None:
    assert expected == Redactor().text(text, WHERE)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21 08:12:41.123456",
        "order 1234567890123456",  # no card: the checksum is wrong
        "0.4111111111111111",
        "1763712761123456789",  # nanoseconds
        "01a1fd24-6f00-7498-8906-c5171a3f88e4",
        "127.0.0.1 and 0.0.0.0 and 1.2.3 and 300.1.1.1",
        "x[::2], std::vector, 12:30:45, fe80::1",
        "sk-learn-something-long-words and task-management-1234567890123456",
        "DE12 3456 7890 1234 5678 90",  # no IBAN: the checksum is wrong
        "the secret of a good password",
        "12345678 and 1-2-3 and 2+1234567",
        "@decorator and a@b",
        "basic understanding, bearer of bad news",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert text == Redactor().text(text, WHERE)


@pytest.mark.parametrize("text", ["aaa@bbb.cc", "4111111111111111", "10.20.30.40"])
def test_patterns_are_switched_one_by_one(text: str) -> None:
    name = {"a": "email", "4": "card", "1": "ip"}[text[0]]
    assert f"[redacted:{name}]" == Redactor(patterns=[name]).text(text, WHERE)
    assert text == Redactor(patterns=set(PATTERNS) - {name}).text(text, WHERE)


def test_every_pattern_has_a_name_and_every_name_a_pattern() -> None:
    assert list(PATTERNS) == list(patterns.MASKS)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", set(PATTERNS)),
        ("all", set(PATTERNS)),
        ("off", set()),
        ("email, CARD", {"email", "card"}),
        ("-ip,-phone", set(PATTERNS) - {"ip", "phone"}),
        ("emial", set(PATTERNS)),
    ],
)
def test_the_environment_chooses_patterns_and_a_typo_means_all(
    said: str, expected: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "graphmeter"):
        assert expected == choose(said)
    assert ("GRAPHMETER_REDACT: no pattern emial" in caplog.text) == (said == "emial")


def test_the_function_sees_the_text_and_the_patterns_see_its_answer() -> None:
    seen: list[tuple[str, Where]] = []

    def function(text: str, where: Where) -> str:
        seen.append((text, where))
        return text.replace("Alice", "bob@example.com")

    assert "Hello [redacted:email]" == Redactor(function).text("Hello Alice", WHERE)
    assert [("Hello Alice", WHERE)] == seen


def test_a_function_may_withhold_a_text() -> None:
    assert "[redacted]" == Redactor(lambda text, where: None).text("anything", WHERE)


def test_an_answer_that_is_no_text_is_an_error() -> None:
    redactor = Redactor(lambda text, where: 7)  # type: ignore[arg-type, return-value]
    with pytest.raises(Unusable, match="returned int; return the text to send, or None"):
        redactor.text("anything", WHERE)


def test_a_message_that_cannot_be_redacted_is_empty_and_counted_and_the_log_does_not_quote_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(text: str, where: Where) -> str:
        raise LookupError(text)

    assert "" == Redactor(broken).message("anything", WHERE)
    assert {"redact gen_ai.input.messages: LookupError": 1} == guard.faults()
    assert "not sent, redacting it failed at " in caplog.text
    assert "test_redact.py" in caplog.text
    assert "anything" not in caplog.text


_LONG = 200_000
_EVIL = (
    *(
        "a",
        "a@",
        "@",
        "a.",
        "a@a.",
        "%40",
        "a%40a.",
        "1",
        "1 ",
        "1-",
        "+1",
        "00",
        "001",
        "((",
        "(555) ",
        "eyJ",
        "eyJa.",
    ),
    *(
        "sk-",
        "sk-a",
        "SG.",
        "SG.a",
        "ya29.",
        "gh",
        "bearer ",
        "Basic ",
        "password",
        "password:",
        "password=a",
        'secret"',
    ),
    *(
        "access_token",
        "key-1",
        "://",
        "://a:",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----a-",
    ),
    *(
        "DE89",
        "DE8 ",
        "DE89 ",
        "1.",
        "1.1.1.1",
        "1:",
        "::",
        "f:",
        "AKIA",
        "AKIAA",
        "4111 1111 1111 1111 ",
        "é",
        " ",
        "\n",
    ),
)


@pytest.mark.parametrize("piece", _EVIL)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    # Nothing is timed: at this length a pattern that backtracks would not come back.
    text = (piece * (_LONG // len(piece) + 1))[:_LONG]
    assert Redactor().text(text, WHERE)


def test_a_megabyte_of_everything_that_is_hard_is_masked() -> None:
    text = "".join(piece * (1_000_000 // len(_EVIL) // len(piece)) for piece in _EVIL)
    assert "[redacted:pem]" in Redactor().text(text, WHERE)
