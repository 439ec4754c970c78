"""Runs from their beginning to their end."""


async def test_a_run_is_kept_and_ends_with_its_terminal_event(bench):
    bench = bench()
    events = await bench.events(input="hi")
    assert type(events[-1]).__struct_config__.tag == "response.completed"
    assert (await bench.engine.responses.get("me", events[-1].response.id)) == events[-1].response
