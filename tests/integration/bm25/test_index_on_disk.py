"""What only an index on disk can show: crashes, damage, locks, threads."""

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import tantivy
from tests.integration.bm25.indexes import GENERATION, PRICED, Open, docnos, filled, written

from quarry.errors import DataLossError, InvalidArgumentError, RetrieverUnavailableError
from quarry.facets import TermsFacet
from quarry.filters import EqualTo
from quarry.retrieval.base import LexicalResult
from quarry.retrieval.lexical.analysis import VERSION
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.cutting import FORM
from quarry.retrieval.ordering import OrderBy
from quarry.schema import DEFAULT_SCHEMA, Field, FieldType, Schema
from quarry.types import Change, Docno, Position


def test_a_writer_that_died_says_so_and_replay_mends_it(open_index: Open) -> None:
    index = filled(open_index(), "first")
    index.apply([written(1, "second")])
    assert index._writer is not None
    index._writer.add_document(tantivy.Document(_docno="not a number"))  # kills Tantivy's indexing thread
    with pytest.raises(RetrieverUnavailableError):
        index.commit(2)
    assert index.position == Position(GENERATION, 1)
    assert docnos(index.browse(9, None)) == {0}
    index.apply([written(1, "second")])
    index.commit(2)
    assert docnos(index.browse(9, None)) == {0, 1}


def test_a_batch_with_a_bad_value_is_refused_whole_and_harms_nothing(open_index: Open) -> None:
    index = open_index(PRICED)
    index.apply([written(0, "good", price=1)])
    for bad in ({"price": "dear"}, {"price": 2**63}, {"price": 1.5}, {"text": 7}, {"text": "\ud800"}):
        with pytest.raises(InvalidArgumentError, match="of document 2"):
            index.apply([written(1, "good"), Change(Docno(2), 3, bad)])  # type: ignore[arg-type]  # on purpose
    index.commit(1)
    assert docnos(index.browse(9, None)) == {0}
    assert docnos(index.browse(9, EqualTo("price", 1))) == {0}


def test_an_index_whose_folder_was_deleted_still_reads_and_can_be_rebuilt(
    open_index: Open, tmp_path: Path
) -> None:
    index = filled(open_index(), "first")
    shutil.rmtree(tmp_path / "lexical")
    index.apply([written(1, "second")])
    with pytest.raises(RetrieverUnavailableError):
        index.commit(2)
    assert docnos(index.search("first", 9, None)) == {0}
    index.close()
    again = open_index()
    assert again.position == Position(GENERATION, 0)
    assert docnos(filled(again, "first", "second").browse(9, None)) == {0, 1}


def test_an_index_of_an_older_analysis_is_dropped_and_begins_anew(
    open_index: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(open_index(), "first").close()
    meta = tmp_path / "lexical" / "meta.json"
    described = meta.read_text()
    assert f'"quarry{VERSION}_en"' in described
    meta.write_text(described.replace(f'"quarry{VERSION}_', '"quarry_'))
    again = open_index()
    assert "built anew from the log: its texts were analysed in way 1" in caplog.text
    assert again.position == Position(GENERATION, 0)
    assert again.browse(9, None).total == 0
    filled(again, "manutenção").close()
    assert docnos(open_index().search("manutencao", 9, None)) == {0}


def test_positions_of_words_stay_when_their_other_forms_are_indexed(open_index: Open) -> None:
    schema = Schema((Field("text", FieldType.TEXT, language="es"),))
    index = filled(open_index(schema), "el niño pequeño 備份 come")
    searcher, engine_schema = index._searcher, index._engine_schema

    def has_phrase(*words: str) -> bool:
        query = tantivy.Query.phrase_query(engine_schema, "_text_es", list(words))
        return bool(searcher.search(query).hits)

    assert has_phrase("niñ", "pequeñ")
    assert has_phrase(f"{FORM}nin", f"{FORM}pequen")
    assert has_phrase("el", f"{FORM}nin")
    assert has_phrase("pequeñ", "備份", "com")
    assert not has_phrase("nin", "pequeñ")
    assert not has_phrase("niñ", f"{FORM}nin")


def test_long_texts_of_each_kind_are_indexed_and_looked_for(open_index: Open) -> None:
    index = open_index(Schema((Field("text", FieldType.TEXT, language="fr"),)))
    texts = ["é" * 100_000, "備" * 100_000, "\u0301" * 100_000, "न्" * 50_000, "น้ำ" * 30_000, "🍕" * 30_000]
    index.apply([Change(Docno(n), 1, {"text": f"forêt {text}"}) for n, text in enumerate(texts)])
    index.commit(1)
    assert docnos(index.search("foret", 9, None)) == set(range(len(texts)))
    assert docnos(index.search("備備備", 9, None)) == {1}
    for query in ("備份" * 50_000, "備 " * 50_000, "".join(map(chr, range(0x4E00, 0x9E00))) * 5):
        assert index.search(query, 9, None).total <= 1


def test_only_a_search_computes_what_no_score_can_exceed(
    open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a look at how rare each word is, and every search scores documents, too."""
    index = filled(open_index(PRICED), "red shoe", "red hat")
    asked: list[object] = []
    monkeypatch.setattr(
        "quarry.retrieval.lexical.tantivy_query.compute_score_ceiling", lambda *of: asked.append(of) or 1.0
    )
    assert len(index.score_documents("red", [Docno(0), Docno(1)])) == 2
    assert index.count_facets("red", None, [TermsFacet("price")])[0].counts == ()
    assert index.order("red", 2, None, [OrderBy("price")]).total == 2
    assert not asked
    assert index.search("red", 2, None).ceiling == 1.0


def test_documents_that_share_a_segment_with_a_deleted_one_are_found(open_index: Open) -> None:
    index = filled(open_index(), "one", "two", "three")
    index.apply([written(n, "another segment") for n in (3, 4)])
    index.commit(5)
    assert index.find_beside_deleted() == index.find_beside_deleted(thorough=True) == []
    index.apply([Change(Docno(1), 9, None)])
    index.commit(9)
    assert set(index.find_beside_deleted()) == {0, 2}
    assert set(index.find_beside_deleted(thorough=True)) == {0, 2, 3, 4}
    index.apply([written(0, "one"), written(2, "three")])
    index.commit(9)
    assert index.find_beside_deleted(thorough=True) == []


def test_the_last_document_of_a_segment_leaves_no_gap_and_a_thorough_look_finds_what_is_beside_it(
    open_index: Open,
) -> None:
    index = filled(open_index(), "one", "two", "three")
    index.apply([Change(Docno(2), 9, None)])
    index.commit(9)
    assert set(index.find_beside_deleted(thorough=True)) == {0, 1}


def test_a_closed_index_says_so(open_index: Open) -> None:
    index = open_index()
    index.close()
    for call in (lambda: index.search("a", 1, None), lambda: index.apply([]), lambda: index.commit(1)):
        with pytest.raises(RetrieverUnavailableError, match="closed"):
            call()


CHILD = """
import sys
from pathlib import Path
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import DEFAULT_SCHEMA
from quarry.types import Change, Docno

index = TantivyIndex(Path(sys.argv[1]), "g1", DEFAULT_SCHEMA, heap_bytes=15_000_000)
for n in range(1, 10_000):
    index.apply([Change(Docno(n), n, {"text": f"word w{n}"})])
    if n == int(sys.argv[2]):
        print("applied", flush=True)
        sys.stdin.read()
    index.commit(n)
    print(n, flush=True)
"""


def child(folder: Path, stop_at: int = 0) -> "subprocess.Popen[str]":
    """A process that commits one document after the other, and stops before commit ``stop_at``."""
    arguments = [sys.executable, "-c", CHILD, str(folder), str(stop_at)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed_after(process: "subprocess.Popen[str]", line: str) -> None:
    with process:
        assert process.stdout is not None
        assert line in (written.strip() for written in process.stdout)
        process.send_signal(signal.SIGKILL)


def test_a_process_killed_between_apply_and_commit_leaves_the_last_commit(
    open_index: Open, tmp_path: Path
) -> None:
    process = child(tmp_path / "lexical", stop_at=4)
    killed_after(process, "applied")
    index = open_index()
    assert index.position == Position(GENERATION, 3)
    assert dict(index.read_versions()) == {1: 1, 2: 2, 3: 3}


def test_a_process_killed_while_it_commits_leaves_position_and_documents_in_step(
    open_index: Open, tmp_path: Path
) -> None:
    killed_after(child(tmp_path / "lexical"), "12")
    index = open_index()
    sequence = index.position.sequence
    assert sequence >= 12
    assert dict(index.read_versions()) == {n: n for n in range(1, sequence + 1)}


def test_a_second_writer_is_refused_in_this_and_another_process(open_index: Open, tmp_path: Path) -> None:
    process = child(tmp_path / "lexical", stop_at=1)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "applied\n"
        with pytest.raises(RetrieverUnavailableError, match="lock"):
            open_index()
        process.kill()
    first = open_index()
    with pytest.raises(RetrieverUnavailableError, match="lock"):
        open_index()
    first.close()
    assert open_index().position == Position(GENERATION, 0)


def test_an_index_of_another_generation_or_schema_is_data_loss(open_index: Open) -> None:
    filled(open_index(), "first").close()
    with pytest.raises(DataLossError, match="generation g1, not g2"):
        open_index(generation="g2")
    with pytest.raises(DataLossError, match="schema"):
        open_index(PRICED)
    assert open_index().position == Position(GENERATION, 1)


@pytest.mark.parametrize("suffix", ["meta.json", ".idx", ".term", ".fast", ".store"])
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_index_is_data_loss_and_can_be_deleted_and_rebuilt(
    open_index: Open, tmp_path: Path, suffix: str, damage: str
) -> None:
    folder = tmp_path / "lexical"
    filled(open_index(), "first", "second").close()
    for path in folder.glob(f"*{suffix}"):
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:20])
    if (damage, suffix) == ("removed", "meta.json"):
        assert open_index().position == Position(GENERATION, 0)  # to Tantivy no index at all: replayed from 0
        return
    with pytest.raises(DataLossError):
        open_index()
    shutil.rmtree(folder)
    assert docnos(filled(open_index(), "first").browse(9, None)) == {0}


def test_a_system_without_free_files_is_not_data_loss(open_index: Open, tmp_path: Path) -> None:
    filled(open_index(), "first").close()
    script = (
        "import resource, sys; from pathlib import Path; from quarry.schema import DEFAULT_SCHEMA\n"
        "from quarry.retrieval.lexical.bm25 import TantivyIndex\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "TantivyIndex(Path(sys.argv[1]), 'g1', DEFAULT_SCHEMA)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "lexical")]
    failed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "RetrieverUnavailableError" in failed.stderr.splitlines()[-1]


def test_many_commits_and_merges_leave_one_position_and_every_document(open_index: Open) -> None:
    index = open_index()
    for n in range(24):
        index.apply([written(n % 15, f"round {n}"), Change(Docno(99), n, None)])
        index.commit(n)
    index.close()
    again = open_index()
    assert again.position == Position(GENERATION, 23)
    assert docnos(again.browse(99, None)) == set(range(15))
    assert docnos(again.search("round", 99, None)) == set(range(15))


def test_searches_during_commits_each_see_one_commit(open_index: Open) -> None:
    index, done = filled(open_index(), *["common w0"] * 20), Event()

    def searched() -> int:
        searches = 0
        while not done.is_set():
            assert index.search("common", 30, None).total == 20
            assert index.browse(5, None).total == 20
            searches += 1
        return searches

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(searched) for _ in range(3)]
        for n in range(1, 16):
            filled(index, *[f"common w{n}"] * 20)
            assert index.search(f"w{n}", 30, None).total == 20
            assert index.search(f"w{n - 1}", 30, None).total == 0
        done.set()
        assert all(future.result() > 0 for future in running)


def test_scores_are_those_of_a_bare_index_with_en_stem(open_index: Open) -> None:
    texts = [f"running shoes {'and wool socks ' * (n % 4)} number {n % 7}" for n in range(200)]
    ours = filled(open_index(), *texts)
    schema = tantivy.SchemaBuilder().add_text_field("text", tokenizer_name="en_stem").build()
    bare = tantivy.Index(schema)
    writer = bare.writer(15_000_000, 1)
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    bare.reload()
    for query in ("run", "sock number", "wool 3"):
        expected = [score for score, _ in bare.searcher().search(bare.parse_query(query, ["text"]), 200).hits]
        got = [candidate.score for candidate in ours.search(query, 200, None).candidates]
        assert got == pytest.approx(expected, abs=0.02)  # markers count as documents until they merge away


def test_text_fields_that_are_not_searchable_are_left_out(open_index: Open) -> None:
    schema = Schema((Field("text", FieldType.TEXT), Field("secret", FieldType.TEXT, searchable=False)))
    index = open_index(schema)
    index.apply([Change(Docno(0), 1, {"text": "open", "secret": "hidden"})])
    index.commit(1)
    assert index.search("hidden", 9, None).total == 0


def test_a_schema_without_searchable_text_can_be_filtered(open_index: Open) -> None:
    index = open_index(Schema((Field("price", FieldType.INTEGER),)))
    index.apply([Change(Docno(0), 1, {"price": 5})])
    index.commit(1)
    assert index.search("5", 9, None) == LexicalResult([], 0)
    assert docnos(index.browse(9, EqualTo("price", 5))) == {0}


def test_too_little_memory_for_its_threads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        TantivyIndex(tmp_path, GENERATION, DEFAULT_SCHEMA, heap_bytes=20_000_000, threads=2)
