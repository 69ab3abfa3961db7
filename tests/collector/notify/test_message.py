"""Bodies: one message for Slack, for machines and as Markdown, whatever characters names are made of."""

from __future__ import annotations

import json
from typing import Any

from graphmeter_collector.notify.message import Message, Table, body, markdown

SPEND = Message(
    "report",
    "Spend of 2026-11-20",
    "12.50 USD, 3.00 more than the day before.\nUnattributed: 1.25 USD.",
    Table(("team", "USD"), (("cx", "11.25"), ("<!channel> & co", "1.25")), frozenset({1})),
    {"period": "2026-11-20", "cost_nano": 12_500_000_000},
)


def slack(message: Message) -> dict[str, Any]:
    content_type, text = body(message, "slack")
    assert "application/json" == content_type
    found: dict[str, Any] = json.loads(text)
    return found


def test_slack_gets_a_header_sentences_and_an_aligned_table() -> None:
    found = slack(SPEND)
    assert "Spend of 2026-11-20" == found["text"]
    assert [
        {"type": "header", "text": {"type": "plain_text", "text": "Spend of 2026-11-20"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": SPEND.text}},
        {
            "type": "section",
            "text": {
                "type": "mrkdwn",
                "text": "```\nteam               USD\ncx               11.25\n&lt;!channel&gt; &amp; co   1.25\n```",
            },
        },
    ] == found["blocks"]


def test_nobody_is_called_by_the_name_of_a_team() -> None:
    found = json.dumps(slack(Message("report", "<!here>", "<@U1> spent", Table(("team",), (("``` <!here>",),)))))
    assert "<!here>" not in found.replace('"plain_text", "text": "<!here>"', "")
    assert "<@U1>" not in found
    assert "``` &lt;" not in found


def test_a_table_that_is_too_long_for_slack_says_how_much_is_missing() -> None:
    rows = [(f"team-{number}" + "x" * 80, "1.00") for number in range(1000)]
    blocks = slack(Message("report", "Spend", table=Table(("team", "USD"), rows)))["blocks"]
    texts = [block["text"]["text"] for block in blocks[1:]]
    assert all(len(text) <= 3000 for text in texts)
    assert len(blocks) <= 50
    shown = sum(text.count("team-") for text in texts)
    assert texts[-1].endswith(f"\n… and {1000 - shown} more\n```")


def test_machines_get_the_data_as_it_is() -> None:
    content_type, text = body(SPEND, "json")
    assert "application/json" == content_type
    assert {
        "version": 1,
        "kind": "report",
        "title": SPEND.title,
        "text": SPEND.text,
        "data": {"period": "2026-11-20", "cost_nano": 12_500_000_000},
    } == json.loads(text)


def test_markdown_keeps_every_name_in_its_cell() -> None:
    message = Message("report", "Spend", "", Table(("team", "USD"), (("a|b\nc", "1"), ("[x](y)", "2")), frozenset({1})))
    assert (
        "## Spend\n\n| team | USD |\n| --- | ---: |\n| a\\|b c | 1 |\n| \\[x\\](y) | 2 |\n"
        == markdown(message)
        == body(message, "markdown").text
    )
