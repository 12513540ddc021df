"""What worked, clustered: k-means++, the ReasoningBank, verdicts."""

from sona.patterns.bank import ReasoningBank
from sona.patterns.catalog import PatternMatch
from sona.patterns.extract import ExtractionResult
from sona.patterns.kmeans import KMeansResult
from sona.patterns.ring import AddOutcome
from sona.patterns.search import Neighbours, VectorIndex
from sona.patterns.verdict import Verdict
from sona.patterns.welch import WelchTest, welch_test

__all__ = [
    "AddOutcome",
    "ExtractionResult",
    "KMeansResult",
    "Neighbours",
    "PatternMatch",
    "ReasoningBank",
    "VectorIndex",
    "Verdict",
    "WelchTest",
    "welch_test",
]
