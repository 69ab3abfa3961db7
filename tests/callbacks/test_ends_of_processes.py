"""Real servers and workers that fork, spawn and end in ways of their own: every span of every run arrives, once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from callbacks.otlp import Receiver, attributes
from callbacks.test_delivery import wait_for
from callbacks.test_process import PREAMBLE, TESTS
from graphmeter import names
from support.ports import free_port

SLOW = {"GRAPHMETER_FLUSH_INTERVAL_S": "30", "GRAPHMETER_EXIT_TIMEOUT_S": "40"}
"""What arrives was sent because something ended, not because time went by; on a busy machine, too."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def environment(receiver: Receiver, **more: str) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    return {**env, "GRAPHMETER_ENDPOINT": receiver.url, "GRAPHMETER_TOPOLOGY": "0", **more}


def program(directory: Path, code: str, name: str = "app.py") -> Path:
    path = directory / name
    path.write_text(PREAMBLE.format(tests=str(TESTS)) + textwrap.dedent(code))
    return path


@contextlib.contextmanager
def running(directory: Path, *command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command, in a session of its own; nothing of it outlives the block."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=directory, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end(process: subprocess.Popen[bytes], directory: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        pytest.fail(f"still running:\n{(directory / 'log').read_text()}")


def asked(port: int, log: Path) -> str:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def runs(receiver: Receiver) -> int:
    """How many runs arrived; each whole and once."""
    kinds = receiver.kinds()
    assert ["node"] * kinds.count("run") + ["run"] * kinds.count("run") + ["start"] * kinds.count("run") == kinds
    assert len(receiver.spans) == len({(span.trace_id, span.span_id) for span in receiver.spans})
    return kinds.count("run")


def reported(receiver: Receiver) -> int:
    """Spans exported, as the last report of every process has it; they lost none."""
    last = {report[names.CLIENT_ID]: report for report in receiver.reports}
    for report in last.values():
        assert (0, 0, 0) == tuple(
            report[name] for name in (names.CLIENT_DROPPED, names.CLIENT_FAILED, names.CLIENT_QUEUED)
        )
    return sum(report[names.CLIENT_EXPORTED] for report in last.values())


def test_gunicorn_preload_with_a_run_in_the_master_before_the_fork(receiver: Receiver, tmp_path: Path) -> None:
    program(
        tmp_path,
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        graph = meter(chain_of(('n', nothing)))
        graph.invoke({})  # in the master: its thread runs when the workers are forked
        def app(environ, start_response):
            graph.invoke({})
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """,
    )
    port = free_port()
    arguments = ("gunicorn", "app:app", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}")
    with running(tmp_path, *arguments, env=environment(receiver, **SLOW)) as server:
        for _ in range(6):
            asked(port, tmp_path / "log")
        end(server, tmp_path)
    assert 7 == runs(receiver), (tmp_path / "log").read_text()
    assert 21 == reported(receiver)


@pytest.mark.parametrize("how", ["sigterm", "lifespan"])
def test_uvicorn_workers_which_end_by_raising_sigterm_again(receiver: Receiver, tmp_path: Path, how: str) -> None:
    program(
        tmp_path,
        f"""
        graph = meter(chain_of(('n', nothing)))
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                await send({{"type": "lifespan.startup.complete"}})
                await receive()
                if {how!r} == "lifespan":
                    assert flush()
                await send({{"type": "lifespan.shutdown.complete"}})
                return
            await graph.ainvoke({{}})
            await send({{"type": "http.response.start", "status": 200, "headers": []}})
            await send({{"type": "http.response.body", "body": b"ok"}})
        """,
    )
    port = free_port()
    env = environment(receiver, **SLOW, **({"GRAPHMETER_FLUSH_ON_SIGTERM": "1"} if how == "sigterm" else {}))
    with running(tmp_path, "uvicorn", "app:app", "--workers", "2", "--port", str(port), env=env) as server:
        for _ in range(4):
            asked(port, tmp_path / "log")
        end(server, tmp_path)
    assert 4 == runs(receiver), (tmp_path / "log").read_text()


def test_a_celery_prefork_worker_whose_children_end_without_an_interpreter_exit(
    receiver: Receiver, tmp_path: Path
) -> None:
    program(
        tmp_path,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        from pathlib import Path
        from celery import Celery
        here = Path(__file__).parent
        app = Celery("app", broker="filesystem://")
        (here / "queue").mkdir(exist_ok=True)
        app.conf.broker_transport_options = {
            "data_folder_in": str(here / "queue"), "data_folder_out": str(here / "queue"),
            "control_folder": str(here / "control"),
        }
        graph = meter(chain_of(('n', nothing)))
        if "worker" in sys.argv:
            graph.invoke({})  # before the pool is forked
        @app.task
        def work(number):
            graph.invoke({})
            (here / f"done{number}").touch()
        """,
    )
    env = environment(receiver, **SLOW)
    send = "import app\nfor number in range(4): app.work.delay(number)"
    sent = subprocess.run(
        [sys.executable, "-c", send], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert 0 == sent.returncode, sent.stderr
    arguments = ("celery", "-A", "app", "worker", "--pool", "prefork", "--concurrency", "2", "--without-mingle")
    with running(tmp_path, *arguments, "--without-gossip", "--without-heartbeat", env=env) as worker:
        wait_for(lambda: 4 == len(list(tmp_path.glob("done*"))), 60)
        end(worker, tmp_path)
    assert 5 == runs(receiver), (tmp_path / "log").read_text()
    assert 15 == reported(receiver)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_process_pool_executor(receiver: Receiver, tmp_path: Path, method: str) -> None:
    path = program(
        tmp_path,
        f"""
        import multiprocessing, warnings
        from concurrent.futures import ProcessPoolExecutor
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        graph = meter(chain_of(('n', nothing)))
        def work(number):
            return graph.invoke({{}})["x"]
        if __name__ == "__main__":
            graph.invoke({{}})
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r})) as pool:
                assert [1] * 4 == list(pool.map(work, range(4)))
        """,
    )
    done = subprocess.run(
        [sys.executable, str(path)],
        env=environment(receiver, **SLOW),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert 5 == runs(receiver)
    assert 15 == reported(receiver)


@pytest.mark.parametrize("how", ["closed", "terminated"])
def test_workers_of_a_multiprocessing_pool(receiver: Receiver, tmp_path: Path, how: str) -> None:
    path = program(
        tmp_path,
        f"""
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        graph = meter(chain_of(('n', nothing)))
        def work(number):
            return graph.invoke({{}})["x"]
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:  # terminates its workers
                assert [1] * 4 == pool.map(work, range(4))
                if {how!r} == "closed":
                    pool.close()
                    pool.join()
        """,
    )
    more = {"GRAPHMETER_FLUSH_ON_SIGTERM": "1"} if how == "terminated" else {}
    done = subprocess.run(
        [sys.executable, str(path)],
        env=environment(receiver, **SLOW, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert 4 == runs(receiver)


def test_a_notebook_flushes_after_every_cell(receiver: Receiver, tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        graph = meter(chain_of(('n', nothing)))
        for cell in (1, 2):
            graph.invoke({})
            assert flush()
            assert flush()
            assert 3 * cell == stats().exported == stats().emitted, stats()
        import os
        os._exit(0)  # a kernel that is restarted
        """,
    )
    done = subprocess.run(
        [sys.executable, str(path)], env=environment(receiver, **SLOW), capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert 2 == runs(receiver)


def test_a_serverless_function_may_be_frozen_as_soon_as_flush_is_true(receiver: Receiver, tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import os, signal
        graph = meter(chain_of(('n', nothing)))
        graph.invoke({})
        assert flush()
        os.kill(os.getpid(), signal.SIGSTOP)
        graph.invoke({})
        assert flush()
        """,
    )
    process = subprocess.Popen([sys.executable, str(path)], env=environment(receiver, **SLOW))
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert 1 == runs(receiver)
        process.send_signal(signal.SIGCONT)
        assert 0 == process.wait(60)
        assert 2 == runs(receiver)
    finally:
        process.kill()
        process.wait()


def test_flush_is_false_as_long_as_the_collector_has_not_answered(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [503]
    path = program(
        tmp_path,
        """
        meter(chain_of(('n', nothing))).invoke({})
        print(flush(), stats().queued, flush(), stats().queued)
        """,
    )
    done = subprocess.run(
        [sys.executable, str(path)], env=environment(receiver, **SLOW), capture_output=True, text=True, check=False
    )
    assert "False 3 True 0\n" == done.stdout, done.stderr
    assert {"node", "run", "start"} == {attributes(span)[names.KIND] for span in receiver.spans}
