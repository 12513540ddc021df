import json

import numpy as np
import pytest

from sona.demo.labelled import data_folder, load_banking77, load_cranfield
from sona.errors import StoreError


def write_banking77(home, train_rows=2):
    folder = home / "banking77"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps(["lost_card", "top_up"]))
    (folder / "train.json").write_text(
        json.dumps([{"text": "my card is gone", "label": 0}, {"text": "add", "label": 1}])
    )
    (folder / "test.json").write_text(json.dumps([{"text": "card lost", "label": 0}]))
    rows = {"labels": np.eye(2, 3), "train": 2 * np.eye(train_rows, 3), "test": np.ones((1, 3))}
    np.savez(folder / "minilm.npz", **{name: value.astype(np.float16) for name, value in rows.items()})
    return folder


def write_cranfield(home):
    folder = home / "cranfield"
    folder.mkdir()
    (folder / "documents.jsonl").write_text('{"id": 0, "text": "wings"}\n{"id": 1, "text": "heat"}\n')
    query = {"id": 0, "text": "what lifts", "relevant": [1], "paraphrases": ["lifts", "what"]}
    (folder / "queries.json").write_text(json.dumps({"queries": [query]}))
    rows = {"documents": np.eye(2, 3), "queries": np.ones((1, 3)), "paraphrases": np.ones((2, 1, 3))}
    np.savez(folder / "minilm.npz", **{name: value.astype(np.float16) for name, value in rows.items()})


def test_banking77_is_read_with_vectors_of_length_one(tmp_path):
    write_banking77(tmp_path)
    data = load_banking77(tmp_path)
    assert data.labels == ("lost_card", "top_up")
    assert data.train_texts == ("my card is gone", "add")
    assert data.train_labels == (0, 1)
    assert data.test_labels == (0,)
    for vectors in (data.label_vectors, data.train_vectors, data.test_vectors):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_cranfield_is_read_with_its_judgements(tmp_path):
    write_cranfield(tmp_path)
    data = load_cranfield(tmp_path)
    assert data.documents == ("wings", "heat")
    assert data.relevant == (frozenset({"1"}),)
    assert data.paraphrases == (("lifts", "what"),)
    assert data.paraphrase_vectors.shape == (2, 1, 3)


def test_the_variable_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SONA_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.setenv("SONA_DATA", str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"none: set SONA_DATA"):
        load_banking77()


def test_without_the_variable_the_shared_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("SONA_DATA", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(StoreError, match="shared"):
        data_folder()
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert data_folder().is_dir()


@pytest.mark.parametrize("damage", ["missing", "json", "field", "rows", "archive"])
def test_damaged_data_is_one_clear_error(tmp_path, damage):
    folder = write_banking77(tmp_path, train_rows=3 if damage == "rows" else 2)
    if damage == "missing":
        (folder / "test.json").unlink()
    elif damage == "json":
        (folder / "test.json").write_text("[{")
    elif damage == "field":
        (folder / "test.json").write_text('[{"text": "x"}]')
    elif damage == "archive":
        (folder / "minilm.npz").write_bytes(b"not an archive")
    with pytest.raises(StoreError, match="banking77"):
        load_banking77(tmp_path)
