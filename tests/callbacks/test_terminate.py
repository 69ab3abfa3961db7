"""SIGTERM with GRAPHMETER_FLUSH_ON_SIGTERM=1: spans are sent, then the process ends as it would have. Real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from callbacks.otlp import Receiver
from callbacks.test_process import python

# Half a minute between sendings: what arrives has been flushed.
SLOW = {"GRAPHMETER_FLUSH_INTERVAL_S": "30"}
RUN_AND_TERMINATE = """
import signal
meter(chain_of(('n', nothing))).invoke({})
signal.raise_signal(signal.SIGTERM)
print("still here")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def test_spans_are_sent_and_the_default_action_ends_the_process(receiver: Receiver) -> None:
    done = python(RUN_AND_TERMINATE, GRAPHMETER_ENDPOINT=receiver.url, GRAPHMETER_FLUSH_ON_SIGTERM="1", **SLOW)
    assert (-signal.SIGTERM, "", "") == (done.returncode, done.stdout, done.stderr)
    assert ["node", "run", "start"] == receiver.kinds()


def test_without_the_variable_sigterm_is_left_alone(receiver: Receiver) -> None:
    done = python(
        "import signal\nmeter(chain_of(('n', nothing)))\nprint(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
        GRAPHMETER_ENDPOINT=receiver.url,
    )
    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr


def test_the_applications_own_handler_comes_after_the_flush(receiver: Receiver) -> None:
    code = """
import signal
def own(number, frame):
    print("own handler", number, stats().exported)
signal.signal(signal.SIGTERM, own)
"""
    done = python(code + RUN_AND_TERMINATE, GRAPHMETER_ENDPOINT=receiver.url, GRAPHMETER_FLUSH_ON_SIGTERM="1", **SLOW)
    assert (0, f"own handler {int(signal.SIGTERM)} 3\nstill here\n") == (done.returncode, done.stdout), done.stderr


def test_a_process_that_ignores_sigterm_goes_on(receiver: Receiver) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    done = python(code + RUN_AND_TERMINATE, GRAPHMETER_ENDPOINT=receiver.url, GRAPHMETER_FLUSH_ON_SIGTERM="1")
    assert (0, "still here\n") == (done.returncode, done.stdout), done.stderr


def test_a_lock_that_the_main_thread_holds_costs_only_the_patience(receiver: Receiver) -> None:
    code = """
import signal
from graphmeter import client
meter(chain_of(('n', nothing))).invoke({})
with client._lock:
    signal.raise_signal(signal.SIGTERM)
"""
    done = python(
        code,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_FLUSH_ON_SIGTERM="1",
        GRAPHMETER_EXIT_TIMEOUT_S="0.5",
        **SLOW,
    )
    assert -signal.SIGTERM == done.returncode, done.stderr


def test_outside_of_the_main_thread_it_is_said_once_and_nothing_is_installed(receiver: Receiver) -> None:
    done = python(
        """
        import logging, signal, threading
        logging.basicConfig(format="%(message)s")
        for url in ("http://127.0.0.1:9", "http://127.0.0.1:19"):
            thread = threading.Thread(target=lambda: GraphMeterCallbackHandler(endpoint=url))
            thread.start()
            thread.join()
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_FLUSH_ON_SIGTERM="1",
    )
    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr
    assert 1 == done.stderr.count("GRAPHMETER_FLUSH_ON_SIGTERM: cannot handle SIGTERM"), done.stderr


def test_sigterm_in_the_middle_of_the_exit_has_its_turn_when_everything_is_sent(receiver: Receiver) -> None:
    code = """
import signal
from graphmeter import client
meter(chain_of(('n', nothing))).invoke({})
shutdown = client.shutdown
def interrupted(patience):
    with client._lock:
        signal.raise_signal(signal.SIGTERM)
    return shutdown(patience)
client.shutdown = interrupted
"""
    more = {"GRAPHMETER_FLUSH_ON_SIGTERM": "1", "GRAPHMETER_EXIT_TIMEOUT_S": "20", **SLOW}
    done = python(code, GRAPHMETER_ENDPOINT=receiver.url, **more)
    assert (-signal.SIGTERM, "") == (done.returncode, done.stderr)
    assert ["node", "run", "start"] == receiver.kinds()
