"""Forms, cut wherever the network cuts them."""

import pytest

from antiphon.api.form import Form
from antiphon.errors import InvalidRequest

CONTENT = b"line\r\n--bound\r\n\r\n-- almost --boundary2\r\n\x00\xff" * 3
BODY = (
    b'preamble\r\n--boundary\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a %22b%22.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\n" + CONTENT + b"\r\n"
    b'--boundary\r\nContent-Disposition: form-data; name="late"\r\n\r\nyes\r\n--boundary--\r\nepilogue'
)
KIND = b'multipart/form-data; charset=utf-8; boundary="boundary"'


async def cut(body: bytes, size: int):
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(body: bytes, size: int) -> tuple[Form, bytes]:
    form = Form(KIND, cut(body, size))
    await form.begin()
    return form, b"".join([piece async for piece in form.content()])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 64, 10_000])
async def test_a_form_is_the_same_wherever_it_is_cut(size: int) -> None:
    body = BODY.removeprefix(b"preamble\r\n")
    form, content = await read(body, size)
    assert content == CONTENT
    assert form.fields == {"purpose": "evals", "late": "yes"}
    assert form.filename == 'a "b".txt'


async def test_what_stands_before_the_file_is_known_before_its_end_is_read() -> None:
    taken = 0

    async def counted():
        nonlocal taken
        async for piece in cut(BODY.removeprefix(b"preamble\r\n"), 50):
            taken += 1
            yield piece

    form = Form(KIND, counted())
    await form.begin()
    assert (form.filename, form.fields, taken) == ('a "b".txt', {"purpose": "evals"}, 4)
    content = form.content()
    await anext(content)
    assert taken < 7
    await content.aclose()


@pytest.mark.parametrize("size", [1, 64, 10_000])
@pytest.mark.parametrize("end", [1, 40, 90, 200, len(BODY) - 30])
async def test_a_form_that_ends_early_is_refused(size: int, end: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await read(BODY.removeprefix(b"preamble\r\n")[:end], size)
    assert refused.value.code == "invalid_form"
