"""Whole processes: what an interpreter's exit, a fork and an import do. Each test starts real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from callbacks.otlp import Receiver

TESTS = Path(__file__).parents[1]

PREAMBLE = """
import sys
sys.path.insert(0, {tests!r})
from callbacks.fakes import FakeChat, asking, asking_async, chain_of, nothing
from graphmeter import GraphMeterCallbackHandler, flush, instrument, meter, stats
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE.format(tests=str(TESTS)) + textwrap.dedent(code)],
        # A busy machine may need longer than an application should be held up.
        env={**env, "GRAPHMETER_TOPOLOGY": "0", "GRAPHMETER_EXIT_TIMEOUT_S": "30", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError('no')", 1)],
    ids=["return", "exit", "exception"],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_everything_is_sent_at_exit(receiver: Receiver, ending: str, code: int, asynchronous: bool) -> None:
    """Case 50."""
    run = "asyncio.run(graph.ainvoke({}))" if asynchronous else "graph.invoke({})"
    node = "asking_async" if asynchronous else "asking"
    done = python(
        f"import asyncio\ngraph = meter(chain_of(('ask', {node}(FakeChat()))))\n{run}\n{ending}",
        GRAPHMETER_ENDPOINT=receiver.url,
    )
    assert code == done.returncode, done.stderr
    assert ["model ok", "node ok", "run ok", "start running"] == receiver.endings()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_exit_inside_a_node_is_a_cancelled_run(receiver: Receiver, asynchronous: bool) -> None:
    """Case 50."""
    done = python(
        f"""
        import asyncio
        async def out(state):
            await asyncio.sleep(0)
            sys.exit(4)
        if {asynchronous}:
            asyncio.run(meter(chain_of(('out', out))).ainvoke({{}}))
        else:
            meter(chain_of(('out', lambda state: sys.exit(4)))).invoke({{}})
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
    )
    assert 4 == done.returncode, done.stderr
    assert ["node cancelled", "run cancelled", "start running"] == receiver.endings()


def test_a_dead_collector_delays_the_exit_by_nothing_much() -> None:
    done = python(
        """
        import logging, time
        logging.basicConfig(format="%(levelname)s %(message)s")
        meter(chain_of(('n', nothing))).invoke({})
        print(flush(60), stats().queued)
        """,
        GRAPHMETER_ENDPOINT="http://127.0.0.1:9",
    )
    assert 0 == done.returncode, done.stderr
    assert "False 3" == done.stdout.strip()
    assert ["WARNING Graphmeter cannot reach the collector at http://127.0.0.1:9/v1/traces"] == [
        line.partition(" (")[0] for line in done.stderr.splitlines()
    ]


def test_a_forked_child_sends_its_own_runs_and_only_those(receiver: Receiver) -> None:
    done = python(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        graph = meter(chain_of(('n', nothing)))
        graph.invoke({})
        assert flush(60)
        graph.invoke({})
        child = os.fork()
        if child == 0:
            graph.invoke({})
            assert flush(60)
            assert 3 == stats().exported, stats()
            os._exit(0)
        assert 0 == os.waitpid(child, 0)[1]
        assert flush(60)
        assert 6 == stats().exported, stats()
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
    )
    assert 0 == done.returncode, done.stderr
    assert ["node"] * 3 + ["run"] * 3 + ["start"] * 3 == receiver.kinds()
    assert 9 == len(receiver.spans)
    assert 9 == len({(span.trace_id, span.span_id) for span in receiver.spans})


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_send_at_their_end(receiver: Receiver, method: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        PREAMBLE.format(tests=str(TESTS))
        + textwrap.dedent(
            f"""
            import multiprocessing
            def work():
                meter(chain_of(('n', nothing))).invoke({{}})
            if __name__ == "__main__":
                if {method!r} == "fork":
                    work()
                context = multiprocessing.get_context({method!r})
                child = context.Process(target=work)
                child.start()
                child.join()
                assert 0 == child.exitcode
            """
        )
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, str(script)],
        env={
            **env,
            "GRAPHMETER_TOPOLOGY": "0",
            "GRAPHMETER_ENDPOINT": receiver.url,
            "GRAPHMETER_EXIT_TIMEOUT_S": "30",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert (6 if method == "fork" else 3) == len(receiver.spans)


def test_debug_prints_the_finished_run_as_a_tree() -> None:
    done = python(
        """
        def broken(state):
            raise ValueError("no answer")
        graph = meter(chain_of(('ask', asking(FakeChat(model="gpt-4o"))), ('broken', broken)), name="support")
        try:
            graph.invoke({})
        except ValueError:
            pass
        """,
        GRAPHMETER_DEBUG="1",
    )
    assert 0 == done.returncode, done.stderr
    lines = done.stderr.splitlines()
    assert 4 == len(lines), done.stderr
    assert lines[0].startswith("support  ERROR ValueError: no answer  ")
    assert lines[0].endswith("  1 call  10 → 5 tokens  $0.000075")
    assert lines[1].startswith("├─ ask  ")
    assert lines[2].startswith("│  └─ chat gpt-4o  ")
    assert lines[3].startswith("└─ broken  ERROR ValueError: no answer  ")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = """
import sys
import graphmeter
assert graphmeter.__all__ == sorted(graphmeter.__all__)
heavy = ("langchain_core", "langgraph", "pydantic", "opentelemetry", "requests", "genai_prices", "google.protobuf")
print([name for name in heavy if name in sys.modules])
from graphmeter import GraphMeterCallbackHandler, meter
heavy = ("opentelemetry.exporter", "genai_prices", "google.protobuf", "click")
heavy += ("graphmeter.spans", "graphmeter.send", "graphmeter.spool")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr
    assert ["[]", "[]"] == done.stdout.splitlines()


def test_without_langgraph_the_handler_still_measures_models() -> None:
    done = python(
        """
        import builtins, importlib
        for name in [name for name in sys.modules if name.split(".")[0] in ("graphmeter", "langgraph")]:
            del sys.modules[name]
        real = builtins.__import__
        def fake(name, *args, **kwargs):
            if name.split(".")[0] == "langgraph":
                raise ImportError(name)
            return real(name, *args, **kwargs)
        builtins.__import__ = fake
        from graphmeter.testing import InMemorySpans
        from graphmeter import instrument
        with InMemorySpans() as spans:
            FakeChat().invoke("hi", config={"callbacks": [spans.handler()]})
            print(spans.tree())
        try:
            instrument()
        except ImportError as error:
            print(error)
        """,
        GRAPHMETER_ENDPOINT="http://127.0.0.1:9",
    )
    assert 0 == done.returncode, done.stderr
    expected = ["model gpt-4o-mini ok 10→5", "graphmeter measures LangGraph: pip install langgraph"]
    assert expected == done.stdout.splitlines()
