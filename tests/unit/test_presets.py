"""The known hosts."""

import msgspec
import pytest

from antiphon.presets import PRESETS, Preset, Quirks

WANTED = {
    "openai", "ollama", "vllm", "llamacpp", "lmstudio", "groq", "together", "fireworks", "cerebras", "sambanova",
    "deepseek", "mistral", "openrouter", "gemini", "nvidia", "azure", "databricks", "custom",
}  # fmt: skip


def test_every_host_that_is_promised_has_a_preset() -> None:
    assert set(PRESETS) == WANTED


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_is_complete(preset: Preset) -> None:
    assert preset.base_url or preset.url_envs or preset.name == "custom"
    assert preset.base_url == preset.base_url.rstrip("/")
    assert preset.key_envs or not preset.key_needed
    assert preset.provider_type.startswith("remote::")
    assert all(dimension > 0 for dimension in preset.embeddings.values())
    assert preset.quirks.images or not preset.quirks.image_urls


def test_no_two_presets_claim_one_variable() -> None:
    names = [name for preset in PRESETS.values() for name in (*preset.url_envs, *preset.key_envs)]
    assert len(names) == len(set(names))


def test_quirks_survive_the_way_through_plain_values() -> None:
    for preset in PRESETS.values():
        assert msgspec.convert(msgspec.to_builtins(preset.quirks), Quirks) == preset.quirks


def test_an_unknown_host_gets_nothing_that_only_openai_knows() -> None:
    quirks = PRESETS["custom"].quirks
    assert not quirks.developer_role
    assert not quirks.accepts & {"store", "metadata", "prompt_cache_key", "safety_identifier", "service_tier"}
