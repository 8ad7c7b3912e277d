"""A data set and a workspace in a bucket, as in a folder."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import Catalog, read_aff_wild2, read_folder
from affectgrid.data.features.quarantine import WHOLE, Quarantine
from affectgrid.data.features.references import unused, write_data_record
from affectgrid.data.features.sources import content_digest, signature, with_labels
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.validation import validate
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.predict import open_videos
from affectgrid.errors import CatalogError, ConfigError
from affectgrid.media.chunks import probe
from affectgrid.storage import Storage, staged
from affectgrid.synthetic.rendered import RenderConfig, begin_corpus, missing, render_corpus, render_video
from support.bucket import Bucket, s3_server

SMALL = RenderConfig(num_train=2, num_validation=1, num_test=1, duration_s=2.0, seed=3)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus on the disk."""
    root = tmp_path_factory.mktemp("corpus")
    render_corpus(root, SMALL)
    return root


@pytest.fixture(scope="module")
def place(bucket: Bucket) -> Storage:
    """The same corpus, rendered to a bucket."""
    root = Storage(bucket.uri("corpus"))
    render_corpus(root, SMALL)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def facts(catalog: Catalog) -> list[tuple[object, ...]]:
    return [(t.id, t.split, t.person, t.video and t.video.name, t.crops and t.crops.name) for t in catalog.tracks]


def look(catalog: Catalog) -> list[tuple[object, ...]]:
    """What the files hold, by the functions that an encode run uses."""
    found = []
    for track in catalog.tracks:
        assert track.video
        assert track.crops
        with staged(track.video) as video, staged(track.crops) as crops:
            source = probe(str(video), str(crops))
        labels = read_annotation(track.annotation).va.tolist() if track.annotation else None
        found.append((source, with_labels(source, track), content_digest(track), labels))
    return found


def test_a_bucket_holds_the_same_tracks_with_the_same_content(folder: Path, place: Storage, cache: Path) -> None:
    near, far = read_aff_wild2(folder), read_aff_wild2(place)
    assert facts(near) == facts(far)
    assert far.root == "s3://bucket/corpus"
    assert {path.suffix for path in (cache / "staged").glob("s3*/**/*") if path.is_file()} == {".txt"}
    assert near.digest() == far.digest()
    assert look(near) == look(far)
    shutil.rmtree(cache)
    assert near.digest() == far.digest()
    assert look(far) == look(near)


def test_archives_and_folders_of_crops_lie_beside_each_other(folder: Path, bucket: Bucket, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    crops = sorted((mixed / "cropped_aligned").iterdir())
    with tarfile.open(f"{crops[0]}.tar", "w") as archive:
        archive.add(crops[0], crops[0].name)
    shutil.make_archive(str(crops[1]), "zip", crops[1])
    for path in crops[:2]:
        shutil.rmtree(path)
    other = Storage(bucket.uri("mixed"))
    other.upload(mixed, "top")
    expected = look(read_aff_wild2(folder))
    assert look(read_aff_wild2(mixed)) == expected
    assert look(read_aff_wild2(other / "top")) == expected
    (mixed / "cropped_aligned" / crops[0].name).mkdir()
    with pytest.raises(CatalogError, match=f"CAT-DUPLICATE .*{crops[0].name} and cropped_aligned/{crops[0].name}.tar"):
        read_aff_wild2(mixed)


def test_litter_of_tools_in_a_bucket_is_ignored(folder: Path, bucket: Bucket) -> None:
    own = Storage(bucket.uri("littered"))
    own.upload(folder, "top")
    tracks = {Path(entry.name).parts for entry in (own / "top").list_files(recursive=True)}
    for parts in {parts[:-1] for parts in tracks}:
        for name in ("Thumbs.db", "._x.mp4", "._x.txt", "__MACOSX/x.mp4", "__MACOSX/Train_Set/x.txt"):
            own.write("/".join(["top", *parts, name]), b"x")
    assert facts(read_aff_wild2(own / "top")) == facts(read_aff_wild2(folder))


def test_signatures_change_with_the_listing_and_need_no_file(place: Storage, bucket: Bucket, cache: Path) -> None:
    own = Storage(bucket.uri("signed"))
    own.write("videos/a.mp4", b"film")
    own.write("VA_Estimation_Challenge/Train_Set/a.txt", b"valence,arousal\n0,0\n")
    (before,) = read_aff_wild2(own).tracks
    assert before.video
    assert not before.video.exists()
    told = signature(before), signature(before, labels=True)
    shutil.rmtree(cache)
    (again,) = read_aff_wild2(own).tracks
    assert (signature(again), signature(again, labels=True)) == told
    own.write("VA_Estimation_Challenge/Train_Set/a.txt", b"valence,arousal\n0,0.5\n")
    (after,) = read_aff_wild2(own).tracks
    assert signature(after) == told[0]
    assert signature(after, labels=True) != told[1]
    own.write("videos/a.mp4", b"another film")
    (after,) = read_aff_wild2(own).tracks
    assert signature(after) != told[0]


def test_a_quarantine_in_a_bucket_holds_until_the_files_change(bucket: Bucket) -> None:
    own = Storage(bucket.uri("held"))
    own.write("a.mp4", b"film")
    (track,) = read_folder(own).tracks
    store = FeatureStore(own / "features")
    quarantine = Quarantine(store)
    quarantine.add(track, WHOLE, "", "torn")
    quarantine.save()
    assert Quarantine(store).holds(track, "visual", "f0")
    own.write("a.mp4", b"another")
    (track,) = read_folder(own / "a.mp4").tracks
    assert Quarantine(store).holds(track, "visual", "f0") is None


def test_validation_finds_the_same(folder: Path, place: Storage, bucket: Bucket) -> None:
    assert [(p.code, p.found) for p in validate(read_aff_wild2(place))] == [
        (p.code, p.found) for p in validate(read_aff_wild2(folder))
    ]
    own = Storage(bucket.uri("wrong"))
    own.upload(folder, "x")
    (name,) = [entry.name for entry in (own / "x").list_files("VA_Estimation_Challenge/Validation_Set")]
    own.write(f"x/VA_Estimation_Challenge/Validation_Set/{name}", "valence,arousal\n0,7\n")
    (first, *_) = validate(read_aff_wild2(own / "x"))
    assert first.code == "ANN-RANGE"
    assert first.where == f"s3://bucket/wrong/x/VA_Estimation_Challenge/Validation_Set/{name}:2"


def test_videos_to_predict_are_found_as_the_layout_has_them(folder: Path, place: Storage) -> None:
    single = sorted((folder / "batch1").iterdir())[0]
    for near, far in (
        (folder, place),
        (folder / "batch1", place / "batch1"),
        (single, place / f"batch1/{single.name}"),
    ):
        assert facts(open_videos(str(near))) == facts(open_videos(far.uri))
    assert len(open_videos(single).tracks) == 1


def test_no_data_set_at_the_address(bucket: Bucket) -> None:
    with pytest.raises(CatalogError, match="CAT-ROOT 's3://bucket/nothing'"):
        read_aff_wild2(bucket.uri("nothing"))


def test_a_rendering_that_was_broken_off_is_resumed(bucket: Bucket, place: Storage) -> None:
    own = Storage(bucket.uri("broken"))
    plans = begin_corpus(own, SMALL)
    assert missing(own, plans) == list(plans)
    for plan in plans[:2]:
        assert render_video(own, SMALL, plan)
    assert missing(own, plans) == list(plans[2:])
    assert not render_video(own, SMALL, plans[0])
    render_corpus(own, SMALL)
    assert missing(own, plans) == []
    sizes = [{entry.name: entry.size for entry in root.list_files(recursive=True)} for root in (own, place)]
    assert sizes[0] == sizes[1]
    assert all(own.read(name) == place.read(name) for name in sizes[0])
    with pytest.raises(CatalogError, match="REN-OTHER s3://bucket/broken"):
        begin_corpus(own, SMALL.model_copy(update={"seed": 4}))


@pytest.fixture(params=["folder", "bucket"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    if request.param == "folder":
        return Workspace.open(tmp_path / "out")
    return Workspace.open(request.getfixturevalue("bucket").uri(f"{tmp_path.name}/out"))


def test_a_workspace_pickles_and_its_places_can_be_written(workspace: Workspace, cache: Path) -> None:
    again = pickle.loads(pickle.dumps(workspace))
    assert again == workspace
    for place in (again.features, again.studies, again.runs, again.evaluations, again.predictions, again.corpus("c")):
        place.write("x", b"")
    written = [entry.name for entry in workspace.root.list_files(recursive=True)]
    assert written == [
        f"{name}/x" for name in ("corpora/c", "evaluations", "features", "predictions", "runs", "studies")
    ]
    assert again.mapped == workspace.mapped
    assert again.mapped.is_relative_to(workspace.root.folder if workspace.root.is_local else cache)


def test_unused_features_are_told_by_results_in_the_workspace(workspace: Workspace) -> None:
    store = FeatureStore(workspace.features)
    for print_ in ("0" * 15 + "1", "0" * 15 + "2", "0" * 15 + "3"):
        store.write_spec("visual", print_, {"stream": {"model": "tiny", "print": print_}})
    workspace.studies.write("s/summary.json", json.dumps({"features": "0" * 15 + "1", "data": "a" * 16}))
    workspace.studies.write("s/no.json", b"\xff\xfe no JSON")
    write_data_record(workspace.root, "a" * 16, {"visual": "0" * 15 + "2"})
    write_data_record(workspace.root, "b" * 16, {"visual": "0" * 15 + "3"})  # nothing names these data
    (found,) = unused(store, workspace.root)
    assert found.fingerprint == "0" * 15 + "3"


def test_tracking_needs_a_server_where_no_database_can_lie(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    local, remote = Workspace.open(tmp_path / "out"), Workspace.open(bucket.uri("tracked"))
    assert local.tracking_uri == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert (local.artifacts, remote.artifacts) == (tmp_path / "out" / "mlartifacts", None)
    with pytest.raises(ConfigError, match=r"CFG-TRACKING s3://bucket/tracked: .*docs/cluster\.md"):
        _ = remote.tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert remote.tracking_uri == local.tracking_uri == "http://localhost:5000"


def test_a_place_that_cannot_be_written_is_told_before_any_work(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place, shown in ((tmp_path / "file" / "out", str(tmp_path / "file" / "out")), (
        bucket.uri("x").replace("//bucket/", "//nowhere/"), "s3://nowhere/x"
    )):  # fmt: skip
        with pytest.raises(ConfigError, match=f"CFG-STORAGE {shown}"):
            Workspace.open(place)


def test_labels_of_other_nodes_are_read_by_their_path(place: Storage, cache: Path) -> None:
    (track, *_) = read_aff_wild2(place).split("train")
    assert track.annotation
    shutil.rmtree(cache)
    assert isinstance(read_annotation(track.annotation), Annotation)
