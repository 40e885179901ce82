from __future__ import annotations

from collections.abc import Sequence

from probes.types import Missing
from service.engines.words import Words, find_words


class Pieces:
    """A tokenizer whose tokens are these pieces of text."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def decode(self, token_ids: Sequence[int], clean_up_tokenization_spaces: bool) -> str:
        assert not clean_up_tokenization_spaces
        return "".join(self.pieces[one] for one in token_ids)


PROMPT = Pieces("USER:", "<image>", "\n", "Is", " a", " ge", "ar", " left", "?", " ASSIS", "TANT:")
ASKED = "Is a gear left?"


def test_content_words_and_the_template_around() -> None:
    found = find_words(PROMPT, range(11), 2, ASKED)
    assert found == Words(content=(5, 6, 7), boundary=(2, 9, 10))


def test_why_there_are_none() -> None:
    assert find_words(PROMPT, range(11), 2, "Is it?") == Missing("no_content_words")
    assert find_words(PROMPT, range(11), 2, "a screw") == Missing("question_not_found")
    assert find_words(PROMPT, range(11), 9, ASKED) == Missing("question_not_found")
    bare = Pieces("<image>", "gear", "?")
    assert find_words(bare, range(3), 1, "gear?") == Missing("no_boundary_tokens")
