"""How images are put together, on real files."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from slipway_cluster import ClusterError
from slipway_cluster.images import archive, layers, sandbox
from slipway_cluster.images.archive import Image
from slipway_cluster.images.debian import Source, read_sources, sources
from slipway_cluster.images.layers import Files

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\n")
    return file


def members(layer: layers.Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer.blob) as opened:
        return {member.name.removeprefix("./"): member for member in opened}


def test_a_layer_is_named_by_its_content(program: Path) -> None:
    layer = layers.of_files("one", [Files("usr/bin/program", program)])
    assert hashlib.sha256(layer.blob.read_bytes()).hexdigest() == layer.digest
    assert layer.blob.stat().st_size == layer.size


def test_the_same_files_give_the_same_layer_at_another_time(program: Path, cache: Path) -> None:
    first = layers.of_files("one", [Files("usr/bin/program", program)])
    for note in (cache / "layers").iterdir():
        note.unlink()
    os.utime(program, (1, 1))
    assert layers.of_files("one", [Files("usr/bin/program", program)]) == first


def test_a_layer_is_made_once() -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("content")

    first = layers.cached("one", "key", make)
    assert layers.cached("one", "key", make) == first
    assert len(made) == 1
    # A blob that went missing is made again.
    first.blob.unlink()
    layers.cached("one", "key", make)
    assert len(made) == 2


def test_content_nobody_remembers_is_removed(cache: Path) -> None:
    made = []
    for number in range(4):
        layer = layers.of_files("one", [Files(f"folder-{number}")])
        os.utime(cache / "layers" / sorted((cache / "layers").iterdir(), key=ctime)[-1], (number, number))
        made.append(layer)
    for layer in made[1:]:
        os.utime(layer.blob, (0, 0))
    layers.prune()
    # The first is young, the second outdated, and of the notes the newest two stay.
    assert [layer.blob.exists() for layer in made] == [True, False, True, True]


def ctime(file: Path) -> int:
    return file.stat().st_ctime_ns


def test_files_get_modes_links_and_folders(program: Path) -> None:
    layer = layers.of_files(
        "one",
        [Files("bin/program", program), Files("bin/other", link="program"), Files("tmp", mode=0o1777)],
    )
    found = members(layer)
    assert found["bin/program"].mode == 0o755
    assert found["bin/other"].linkname == "program"
    assert found["tmp"].mode == 0o1777
    assert {member.uid for member in found.values()} == {0} or os.geteuid() != 0


@NEEDS_ROOT
def test_a_sandbox_keeps_what_changed_and_marks_what_was_deleted(tmp_path: Path) -> None:
    changes = tmp_path / "changes"
    # Programs are the machine's own.
    below = tmp_path / "below"
    for name in ("dev", "proc", "tmp", "run", "mnt", "etc", "folder"):
        (below / name).mkdir(parents=True)
    (below / "usr").mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        (below / name).symlink_to(f"usr/{name}")
    (below / "etc/old").write_text("old")
    (below / "folder/inner").write_text("inner")
    sandbox.run_in(
        [below],
        changes,
        "echo new > /etc/new; rm /etc/old; rm -r /folder; mkdir /folder; echo kept > /mnt/kept",
        binds={Path("/usr"): "/usr", tmp_path: "/mnt"},
    )
    assert (tmp_path / "kept").read_text() == "kept\n"
    assert (below / "etc/old").exists()
    found = members(layers.pack(changes))
    assert {"etc/new", "etc/.wh.old", "folder/.wh..wh..opq"} <= set(found)
    assert "etc/old" not in found
    assert not (tmp_path / "changes.root").exists()


@NEEDS_ROOT
def test_a_sandbox_that_fails_leaves_no_mount(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="unshare"):
        sandbox.run_in([tmp_path / "missing"], tmp_path / "changes", "true")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not (tmp_path / "changes.root").exists()


def test_an_archive_holds_everything_its_manifest_names(program: Path) -> None:
    layer = layers.of_files("one", [Files("program", program)])
    image = Image(("localhost/a:1", "localhost/b:1"), (layer,), entrypoint=("/program",), user="65532:65532")
    with archive.layout([image]) as folder:
        index = json.loads((folder / "index.json").read_text())
        assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == list(image.names)
        manifest = json.loads((folder / "blobs/sha256" / image.manifest).read_text())
        for described in [manifest["config"], *manifest["layers"]]:
            blob = folder / "blobs/sha256" / described["digest"].removeprefix("sha256:")
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
            assert blob.stat().st_size == described["size"]
        config = json.loads((folder / "blobs/sha256" / manifest["config"]["digest"].split(":")[1]).read_text())
        # Docker's older format says the same.
        (entry,) = json.loads((folder / "manifest.json").read_text())
        assert entry["RepoTags"] == list(image.names)
        assert all((folder / blob).exists() for blob in [entry["Config"], *entry["Layers"]])
        assert config["config"]["User"] == "65532:65532"
        assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]
    assert not folder.exists()


def test_content_the_reader_has_does_not_travel(program: Path) -> None:
    layer = layers.of_files("one", [Files("program", program)])
    image = Image(("localhost/a:1",), (layer,))
    with archive.layout([image], without=[layer.digest]) as folder:
        blobs = {blob.name for blob in (folder / "blobs/sha256").iterdir()}
    assert blobs == set(image.blobs) - {layer.digest}


def test_images_that_differ_in_their_entry_point_only_share_all_layers(program: Path) -> None:
    layer = layers.of_files("one", [Files("program", program)])
    one, other = (Image((f"localhost/{name}:1",), (layer,), entrypoint=(name,)) for name in ("a", "b"))
    assert one.manifest != other.manifest
    assert set(one.blobs) & set(other.blobs) == {layer.digest}


def test_both_formats_of_apt_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main contrib # note\n"
        "deb-src http://one.example/debian bookworm main\n"
        "deb http://one.example/debian trixie main\n"
        "deb http://tools.example/apt bookworm stable\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\n"
        "Suites: bookworm-updates bookworm-backports\n"
        "Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\n"
        "Components: main\n"
    )
    assert read_sources(tmp_path, "bookworm") == [
        Source("http://one.example/debian", "bookworm", ("main", "contrib")),
        Source("http://two.example/debian", "bookworm-updates", ("main",)),
    ]


def test_a_machine_without_a_mirror_of_the_release_hears_so() -> None:
    with pytest.raises(ClusterError, match=r"no file in /etc/apt names a mirror of it"):
        sources("no-such-release")
