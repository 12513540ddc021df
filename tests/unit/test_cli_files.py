import io
import json

import pytest

from sona.cli.files import read_memories
from sona.errors import InvalidValue, SonaError, StoreError

NOTHING = io.BytesIO()


def read(tmp_path, content, name="notes.txt", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_memories([str(path)], NOTHING, **options)


def test_json_lines_keep_text_and_id_and_pass_over_blank_lines_and_other_keys(tmp_path):
    lines = '{"text": "a", "id": "x"}\n\n{"text": "b", "title": "B"}\n{"text": "c", "id": 7}'
    found = read(tmp_path, lines, "faq.jsonl")
    assert [(memory.text, memory.id) for memory in found] == [("a", "x"), ("b", None), ("c", "7")]
    assert found[1].where.endswith("faq.jsonl line 3")


def test_any_other_file_is_one_memory_per_paragraph(tmp_path):
    found = read(tmp_path, "\n\n  first\nstill first \n \t\nsecond\n\n\n\nthird\n")
    assert [memory.text for memory in found] == ["first\nstill first", "second", "third"]
    assert [memory.where.rpartition(" ")[2] for memory in found] == ["3", "6", "10"]
    assert {memory.id for memory in found} == {None}


def test_windows_line_ends_and_a_byte_order_mark_do_not_show(tmp_path):
    found = read(tmp_path, b"\xef\xbb\xbfeins\r\nzwei\r\n\r\ndrei\r\n")
    assert [memory.text for memory in found] == ["eins\nzwei", "drei"]


def test_a_line_separator_inside_a_json_text_does_not_split_it(tmp_path):
    text = "one\u2028two\x85three"
    found = read(tmp_path, json.dumps({"text": text}, ensure_ascii=False), "faq.ndjson")
    assert [memory.text for memory in found] == [text]


def test_a_dash_reads_standard_input_and_jsonl_decides_its_form():
    assert [memory.text for memory in read_memories(["-"], io.BytesIO(b"a\n\nb"))] == ["a", "b"]
    found = read_memories(["-"], io.BytesIO(b'{"text": "a"}'), is_jsonl=True)
    assert [memory.text for memory in found] == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "line", "complaint"),
    [
        ("f.jsonl", '{"text": "ok"}\nnope', 2, "not JSON"),
        ("f.jsonl", '{"text": "ok"}\n\n{"text": " "}', 3, "not empty"),
        ("f.jsonl", '{"txt": "a"}', 1, '"text"'),
        ("f.jsonl", '{"text": 5}', 1, '"text"'),
        ("f.jsonl", '["a"]', 1, "got a list"),
        ("f.jsonl", "null", 1, "got null"),
        ("f.jsonl", "true", 1, "got true or false"),
        ("f.jsonl", '{"text": "a", "id": []}', 1, '"id"'),
        ("f.jsonl", '{"text": "a", "id": true}', 1, '"id"'),
        ("f.jsonl", '{"text": "a", "id": ""}', 1, '"id"'),
        ("f.jsonl", "[" * 100_000, 1, "not JSON"),
        ("f.jsonl", "1" * 10_000, 1, "not JSON"),
        ("f.jsonl", '{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}', 2, "stands for another text"),
        ("f.txt", b"fine\n\n\xff\xfe", 3, "UTF-8"),
        ("f.txt", b"a\nb\0c", 2, "zero byte"),
        ("f.txt", "utf-16".encode("utf-16"), 1, "UTF-8"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, name, content, line, complaint):
    with pytest.raises(InvalidValue, match=complaint) as caught:
        read(tmp_path, content, name)
    assert f"{name} line {line}:" in str(caught.value)


def test_one_bad_file_spoils_the_good_ones(tmp_path):
    good, bad = tmp_path / "good.txt", tmp_path / "bad.jsonl"
    good.write_text("fine")
    bad.write_text("{}")
    with pytest.raises(InvalidValue, match=r"bad\.jsonl line 1"):
        read_memories([str(good), str(bad)], NOTHING)


def test_one_id_for_two_texts_is_found_across_files_and_the_same_text_twice_is_fine(tmp_path):
    first, second, third = (tmp_path / f"{name}.jsonl" for name in "abc")
    first.write_text('{"text": "a", "id": "x"}')
    second.write_text('{"text": "a", "id": "x"}')
    third.write_text('{"text": "b", "id": "x"}')
    assert len(read_memories([str(first), str(second)], NOTHING)) == 2
    with pytest.raises(InvalidValue, match=r"c\.jsonl line 1.*a\.jsonl line 1"):
        read_memories([str(first), str(third)], NOTHING)


@pytest.mark.parametrize("content", ["", "\n \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["f.txt", "f.jsonl"])
def test_an_empty_file_is_an_error(tmp_path, name, content):
    with pytest.raises(InvalidValue, match="holds no memory"):
        read(tmp_path, content, name)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        read_memories([str(tmp_path / "none.txt")], NOTHING)
    with pytest.raises(SonaError, match="is a folder"):
        read_memories([str(tmp_path)], NOTHING)


def test_a_huge_line_is_one_memory(tmp_path):
    text = "word " * 400_000
    assert read(tmp_path, text)[0].text == text.strip()
