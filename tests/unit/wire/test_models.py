"""Model objects: OpenAI's first, what Llama Stack and OGX add beside it."""

import msgspec

from antiphon.wire.models import CustomMetadata, Model, ModelList, ProviderEntry, ProviderHealth


def model(**more: object) -> Model:
    return Model(
        id="h/m",
        owned_by="h",
        custom_metadata=CustomMetadata(model_type="embedding", provider_id="h", provider_resource_id="m"),
        identifier="h/m",
        provider_id="h",
        provider_resource_id="m",
        **more,  # type: ignore[arg-type]
    )


def test_openais_fields_come_first() -> None:
    made = msgspec.json.decode(msgspec.json.encode(model(created=5)))
    assert list(made)[:4] == ["id", "object", "created", "owned_by"]
    assert (made["id"], made["object"], made["created"], made["owned_by"]) == ("h/m", "model", 5, "h")


def test_the_official_clients_types_read_a_list_of_models() -> None:
    import openai.types

    listed = msgspec.json.decode(msgspec.json.encode(ModelList(data=[model()])))
    read = openai.types.Model.model_validate(listed["data"][0], strict=True)
    assert (listed["object"], read.id, read.object) == ("list", "h/m", "model")


def test_what_llama_stack_adds_stands_beside() -> None:
    made = msgspec.to_builtins(model(model_type="embedding", metadata={"embedding_dimension": 3}))
    assert made["custom_metadata"] == {"model_type": "embedding", "provider_id": "h", "provider_resource_id": "m"}
    assert (made["identifier"], made["provider_id"], made["provider_resource_id"]) == ("h/m", "h", "m")
    assert (made["model_type"], made["metadata"]) == ("embedding", {"embedding_dimension": 3})


def test_a_providers_health_leaves_out_an_empty_message() -> None:
    entry = ProviderEntry(provider_id="h", provider_type="remote::vllm", health=ProviderHealth(status="OK"))
    assert msgspec.to_builtins(entry) == {
        "api": "inference",
        "provider_id": "h",
        "provider_type": "remote::vllm",
        "config": {},
        "health": {"status": "OK"},
    }
