"""Versions are registered whole or not at all, and used only as they were registered."""

import errno
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.registry.small import RESULT, Small, model_folder, small

from quarry.errors import (
    CollectionNotFoundError,
    DiskFullError,
    FailedPreconditionError,
    ModelDamagedError,
    ModelError,
    ModelNotFoundError,
)
from quarry.models.blend import BLEND_FILE, Blend, read_blend
from quarry.models.calibration import CALIBRATION_FILE, Calibration, read_calibration, write_calibration
from quarry.registry import artefacts
from quarry.registry.versions import ModelState
from quarry.training.spec import KindName


def none_taken(path: Path, reason: str) -> None:
    raise AssertionError(f"{path} was given away: {reason}")


def test_a_version_is_what_was_registered(faq: Small, tmp_path: Path) -> None:
    blend = Blend(rerank=0.5, fused=2)
    result = RESULT.model_copy(update={"blend": blend})
    folder = model_folder(tmp_path / "m", "weights")
    made = faq.registry.register("faq", "reranker", folder, result, "for people", "a training")
    assert made == faq.registry.get("faq@1")
    assert (made.name, made.kind, made.state) == ("faq@1", "reranker", ModelState.CANDIDATE)
    assert (made.result, made.blend, made.description) == (result, blend, "for people")
    place = faq.registry.locate_folder("faq@1")
    assert place is not None
    assert read_blend(place) == blend
    assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == {
        "config.json", "1_Pooling/config.json", "model.safetensors", BLEND_FILE,
    }  # fmt: skip
    assert made.artefact_bytes == sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    faq.registry.check("faq@1")
    assert (folder / "optimizer.pt").exists()


def test_numbers_are_counted_for_each_collection_and_listed_newest_first(faq: Small, tmp_path: Path) -> None:
    faq.create("other")
    for name in ("faq", "other", "faq"):
        faq.registry.register(name, "reranker", model_folder(tmp_path / "m", name))
    assert [v.name for v in faq.registry.read_page("", None, 10)] == ["faq@2", "other@1", "faq@1"]
    assert [v.name for v in faq.registry.read_page("faq", None, 10)] == ["faq@2", "faq@1"]
    first = faq.registry.read_page("", None, 1)
    assert [v.name for v in faq.registry.read_page("", first[0].place, 10)] == ["other@1", "faq@1"]


def test_versions_that_are_registered_at_once_have_numbers_of_their_own(faq: Small, tmp_path: Path) -> None:
    folders = [model_folder(tmp_path / str(n), f"weights {n}") for n in range(12)]
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda folder: faq.registry.register("faq", "reranker", folder), folders))
    assert sorted(version.number for version in made) == list(range(1, 13))
    for folder, version in zip(folders, made, strict=True):
        place = faq.registry.locate_folder(version.name)
        assert place is not None
        assert (place / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
        faq.registry.check(version.name)


def test_the_hash_tells_models_apart_and_not_copies(faq: Small) -> None:
    hashes = [faq.register(text).artefact_hash for text in ("a", "b", "a")]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "add", "manifest", "all"])
def test_files_that_have_changed_are_noticed(faq: Small, damage: str) -> None:
    version = faq.register("weights")
    place = faq.registry.locate_folder(version.name)
    assert place is not None
    match damage:
        case "truncate":
            (place / "model.safetensors").write_text("weight")
        case "change":
            (place / "model.safetensors").write_text("Weights")
        case "remove":
            (place / "1_Pooling" / "config.json").unlink()
        case "add":
            (place / "tokenizer.json").write_text("{}")
        case "manifest":
            manifest = place.parent / "manifest.json"
            manifest.write_text(manifest.read_text()[:-20])
        case "all":
            shutil.rmtree(place.parent)
    with pytest.raises(ModelDamagedError, match="faq@1 is damaged"):
        faq.registry.check(version.name)


def test_a_damaged_export_does_not_make_a_version_damaged(faq: Small) -> None:
    """It can be made again of the model, whose hash is known."""

    def exporting(folder: Path, kind: KindName) -> None:
        (folder.parent / "export").mkdir()
        (folder.parent / "export" / "model.onnx").write_text("graph")

    faq.registry._try_model = exporting
    version = faq.register("weights")
    place = faq.registry.locate_folder(version.name)
    assert place is not None
    (place.parent / "export" / "model.onnx").write_text("Graph")
    faq.registry.check(version.name)


def test_a_manifest_that_fits_changed_files_is_another_version(faq: Small) -> None:
    first, second = faq.register("a"), faq.register("b")
    places = [faq.registry.locate_folder(v.name) for v in (first, second)]
    assert places[0] is not None and places[1] is not None
    shutil.rmtree(places[0].parent)
    shutil.copytree(places[1].parent, places[0].parent)
    with pytest.raises(ModelDamagedError):
        faq.registry.check(first.name)


def test_a_model_that_does_not_load_is_no_version_and_leaves_nothing(tmp_path: Path) -> None:
    def refuse(folder: Path, kind: KindName) -> None:
        raise ModelError(f"{folder} has 3 labels")

    with small(tmp_path / "data", refuse) as faq:
        faq.create("faq")
        with pytest.raises(ModelError, match=r"^the model has 3 labels$"):
            faq.register()
        assert not faq.files()
        assert not faq.registry.read_page("", None, 10)


@pytest.mark.parametrize("broken", ["copyfile", "sync_path", "replace"])
def test_a_full_disk_is_told_and_leaves_nothing(
    faq: Small, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    faq.register("first")
    before = faq.files()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    where = {"copyfile": shutil, "sync_path": artefacts, "replace": Path}[broken]
    monkeypatch.setattr(where, broken, full)
    with pytest.raises(DiskFullError, match="nothing was registered"):
        faq.register("second")
    monkeypatch.undo()
    assert faq.files() == before
    assert faq.register("second").name == "faq@2"


def test_a_version_has_a_row_only_once_its_files_and_folders_are_on_the_disk(
    faq: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder that was renamed, a power cut forgets the new name until the folder above it is synced."""
    place, synced = faq.registry.root / "1" / "1", set[Path]()

    def note_sync(path: Path) -> None:
        assert not faq.registry.read_page("faq", None, 10)
        if place.exists():
            synced.add(path)

    monkeypatch.setattr(artefacts, "sync_path", note_sync)
    assert faq.register().number == 1
    assert synced >= {place.parent, faq.registry.root}


def test_what_a_kill_between_files_and_row_leaves_is_given_away_and_its_number_free(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small(data) as faq:
        faq.create("faq")
        faq.register("first")
        before = faq.files()
        source = model_folder(tmp_path / "m", "second")
        staged = artefacts.stage_model(source, faq.registry.root)
        artefacts.seal(staged)
        artefacts.put_in_place(staged, faq.registry.root / "1" / "2")
        artefacts.stage_model(source, faq.registry.root)  # killed while it was copied
        (faq.registry.root / "99" / "1").mkdir(parents=True)
        assert faq.files() > before
    with small(data) as faq:
        assert [v.name for v in faq.registry.read_page("", None, 10)] == ["faq@1"]
        taken: list[str] = []
        faq.registry.remove_leftovers(
            lambda path, _: taken.append(path.relative_to(faq.registry.root).as_posix())
        )
        assert sorted(taken) == ["1/2", "99"]
        assert not list(faq.registry.root.glob(f"{artefacts.STAGED}*"))
        for name in taken:
            shutil.rmtree(faq.registry.root / name)
        assert faq.files() == before
        assert sorted(p.name for p in faq.registry.root.iterdir()) == ["1"]
        assert faq.register("again").name == "faq@2"
        faq.registry.check("faq@2")


def test_a_row_that_cannot_be_written_leaves_no_files(faq: Small) -> None:
    def delete(folder: Path, kind: KindName) -> None:
        faq.delete()  # meanwhile

    faq.registry._try_model = delete
    with pytest.raises(CollectionNotFoundError):
        faq.register()
    assert not faq.files()


def test_a_collection_made_meanwhile_under_the_same_name_is_another_one(faq: Small, tmp_path: Path) -> None:
    key = faq.read_collection().key
    faq.register()
    faq.delete()
    faq.registry.remove_by_collection(key)
    assert not faq.files()
    new = faq.create("faq")
    assert new.key != key
    with pytest.raises(ModelNotFoundError):
        faq.registry.get("faq@1")
    with pytest.raises(CollectionNotFoundError):
        faq.registry.register("faq", "reranker", model_folder(tmp_path / "m", "x"), key=key)
    assert faq.register().key == new.key


def test_versions_of_a_collection_whose_deletion_was_cut_short_go_at_the_next_start(faq: Small) -> None:
    faq.register()
    faq.serve("faq@1")
    faq.delete()
    assert not faq.registry.read_page("", None, 10)
    faq.registry.remove_leftovers(none_taken)
    assert not faq.files()
    faq.create("faq")
    assert faq.earlier() is None


def test_a_retired_version_keeps_its_record_and_loses_its_files(faq: Small) -> None:
    faq.register("a")
    faq.register("b")
    faq.serve("faq@2")
    with pytest.raises(FailedPreconditionError, match="serves"):
        faq.registry.retire("faq@2")
    assert faq.registry.retire("faq@1").state is ModelState.RETIRED
    assert faq.registry.retire("faq@1").state is ModelState.RETIRED
    assert not any(path.startswith("1/1/") for path in faq.files())
    with pytest.raises(FailedPreconditionError, match="retired"):
        faq.registry.locate_folder("faq@1")
    with pytest.raises(FailedPreconditionError, match="retired"):
        faq.serve("faq@1")
    faq.registry.remove_leftovers(none_taken)
    faq.registry.check("faq@2")
    assert faq.register("c").name == "faq@3"


@pytest.mark.parametrize("name", ["", "faq", "faq@0", "faq@01", "faq@2", "FAQ@1", "faq@1 ", "no@1", "a/b@1"])
def test_what_is_no_version_is_not_found(faq: Small, name: str) -> None:
    faq.register()
    with pytest.raises(ModelNotFoundError):
        faq.registry.get(name)


def test_a_version_keeps_the_calibration_of_its_folder(faq: Small, tmp_path: Path) -> None:
    calibration = Calibration(
        slope=0.5, intercept=-3.0, source="judgments", queries=40, pairs=800, relevant=60, ece=0.03,
        ece_all=0.01, ece_unseen=0.04,
    )  # fmt: skip
    folder = model_folder(tmp_path / "m", "weights")
    write_calibration(folder, calibration)
    made = faq.registry.register("faq", "reranker", folder)
    assert made.calibration == faq.registry.get(made.name).calibration == calibration
    place = faq.registry.locate_folder(made.name)
    assert place is not None and read_calibration(place) == calibration
    plain = faq.registry.register("faq", "reranker", model_folder(tmp_path / "n", "weights"))
    assert plain.calibration is None and plain.artefact_hash != made.artefact_hash


def test_a_version_with_a_broken_calibration_is_not_registered(faq: Small, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "weights")
    (folder / CALIBRATION_FILE).write_text('{"slope": 0}')
    with pytest.raises(ModelError, match=CALIBRATION_FILE):
        faq.registry.register("faq", "reranker", folder)
    assert faq.files() == set()
