"""Which images a tool that changes images is given: those of the context, the latest ones, as data."""

import base64

import pytest

from antiphon.engine.perform import fresh
from antiphon.engine.pictures import PICTURES_MAX, pictures
from antiphon.errors import InvalidRequest, NotFound
from antiphon.wire.items import InputImage

PNG = b"\x89PNG\r\n\x1a\n"


def url(name):
    return f"data:image/png;base64,{base64.b64encode(PNG + str(name).encode()).decode()}"


def showing(*names):
    content = [{"type": "input_image", "image_url": url(name)} for name in names]
    return [{"role": "user", "content": content}]


async def of(bench, wanted=None, **body):
    """The images that a tool of this request is given."""
    run = await bench.prepared(**body)
    return list(await pictures(bench.engine, fresh(bench.engine, run, shown=True), wanted))


async def test_images_of_earlier_turns_stand_before_those_of_the_request(bench):
    bench = bench()
    first = await bench.response(input=showing("a"))
    assert await of(bench, input=showing("b", "c"), previous_response_id=first.id) == [url("a"), url("b"), url("c")]
    talk = await bench.conversation()
    await bench.response(input=showing("d"), conversation=talk)
    assert await of(bench, input=showing("e"), conversation=talk) == [url("d"), url("e")]


async def test_images_that_were_made_or_that_a_function_gave_are_among_them(bench):
    data = base64.b64encode(PNG).decode()
    made = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "output_format": "webp"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": showing("f")[0]["content"]}
    unfinished = {**made, "id": "ig_2", "status": "failed"}
    items = [{**made, "result": data}, unfinished, call, output]
    assert await of(bench(), input=items) == [f"data:image/webp;base64,{data}", url("f")]


async def test_of_many_the_latest_are_given(bench):
    names = range(PICTURES_MAX + 3)
    assert await of(bench(), input=showing(*names)) == [url(name) for name in names][3:]


async def test_an_image_by_its_id_is_given_as_data(bench):
    with pytest.raises(NotFound, match="file-none"):
        await of(bench(), InputImage(file_id="file-none"), input="hi")
    assert await of(bench(), InputImage(image_url=url("m")), input=showing("a")) == [url("m")]


async def test_what_leads_to_no_image_is_the_clients_mistake(bench):
    with pytest.raises(InvalidRequest):
        await of(bench(), InputImage(image_url="http://10.0.0.1/a.png"), input="hi")
