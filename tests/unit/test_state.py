"""State trees on disk: back bit for bit, or a StoreError; the old file survives whatever fails."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sona import state as module
from sona.errors import StoreError
from sona.state import (
    State,
    decode_state,
    digest,
    encode_state,
    read_state,
    remove_leftovers,
    replace_file,
    write_state,
)


def tree() -> State:
    rng = np.random.default_rng(0)
    inner = State(
        {"weights": rng.normal(size=(2, 3)).astype(np.float32), "name": "d\u00e9\u4e2d\ud800", "empty": State({})}
    )
    return State(
        {
            "doubles": rng.normal(size=4),
            "fortran": np.asfortranarray(rng.normal(size=(3, 2))),
            "wholes": np.array([-(2**62), 2**62]),
            "bools": np.array([True, False]),
            "none_of_them": np.zeros((0, 5), np.float32),
            "point": np.array(2.5),
            "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
            "number": 0.1 + 0.2,
            "tiny": -0.0,
            "big": 2**100,
            "flag": True,
            "nothing": None,
            "list": [1, 2.5, "x", [None, {"deep": False}]],
            "mapping": {"a": 1, "b": [1]},
            "inner": inner,
        }
    )


def test_a_nested_tree_comes_back_bit_for_bit(tmp_path):
    before = tree()
    write_state(tmp_path / "file", "engine", before)
    after = read_state(tmp_path / "file", "engine")
    assert digest(after) == digest(before)
    for name, shape in (("doubles", (4,)), ("fortran", (3, 2)), ("point", ()), ("odd", (4,))):
        assert after.doubles(name, *shape).tobytes() == before.doubles(name, *shape).tobytes()
    assert (
        after.child("inner").floats("weights", 2, 3).tobytes()
        == before.child("inner").floats("weights", 2, 3).tobytes()
    )
    assert after.child("inner").text("name") == "d\u00e9\u4e2d\ud800"
    assert after.wholes("wholes", 2).tolist() == [-(2**62), 2**62]
    assert (after.number("number"), after.whole("big"), after.flag("flag")) == (0.1 + 0.2, 2**100, True)
    assert str(after.number("tiny")) == "-0.0"
    assert after.listing("list") == [1, 2.5, "x", [None, {"deep": False}]]
    assert after.mapping("mapping") == {"a": 1, "b": [1]}
    assert "nothing" in after
    assert after.array("none_of_them", np.float32, (None, 5)).shape == (0, 5)


@pytest.mark.parametrize("other", [{"x": 1.0}, {"x": True}, {"x": "1"}, {"x": np.array(1)}, {"y": 1}, {"x": State({})}])
def test_the_digest_tells_trees_apart(other):
    assert digest(State({"x": 1})) != digest(State(other))


def test_big_endian_arrays_are_saved_by_value(tmp_path):
    write_state(tmp_path / "file", "k", State({"x": np.arange(3, dtype=">i8")}))
    assert read_state(tmp_path / "file", "k").wholes("x", 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        {"x": np.array(["text"])},
        {"x": np.array([1j])},
        {"x": np.float32(1.0)},
        {"x": object()},
        {"a/b": np.ones(1), "a": State({"b": np.zeros(1)})},
        {"document.json": np.ones(1)},
    ],
)
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(tmp_path, values):
    write_state(tmp_path / "file", "k", tree())
    with pytest.raises(StoreError):
        write_state(tmp_path / "file", "k", State(values))
    assert digest(read_state(tmp_path / "file", "k")) == digest(tree())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_accessors_name_the_path_of_what_is_wrong():
    inner = State({"outer": State({"x": 1, "text": "t", "array": np.zeros(2)})}).child("outer")
    wrong = [
        lambda: inner.whole("missing"),
        lambda: inner.child("x"),
        lambda: inner.text("x"),
        lambda: inner.flag("x"),
        lambda: inner.listing("x"),
        lambda: inner.mapping("x"),
        lambda: inner.number("text"),
        lambda: inner.whole("text"),
        lambda: inner.listing("text"),
        lambda: inner.floats("array", 2),
        lambda: inner.doubles("array", 3),
        lambda: inner.doubles("array", 2, None),
        lambda: inner.doubles("x", 2),
        lambda: State({"outer": State({"list": [1]})}).child("outer").texts("list"),
    ]
    for call in wrong:
        with pytest.raises(StoreError, match="outer/"):
            call()


def test_a_bool_is_no_number_and_a_float_no_whole_number():
    values = State({"flag": True, "float": 1.0})
    for call in (lambda: values.whole("flag"), lambda: values.number("flag"), lambda: values.whole("float")):
        with pytest.raises(StoreError):
            call()


def test_arrays_are_handed_out_as_copies():
    values = State({"x": np.zeros(2, np.float32)})
    values.floats("x", 2)[0] = 9.0
    assert values.floats("x", 2).tolist() == [0.0, 0.0]


def test_every_truncation_is_noticed(tmp_path):
    file = tmp_path / "file"
    write_state(file, "k", State({"x": np.arange(4), "n": 1}))
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            read_state(file, "k")


def test_every_flipped_byte_is_noticed(tmp_path):
    file = tmp_path / "file"
    write_state(file, "k", State({"x": np.arange(4), "n": 1}))
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for position in [0, 3, *range(8, header, 5), *range(header, len(whole))]:
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        file.write_bytes(damaged)
        with pytest.raises(StoreError):
            read_state(file, "k")


def test_another_kind_version_or_owner_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_state(file, "base_lora", tree())
    with pytest.raises(StoreError, match="base_lora, expected engine"):
        read_state(file, "engine")
    monkeypatch.setattr(module, "FORMAT_VERSION", 99)
    write_state(file, "engine", tree())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="version 99"):
        read_state(file, "engine")
    save_file({"x": np.zeros(1)}, file)
    with pytest.raises(StoreError, match="not a SONA state"):
        read_state(file, "engine")


def test_a_foreign_file_with_types_numpy_lacks_is_refused(tmp_path):
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "file").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(StoreError):
        read_state(tmp_path / "file", "k")


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(StoreError, match="no saved state"):
        read_state(tmp_path / name, "k")


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "plain").write_text("a file, not a folder")
    for target in (tmp_path / "missing" / "file", tmp_path / "plain" / "file"):
        with pytest.raises(StoreError, match="cannot write"):
            write_state(target, "k", tree())


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_before_the_swap_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, step):
    file = tmp_path / "file"
    write_state(file, "k", State({"version": 1}))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, step, fail)
    with pytest.raises(StoreError, match="No space left"):
        write_state(file, "k", State({"version": 2}))
    monkeypatch.undo()
    assert read_state(file, "k").whole("version") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_crash_between_the_temporary_file_and_the_swap_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_state(file, "k", State({"version": 1}))

    class Crash(BaseException):
        pass

    def crash(source: str, target: Path) -> None:
        assert read_state(source, "k").whole("version") == 2  # all of it is on disk by now
        raise Crash

    monkeypatch.setattr(module.os, "replace", crash)
    with pytest.raises(Crash):
        write_state(file, "k", State({"version": 2}))
    monkeypatch.undo()
    assert read_state(file, "k").whole("version") == 1
    write_state(file, "k", State({"version": 3}))  # a left-over temporary file is in nobody's way
    assert read_state(file, "k").whole("version") == 3


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"x")
    replace_file(tmp_path / "state", b"x")
    assert (tmp_path / "state").stat().st_mode == other.stat().st_mode


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path):
    target = tmp_path / "sona[1].db"
    mine, others = tmp_path / ".sona[1].db.77-ab.tmp", tmp_path / ".sona1.db.77-ab.tmp"
    for path in (target, mine, others):
        path.write_bytes(b"x")
    remove_leftovers(target)
    assert target.exists()
    assert others.exists()
    assert not mine.exists()


def test_bytes_give_the_tree_back_and_name_what_is_wrong():
    content = encode_state("engine", tree())
    assert digest(decode_state(content, "engine", "snapshot 3")) == digest(tree())
    for wrong, kind in ((content[:-1], "engine"), (b"", "engine"), (b"\0" * 9, "engine"), (content, "adapter")):
        with pytest.raises(StoreError, match="snapshot 3"):
            decode_state(wrong, kind, "snapshot 3")
