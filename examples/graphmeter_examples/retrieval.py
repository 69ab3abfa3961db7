"""A retriever that needs no index: a question in, the passages sharing most words with it out."""

from __future__ import annotations

import asyncio
import re
import time

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from graphmeter_examples.luck import Luck
from graphmeter_examples.tally import Tally, outcome

_WORD = re.compile(r"[a-z]{3,}")
_SEARCH_S = 0.08
"""Median seconds of a search."""


class IndexBusy(Exception):
    """The index did not answer in time; trying again helps."""


class KeywordRetriever(BaseRetriever):
    """Ranks passages by words in common. On `busy`, a share of queries, it fails the first time."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    passages: tuple[str, ...]
    graph: str
    node: str
    k: int = 2
    busy: float = 0.0
    time_scale: float = 0.0
    luck: Luck = Field(repr=False)
    tally: Tally = Field(repr=False)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        with outcome(self._record):
            time.sleep(self._seconds(query))
            return self._search(query)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        with outcome(self._record):
            await asyncio.sleep(self._seconds(query))
            return self._search(query)

    def _search(self, query: str) -> list[Document]:
        if self.luck.stumbles(self.busy, self.name or "", query):
            raise IndexBusy(f"{self.name}: no answer from the index")
        words = set(_WORD.findall(query.lower()))
        best = sorted(self.passages, key=lambda text: -len(words & set(_WORD.findall(text.lower()))))[: self.k]
        return [Document(page_content=text) for text in best]

    def _seconds(self, query: str) -> float:
        return self.time_scale * self.luck.spread(_SEARCH_S, 0.4, query, "search")

    def _record(self, status: str, _: BaseException | None) -> None:
        self.tally.retriever_call(self.graph, self.node, self.name or "", status)
