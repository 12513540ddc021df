"""Text to vector: the Embedder protocol, a default that needs no weights, and any callable in its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, matrix, whole
from sona.errors import DimensionMismatch, InvalidValue, MissingExtra, StateError
from sona.state import State

_CAPITAL_INSIDE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_SVD_ITERATIONS = 5


def words(text: str) -> list[str]:
    """Return the lower-case words of `text`; names are split at dots, underscores, digits and capitals.

    >>> words("HTTPResponse.get_header2: don't")
    ['http', 'response', 'get', 'header', '2', 'don', 't']
    """
    return [word.lower() for word in _WORD.findall(_CAPITAL_INSIDE.sub(" ", text))]


@runtime_checkable
class Embedder(Protocol):
    """Whatever turns texts into vectors of one width."""

    @property
    def dim(self) -> int | None:
        """Width d of the vectors; None while it is not known."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one vector per text, shape (n, d)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """A model with an `encode` method, such as one of sentence-transformers."""

    def encode(self, sentences: list[str], /) -> npt.ArrayLike:
        """Return one vector per sentence, shape (n, d)."""
        ...


EmbedFunction: TypeAlias = Callable[[list[str]], npt.ArrayLike]


@dataclass(frozen=True, slots=True)
class Refit:
    """What a refit changed.

    Args:
        count: Texts the embedder is now fitted on.
        vocabulary_size: Distinct words it now knows.
        agreement: Mean cosine between old and new vectors of the texts the old fit could embed, in [-1, 1].
    """

    count: int
    vocabulary_size: int
    agreement: float


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    # One fit, never changed, only replaced: `components` (v, d), one row per word, row order of `vocabulary`.
    count: int
    vocabulary: Mapping[str, int]
    idf: npt.NDArray[np.float64]
    components: Floats

    def embed(self, text: str) -> Floats:
        counts = Counter(word for word in words(text) if word in self.vocabulary)
        if not counts:
            return np.zeros(self.components.shape[1], np.float32)
        rows = [self.vocabulary[word] for word in counts]
        weights = (1.0 + np.log(np.fromiter(counts.values(), np.float64, len(rows)))) * self.idf[rows]
        weights /= np.sqrt(weights @ weights)
        return _unit(weights.astype(np.float32) @ self.components[rows])


class LsaEmbedder:
    """Embeds texts by the words they share with the texts it was fitted on: TF-IDF, then truncated SVD.

    Vectors have length 1, or 0 for a text without a known word, and always the width `dim`: while fewer texts
    than `dim` are known, the rest is zero. Words are what white space and punctuation separate; a language
    written without spaces needs another embedder.

    Args:
        dim: Width d of the vectors.
        seed: Seed of the randomised SVD.

    Raises:
        InvalidValue: `dim` below 1 or `seed` below 0.

    Source:
        Deerwester et al. 1990, Indexing by Latent Semantic Analysis; Schonemann 1966, A generalized solution
        of the orthogonal Procrustes problem (`refit`).

    >>> embedder = LsaEmbedder(dim=2)
    >>> embedder.fit(["reset your password", "pay an invoice"])
    >>> password, invoice = embedder.embed(["password reset", "the invoice"])
    >>> abs(round(float(password @ invoice), 3)), round(float(password @ password), 3)
    (0.0, 1.0)
    """

    def __init__(self, dim: int = 256, seed: int = 0) -> None:
        """Make an embedder that is not fitted yet."""
        self._dim = whole(dim, "dim", 1)
        self._seed = whole(seed, "seed", 0, 2**32 - 1)
        self._fitted: _Fitted | None = None

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self._dim

    @property
    def is_fitted(self) -> bool:
        """True once `fit` has seen texts."""
        return self._fitted is not None

    @property
    def fitted_count(self) -> int:
        """Number of texts of the last fit; 0 before."""
        return 0 if self._fitted is None else self._fitted.count

    def is_due(self, count: int) -> bool:
        """Return True when a corpus of `count` texts is worth a fit: the first, or twice the last one's size."""
        return whole(count, "count", 0) >= max(1, 2 * self.fitted_count)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn words, their rarity and the d directions that explain most of `texts`.

        Vectors of an earlier fit mean nothing afterwards; `refit` keeps them valid.

        Raises:
            InvalidValue: no texts, or one that is empty.
            MissingExtra: scikit-learn is not installed.
        """
        self._fitted = self._fit(_checked(texts))

    def refit(self, texts: Sequence[str]) -> Refit:
        """Fit anew on `texts` and rotate the new space onto the old one, so that older vectors stay usable.

        The rotation is the orthogonal R least in |New R - Old| over `texts`; it changes no similarity between new
        vectors. What was learned on old vectors carries over as far as `Refit.agreement` says.

        Raises:
            InvalidValue: no texts, or one that is empty.
            MissingExtra: scikit-learn is not installed.
            StateError: nothing was fitted before.
        """
        old = self._fitted
        if old is None:
            raise StateError("refit needs an earlier fit; call fit first")
        checked = _checked(texts)
        new = self._fit(checked)
        before, after = _embed_all(old, checked), _embed_all(new, checked)
        left, _, right = np.linalg.svd(after.astype(np.float64).T @ before)
        rotation = left @ right
        known = np.einsum("ij,ij->i", before, before) > 0.0
        agreement = np.einsum("ij,ij->i", after[known] @ rotation, before[known])
        components = (new.components @ rotation).astype(np.float32)
        self._fitted = _Fitted(new.count, new.vocabulary, new.idf, components)
        return Refit(new.count, len(new.vocabulary), float(agreement.mean()) if known.any() else 0.0)

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of `texts`, shape (n, d).

        Raises:
            InvalidValue: an empty text.
            StateError: nothing was fitted yet.
        """
        if self._fitted is None:
            raise StateError("the embedder knows no words yet; fit it on texts first")
        return _embed_all(self._fitted, _checked(texts, at_least=0))

    def state(self) -> State:
        """Return everything the embedder knows."""
        fitted = self._fitted or _Fitted(0, {}, np.zeros(0), np.zeros((0, self._dim), np.float32))
        return State(
            {
                "dim": self._dim,
                "seed": self._seed,
                "count": fitted.count,
                "vocabulary": list(fitted.vocabulary),
                "idf": fitted.idf,
                "components": fitted.components,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> LsaEmbedder:
        """Return the embedder whose `state()` this is; its vectors are equal bit for bit.

        Raises:
            StoreError: a part is missing or of another kind.
        """
        embedder = cls(state.whole("dim"), state.whole("seed"))
        known = state.texts("vocabulary")
        idf = state.doubles("idf", len(known))
        components = state.floats("components", len(known), embedder.dim)
        if count := state.whole("count"):
            embedder._fitted = _Fitted(count, {word: row for row, word in enumerate(known)}, idf, components)
        return embedder

    def _fit(self, texts: list[str]) -> _Fitted:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.utils.extmath import randomized_svd
        except ImportError as error:
            raise MissingExtra("scikit-learn", "text", "LsaEmbedder") from error
        if not any(words(text) for text in texts):
            return _Fitted(len(texts), {}, np.zeros(0), np.zeros((0, self._dim), np.float32))
        vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words)
        weights = vectorizer.fit_transform(texts)
        rank = min(self._dim, *weights.shape)
        _, _, directions = randomized_svd(weights, rank, n_iter=_SVD_ITERATIONS, random_state=self._seed)
        components = np.zeros((weights.shape[1], self._dim), np.float32)
        components[:, :rank] = directions.T
        vocabulary = {str(word): row for row, word in enumerate(vectorizer.get_feature_names_out())}
        return _Fitted(len(texts), vocabulary, np.asarray(vectorizer.idf_, np.float64), components)


class CallableEmbedder:
    """Embeds with any callable from texts to vectors, or a model with `encode`; the width is the first vector's.

    An error of the callable reaches the caller unchanged.

    >>> lengths = CallableEmbedder(lambda texts: [[len(text), 1.0] for text in texts])
    >>> lengths.dim, lengths.embed(["abc"]).tolist(), lengths.dim
    (None, [[3.0, 1.0]], 2)
    """

    def __init__(self, function: EmbedFunction | Encoder, dim: int | None = None) -> None:
        """Wrap `function`; `dim` is detected from its first vector when None.

        Raises:
            InvalidValue: `function` can neither be called nor has `encode`, or `dim` is below 1.
        """
        encode = getattr(function, "encode", None)
        chosen = encode if callable(encode) else function
        if not callable(chosen):
            raise InvalidValue(f"embedder: expected a callable or a model with encode, got {type(function).__name__}")
        self._function: EmbedFunction = chosen
        self._dim = None if dim is None else whole(dim, "dim", 1)

    @property
    def dim(self) -> int | None:
        """Width d of the vectors; None before the first."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of `texts`, shape (n, d).

        Raises:
            DimensionMismatch: the vectors differ in width from the earlier ones.
            InvalidValue: an empty text, or the callable returned something else than one finite vector per text.
        """
        checked = _checked(texts, at_least=0)
        if not checked:
            return np.zeros((0, self._dim or 0), np.float32)
        vectors = matrix(self._function(checked), what="embedder").copy()
        if vectors.shape[0] != len(checked) or vectors.shape[1] == 0:
            raise InvalidValue(f"embedder: expected {len(checked)} vectors, got an array of shape {vectors.shape}")
        if self._dim is None:
            self._dim = int(vectors.shape[1])
        if vectors.shape[1] != self._dim:
            raise DimensionMismatch(self._dim, int(vectors.shape[1]), "embedder")
        return vectors


def as_embedder(source: Embedder | Encoder | EmbedFunction) -> Embedder:
    """Return `source` itself when it is an Embedder, else a CallableEmbedder around it.

    Raises:
        InvalidValue: neither an embedder, nor a callable, nor a model with `encode`.
    """
    return source if isinstance(source, Embedder) else CallableEmbedder(source)


def _checked(texts: Sequence[str], at_least: int = 1) -> list[str]:
    if isinstance(texts, str):
        raise InvalidValue("texts: expected a list of texts, got one text")
    checked = list(texts)
    for text in checked:
        if not isinstance(text, str) or not text.strip():
            raise InvalidValue(f"texts: expected texts that are not empty, got {text!r}")
    if len(checked) < at_least:
        raise InvalidValue("texts: expected at least one text")
    return checked


def _embed_all(fitted: _Fitted, texts: list[str]) -> Floats:
    vectors = np.zeros((len(texts), fitted.components.shape[1]), np.float32)
    for row, text in enumerate(texts):
        vectors[row] = fitted.embed(text)
    return vectors


def _unit(vector: Floats) -> Floats:
    length = float(np.sqrt(vector @ vector))
    return vector / np.float32(length) if length > 0.0 else vector
