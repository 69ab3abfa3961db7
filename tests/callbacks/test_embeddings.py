"""Embeddings are model calls: measured where they are called, with what the provider's own client was answered."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from langchain_aws import BedrockEmbeddings
from langchain_cohere import CohereEmbeddings
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_google_genai import GoogleGenerativeAIEmbeddings
from langchain_mistralai import MistralAIEmbeddings
from langchain_ollama import OllamaEmbeddings
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from openai import RateLimitError
from pydantic import BaseModel, SecretStr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from callbacks.fakes import State, chain_of
from graphmeter import guard, instrument, meter_embeddings, names, uninstrument
from graphmeter.testing import InMemorySpans, RecordedSpan
from providers.server import Answer, Provider, json_answer, provider

pytestmark = pytest.mark.usefixtures("no_faults")

# cohere's client is written for the first Pydantic.
OLD_PYDANTIC = (
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
)
# google-genai derives from aiohttp's session, which aiohttp discourages.
DERIVED_SESSION = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

# https://platform.openai.com/docs/api-reference/embeddings/create
OPENAI = {
    "object": "list",
    "data": [{"object": "embedding", "embedding": [0.5, -0.25], "index": 0}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
# https://docs.mistral.ai/api/endpoint/embeddings
MISTRAL = {**OPENAI, "id": "embd-aad6fc62b17349b192ef09225058bc45", "model": "mistral-embed"}
# https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
OLLAMA = {"model": "all-minilm", "embeddings": [[0.5, -0.25]], "total_duration": 14143917, "prompt_eval_count": 8}
# https://docs.cohere.com/v1/reference/embed
COHERE = {
    "response_type": "embeddings_by_type",
    "id": "54910170-852f-4322-9767-63d36e55c3bf",
    "embeddings": {"float": [[0.5, -0.25]]},
    "texts": ["hello"],
    "meta": {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 8}},
}
# https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
TITAN = {"embedding": [0.5, -0.25], "inputTextTokenCount": 8}
# https://ai.google.dev/api/embeddings#method:-models.batchembedcontents: no count at all
GEMINI = {"embeddings": [{"values": [0.5, -0.25]}]}
# https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api#response_body
VERTEX = {
    "predictions": [
        {"embeddings": {"values": [0.5, -0.25], "statistics": {"truncated": False, "token_count": 8}}},
    ]
}


@pytest.fixture
def there() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def instrumented(spans: InMemorySpans) -> Iterator[InMemorySpans]:
    instrument(spans.handler())
    yield spans
    uninstrument()


def openai(there: Provider) -> OpenAIEmbeddings:
    made: dict[str, Any] = {"model": "text-embedding-3-small", "api_key": SecretStr("x"), "base_url": there.url}
    # Without the check, which downloads a tokenizer.
    return OpenAIEmbeddings(**made, check_embedding_ctx_length=False, max_retries=0)


def azure(there: Provider) -> AzureOpenAIEmbeddings:
    made: dict[str, Any] = {"model": "text-embedding-3-small", "api_key": SecretStr("x"), "api_version": "2024-10-21"}
    return AzureOpenAIEmbeddings(**made, azure_endpoint=there.url, check_embedding_ctx_length=False)


def mistral(there: Provider) -> MistralAIEmbeddings:
    made: dict[str, Any] = {"model": "mistral-embed", "api_key": SecretStr("x"), "endpoint": there.url}
    # A tokenizer of its own, for the sizes of batches: the default one is downloaded.
    return MistralAIEmbeddings(**made, tokenizer=Tokenizer(WordLevel({"?": 0}, unk_token="?")))


def ollama(there: Provider) -> OllamaEmbeddings:
    return OllamaEmbeddings(model="all-minilm", base_url=there.url)


def cohere(there: Provider) -> CohereEmbeddings:
    made: dict[str, Any] = {"model": "embed-v4.0", "cohere_api_key": SecretStr("x"), "base_url": there.url}
    return CohereEmbeddings(**made)


def bedrock(there: Provider) -> BedrockEmbeddings:
    return BedrockEmbeddings(
        model_id="amazon.titan-embed-text-v2:0",
        region_name="us-east-1",
        aws_access_key_id=SecretStr("AKIDEXAMPLE"),
        aws_secret_access_key=SecretStr("x"),
        endpoint_url=there.url,
    )


def gemini(there: Provider) -> GoogleGenerativeAIEmbeddings:
    return GoogleGenerativeAIEmbeddings(
        model="models/gemini-embedding-001", google_api_key=SecretStr("x"), base_url=there.url
    )


COUNTED = {names.USAGE_INPUT: 8}


@pytest.mark.parametrize("method", ["embed_documents", "embed_query", "aembed_documents", "aembed_query"])
@pytest.mark.parametrize(
    ("make", "answer", "who", "model", "usage"),
    [
        pytest.param(openai, json_answer(OPENAI), "openai", "text-embedding-3-small", COUNTED, id="openai"),
        pytest.param(azure, json_answer(OPENAI), "azure.ai.openai", "text-embedding-3-small", COUNTED, id="azure"),
        pytest.param(mistral, json_answer(MISTRAL), "mistral_ai", "mistral-embed", COUNTED, id="mistral"),
        pytest.param(ollama, json_answer(OLLAMA), "ollama", "all-minilm", COUNTED, id="ollama"),
        pytest.param(cohere, json_answer(COHERE), "cohere", "embed-v4.0", COUNTED, id="cohere", marks=OLD_PYDANTIC),
        pytest.param(
            bedrock, json_answer(TITAN), "aws.bedrock", "amazon.titan-embed-text-v2:0", COUNTED, id="titan-in-the-body"
        ),
        pytest.param(
            bedrock,
            json_answer({"embedding": [0.5, -0.25]}, headers={"X-Amzn-Bedrock-Input-Token-Count": "8"}),
            "aws.bedrock",
            "amazon.titan-embed-text-v2:0",
            COUNTED,
            id="bedrock-in-a-header",
        ),
        pytest.param(
            gemini,
            json_answer(GEMINI),
            "gcp.gemini",
            "gemini-embedding-001",
            {names.USAGE_MISSING: True},
            id="gemini-counts-nothing",
            marks=DERIVED_SESSION,
        ),
    ],
)
async def test_a_call_is_one_span_with_what_the_provider_counted(
    spans: InMemorySpans,
    there: Provider,
    method: str,
    make: Any,
    answer: Answer,
    who: str,
    model: str,
    usage: dict[str, Any],
) -> None:
    there.says(answer)
    inner = make(there)
    metered = meter_embeddings(inner, handler=spans.handler())
    argument = "hello" if method.endswith("query") else ["hello"]
    if method.startswith("a"):
        result = await getattr(metered, method)(argument)
    else:
        result = await asyncio.to_thread(getattr(metered, method), argument)

    assert ([0.5, -0.25] if method.endswith("query") else [[0.5, -0.25]]) == result
    call = spans.one("model")
    assert f"embeddings {model}" == call.name
    assert "ok" == call.status
    expected = {names.OPERATION: "embeddings", names.PROVIDER: who, names.REQUEST_MODEL: model, **usage}
    assert expected == told(call)
    assert 1 == len(there.requests)


def told(call: RecordedSpan) -> dict[str, Any]:
    keys = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.USAGE_MISSING)
    return {key: value for key, value in call.attributes.items() if key in keys or key.startswith("gen_ai.usage.")}


def test_vertex_counts_each_text(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(VERTEX))
    inner = GoogleGenerativeAIEmbeddings(
        model="text-embedding-005",
        project="p",
        location="us-central1",
        credentials=Credentials("x"),  # type: ignore[no-untyped-call]
        base_url=there.url,
    )
    assert [0.5, -0.25] == meter_embeddings(inner, handler=spans.handler()).embed_query("hello")
    expected = {
        names.OPERATION: "embeddings",
        names.PROVIDER: "gcp.vertex_ai",
        names.REQUEST_MODEL: "text-embedding-005",
        names.USAGE_INPUT: 8,
    }
    assert expected == told(spans.one("model"))


def test_the_cost_is_named_when_prices_are_installed(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer({**OPENAI, "usage": {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}}))
    meter_embeddings(openai(there), handler=spans.handler()).embed_query("hello")
    assert pytest.approx(0.02) == spans.one("model").attributes[names.COST_USD]


def test_requests_of_one_call_are_added_up(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    inner = openai(there)
    inner.chunk_size = 1
    meter_embeddings(inner, handler=spans.handler()).embed_documents(["a", "b", "c"])
    assert 3 == len(there.requests)
    assert 24 == spans.one("model").attributes[names.USAGE_INPUT]


async def test_requests_from_several_threads_are_added_up(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(TITAN))
    await meter_embeddings(bedrock(there), handler=spans.handler()).aembed_documents(["a", "b", "c", "d"])
    assert 4 == len(there.requests)
    assert 32 == spans.one("model").attributes[names.USAGE_INPUT]


async def test_concurrent_calls_stay_apart(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    metered = meter_embeddings(openai(there), handler=spans.handler())
    await asyncio.gather(*(metered.aembed_query("hello") for _ in range(5)))
    assert [8] * 5 == [call.attributes[names.USAGE_INPUT] for call in spans.spans("model")]


def test_a_client_that_cannot_be_tapped_leaves_usage_missing_and_the_answer_whole(there: Provider) -> None:
    class Sealed:
        """Takes no attributes."""

        __slots__ = ("_client",)
        _client: Any

        def __init__(self, client: Any) -> None:
            object.__setattr__(self, "_client", client)

        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

        def create(self, **asked: Any) -> Any:
            return self._client.create(**asked)

    there.says(json_answer(OPENAI))
    inner = openai(there)
    inner.client = Sealed(inner.client)
    with InMemorySpans() as spans:
        assert [0.5, -0.25] == meter_embeddings(inner, handler=spans.handler()).embed_query("hello")
        assert spans.one("model").attributes[names.USAGE_MISSING] is True
    assert {"install: AttributeError": 1} == guard.faults()
    guard.forget()


def test_no_texts_ask_nobody(spans: InMemorySpans, there: Provider) -> None:
    assert [] == meter_embeddings(openai(there), handler=spans.handler()).embed_documents([])
    assert [] == spans.all()


def test_a_failure_is_an_error_of_the_call_and_reaches_the_caller(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer({"error": {"message": "slow down"}}, status=429))
    with pytest.raises(RateLimitError):
        meter_embeddings(openai(there), handler=spans.handler()).embed_query("hello")
    call = spans.one("model")
    assert "error" == call.status
    assert (429, True) == (call.attributes[names.HTTP_STATUS], call.attributes[names.RATE_LIMITED])
    assert names.USAGE_MISSING not in call.attributes


def test_a_call_in_a_node_belongs_to_it(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    metered = meter_embeddings(openai(there))

    def node(state: State) -> State:
        metered.embed_query("hello")
        return {"x": 1}

    chain_of(("embed", node)).invoke({}, config={"callbacks": [spans.handler()]})
    assert "run demo ok\n  node embed ok\n    model text-embedding-3-small ok 8→0" == spans.tree()
    assert "embed" == spans.one("model").attributes[names.NODE_PATH]
    assert f"{spans.one('node').span_id:016x}" == spans.one("model").attributes[names.ATTEMPT_SPAN]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_retriever_shows_the_embedding_of_its_query(
    spans: InMemorySpans, there: Provider, asynchronous: bool
) -> None:
    there.says(json_answer(OPENAI))
    store = InMemoryVectorStore(meter_embeddings(openai(there)))
    store.store["1"] = {"id": "1", "vector": [0.5, -0.25], "text": "hello", "metadata": {}}
    retriever = store.as_retriever()

    def node(state: State, config: RunnableConfig) -> State:
        assert ["hello"] == [found.page_content for found in retriever.invoke("hello", config)]
        return {"x": 1}

    async def node_async(state: State, config: RunnableConfig) -> State:
        assert ["hello"] == [found.page_content for found in await retriever.ainvoke("hello", config)]
        return {"x": 1}

    graph = chain_of(("look", node_async if asynchronous else node))
    config: Any = {"callbacks": [spans.handler()]}
    if asynchronous:
        await graph.ainvoke({}, config=config)
    else:
        graph.invoke({}, config=config)
    expected = (
        "run demo ok\n  node look ok\n    retriever VectorStoreRetriever ok\n      model text-embedding-3-small ok 8→0"
    )
    assert expected == spans.tree()


def test_metered_embeddings_answer_to_what_is_their_own(there: Provider) -> None:
    inner = openai(there)
    metered = meter_embeddings(inner)
    assert isinstance(metered, Embeddings)
    assert "text-embedding-3-small" == getattr(metered, "model")  # noqa: B009 - its own class does not know it
    assert metered is meter_embeddings(metered)
    assert not hasattr(metered, "nothing_of_this_name")


def test_metered_embeddings_can_be_pickled(spans: InMemorySpans) -> None:
    metered = meter_embeddings(DeterministicFakeEmbedding(size=2))
    again = pickle.loads(pickle.dumps(metered))
    assert metered.embed_query("hello") == again.embed_query("hello")


def test_what_is_no_embeddings_is_refused() -> None:
    with pytest.raises(TypeError, match="takes LangChain embeddings, not str"):
        meter_embeddings("text-embedding-3-small")  # type: ignore[arg-type]


# --- instrument() -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_instrument_measures_embeddings_that_nobody_metered(
    instrumented: InMemorySpans, there: Provider, asynchronous: bool
) -> None:
    there.says(json_answer(OPENAI))
    if asynchronous:
        await openai(there).aembed_query("hello")
    else:
        openai(there).embed_query("hello")
    assert "model text-embedding-3-small ok 8→0" == instrumented.tree()


def test_instrument_and_meter_together_make_one_span(instrumented: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    meter_embeddings(openai(there)).embed_documents(["hello"])
    assert "model text-embedding-3-small ok 8→0" == instrumented.tree()


def test_a_vector_store_shows_what_it_embeds(instrumented: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    store = InMemoryVectorStore(openai(there))
    store.add_documents([Document("hello")])
    store.as_retriever().invoke("hello")
    expected = (
        "model text-embedding-3-small ok 8→0\nretriever VectorStoreRetriever ok\n  model text-embedding-3-small ok 8→0"
    )
    assert expected == instrumented.tree()


def test_a_cache_of_embeddings_is_no_call_but_what_it_asks_is(instrumented: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))

    class Cache(Embeddings):
        def __init__(self, asked: Embeddings) -> None:
            self.asked = asked
            self.kept: dict[str, list[float]] = {}

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            if text not in self.kept:
                self.kept[text] = self.asked.embed_query(text)
            return self.kept[text]

    assert [[0.5, -0.25]] * 3 == Cache(openai(there)).embed_documents(["hello"] * 3)
    assert "model text-embedding-3-small ok 8→0" == instrumented.tree()


def test_an_integration_that_has_others_to_fall_back_on_is_measured_itself(
    instrumented: InMemorySpans, there: Provider
) -> None:
    class Careful(OpenAIEmbeddings):
        instead: Any = None

    there.says(json_answer(OPENAI))
    made: dict[str, Any] = {"model": "text-embedding-3-small", "api_key": SecretStr("x"), "base_url": there.url}
    careful = Careful(**made, check_embedding_ctx_length=False, instead=DeterministicFakeEmbedding(size=2))
    assert [0.5, -0.25] == careful.embed_query("hello")
    assert "model text-embedding-3-small ok 8→0" == instrumented.tree()


def test_classes_made_later_are_measured_and_missing_usage_is_said(instrumented: InMemorySpans) -> None:
    class LocalEmbeddings(BaseModel, Embeddings):
        model: str = "mini"

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    assert [1.0] == LocalEmbeddings().embed_query("hello")
    expected = {
        names.OPERATION: "embeddings",
        names.PROVIDER: "local",
        names.REQUEST_MODEL: "mini",
        names.USAGE_MISSING: True,
    }
    assert expected == told(instrumented.one("model"))


async def test_async_forms_that_a_class_does_not_have_are_measured_once(instrumented: InMemorySpans) -> None:
    assert 2 == len(await DeterministicFakeEmbedding(size=2).aembed_query("hello"))
    assert 1 == len(instrumented.spans("model"))


def test_uninstrument_leaves_nothing_behind(spans: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    before = {name: vars(OpenAIEmbeddings)[name] for name in ("embed_documents", "aembed_query")}
    instrument(spans.handler())
    inner = openai(there)
    inner.embed_query("hello")
    assert "create" in vars(inner.client)
    uninstrument()
    inner.embed_query("hello")

    class Later(DeterministicFakeEmbedding):
        def embed_query(self, text: str) -> list[float]:
            return [1.0]

    assert [1.0] == Later(size=1).embed_query("hello")
    assert 1 == len(spans.spans("model"))
    assert before == {name: vars(OpenAIEmbeddings)[name] for name in before}
    assert "create" not in vars(inner.client)
    assert "__init_subclass__" not in vars(Embeddings)


def test_too_many_requests_are_recognised(instrumented: InMemorySpans, there: Provider) -> None:
    there.says(json_answer({"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, 429))
    with pytest.raises(Exception, match="Rate limit reached"):
        openai(there).embed_query("hello")
    said = instrumented.one("model").attributes
    assert (429, True) == (said[names.HTTP_STATUS], said[names.RATE_LIMITED])
    assert names.USAGE_MISSING not in said


def test_embeddings_say_where_they_go(instrumented: InMemorySpans, there: Provider) -> None:
    there.says(json_answer(OPENAI))
    openai(there).embed_query("hello")
    said = instrumented.one("model").attributes
    host, port = there.url.removeprefix("http://").split(":")
    assert (host, int(port)) == (said[names.SERVER_ADDRESS], said[names.SERVER_PORT])
