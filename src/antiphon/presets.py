"""Model hosts that speak OpenAI's chat-completions dialect, as data: where they are, and how they depart from it.

`Quirks` is obeyed by `models.chat_codec`; nothing else in the program knows one host from another. The defaults are
what an unknown host can be trusted to take. A new host is one more entry here, or the same fields in a configuration.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

SAMPLING = frozenset({"frequency_penalty", "presence_penalty", "seed"})
LOGPROBS = frozenset({"logprobs", "top_logprobs"})
OPENAI_ONLY = frozenset(
    {
        "metadata",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)


class Quirks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a host departs from OpenAI's chat completions. What a host does not take is left out or written otherwise.

    `accepts` names the optional request parameters that are forwarded; all other members of the body are governed by
    a field of their own. Every field may be set for one host in the configuration (`hosts.NAME.quirks`).
    """

    # messages
    developer_role: bool = False
    """Takes the role `developer`; else it becomes `system`."""
    reasoning_input: Literal["reasoning_content", "reasoning"] | None = None
    """The assistant message's field in which earlier reasoning is sent back; None: it is not sent."""
    images: bool = True
    """Takes image parts at all."""
    image_urls: bool = True
    """Fetches http(s) images itself; else only data URLs can be sent."""
    audio: bool = True
    """Takes `input_audio` parts."""
    files: bool = False
    """Takes `file` parts with inline data."""
    tool_parts: bool = False
    """Takes an array of text parts as a tool message's content; else the texts are joined."""

    # limits and sampling
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The member that carries the output limit."""
    accepts: frozenset[str] = SAMPLING | LOGPROBS | {"reasoning_effort", "user"}
    """Optional request parameters that this host takes."""

    # tools
    parallel_tool_calls: bool = True
    """Takes `parallel_tool_calls`."""
    strict_tools: bool = False
    """Takes `strict` inside a function."""
    tool_choice: bool = True
    """Takes `tool_choice` at all; else "none" means that no tools are sent, and others are only a wish."""
    tool_choice_required: bool = True
    """Takes `tool_choice: "required"`."""
    tool_choice_function: bool = True
    """Takes a `tool_choice` that names one function; else only that function is sent, as `required`."""
    allowed_tools: bool = False
    """Takes a `tool_choice` of type `allowed_tools`; else only those functions are sent."""

    # output
    json_object: bool = True
    """Takes `response_format: {"type": "json_object"}`."""
    json_schema: bool = True
    """Takes `response_format: {"type": "json_schema"}`."""
    stream_usage: bool = True
    """Takes `stream_options.include_usage`; else usage is used where the host sends it unasked."""

    # reranking
    rerank_documents: Literal["documents", "texts"] = "documents"
    """The member of a rerank request that carries the documents."""
    rerank_logits: bool = False
    """Scores are logits; else they lie between 0 and 1."""

    # the wire
    api_key_header: Literal["authorization", "api-key"] = "authorization"
    """`authorization` sends `Bearer KEY`, `api-key` sends the bare key."""
    query: dict[str, str] = msgspec.field(default_factory=dict)
    """Query parameters of every request, such as Azure's `api-version`."""
    chat_path: str = "/chat/completions"
    completions_path: str = "/completions"
    embeddings_path: str = "/embeddings"
    rerank_path: str = "/rerank"
    models_path: str = "/models"


OPENAI_QUIRKS = Quirks(
    developer_role=True,
    files=True,
    tool_parts=True,
    max_tokens_field="max_completion_tokens",
    accepts=SAMPLING | LOGPROBS | OPENAI_ONLY,
    strict_tools=True,
    allowed_tools=True,
)
DEFAULT_QUIRKS = Quirks()


class Preset(Struct, frozen=True, kw_only=True):
    """A known kind of host. An empty `base_url` means that the configuration or the environment must give one.

    `url_envs` hold an address, to which `url_suffix` is added unless the address has a path already; `key_envs` hold a
    key. A host is found by itself when one of `url_envs` is set, or one of `key_envs` while `base_url` is known.
    """

    name: str
    provider_type: str
    base_url: str = ""
    url_envs: tuple[str, ...] = ()
    url_suffix: str = ""
    key_envs: tuple[str, ...] = ()
    key_needed: bool = False
    provider_data_keys: tuple[str, ...] = ()
    """Members of the provider-data header that carry this host's key."""
    quirks: Quirks = DEFAULT_QUIRKS
    list_models: bool = True
    """Whether the host answers `GET /models`."""
    listed_prefix: str = ""
    """A prefix that the host puts before its model ids when listing them, and that is not part of our ids."""
    probe: bool = False
    """Look for this host on its default address even if nothing names it; it is shown once it answers."""
    embeddings: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Known embedding models and their dimension."""


_OPENAI_EMBEDDINGS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_LOCAL_EMBEDDINGS = {
    "all-minilm": 384,
    "all-minilm:l6-v2": 384,
    "all-minilm:latest": 384,
    "bge-m3": 1024,
    "bge-m3:latest": 1024,
    "embeddinggemma": 768,
    "embeddinggemma:latest": 768,
    "mxbai-embed-large": 1024,
    "mxbai-embed-large:latest": 1024,
    "nomic-embed-text": 768,
    "nomic-embed-text:137m-v1.5-fp16": 768,
    "nomic-embed-text:latest": 768,
    "nomic-embed-text:v1.5": 768,
}

_ALL = (
    Preset(
        name="openai",
        provider_type="remote::openai",
        base_url="https://api.openai.com/v1",
        url_envs=("OPENAI_BASE_URL",),
        key_envs=("OPENAI_API_KEY",),
        key_needed=True,
        provider_data_keys=("openai_api_key",),
        quirks=OPENAI_QUIRKS,
        embeddings=_OPENAI_EMBEDDINGS,
    ),
    Preset(
        name="ollama",
        provider_type="remote::ollama",
        base_url="http://127.0.0.1:11434/v1",
        url_envs=("OLLAMA_HOST", "OLLAMA_URL"),
        url_suffix="/v1",
        key_envs=("OLLAMA_API_KEY",),
        probe=True,
        provider_data_keys=("ollama_api_token", "ollama_api_key"),
        quirks=Quirks(
            reasoning_input="reasoning",
            image_urls=False,
            audio=False,
            accepts=SAMPLING | LOGPROBS | {"reasoning_effort"},
            parallel_tool_calls=False,
            tool_choice=False,
            tool_choice_required=False,
            tool_choice_function=False,
        ),
        embeddings=_LOCAL_EMBEDDINGS,
    ),
    Preset(
        name="vllm",
        provider_type="remote::vllm",
        url_envs=("VLLM_URL", "VLLM_BASE_URL"),
        url_suffix="/v1",
        key_envs=("VLLM_API_TOKEN", "VLLM_API_KEY"),
        provider_data_keys=("vllm_api_token", "vllm_api_key"),
        quirks=Quirks(reasoning_input="reasoning", strict_tools=True, tool_parts=True),
    ),
    Preset(
        name="llamacpp",
        provider_type="remote::llamacpp",
        url_envs=("LLAMACPP_URL", "LLAMA_CPP_URL"),
        url_suffix="/v1",
        key_envs=("LLAMACPP_API_KEY",),
        provider_data_keys=("llamacpp_api_key",),
        quirks=Quirks(
            reasoning_input="reasoning_content",
            accepts=SAMPLING | LOGPROBS,
            tool_choice_function=False,
            rerank_logits=True,
        ),
    ),
    Preset(
        name="lmstudio",
        provider_type="remote::lmstudio",
        url_envs=("LMSTUDIO_URL", "LM_STUDIO_URL", "LMSTUDIO_BASE_URL"),
        url_suffix="/v1",
        key_envs=("LMSTUDIO_API_KEY", "LM_API_TOKEN"),
        provider_data_keys=("lmstudio_api_key",),
        quirks=Quirks(
            image_urls=False,
            audio=False,
            accepts=SAMPLING,
            parallel_tool_calls=False,
            tool_choice_function=False,
            json_object=False,
        ),
        embeddings={"text-embedding-nomic-embed-text-v1.5": 768},
    ),
    Preset(
        name="groq",
        provider_type="remote::groq",
        base_url="https://api.groq.com/openai/v1",
        url_envs=("GROQ_BASE_URL",),
        url_suffix="/openai/v1",
        key_envs=("GROQ_API_KEY",),
        key_needed=True,
        provider_data_keys=("groq_api_key",),
        quirks=Quirks(
            reasoning_input="reasoning",
            audio=False,
            max_tokens_field="max_completion_tokens",
            accepts=SAMPLING | {"reasoning_effort", "service_tier", "user"},
        ),
    ),
    Preset(
        name="together",
        provider_type="remote::together",
        base_url="https://api.together.xyz/v1",
        url_envs=("TOGETHER_BASE_URL",),
        key_envs=("TOGETHER_API_KEY",),
        key_needed=True,
        provider_data_keys=("together_api_key",),
        quirks=Quirks(audio=False, accepts=SAMPLING | {"reasoning_effort"}, parallel_tool_calls=False),
        embeddings={
            "BAAI/bge-base-en-v1.5": 768,
            "BAAI/bge-large-en-v1.5": 1024,
            "intfloat/multilingual-e5-large-instruct": 1024,
            "togethercomputer/m2-bert-80M-32k-retrieval": 768,
        },
    ),
    Preset(
        name="fireworks",
        provider_type="remote::fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        url_envs=("FIREWORKS_BASE_URL",),
        key_envs=("FIREWORKS_API_KEY",),
        key_needed=True,
        provider_data_keys=("fireworks_api_key",),
        quirks=Quirks(
            reasoning_input="reasoning_content",
            audio=False,
            accepts=SAMPLING | LOGPROBS | {"prompt_cache_key", "reasoning_effort", "user"},
        ),
        embeddings={
            "accounts/fireworks/models/qwen3-embedding-8b": 4096,
            "nomic-ai/nomic-embed-text-v1.5": 768,
        },
    ),
    Preset(
        name="cerebras",
        provider_type="remote::cerebras",
        base_url="https://api.cerebras.ai/v1",
        url_envs=("CEREBRAS_BASE_URL",),
        url_suffix="/v1",
        key_envs=("CEREBRAS_API_KEY",),
        key_needed=True,
        provider_data_keys=("cerebras_api_key",),
        quirks=Quirks(
            images=False,
            image_urls=False,
            audio=False,
            max_tokens_field="max_completion_tokens",
            accepts=LOGPROBS | {"reasoning_effort", "seed", "service_tier", "user"},
            strict_tools=True,
        ),
    ),
    Preset(
        name="sambanova",
        provider_type="remote::sambanova",
        base_url="https://api.sambanova.ai/v1",
        url_envs=("SAMBANOVA_URL", "SAMBANOVA_BASE_URL"),
        key_envs=("SAMBANOVA_API_KEY",),
        key_needed=True,
        provider_data_keys=("sambanova_api_key",),
        quirks=Quirks(image_urls=False, accepts=SAMPLING | {"reasoning_effort"}),
        embeddings={"E5-Mistral-7B-Instruct": 4096},
    ),
    Preset(
        name="deepseek",
        provider_type="remote::deepseek",
        base_url="https://api.deepseek.com/v1",
        url_envs=("DEEPSEEK_BASE_URL",),
        url_suffix="/v1",
        key_envs=("DEEPSEEK_API_KEY",),
        key_needed=True,
        provider_data_keys=("deepseek_api_key",),
        quirks=Quirks(
            reasoning_input="reasoning_content",
            images=False,
            image_urls=False,
            audio=False,
            accepts=LOGPROBS | {"frequency_penalty", "presence_penalty"},
            parallel_tool_calls=False,
            json_schema=False,
        ),
    ),
    Preset(
        name="mistral",
        provider_type="remote::mistral",
        base_url="https://api.mistral.ai/v1",
        url_envs=("MISTRAL_BASE_URL",),
        url_suffix="/v1",
        key_envs=("MISTRAL_API_KEY",),
        key_needed=True,
        provider_data_keys=("mistral_api_key",),
        quirks=Quirks(
            accepts=frozenset({"frequency_penalty", "presence_penalty"}),
            strict_tools=True,
            stream_usage=False,
        ),
        embeddings={"codestral-embed": 1536, "codestral-embed-2505": 1536, "mistral-embed": 1024},
    ),
    Preset(
        name="openrouter",
        provider_type="remote::openrouter",
        base_url="https://openrouter.ai/api/v1",
        url_envs=("OPENROUTER_BASE_URL",),
        key_envs=("OPENROUTER_API_KEY",),
        key_needed=True,
        provider_data_keys=("openrouter_api_key",),
        quirks=Quirks(
            developer_role=True,
            reasoning_input="reasoning",
            files=True,
            accepts=SAMPLING | LOGPROBS | {"metadata", "reasoning_effort", "user", "verbosity"},
            strict_tools=True,
        ),
        embeddings={f"openai/{name}": dimension for name, dimension in _OPENAI_EMBEDDINGS.items()},
    ),
    Preset(
        name="gemini",
        provider_type="remote::gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        url_envs=("GEMINI_BASE_URL",),
        key_envs=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_needed=True,
        provider_data_keys=("gemini_api_key",),
        quirks=Quirks(image_urls=False, accepts=frozenset({"reasoning_effort"}), parallel_tool_calls=False),
        listed_prefix="models/",
        embeddings={"gemini-embedding-001": 3072, "text-embedding-004": 768},
    ),
    Preset(
        name="nvidia",
        provider_type="remote::nvidia",
        base_url="https://integrate.api.nvidia.com/v1",
        url_envs=("NVIDIA_BASE_URL",),
        url_suffix="/v1",
        key_envs=("NVIDIA_API_KEY",),
        key_needed=True,
        provider_data_keys=("nvidia_api_key",),
        quirks=Quirks(
            image_urls=False,
            audio=False,
            accepts=SAMPLING | LOGPROBS,
            parallel_tool_calls=False,
        ),
        embeddings={
            "nvidia/llama-3.2-nv-embedqa-1b-v2": 2048,
            "nvidia/nv-embedqa-e5-v5": 1024,
            "nvidia/nv-embedqa-mistral-7b-v2": 4096,
            "snowflake/arctic-embed-l": 1024,
        },
    ),
    Preset(
        name="azure",
        provider_type="remote::azure",
        url_envs=("AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"),
        url_suffix="/openai/v1",
        key_envs=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        key_needed=True,
        provider_data_keys=("azure_api_key",),
        quirks=msgspec.structs.replace(OPENAI_QUIRKS, api_key_header="api-key"),
        embeddings=_OPENAI_EMBEDDINGS,
    ),
    Preset(
        name="databricks",
        provider_type="remote::databricks",
        url_envs=("DATABRICKS_HOST", "DATABRICKS_BASE_URL"),
        url_suffix="/serving-endpoints",
        key_envs=("DATABRICKS_TOKEN", "DATABRICKS_API_TOKEN"),
        key_needed=True,
        provider_data_keys=("databricks_api_token",),
        list_models=False,
        quirks=Quirks(
            audio=False,
            accepts=LOGPROBS | {"reasoning_effort"},
            strict_tools=True,
            parallel_tool_calls=False,
        ),
        embeddings={"databricks-bge-large-en": 1024, "databricks-gte-large-en": 1024},
    ),
    Preset(
        name="custom",
        provider_type="remote::openai",
        embeddings={**_OPENAI_EMBEDDINGS, **_LOCAL_EMBEDDINGS},
    ),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
"""Every known kind of host by name. `custom` is any address that speaks the dialect."""
