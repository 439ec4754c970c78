"""A directory of recordings as something to ask: who answers this request, and if nobody, who nearly did.

Look-ups go from the strictest to the most forgiving: an equal request in our format, Llama Stack's own digest, and
then, unless matching is strict, a request that asks the same thing. Equal requests are answered first in, first
out. When all their answers are used up the last one is repeated, because a server that runs for long asks some things
again and again (its hosts' models, a client's retry), and the n-th question then has the same answer whatever else was
asked between. A new process begins anew.

A request with a test id is answered from that test's scenario, then from those that belong to no test.
"""

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from antiphon.errors import InvalidRequest
from antiphon.exchange import Outgoing
from antiphon.replay import canonical, llama_stack, shapes, tolerant
from antiphon.replay.entries import ANTIPHON, LLAMA_STACK, Entry, Skipped, load_directory
from antiphon.replay.recording import Answer

Matching = Literal["strict", "tolerant"]
_NEAR_MAX: Final = 40
_COMPARED: Final = frozenset({"model", "messages", "tools", "input", "prompt", "stream"})
"""Members that the forgiving comparison has looked at already, or that say nothing."""
_MODEL_LIST: Final = "/models"
_EMBEDDINGS: Final = "/embeddings"


class Wanted(Struct, frozen=True, kw_only=True):
    """An outgoing request as look-ups see it: without secrets, once canonical and once as it is."""

    method: str
    host: str
    url: str
    base_url: str
    endpoint: str
    key: str
    canonical_body: Any
    body: Any
    test_id: str | None

    @property
    def model(self) -> Any:
        """The model that is asked."""
        return self.body.get("model") if isinstance(self.body, dict) else None


class Nearest(Struct, frozen=True, kw_only=True):
    """The recording that comes nearest to a request, and where the two differ: path, wanted, recorded."""

    entry: Entry
    differences: list[tuple[str, Any, Any]]


class RecordedModel(Struct, frozen=True, kw_only=True):
    """A model that recordings know. `listed` is the host's own entry for it, if its list was recorded."""

    id: str
    kind: Literal["llm", "embedding"] = "llm"
    dimension: int | None = None
    listed: dict[str, Any] | None = None


class RecordedHost(Struct, frozen=True, kw_only=True):
    """A host that recordings know: its name as configured (or as its address suggests), where it is, its models."""

    name: str
    base_url: str
    models: tuple[RecordedModel, ...]


def wanted_from(outgoing: Outgoing) -> Wanted:
    """What to look for."""
    body = canonical.clean_body(outgoing)
    request = canonical.request_from(outgoing, body)
    base_url, endpoint = canonical.place_of(outgoing.url)
    return Wanted(
        method=request.method,
        host=request.host,
        url=request.url,
        base_url=base_url,
        endpoint=endpoint,
        key=canonical.key_of(request),
        canonical_body=request.body,
        body=body,
        test_id=outgoing.replay.test_id,
    )


class Library:
    """The recordings of one directory."""

    def __init__(self, entries: Iterable[Entry], matching: Matching = "tolerant") -> None:
        self.entries: list[Entry] = []
        self.skipped: Sequence[Skipped] = ()
        self._matching = matching
        self._by_key: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_meaning: defaultdict[str, list[Entry]] | None = None
        self._used: Counter[tuple[str | None, str]] = Counter()
        for entry in entries:
            self.add(entry)

    @classmethod
    def open(cls, directory: Path, matching: Matching = "tolerant") -> "Library":
        """Indexes a directory; raises `InvalidRequest` when it is not there or a recording in it is broken."""
        if not directory.is_dir():
            what = "is no directory" if directory.exists() else "does not exist"
            raise InvalidRequest(f"The recordings' directory {directory} {what}.")
        entries, skipped = load_directory(directory)
        library = cls(entries, matching)
        library.skipped = skipped
        return library

    def add(self, entry: Entry) -> None:
        """Makes one more recording known."""
        self.entries.append(entry)
        self._by_key[entry.key].append(entry)
        if self._by_meaning is not None:
            self._index_meaning(self._by_meaning, entry)

    def forget(self, key: str, scenario: str) -> None:
        """Drops a scenario's recordings of equal requests: they are about to be recorded anew."""
        gone = [entry for entry in self._by_key.get(key, ()) if entry.scenario == scenario]
        if gone:
            self.entries = [entry for entry in self.entries if entry not in gone]
            self._by_key[key] = [entry for entry in self._by_key[key] if entry not in gone]
            self._by_meaning = None
            for turn in [turn for turn in self._used if turn[1] == key]:
                del self._used[turn]

    def find(self, wanted: Wanted) -> Entry | None:
        """The recording whose turn it is to answer this request, or None. Asking counts as a turn."""
        return self._next_equal(wanted) or self._same_digest(wanted) or self._same_meaning(wanted)

    def knows(self, wanted: Wanted) -> Entry | None:
        """A recording that would answer this request, or None. Takes no turn."""
        equal = self._equal(wanted)
        return equal[0] if equal else self._same_digest(wanted) or self._same_meaning(wanted)

    def answer(self, wanted: Wanted, *, made_up: bool = True) -> Answer | None:
        """The answer to this request, or None. A list of models is made up if there is no recorded one."""
        if wanted.endpoint == _MODEL_LIST and wanted.method == "GET":
            equal = self._next_equal(wanted)
            return equal.load() if equal else self._model_list(wanted) if made_up else None
        entry = self.find(wanted)
        return None if entry is None else shapes.fitting(entry.load(), entry.endpoint, wanted.body)

    def nearest(self, wanted: Wanted) -> Nearest | None:
        """The recording with the fewest differences among those of the same kind, or None if there are none."""

        def roughly(entry: Entry) -> tuple[bool, int, int]:
            body = entry.body
            if not isinstance(body, dict) or not isinstance(wanted.body, dict):
                return True, 0, 0
            lengths = [len(str(each.get("messages") or each.get("input"))) for each in (body, wanted.body)]
            strangers = len(body.keys() ^ wanted.body.keys())
            return entry.model != wanted.model, abs(lengths[0] - lengths[1]), strangers

        kin = [entry for entry in self.entries if (entry.method, entry.endpoint) == (wanted.method, wanted.endpoint)]
        candidates = sorted(kin, key=roughly)[:_NEAR_MAX]
        found = [
            Nearest(
                entry=entry, differences=canonical.differences(wanted.canonical_body, canonical.canonical(entry.body))
            )
            for entry in candidates
        ]
        return min(found, key=lambda near: len(near.differences), default=None)

    def hosts(self) -> list[RecordedHost]:
        """The hosts in the recordings with their models, so that a server without any configuration can serve them."""
        bases: dict[str, str] = {}
        for entry in self.entries:
            if entry.endpoint in canonical.ENDPOINTS:  # pages and searches are recorded too
                bases.setdefault(entry.host, entry.base_url)
        return [
            RecordedHost(name=name, base_url=base_url, models=tuple(self._models(name)))
            for name, base_url in sorted(bases.items())
        ]

    # ---------------------------------------------------------------- the three comparisons

    def _equal(self, wanted: Wanted) -> list[Entry]:
        """Equal requests in our format, in the order of their recording."""
        equal = [entry for entry in self._by_key.get(wanted.key, ()) if entry.format == ANTIPHON]
        if wanted.test_id is None:
            return equal
        own = [entry for entry in equal if entry.test_id == wanted.test_id]
        return own or [entry for entry in equal if entry.test_id is None]

    def _next_equal(self, wanted: Wanted) -> Entry | None:
        """First in, first out."""
        equal = self._equal(wanted)
        turn = (wanted.test_id, wanted.key)
        used = self._used[turn]
        if not equal:
            return None
        self._used[turn] = used + 1
        return equal[min(used, len(equal) - 1)]

    def _same_digest(self, wanted: Wanted) -> Entry | None:
        """Llama Stack's rule: the digest names the file; the test's directory comes first, then the common one."""
        suite = llama_stack.suite_of(wanted.test_id)
        for digest in llama_stack.digests(wanted.url, wanted.body, wanted.test_id):
            found = [entry for entry in self._by_key.get(digest, ()) if entry.format == LLAMA_STACK]
            if found:
                return min(found, key=lambda entry: _distance(entry.file, suite))
        return None

    def _same_meaning(self, wanted: Wanted) -> Entry | None:
        """The forgiving rule. Of several: the same test, the most equal other members, the same shape, the first."""
        if self._matching == "strict":
            return None
        if self._by_meaning is None:
            self._by_meaning = defaultdict(list)
            for entry in self.entries:
                self._index_meaning(self._by_meaning, entry)
        meaning = tolerant.key_of(wanted.endpoint, wanted.body)
        if meaning is None:
            return None
        found = self._by_meaning.get(meaning, ())
        streamed = bool(wanted.body.get("stream"))

        def preference(entry: Entry) -> tuple[bool, bool, int, bool]:
            others = (entry.body.keys() | wanted.body.keys()) - _COMPARED
            differing = {name for name in others if entry.body.get(name) != wanted.body.get(name)}
            other_test = entry.test_id != wanted.test_id
            return other_test, "response_format" in differing, len(differing), entry.streamed != streamed

        return min(found, key=preference, default=None)  # `min` keeps the order of files among equals

    @staticmethod
    def _index_meaning(index: defaultdict[str, list[Entry]], entry: Entry) -> None:
        # What our own recordings say is exact; only foreign ones are read between the lines.
        if entry.format == LLAMA_STACK and (meaning := entry.tolerant_key):
            index[meaning].append(entry)

    # ---------------------------------------------------------------- models

    def _model_list(self, wanted: Wanted) -> Answer | None:
        """The models of the host that is asked, as its own list would say it."""
        hosts = {entry.host for entry in self.entries if wanted.host == entry.host or wanted.base_url == entry.base_url}
        if self._matching == "strict":
            # Llama Stack knows only paths: all hosts that share one have one list.
            for digest in llama_stack.digests(wanted.url, None, None):
                hosts |= {entry.host for entry in self._by_key.get(digest, ())}
        if not hosts:
            return None
        models = {model.id: model for host in sorted(hosts) for model in self._models(host)}
        blank = {"object": "model", "created": 0, "owned_by": "recording"}
        return llama_stack.whole_answer(
            {"object": "list", "data": [models[name].listed or {"id": name, **blank} for name in sorted(models)]}
        )

    def _models(self, host: str) -> list[RecordedModel]:
        """The models that a host listed or that were asked of it, by id."""
        mine = [entry for entry in self.entries if entry.host == host]
        models: dict[str, RecordedModel] = {}
        for entry in mine:
            if entry.endpoint == _MODEL_LIST:
                models |= {listed["id"]: RecordedModel(id=listed["id"], listed=listed) for listed in _listed(entry)}
        embedding = {entry.model: entry for entry in reversed(mine) if entry.endpoint == _EMBEDDINGS}
        for name in {entry.model for entry in mine if entry.model}:
            model = models.get(name, RecordedModel(id=name))
            if name in embedding:
                dimension = _dimension(embedding[name])
                model = msgspec.structs.replace(model, kind="embedding", dimension=dimension)
            models[name] = model
        return [models[name] for name in sorted(models)]


def _distance(file: Path, suite: str) -> int:
    """How far a file is from where a suite's recordings are looked up: its own directory, the common one, any."""
    parts = file.parts[:-1]
    return 0 if suite in parts else 1 if llama_stack.COMMON in parts else 2


def _listed(entry: Entry) -> list[dict[str, Any]]:
    """The models in a recorded list; none if it was an error or is not understood."""
    whole = _json(entry)
    found = whole.get("data") if isinstance(whole, dict) else None
    return [each for each in found or () if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _dimension(entry: Entry) -> int | None:
    """The length of the vectors that a model answered with."""
    whole = _json(entry)
    vectors = whole.get("data") if isinstance(whole, dict) else None
    vector = vectors[0].get("embedding") if vectors else None
    if isinstance(vector, str):
        return len(base64.b64decode(vector)) // 4
    return len(vector) if isinstance(vector, list) else None


def _json(entry: Entry) -> Any:
    answer = entry.load()
    try:
        return msgspec.json.decode(answer.body) if answer.status == 200 else None
    except msgspec.DecodeError:
        return None
