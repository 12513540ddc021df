import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from sona.demo.evaluation import WordOverlap
from sona.demo.stdlib import as_typed, load_corpus, split_opening
from sona.text.embed import words


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


def test_corpus_holds_about_three_thousand_entries(corpus):
    assert 2500 <= len(corpus) <= 4500
    ids = [entry.id for entry in corpus.entries]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {"json.dumps", "os.getloadavg", "builtins.str.find"} <= set(ids)
    assert all(entry.target == entry.id for entry in corpus.entries)


def test_memory_lacks_its_opening_and_full_text_keeps_it(corpus):
    full = {entry.id: entry for entry in load_corpus(full_text=True).entries}
    assert list(full) == [entry.id for entry in corpus.entries]
    for entry in corpus.entries:
        rest = " ".join(entry.text.partition("\n")[2].split())
        whole = " ".join(full[entry.id].text.partition("\n")[2].split())
        assert whole == f"{entry.opening} {rest}".strip()
        assert entry.text.startswith(entry.id)


def test_no_two_openings_are_near_duplicates(corpus):
    overlap = WordOverlap()
    for entry in corpus.entries:
        key = [word for word in words(entry.opening) if word not in words(entry.id.split(".")[-1])]
        assert overlap.highest(key) < 0.8
        overlap.add(key)


def test_heads_hold_names_alone_and_nothing_of_this_machine(corpus):
    heads = [entry.text.partition("\n")[0] for entry in corpus.entries]
    assert all(re.fullmatch(r"[\w.]+(\([\w, ]*\))?", head) for head in heads)
    assert "json.loads(s, cls, object_hook, parse_float, parse_int, parse_constant, object_pairs_hook, kw)" in heads


def test_corpus_is_the_same_in_another_process_that_treats_warnings_as_errors(corpus):
    code = (
        "import hashlib; from sona.demo.stdlib import load_corpus; "
        "print(hashlib.sha256(repr(load_corpus().entries).encode()).hexdigest())"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == hashlib.sha256(repr(corpus.entries).encode()).hexdigest()
    assert output.stderr == ""


def test_requests_are_plain_words_without_the_name(corpus):
    rng = np.random.default_rng(3)
    for entry in corpus.entries:
        typed = as_typed(entry.opening, entry.id, rng).split()
        assert len(typed) >= 3
        assert all(word.isalnum() and word == word.lower() for word in typed)
        assert not set(typed) & set(words(entry.id.split(".")[-1]))


def test_about_three_words_in_ten_are_dropped(corpus):
    rng = np.random.default_rng(0)
    kept = sum(len(as_typed(entry.opening, entry.id, rng).split()) for entry in corpus.entries)
    all_words = sum(len(as_typed(entry.opening, entry.id, rng, drop=0.0).split()) for entry in corpus.entries)
    assert 0.69 < kept / all_words < 0.73


def test_requests_follow_the_seed_and_a_second_draw_is_a_paraphrase():
    sentence = "Return the lowest index in S where substring sub is found, such that sub is within S."
    first, again, other = (as_typed(sentence, "str.find", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("doc", "opening", "rest"),
    [
        ("One. Two.", "One.", "Two."),
        ("A dotted.name stays, i.e. whole. Next", "A dotted.name stays, i.e. whole.", "Next"),
        ("No end\n\nMore", "No end", "More"),
        ("Wrapped\nline. Rest\nhere", "Wrapped line.", "Rest\nhere"),
        ("(Quoted.) Then", "(Quoted.)", "Then"),
        ("first line\n" + "word " * 50 + "end.", "first line", "word " * 50 + "end."),
    ],
)
def test_opening_is_the_first_sentence(doc, opening, rest):
    cut_opening, cut_rest = split_opening(doc)
    assert cut_opening == opening
    assert cut_rest == rest
