"""What real calls cost, worked out by hand from published prices: provider's answer → integration → span → record → price.

Every line shows the arithmetic: tokens x USD per million tokens, by bucket. Answers are shaped as each provider documents
them (pages: in the tests of each integration beside this file). Prices are those of `PAGES` on the day of the call, as the
catalogue notes them with the same pages (`pricing_urls`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from google.oauth2.credentials import Credentials
from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_cohere import ChatCohere
from langchain_core.language_models import BaseChatModel
from langchain_deepseek import ChatDeepSeek
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_groq import ChatGroq
from langchain_mistralai import ChatMistralAI
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from graphmeter_collector.price.book import PriceBook
from providers.calls import Exported, ask
from providers.openai_answers import chat_usage, completion, response, response_usage
from providers.server import Answer, Provider, json_answer, provider

pytestmark = [
    pytest.mark.usefixtures("no_faults"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    # What was priced then is retired now.
    pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]

BOOK: Final = PriceBook()
KEY: Final = SecretStr("x")
CREDENTIALS: Final = Credentials("x")  # type: ignore[no-untyped-call]

PAGES: Final = {
    "openai": "https://platform.openai.com/docs/pricing",
    "azure": "https://azure.microsoft.com/en-us/pricing/details/cognitive-services/openai-service/#pricing",
    "anthropic": "https://www.anthropic.com/pricing#api",
    "google": "https://ai.google.dev/gemini-api/docs/pricing",
    "vertex": "https://cloud.google.com/vertex-ai/generative-ai/pricing",
    "aws": "https://aws.amazon.com/bedrock/pricing/",
    "mistral": "https://mistral.ai/pricing/api",
    "groq": "https://groq.com/pricing",
    "deepseek": "https://api-docs.deepseek.com/quick_start/pricing",
    "cohere": "https://cohere.com/pricing",
}


class Case(NamedTuple):
    """A call and its bill."""

    api: str
    model: str
    """That answered, as the provider says it."""
    usage: dict[str, Any]
    """As the provider says it."""
    worked: str
    """tokens x USD per million tokens, by bucket."""
    usd: str
    day: str = "2025-12-01"
    tier: str = ""


# --- usage as providers say it ----------------------------------------------------------------------------------------


def claude(plain: int, output: int, *, read: int = 0, write_5m: int = 0, write_1h: int = 0) -> dict[str, Any]:
    """https://platform.claude.com/docs/en/api/messages: input leaves out what was cached."""
    return {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
    }


def gemini(prompt: int, answer: int, *, cached: int = 0, thoughts: int = 0) -> dict[str, Any]:
    """https://ai.google.dev/api/generate-content#UsageMetadata: the prompt contains what was cached, thoughts are apart."""
    said = {"promptTokenCount": prompt, "candidatesTokenCount": answer, "totalTokenCount": prompt + answer + thoughts}
    parts = {"cachedContentTokenCount": cached, "thoughtsTokenCount": thoughts}
    return {**said, **{key: count for key, count in parts.items() if count}}


def bedrock(plain: int, output: int, *, read: int = 0, write: int = 0) -> dict[str, Any]:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html: input leaves out the cached."""
    return {
        "inputTokens": plain,
        "outputTokens": output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": write,
        "totalTokens": plain + output + read + write,
    }


def deepseek(hit: int, miss: int, output: int, *, reasoning: int = 0) -> dict[str, Any]:
    """https://api-docs.deepseek.com/api/create-chat-completion"""
    return {
        "prompt_tokens": hit + miss,
        "completion_tokens": output,
        "total_tokens": hit + miss + output,
        "prompt_cache_hit_tokens": hit,
        "prompt_cache_miss_tokens": miss,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def cohere(inputs: int, outputs: int) -> dict[str, Any]:
    """https://docs.cohere.com/reference/chat: billed units leave out what Cohere adds to the prompt."""
    billed = {"input_tokens": inputs, "output_tokens": outputs}
    return {"billed_units": billed, "tokens": billed}


chat, resp, LATER = chat_usage, response_usage, "2026-11-01"
CASES: Final = [
    # OpenAI, chat completions: cached input at its own rate, reasoning is output.
    Case("chat", "gpt-4o-2024-08-06", chat(1117, 246, cached=1024), "93 x 2.50 + 1024 x 1.25 + 246 x 10.00", "0.0039725"),
    Case("chat", "gpt-4o-2024-05-13", chat(800, 200), "800 x 5.00 + 200 x 15.00", "0.007"),
    Case("chat", "gpt-4o-mini-2024-07-18", chat(2006, 300, cached=1920),
         "86 x 0.15 + 1920 x 0.075 + 300 x 0.60", "0.0003369"),
    Case("chat", "gpt-4.1-2025-04-14", chat(19, 10), "19 x 2.00 + 10 x 8.00", "0.000118"),
    Case("chat", "gpt-4.1-2025-04-14", chat(1_000_000, 32_768), "1000000 x 2.00 + 32768 x 8.00", "2.262144"),
    Case("chat", "gpt-4.1-mini-2025-04-14", chat(5000, 700, cached=4096),
         "904 x 0.40 + 4096 x 0.10 + 700 x 1.60", "0.0018912"),
    Case("chat", "gpt-4.1-nano-2025-04-14", chat(1, 1), "1 x 0.10 + 1 x 0.40", "0.0000005"),
    Case("chat", "o1-2024-12-17", chat(75, 1186, reasoning=1024), "75 x 15.00 + 162 x 60.00 + 1024 x 60.00", "0.072285"),
    Case("chat", "o1-2024-12-17", chat(2048, 100, cached=1024), "1024 x 15.00 + 1024 x 7.50 + 100 x 60.00", "0.02904"),
    Case("chat", "o3-2025-04-16", chat(300, 2500, reasoning=2304), "300 x 2.00 + 196 x 8.00 + 2304 x 8.00", "0.0206"),
    Case("chat", "o3-mini-2025-01-31", chat(1500, 400, cached=1024, reasoning=256),
         "476 x 1.10 + 1024 x 0.55 + 144 x 4.40 + 256 x 4.40", "0.0028468"),
    Case("chat", "o4-mini-2025-04-16", chat(1500, 400, cached=1024), "476 x 1.10 + 1024 x 0.275 + 400 x 4.40", "0.0025652"),
    Case("chat", "gpt-5-2025-08-07", chat(4000, 1200, cached=3968, reasoning=1024),
         "32 x 1.25 + 3968 x 0.125 + 176 x 10.00 + 1024 x 10.00", "0.012536"),
    Case("chat", "gpt-5-mini-2025-08-07", chat(4000, 1200), "4000 x 0.25 + 1200 x 2.00", "0.0034"),
    Case("chat", "gpt-5-nano-2025-08-07", chat(2001, 3, cached=1024), "977 x 0.05 + 1024 x 0.005 + 3 x 0.40", "0.00005517"),
    Case("chat", "gpt-4-turbo-2024-04-09", chat(900, 100), "900 x 10.00 + 100 x 30.00", "0.012"),
    Case("chat", "gpt-4-0613", chat(900, 100), "900 x 30.00 + 100 x 60.00", "0.033"),
    Case("chat", "gpt-3.5-turbo-0125", chat(900, 100), "900 x 0.50 + 100 x 1.50", "0.0006"),
    # Fine-tuned models have prices of their own.
    Case("chat", "ft:gpt-4o-mini-2024-07-18:org::AbCdEf12", chat(1000, 100), "1000 x 0.30 + 100 x 1.20", "0.00042"),
    Case("chat", "ft:gpt-4o-2024-08-06:org:support:9xYz", chat(1000, 100), "1000 x 3.75 + 100 x 15.00", "0.00525"),
    # Tiers of service: flex is half, priority twice the price of gpt-5; 1.75 times that of gpt-4.1.
    Case("chat", "gpt-5-2025-08-07", chat(1000, 500), "1000 x 0.625 + 500 x 5.00", "0.003125", LATER, "flex"),
    Case("chat", "gpt-5-2025-08-07", chat(1000, 500), "1000 x 2.50 + 500 x 20.00", "0.0125", LATER, "priority"),
    Case("chat", "gpt-4.1-2025-04-14", chat(1024, 500, cached=1024),
         "1024 x 0.875 + 500 x 14.00", "0.007896", LATER, "priority"),
    # OpenAI, responses
    Case("responses", "gpt-4.1-2025-04-14", resp(36, 87), "36 x 2.00 + 87 x 8.00", "0.000768"),
    Case("responses", "gpt-4o-2024-08-06", resp(328, 52, cached=128), "200 x 2.50 + 128 x 1.25 + 52 x 10.00", "0.00118"),
    Case("responses", "o3-2025-04-16", resp(81, 1035, reasoning=832), "81 x 2.00 + 203 x 8.00 + 832 x 8.00", "0.008442"),
    Case("responses", "o4-mini-2025-04-16", resp(81, 1035, reasoning=832),
         "81 x 1.10 + 203 x 4.40 + 832 x 4.40", "0.0046431"),
    Case("responses", "o1-pro-2025-03-19", resp(81, 1035, reasoning=832),
         "81 x 150.00 + 203 x 600.00 + 832 x 600.00", "0.63315"),
    Case("responses", "gpt-5-2025-08-07", resp(10_000, 2_000, cached=8_960),
         "1040 x 1.25 + 8960 x 0.125 + 2000 x 10.00", "0.02242"),
    Case("responses", "gpt-5-mini-2025-08-07", resp(10_000, 2_000), "10000 x 0.25 + 2000 x 2.00", "0.0065"),
    # Azure answers with the model behind the deployment; Global prices.
    Case("azure", "gpt-4o-2024-08-06", chat(1117, 246, cached=1024), "93 x 2.50 + 1024 x 1.25 + 246 x 10.00", "0.0039725"),
    Case("azure", "gpt-4o-mini-2024-07-18", chat(500, 50), "500 x 0.15 + 50 x 0.60", "0.000105"),
    Case("azure", "gpt-4.1-2025-04-14", chat(500, 50), "500 x 2.00 + 50 x 8.00", "0.0014"),
    Case("azure", "o3-2025-04-16", chat(500, 500, reasoning=448), "500 x 2.00 + 52 x 8.00 + 448 x 8.00", "0.005"),
    Case("azure", "o4-mini-2025-04-16", chat(500, 500, reasoning=448), "500 x 1.10 + 52 x 4.40 + 448 x 4.40", "0.00275"),
    # Anthropic: writes to the cache cost 1.25 times the input for five minutes, twice for an hour; reads a tenth.
    Case("anthropic", "claude-opus-4-1-20250805", claude(2048, 503, read=1800, write_5m=148, write_1h=100),
         "2048 x 15.00 + 1800 x 1.50 + 148 x 18.75 + 100 x 30.00 + 503 x 75.00", "0.07692"),
    Case("anthropic", "claude-opus-4-5-20251101", claude(1000, 200, read=10_000),
         "1000 x 5.00 + 10000 x 0.50 + 200 x 25.00", "0.015"),
    Case("anthropic", "claude-sonnet-4-5-20250929", claude(100, 50), "100 x 3.00 + 50 x 15.00", "0.00105"),
    Case("anthropic", "claude-sonnet-4-5-20250929", claude(200_000, 50), "200000 x 3.00 + 50 x 15.00", "0.60075"),
    Case("anthropic", "claude-sonnet-4-5-20250929", claude(50_001, 100, read=150_000),
         "50001 x 6.00 + 150000 x 0.60 + 100 x 22.50", "0.392256"),
    Case("anthropic", "claude-sonnet-4-20250514", claude(10, 10, write_5m=1024),
         "10 x 3.00 + 1024 x 3.75 + 10 x 15.00", "0.00402"),
    Case("anthropic", "claude-haiku-4-5-20251001", claude(300, 80, read=4096, write_1h=2048),
         "300 x 1.00 + 4096 x 0.10 + 2048 x 2.00 + 80 x 5.00", "0.0052056"),
    Case("anthropic", "claude-3-5-haiku-20241022", claude(300, 80), "300 x 0.80 + 80 x 4.00", "0.00056"),
    Case("anthropic", "claude-3-haiku-20240307", claude(300, 80, read=2048),
         "300 x 0.25 + 2048 x 0.03 + 80 x 1.25", "0.00023644"),
    Case("anthropic", "claude-sonnet-4-5-20250929", claude(1000, 100),
         "1000 x 1.50 + 100 x 7.50", "0.00225", LATER, "batch"),
    # Google: thoughts are output.
    Case("gemini", "gemini-2.5-pro", gemini(1000, 100, thoughts=900), "1000 x 1.25 + 100 x 10.00 + 900 x 10.00", "0.01125"),
    Case("gemini", "gemini-2.5-pro", gemini(200_001, 100), "200001 x 2.50 + 100 x 15.00", "0.5015025"),
    Case("gemini", "gemini-2.5-flash", gemini(2152, 710, cached=2027, thoughts=1300),
         "125 x 0.30 + 2027 x 0.03 + 710 x 2.50 + 1300 x 2.50", "0.00512331"),
    Case("gemini", "gemini-2.5-flash-lite", gemini(4096, 256), "4096 x 0.10 + 256 x 0.40", "0.000512"),
    Case("gemini", "gemini-2.0-flash", gemini(1290, 7, cached=1024), "266 x 0.10 + 1024 x 0.025 + 7 x 0.40", "0.000055"),
    Case("vertex", "gemini-2.5-flash", gemini(100, 10), "100 x 0.30 + 10 x 2.50", "0.000055"),
    Case("vertex", "gemini-2.5-pro", gemini(100, 10, thoughts=90), "100 x 1.25 + 10 x 10.00 + 90 x 10.00", "0.001125"),
    # Amazon Bedrock, by ids of models and of inference profiles: regional ones of newer models cost a tenth more.
    Case("bedrock", "us.anthropic.claude-3-haiku-20240307-v1:0", bedrock(30, 628), "30 x 0.25 + 628 x 1.25", "0.0007925"),
    Case("bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0", bedrock(30, 628), "30 x 3.00 + 628 x 15.00", "0.00951"),
    Case("bedrock", "us.anthropic.claude-3-7-sonnet-20250219-v1:0", bedrock(30, 628, read=1000, write=100),
         "30 x 3.00 + 1000 x 0.30 + 100 x 3.75 + 628 x 15.00", "0.010185"),
    Case("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", bedrock(1000, 100),
         "1000 x 3.30 + 100 x 16.50", "0.00495"),
    Case("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", bedrock(1000, 100),
         "1000 x 3.00 + 100 x 15.00", "0.0045"),
    Case("bedrock", "amazon.nova-pro-v1:0", bedrock(1000, 100), "1000 x 0.80 + 100 x 3.20", "0.00112"),
    Case("bedrock", "amazon.nova-lite-v1:0", bedrock(1000, 100, read=500),
         "1000 x 0.06 + 500 x 0.015 + 100 x 0.24", "0.0000915"),
    Case("bedrock", "amazon.nova-micro-v1:0", bedrock(3, 1), "3 x 0.035 + 1 x 0.14", "0.000000245"),
    Case("bedrock", "meta.llama3-3-70b-instruct-v1:0", bedrock(1000, 100), "1000 x 0.72 + 100 x 0.72", "0.000792"),
    # Mistral
    Case("mistral", "mistral-large-2411", chat(1000, 100), "1000 x 2.00 + 100 x 6.00", "0.0026"),
    Case("mistral", "mistral-small-2506", chat(16, 34), "16 x 0.10 + 34 x 0.30", "0.0000118"),
    Case("mistral", "mistral-medium-2508", chat(1000, 100), "1000 x 0.40 + 100 x 2.00", "0.0006"),
    Case("mistral", "codestral-2508", chat(1000, 100), "1000 x 0.30 + 100 x 0.90", "0.00039"),
    Case("mistral", "magistral-medium-2509", chat(1000, 100), "1000 x 2.00 + 100 x 5.00", "0.0025"),
    # Groq
    Case("groq", "llama-3.3-70b-versatile", chat(18, 556), "18 x 0.59 + 556 x 0.79", "0.00044986"),
    Case("groq", "llama-3.1-8b-instant", chat(1000, 100), "1000 x 0.05 + 100 x 0.08", "0.000058"),
    Case("groq", "openai/gpt-oss-120b", chat(4641, 256, cached=4608, reasoning=100),
         "33 x 0.15 + 4608 x 0.075 + 156 x 0.60 + 100 x 0.60", "0.00050415"),
    Case("groq", "qwen/qwen3-32b", chat(1000, 100), "1000 x 0.29 + 100 x 0.59", "0.000349"),
    Case("groq", "meta-llama/llama-4-scout-17b-16e-instruct", chat(1000, 100), "1000 x 0.11 + 100 x 0.34", "0.000144"),
    # DeepSeek, at noon of a day on which the hours between 16:30 and 00:30 UTC were cheaper.
    Case("deepseek", "deepseek-chat", deepseek(1024, 576, 200),
         "576 x 0.27 + 1024 x 0.07 + 200 x 1.10", "0.0004472", "2025-06-01"),
    Case("deepseek", "deepseek-reasoner", deepseek(1024, 576, 200, reasoning=150),
         "576 x 0.55 + 1024 x 0.14 + 50 x 2.19 + 150 x 2.19", "0.00089816", "2025-06-01"),
    # Cohere
    Case("cohere", "command-a-03-2025", cohere(5, 418), "5 x 2.50 + 418 x 10.00", "0.0041925"),
    Case("cohere", "command-r-plus-08-2024", cohere(1000, 100), "1000 x 2.50 + 100 x 10.00", "0.0035"),
    Case("cohere", "command-r-08-2024", cohere(1000, 100), "1000 x 0.15 + 100 x 0.60", "0.00021"),
    Case("cohere", "command-r7b-12-2024", cohere(1000, 100), "1000 x 0.0375 + 100 x 0.15", "0.0000525"),
]  # fmt: skip


# --- integrations -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def there() -> Iterator[Provider]:
    with provider() as here:
        yield here


@pytest.fixture
def server(there: Provider) -> Provider:
    """One for all: so Bedrock's client can be one."""
    return there


@pytest.fixture(scope="module")
def runtime(there: Provider) -> Any:
    """Bedrock's client, made once: it takes botocore a second."""
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "x"}
    once = Config(retries={"total_max_attempts": 1})
    return boto3.client("bedrock-runtime", region_name="us-east-1", config=once, endpoint_url=there.url, **keys)


def asked(case: Case, url: str, runtime: Any) -> BaseChatModel:
    """The integration, as an application makes it."""
    match case.api:
        case "chat" | "responses":
            return ChatOpenAI(
                model=case.model, api_key=KEY, base_url=url, max_retries=0, use_responses_api=case.api == "responses"
            )
        case "azure":
            return AzureChatOpenAI(
                azure_deployment="prod-chat", azure_endpoint=url, api_key=KEY, api_version="2024-10-21", max_retries=0
            )
        case "anthropic":
            anthropic: dict[str, Any] = {"model": case.model, "api_key": KEY, "base_url": url}
            return ChatAnthropic(**anthropic, max_retries=0)
        case "gemini":
            return ChatGoogleGenerativeAI(model=case.model, google_api_key=KEY, base_url=url, max_retries=1)
        case "vertex":
            made: dict[str, Any] = {"project": "p", "location": "us-central1", "credentials": CREDENTIALS}
            return ChatGoogleGenerativeAI(model=case.model, base_url=url, max_retries=1, google_api_key=None, **made)
        case "bedrock":
            converse: dict[str, Any] = {"model": case.model, "client": runtime, "bedrock_client": runtime}
            return ChatBedrockConverse(**converse)
        case "mistral":
            return ChatMistralAI(model_name=case.model, api_key=KEY, endpoint=url, max_retries=0)
        case "groq":
            return ChatGroq(model_name=case.model, api_key=KEY, base_url=url, max_retries=0)
        case "deepseek":
            return ChatDeepSeek(model_name=case.model, api_key=KEY, api_base=url, max_retries=0)
        case "cohere":
            return ChatCohere(model=case.model, cohere_api_key=KEY, base_url=url)
    raise AssertionError(case.api)


def answered(case: Case) -> Answer:
    """What the provider says."""
    match case.api:
        case "responses":
            return json_answer(response(case.usage, model=case.model, service_tier=case.tier or "default"))
        case "anthropic":
            said = {"id": "msg_013Zva2CMHLNnXjNJJKqJ2EF", "type": "message", "role": "assistant", "model": case.model}
            content = [{"type": "text", "text": "Hi!"}]
            usage = {**case.usage, "service_tier": case.tier or "standard"}
            return json_answer(
                {**said, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
            )
        case "gemini" | "vertex":
            candidate = {"content": {"parts": [{"text": "Hi!"}], "role": "model"}, "index": 0, "finishReason": "STOP"}
            return json_answer({"candidates": [candidate], "modelVersion": case.model, "usageMetadata": case.usage})
        case "bedrock":
            output = {"message": {"role": "assistant", "content": [{"text": "Hi!"}]}}
            return json_answer(
                {"output": output, "stopReason": "end_turn", "usage": case.usage, "metrics": {"latencyMs": 1275}},
                headers={"x-amzn-RequestId": "9ef1e313-a4c1-4f79-b631-171f658d3c0e"},
            )
        case "cohere":
            message = {"role": "assistant", "content": [{"type": "text", "text": "Hi!"}]}
            return json_answer({"id": "c14c80c3", "finish_reason": "COMPLETE", "message": message, "usage": case.usage})
    return json_answer(completion(case.usage, model=case.model, service_tier=case.tier or "default"))


def by_hand(worked: str) -> Decimal:
    """The sum of the products, in USD."""
    terms = (term.split(" x ") for term in worked.split(" + "))
    return sum((int(tokens) * Decimal(usd) for tokens, usd in terms), Decimal(0)) / 1_000_000


def test_there_are_enough_cases_and_every_provider_has_a_page() -> None:
    assert len(CASES) >= 60
    pages = {"chat": "openai", "responses": "openai", "gemini": "google", "bedrock": "aws"}
    assert {pages.get(case.api, case.api) for case in CASES} == PAGES.keys()


@pytest.mark.parametrize("case", CASES, ids=[f"{n:02}-{case.api}-{case.model}" for n, case in enumerate(CASES)])
async def test_a_call_costs_what_it_costs_by_hand(
    case: Case, exported: Exported, server: Provider, runtime: Any
) -> None:
    server.says(answered(case))
    await ask(asked(case, server.url, runtime), "invoke", exported)
    record = exported.record()
    record.start_ns = round(datetime.fromisoformat(case.day).replace(hour=12, tzinfo=UTC).timestamp()) * 1_000_000_000
    record.end_ns = record.start_ns + 1
    BOOK.price(record)
    assert record.cost is not None
    assert Decimal(case.usd) == by_hand(case.worked)
    assert ("priced", Decimal(case.usd)) == (record.cost.status, Decimal(record.cost.total_nano) / 1_000_000_000)
    assert record.cost.total_nano == sum(record.cost.parts)
