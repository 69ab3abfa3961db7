"""What a handler hears in, snapshots on its runs out. Loaded when something is captured.

Every function is guarded by itself: what cannot be captured is counted and missing, the run's span is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from graphmeter import guard, names
from graphmeter.capture import CONTENT, MEDIA, STATE, STATE_DIFF, Capture, Taken, messages
from graphmeter.capture.plain import Named, Walk
from graphmeter.capture.state import Size, is_command, written
from graphmeter.records import Run
from graphmeter.runs import RUNS


def _captures(run: Run | None, kind: str) -> Capture | None:
    # The handler that saw the root decides for the whole tree.
    capture = run.tree.capture if run is not None else None
    return capture if capture is not None and kind in capture.kinds else None


def _taken(run: Run) -> Taken:
    if run.captured is None:
        run.captured = Taken()
    return run.captured


@guard.guarded
def node_given(run: Run, state: Any) -> None:
    """A node starts with `state`."""
    if run.kind is not names.NODE or _captures(run, STATE) is None:
        return
    size = Size(state)
    ready = _taken(run).ready
    ready[names.STATE_BYTES] = size.bytes
    if size.partial:
        ready[names.STATE_PARTIAL] = True


@guard.guarded
def node_wrote(run_id: UUID, output: Any) -> None:
    """A node returned `output`."""
    run = RUNS.get(run_id.int)
    if run is None or run.kind is not names.NODE or (capture := _captures(run, STATE)) is None:
        return
    update, keys = written(output)
    taken = _taken(run)
    if update is None:
        taken.ready[names.STATE_UPDATE_BYTES] = 0
    else:
        size = Size(update)
        taken.ready[names.STATE_UPDATE_BYTES] = size.bytes
        if size.partial:
            taken.ready[names.STATE_PARTIAL] = True
        if STATE_DIFF in capture.kinds:
            taken.snapshots[names.STATE_DIFF] = Walk().plain(update)
    if keys is not None:
        taken.snapshots[names.STATE_KEYS] = keys


@guard.guarded
def chat_asked(run: Run, batch: Sequence[Any]) -> None:
    """A chat model is asked `batch`, a list of lists of messages of which there is one."""
    capture = _captures(run, CONTENT)
    if capture is None or not batch:
        return
    walk = Walk(characters=4 * capture.limit)
    provider = run.facts.get(names.PROVIDER) if run.facts is not None else None
    said, instructions, older = messages.asked(batch[0], provider, walk, media=MEDIA in capture.kinds)
    taken = _taken(run)
    taken.snapshots[names.INPUT_MESSAGES] = said
    taken.older = older
    if instructions:
        taken.snapshots[names.SYSTEM_INSTRUCTIONS] = instructions


@guard.guarded
def text_asked(run: Run, prompts: Sequence[str]) -> None:
    """A text completion model is asked `prompts`."""
    if _captures(run, CONTENT) is not None:
        _taken(run).snapshots[names.INPUT_MESSAGES] = messages.prompted(prompts)


@guard.guarded
def model_answered(run: Run, response: Any) -> None:
    """A model gave `response` (an LLMResult), perhaps before it failed."""
    capture = _captures(run, CONTENT)
    if capture is not None and response.generations:
        said = messages.answered(response.generations[0], Walk(), media=MEDIA in capture.kinds)
        _taken(run).snapshots[names.OUTPUT_MESSAGES] = said


@guard.guarded
def tool_called(run: Run, text: str, inputs: Mapping[str, Any] | None) -> None:
    """A tool is called with `inputs`, or with a bare `text`."""
    if _captures(run, CONTENT) is None:
        return
    said = inputs if inputs is not None else _object(text)
    _taken(run).snapshots[names.TOOL_ARGUMENTS] = (
        Walk().plain(dict(said)) if said is not None else Named(input=str(text))
    )


@guard.guarded
def tool_returned(run_id: UUID, output: Any) -> None:
    """A tool returned `output`."""
    run = RUNS.get(run_id.int)
    if run is None or _captures(run, CONTENT) is None:
        return
    result = output
    if is_command(output):
        result = {"update": output.update}
    elif hasattr(output, "tool_call_id"):
        result = output.content
    if isinstance(result, str):
        result = _object(result) or result
    key = "error" if getattr(output, "status", None) == "error" else "result"
    # The conventions want an object.
    said = Walk().plain(result if isinstance(result, dict) and key == "result" else {key: result})
    _taken(run).snapshots[names.TOOL_RESULT] = said


@guard.guarded
def retriever_asked(run: Run, query: str) -> None:
    """A retriever is asked `query`."""
    if _captures(run, CONTENT) is not None:
        _taken(run).snapshots[names.RETRIEVAL_QUERY] = str(query)


@guard.guarded
def retriever_found(run_id: UUID, documents: Sequence[Any]) -> None:
    """A retriever found `documents`."""
    run = RUNS.get(run_id.int)
    if run is None or _captures(run, CONTENT) is None:
        return
    walk = Walk()
    _taken(run).snapshots[names.RETRIEVAL_DOCUMENTS] = [_document(one, walk) for one in documents[:200]]


def _document(document: Any, walk: Walk) -> dict[str, Any]:
    metadata = getattr(document, "metadata", None)
    said: dict[str, Any] = {}
    if (identity := getattr(document, "id", None)) is not None:
        said["id"] = str(identity)
    score = metadata.get("score", metadata.get("relevance_score")) if isinstance(metadata, dict) else None
    if isinstance(score, float):
        said["score"] = score
    said["content"] = walk.plain(getattr(document, "page_content", document))
    if metadata:
        said["metadata"] = walk.plain(metadata)
    return said


def _object(text: str) -> dict[str, Any] | None:
    """`text` as the JSON object that it spells, if it does."""
    if not text.startswith("{") or len(text) > _LONGEST_JSON:
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


_LONGEST_JSON = 65_536
"""Characters; what is longer stays a text: parsing takes time, here in the application's thread."""
