import pytest

from probes.signals.degenerate import measure_form


@pytest.mark.parametrize(
    "answer",
    [
        "no no no 1 no", "no no no", "No, no, no, no.", "nonononono", "yes yes yes yes a crack",
        "aaaaaaa", "a crack and a crack and a crack and 1", "the of the of the of the of",
        "seal a silver screw screw screw screw at 3", "0 0 0 0 0 0 1", "1" * 30, "10" * 12,
        "a red red red red red label", "ha ha ha", "row 4: none. row 4: none. row 4: none",
        "no yes", "Yes, no.", "no yes no yes", "no no yes no", "yep nope",
        "no and yes yes", "no 0 0",
        "no 0 0 0", "no 0 1 0 1", "0 no 0", "yes 0 no 0", "no 1 no 1", "yes 2 3", "No. 0. 0.",
        "no 0.5 0", "a 0 0 0 0 1", "the image shows the image shows the image",
        "row 4: none. row 4: none. row 4:",
    ],
)  # fmt: skip
def test_loops(answer: str) -> None:
    assert measure_form(answer).degenerate == "repeats"


@pytest.mark.parametrize("answer", ["", " ", "\n", "...", "?!", "\N{GRINNING FACE}", "- - -"])
def test_nothing_said(answer: str) -> None:
    assert measure_form(answer).degenerate == "empty"


@pytest.mark.parametrize(
    "answer",
    ["yes\x00", "\x1b[31mno", "no\ufffd", "<|endoftext|>", "yes</s>", "<unk> screw", "<0x0A>",
     "\ue000", "</think>", "<end_of_turn>", "[INST] yes", "<bos>"],
)  # fmt: skip
def test_no_words_of_an_answer(answer: str) -> None:
    assert measure_form(answer).degenerate == "not_words"


@pytest.mark.parametrize(
    "answer",
    [
        "yes", "no", "No. There is no screw.", "3", "0", "100000", "1000000", "0.0001", "-2",
        "a red washer and a red screw and a blue seal", "yes, yes", "no no", "bye bye", "1 1 1",
        "12:12:12", "2020-02-02", "AAA battery", "www.example.com", "Mississippi", "banana",
        "a crack and a crack", "screw\nwasher\nseal", "tom-tom", "ja", "はい", "да", "<5 mm",
        "a < b and b > c", "5 % of the 5 parts", "row 1: seal, row 2: seal, row 3: seal",
        "New York, New York", "The label that is left of the label that is red", "77777777",
        "very, very, very small", "0 0 0", "1 2 1 2 1 2", "No. 5", "No 7", "Yes, 3",
        "Yes and no", "no 0",
        "yes or no", "No, there is no yes", "No, 0 of 4",
        "SSD", "hmm", "cooool", "\N{THUMBS UP SIGN} yes",
    ],
)  # fmt: skip
def test_proper_answers(answer: str) -> None:
    assert measure_form(answer).degenerate is None
