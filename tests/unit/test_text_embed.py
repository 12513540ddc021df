import sys

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from sona.errors import DimensionMismatch, InvalidValue, MissingExtra, StateError, StoreError
from sona.state import State, digest, read_state, write_state
from sona.text.embed import CallableEmbedder, Embedder, LsaEmbedder, as_embedder, words

SUBJECTS = ["a password", "an invoice", "the shipment", "my account", "a refund", "the voucher", "this order"]
VERBS = ["reset", "pay", "track", "close", "request", "redeem", "cancel", "print", "find", "change"]
TEXTS = [
    f"How to {verb} {subject}: open page {i * 7 + j} and press {verb}."
    for i, subject in enumerate(SUBJECTS)
    for j, verb in enumerate(VERBS)
]


def fitted(texts=TEXTS, dim=16):
    embedder = LsaEmbedder(dim=dim)
    embedder.fit(texts)
    return embedder


def test_words_split_names_and_keep_other_alphabets():
    assert words("getHTTPResponse_2x") == ["get", "http", "response", "2", "x"]
    assert words("Äpfel und ÉCOLE, привет!") == ["äpfel", "und", "école", "привет"]
    assert words("... !?") == []


def test_vectors_agree_with_scikit_learn():
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words)
    svd = TruncatedSVD(16, random_state=0)
    svd.fit(vectorizer.fit_transform(TEXTS))
    requests = ["reset password", "track track my shipment unseenword", "press page 3"]
    oracle = normalize(svd.transform(vectorizer.transform(requests)))
    ours = fitted().embed(requests)
    signs = np.sign(np.einsum("ij,ij->j", ours, oracle))  # a singular vector's sign is free
    np.testing.assert_allclose(ours, oracle * signs, atol=2e-6)


def test_vectors_have_length_one_and_keep_their_width_while_texts_are_few():
    vectors = fitted(TEXTS[:3], dim=64).embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert not vectors[:, 3:].any()


def test_a_text_without_known_words_is_the_zero_vector():
    assert not fitted().embed(["zzz qqq", "?!"]).any()


def test_a_corpus_without_any_word_is_legal():
    embedder = LsaEmbedder(dim=4)
    embedder.fit(["??", "!!"])
    assert embedder.is_fitted
    assert not embedder.embed(["reset"]).any()
    assert embedder.refit(["reset it", "pay it"]).agreement == 0.0
    assert embedder.embed(["reset"]).any()


def test_one_document_is_enough():
    embedder = LsaEmbedder(dim=8)
    embedder.fit(["reset password"])
    np.testing.assert_allclose(embedder.embed(["reset password"]) @ embedder.embed(["password"]).T, 1.0, atol=1e-6)


def test_fit_is_due_at_first_and_whenever_the_corpus_doubled():
    embedder = LsaEmbedder(dim=4)
    assert [embedder.is_due(count) for count in (0, 1)] == [False, True]
    embedder.fit(TEXTS[:10])
    assert [embedder.is_due(count) for count in (10, 19, 20)] == [False, False, True]
    assert embedder.fitted_count == 10


@pytest.mark.parametrize("start", [20, 35])
def test_refit_keeps_older_vectors_usable(start):
    embedder = fitted(TEXTS[:start])
    old = embedder.embed(TEXTS[:start])
    result = embedder.refit(TEXTS)
    new = embedder.embed(TEXTS[:start])
    cosine = np.einsum("ij,ij->i", old, new)
    assert cosine.mean() > 0.8
    assert 0.5 < result.agreement <= 1.0
    assert result.count == len(TEXTS) == embedder.fitted_count
    assert np.mean(np.argmax(old @ new.T, axis=1) == np.arange(start)) > 0.9  # each still finds itself


def test_a_plain_fit_does_not_keep_older_vectors():
    embedder = fitted(TEXTS[:35])
    old = embedder.embed(TEXTS[:35])
    embedder.fit(TEXTS)
    assert np.einsum("ij,ij->i", old, embedder.embed(TEXTS[:35])).mean() < 0.7


def test_refit_changes_no_similarity_between_new_vectors():
    rotated = fitted(TEXTS[:35])
    rotated.refit(TEXTS)
    plain, turned = fitted().embed(TEXTS), rotated.embed(TEXTS)
    np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=2e-6)


def test_refit_on_the_same_texts_changes_nothing():
    embedder = fitted()
    old = embedder.embed(TEXTS)
    assert embedder.refit(TEXTS).agreement == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(embedder.embed(TEXTS), old, atol=1e-5)


def test_refit_needs_a_fit():
    with pytest.raises(StateError, match="fit first"):
        LsaEmbedder().refit(TEXTS)
    with pytest.raises(StateError, match="fit it"):
        LsaEmbedder().embed(["reset"])


def test_same_seed_same_state_and_the_global_generator_is_untouched():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    assert digest(fitted().state()) == digest(fitted().state())
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_state_is_bit_exact_on_disk(tmp_path):
    embedder = fitted(TEXTS[:35])
    embedder.refit(TEXTS)
    write_state(tmp_path / "e", "embedder", embedder.state())
    loaded = LsaEmbedder.from_state(read_state(tmp_path / "e", "embedder"))
    np.testing.assert_array_equal(loaded.embed(TEXTS), embedder.embed(TEXTS))
    assert digest(loaded.state()) == digest(embedder.state())
    assert (loaded.dim, loaded.fitted_count, loaded.is_fitted) == (16, len(TEXTS), True)


def test_an_unfitted_state_stays_unfitted():
    assert not LsaEmbedder.from_state(LsaEmbedder(dim=3).state()).is_fitted


def test_a_state_of_another_shape_is_refused():
    values = dict(fitted().state().items())
    values["dim"] = 17
    with pytest.raises(StoreError, match="components"):
        LsaEmbedder.from_state(State(values))


@pytest.mark.parametrize("texts", ["one text", [], [""], ["fine", "  "], [3]])
def test_bad_texts_leave_the_embedder_as_it_was(texts):
    embedder = fitted()
    before = digest(embedder.state())
    for method in (embedder.fit, embedder.refit):
        with pytest.raises(InvalidValue):
            method(texts)
    assert digest(embedder.state()) == before
    if texts:
        with pytest.raises(InvalidValue):
            embedder.embed(texts)


def test_no_texts_give_no_vectors():
    assert fitted().embed([]).shape == (0, 16)
    assert CallableEmbedder(lambda texts: [[1.0]], dim=3).embed([]).shape == (0, 3)


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtra, match=r"sona\[text\]"):
        LsaEmbedder().fit(TEXTS)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_dim_must_be_a_whole_number_of_at_least_one(bad):
    with pytest.raises(InvalidValue, match="dim"):
        LsaEmbedder(dim=bad)


class Model:
    def encode(self, sentences):
        return np.array([[len(sentence), 1.0, 0.0] for sentence in sentences])


def test_callables_and_models_with_encode_are_embedders():
    model = as_embedder(Model())
    assert isinstance(model, Embedder)
    assert model.dim is None
    assert model.embed(["ab", "c"]).tolist() == [[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    assert model.dim == 3
    function = as_embedder(lambda texts: [[1, 2] for _ in texts])
    assert function.embed(["a"]).dtype == np.float32
    lsa = LsaEmbedder()
    assert as_embedder(lsa) is lsa
    with pytest.raises(InvalidValue, match="int"):
        as_embedder(3)


def test_width_is_detected_and_then_held():
    widths = iter([2, 3, 2])
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), next(widths))))
    embedder.embed(["a"])
    with pytest.raises(DimensionMismatch) as caught:
        embedder.embed(["a"])
    assert (caught.value.expected, caught.value.actual) == (2, 3)
    assert embedder.embed(["a"]).shape == (1, 2)


@pytest.mark.parametrize("answer", [[[np.nan, 1.0]], [[np.inf, 1.0]], [1.0, 2.0], [[1.0], [2.0]], [[]], [["x"]], None])
def test_what_is_not_one_finite_vector_per_text_is_refused(answer):
    embedder = CallableEmbedder(lambda texts: answer)
    with pytest.raises(InvalidValue):
        embedder.embed(["a"])
    assert embedder.dim is None


def test_the_returned_array_is_not_the_callables_own():
    buffer = np.ones((1, 2), np.float32)
    vectors = CallableEmbedder(lambda texts: buffer).embed(["a"])
    buffer[:] = 7.0
    assert vectors.tolist() == [[1.0, 1.0]]


def test_an_error_of_the_callable_is_not_disguised():
    def broken(texts):
        raise RuntimeError("server down")

    with pytest.raises(RuntimeError, match="server down"):
        CallableEmbedder(broken).embed(["a"])
