"""Which foreign spans repeat a call that our client has recorded."""

from __future__ import annotations

import hashlib
import json

import pytest

from graphmeter import names
from graphmeter_collector.decode.twins import is_twin
from support import otlp

OPENINFERENCE = "openinference.instrumentation.langchain"
OPENLLMETRY = "opentelemetry.instrumentation.langchain"
AGENTO11Y = "github.com/grafana/sigil/sdks/python"
HEARD = {"agento11y.framework.run_id": "01a1fdd1-7e47-7661-9f19-bf4ed65aafa4"}
LANGFUSE = "langfuse-sdk"
OPENAI = "opentelemetry.instrumentation.openai_v2"
HASH = hashlib.blake2b(b"shop", digest_size=4).hexdigest()
RUN, CALL = f"n:{HASH}", f"m:{HASH}"
ASSOCIATED = "traceloop.association.properties.graphmeter"


@pytest.mark.parametrize(
    ("scope", "kind", "trace_state", "attributes", "expected"),
    [
        pytest.param(OPENAI, names.MODEL, f"graphmeter={CALL}", {}, True, id="an SDK below our call"),
        pytest.param(OPENAI, names.MODEL, f"a=b, graphmeter={CALL} ,c=d", {}, True, id="among entries of others"),
        pytest.param(OPENAI, names.TOOL, f"graphmeter={CALL}", {}, False, id="a tool below our call"),
        pytest.param(OPENAI, names.MODEL, f"graphmeter={RUN}", {}, False, id="an SDK in a node"),
        pytest.param(OPENAI, names.MODEL, "", {ASSOCIATED: RUN}, False, id="an SDK with our metadata"),
        pytest.param(OPENAI, names.MODEL, "graphmeter=m:00000000", {}, False, id="of another service"),
        pytest.param(OPENAI, names.MODEL, "graphmeters=x,graphmeter", {}, False, id="no entry"),
        pytest.param(OPENLLMETRY, names.MODEL, "", {ASSOCIATED: RUN}, True, id="OpenLLMetry"),
        pytest.param(OPENLLMETRY, names.TOOL, "", {ASSOCIATED: RUN}, True, id="OpenLLMetry, tool"),
        pytest.param(OPENLLMETRY, names.SPAN, "", {ASSOCIATED: RUN}, False, id="OpenLLMetry, chain"),
        pytest.param(OPENLLMETRY, names.MODEL, f"graphmeter={RUN}", {}, False, id="not measured by us"),
        pytest.param(OPENLLMETRY, names.MODEL, "", {ASSOCIATED: "n:00000000"}, False, id="by another service"),
        pytest.param(
            OPENINFERENCE, names.MODEL, "", {"metadata": json.dumps({"graphmeter": RUN})}, True, id="OpenInference"
        ),
        pytest.param(OPENINFERENCE, names.MODEL, "", {"metadata": '{"graphmeter": '}, False, id="broken metadata"),
        pytest.param(OPENINFERENCE, names.MODEL, "", {"metadata": '["graphmeter"]'}, False, id="odd metadata"),
        pytest.param(
            OPENINFERENCE, names.MODEL, "", {"metadata": "[" * 60_000 + "graphmeter"}, False, id="deep metadata"
        ),
        pytest.param(AGENTO11Y, names.MODEL, f"graphmeter={RUN}", HEARD, True, id="agento11y"),
        pytest.param(AGENTO11Y, names.RUN, f"graphmeter={RUN}", HEARD, True, id="agento11y, run"),
        pytest.param(AGENTO11Y, names.MODEL, f"graphmeter={RUN}", {}, False, id="agento11y in a node, by hand"),
        pytest.param(AGENTO11Y, names.MODEL, "", HEARD, False, id="agento11y, not measured by us"),
        pytest.param(
            LANGFUSE, names.MODEL, "", {"langfuse.observation.metadata.graphmeter": f'"{RUN}"'}, True, id="Langfuse"
        ),
        pytest.param(OPENLLMETRY, names.RUN, "", {ASSOCIATED: RUN}, True, id="OpenLLMetry, run"),
        pytest.param(OPENLLMETRY, names.NODE, "", {ASSOCIATED: RUN}, True, id="OpenLLMetry, node"),
    ],
)
def test_twins_are_told_from_others(
    scope: str, kind: str, trace_state: str, attributes: dict[str, object], expected: bool
) -> None:
    span = otlp.span(1, attributes=attributes)
    span.trace_state = trace_state
    assert expected is is_twin(span, kind, scope, "shop")
