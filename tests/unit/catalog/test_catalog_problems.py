from __future__ import annotations

from pathlib import Path

import pytest

from mcpmesh.catalog.problems import Problems, did_you_mean, one_of
from mcpmesh.errors import CatalogError, Problem

FIRST, SECOND, OTHER = Path("first.yaml"), Path("second.yaml"), Path("other.yaml")


def test_problems_are_ordered_by_file_and_line_and_those_of_a_whole_file_come_first() -> None:
    sorted_problems = [
        Problem(OTHER, 9, "z", "is of a file that was not named"),
        Problem(FIRST, None, "", "is of the whole file"),
        Problem(FIRST, 1, "a", "is wrong"),
        Problem(FIRST, 2, "b", "is wrong"),
        Problem(SECOND, 1, "a", "is wrong"),
    ]
    with pytest.raises(CatalogError) as caught:
        Problems([*reversed(sorted_problems), *sorted_problems]).raise_if_any([FIRST, SECOND])
    assert caught.value.problems == sorted_problems


def test_without_a_problem_nothing_is_raised() -> None:
    Problems([], ["a warning"]).raise_if_any([FIRST])


def test_a_second_problem_of_one_place_is_left_out() -> None:
    problems = Problems([Problem(FIRST, 1, "a", "needs a variable")])
    others = [Problem(FIRST, 2, "a", "x"), Problem(FIRST, 1, "b", "x"), Problem(SECOND, 1, "a", "x")]
    problems.add_first_of_place([Problem(FIRST, 1, "a", "has to be a URL"), *others])
    assert problems.found == [Problem(FIRST, 1, "a", "needs a variable"), *others]


def test_each_warning_is_reported_once_in_its_order() -> None:
    assert Problems([], ["b", "a", "b"]).distinct_warnings() == ("b", "a")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("comand", '; did you mean "command"?'), ("URL", '; did you mean "url"?'), ("xyz", ""), ("", "")],
)
def test_a_hint_names_the_most_similar_word(word: str, hint: str) -> None:
    assert did_you_mean(word, ["command", "url"]) == hint


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")])
def test_words_are_enumerated_as_in_a_sentence(words: list[str], text: str) -> None:
    assert one_of(words) == text
