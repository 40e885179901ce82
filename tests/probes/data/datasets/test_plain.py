from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.data.datasets import load_dataset
from probes.data.images import load_image
from probes.errors import DataError

WriteLines = Callable[..., Path]

GOOD = {"image": "a.png", "question": "Is there a screw?", "answers": ["yes"]}
HEAD = "image,question,answers,slice"


def test_json_lines(write_lines: WriteLines) -> None:
    line = write_lines("d.jsonl", [GOOD, {**GOOD, "id": "b", "slice": "line 3", "kind": "k"}])
    (first, second), problems = load_dataset(line)
    assert problems == ()
    assert (first.id, first.kind, first.slice, first.rule) == ("line-1", "match", "all", "match")
    assert (second.id, second.kind, second.slice) == ("b", "k", "line 3")
    assert load_image(first.image_path).shape == (3, 4, 3)


def test_the_rule_is_what_the_line_names_and_never_guessed(write_lines: WriteLines) -> None:
    lines: list[dict[str, Any]] = [
        GOOD,
        {**GOOD, "rule": "yes_no"},
        {**GOOD, "answers": ["no"] * 3, "rule": "vqa"},
        {**GOOD, "answers": ["3 mm"], "rule": {"rule": "number", "tolerance": 0.5}},
        {**GOOD, "answers": ["two"], "aliases": {"two": ["a pair"]}},
    ]
    examples, problems = load_dataset(write_lines("d.jsonl", lines))
    assert problems == ()
    assert [one.rule for one in examples] == [
        "match",
        "yes_no",
        "vqa",
        '{"rule": "number", "tolerance": 0.5}',
        '{"rule": "match", "aliases": {"two": ["a pair"]}}',
    ]
    assert [one.kind for one in examples] == ["match", "yes_no", "vqa", "number", "match"]


def test_lines_to_ignore_are_left_out(write_lines: WriteLines) -> None:
    ignored = {**GOOD, "rule": "ignore", "answers": ["?"]}
    examples, problems = load_dataset(write_lines("d.jsonl", [GOOD, ignored]))
    assert ([one.id for one in examples], problems) == (["line-1"], ())
    with pytest.raises(DataError, match="no records to judge"):
        load_dataset(write_lines("e.jsonl", [ignored]))


def test_lines_end_at_line_ends_only(write_lines: WriteLines) -> None:
    mark = b"\xef\xbb\xbf"
    strange = '{"image": "a.png", "question": "Is\u2028it\x85red?", "answers": ["red"]}\r'.encode()
    (example,), problems = load_dataset(write_lines("d.jsonl", [mark + strange, b"", b"  "]))
    assert problems == ()
    assert example.question == "Is\u2028it\x85red?"


BAD_LINES: list[tuple[Any, str]] = [
    (b"{", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"\xff{}", "not UTF-8"),
    ([], "not a JSON object"),
    ({**GOOD, "id": ""}, "id:"),
    ({**GOOD, "question": 3}, "question:"),
    ({**GOOD, "answers": []}, "references:"),
    ({**GOOD, "answers": "yes"}, "answers:"),
    ({**GOOD, "answers": ["maybe"], "rule": "yes_no"}, "references:"),
    ({**GOOD, "references": ["yes"]}, "references: another name for answers"),
    ({**GOOD, "rule": "equal"}, "rule:"),
    ({**GOOD, "rule": 3}, "rule: give a name, or an object"),
    ({**GOOD, "rule": {"rule": "number", "tolerance": "x"}}, "tolerance:"),
    ({**GOOD, "rule": "number"}, "references:"),
    ({**GOOD, "rule": "choice"}, "options:"),
    ({**GOOD, "aliases": ["two"]}, "aliases:"),
    ({**GOOD, "answers": ["I don't know"]}, "references:"),
    ({**GOOD, "image": "gone.png"}, "image: gone.png does not exist"),
    ({**GOOD, "camera": "A"}, "camera: unknown field"),
    ({**GOOD, "id": "first"}, "id: 'first' stands on line 1 already"),
]


def test_every_malformed_line_is_told_and_the_rest_is_used(write_lines: WriteLines) -> None:
    good = [{**GOOD, "id": "first"}, b"", *(bad for bad, _ in BAD_LINES), {**GOOD, "id": "last"}]
    examples, problems = load_dataset(write_lines("d.jsonl", good))
    assert [one.id for one in examples] == ["first", "last"]
    assert len(problems) == len(BAD_LINES) >= 10
    for line, (problem, (_, message)) in enumerate(zip(problems, BAD_LINES, strict=True), start=3):
        assert str(problem).startswith(f"line {line}: ")
        assert message in str(problem)


def test_csv(folder: Path) -> None:
    lines = [
        HEAD + ",id",
        'a.png,"What, in ""red""\nand blue?",red|crimson,line 3,one',
        "",
        "a.png,Is it red?,no,,",
    ]
    (folder / "d.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    (first, second), problems = load_dataset(folder / "d.csv")
    assert problems == ()
    assert first.question == 'What, in "red"\nand blue?'
    assert (first.id, first.references, first.slice) == ("one", ("red", "crimson"), "line 3")
    # The first record takes lines 2 and 3.
    assert (second.id, second.rule, second.slice) == ("line-5", "match", "all")


def test_csv_cells_hold_a_rule_with_parameters_and_aliases(folder: Path) -> None:
    lines = [
        "image,question,answers,rule,aliases",
        'a.png,How long is it?,3 mm,"{""rule"": ""number"", ""tolerance"": 0.5}",',
        'a.png,How many?,two,,"{""two"": [""a pair""]}"',
        "a.png,How many?,two,,two=a pair",
    ]
    (folder / "d.csv").write_text("\n".join(lines))
    examples, problems = load_dataset(folder / "d.csv")
    assert [one.rule for one in examples] == [
        '{"rule": "number", "tolerance": 0.5}',
        '{"rule": "match", "aliases": {"two": ["a pair"]}}',
    ]
    assert [str(one).partition(" (")[0] for one in problems] == ["line 4: aliases: not JSON"]


BAD_ROWS: list[tuple[bytes, str]] = [
    (b"a.png,Is it red?", "has 2 cells for 7 columns"),
    (b"a.png,Is it red?,yes,,,,,x", "has 8 cells for 7 columns"),
    (b"a.png,Is it \xff?,yes,,,,", "save the file as UTF-8"),
    (b"a.png,,yes,,,,", "question:"),
    (b"a.png,Is it red?,,,,,", "answers:"),
    (b"a.png,Is it red?,yes||no,,,,", "answers:"),
    (b",Is it red?,yes,,,,", "image:"),
    (b"gone.png,Is it red?,yes,,,,", "image: gone.png does not exist"),
    (b"a.png,Is it red?,red,,,yes_no,", "references:"),
    (b"a.png,Is it red?,yes,,,equal,", "rule:"),
    (b"a.png,Is it red?,yes,,,vqa,", "references: 1, but rule vqa"),
    (b'a.png,"Is it "red"?",yes,,,,', "not CSV"),
    (b"a.png,Is it red?,yes,,first,,", "id: 'first' stands on line 2 already"),
    (b'a.png,"Is it red?,yes,,,,', "not CSV"),
]


def test_every_malformed_row_is_told_and_the_rest_is_used(folder: Path) -> None:
    head = (HEAD + ",id,rule,kind").encode()
    first = b"a.png,Is it red?,yes,,first,,"
    rows = [head, first, *(bad for bad, _ in BAD_ROWS)]
    rows.insert(-1, first.replace(b"first", b"last"))  # the open quote swallows what follows it
    (folder / "d.csv").write_bytes(b"\n".join(rows))
    examples, problems = load_dataset(folder / "d.csv")
    assert [one.id for one in examples] == ["first", "last"]
    assert len(problems) == len(BAD_ROWS) >= 10
    lines = [*range(3, 2 + len(BAD_ROWS)), 3 + len(BAD_ROWS)]
    for line, problem, (_, message) in zip(lines, problems, BAD_ROWS, strict=True):
        assert str(problem).startswith(f"line {line}: ")
        assert message in str(problem)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'image'"),
        ("image|question|answers\n", "separated by commas, semicolons or tabs"),
        ("a.png,Is it red?,yes\n", "line 1: column 'a.png' is none of"),
        ("\n\nImage,image,question,answers\n", "line 3: column 'image' stands twice"),
        ("image;question,answers\n", "is none of"),
        ("image,,question,answers\n", "column '' is none of"),
        ("sep=|\nimage|question|answers\n", "line 1: sep=|: use commas"),
        ("sep=;\nimage,question,answers\n", "line 2: column"),
        ("image,question\n", "no column 'answers'"),
        (HEAD + ",image\n", "stands twice"),
        ('"image\n', "line 1"),
        (HEAD + "\n", "holds no records"),
    ],
)
def test_csv_whose_columns_do_not_fit(folder: Path, content: str, message: str) -> None:
    (folder / "d.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_dataset(folder / "d.csv")


@pytest.mark.parametrize("field", ["image", "question", "id", "slice", "\ud800"])
def test_half_a_surrogate_pair_is_a_problem_of_its_line(
    write_lines: WriteLines, field: str
) -> None:
    odd = {**GOOD, field: "\udfff"}
    (example,), (problem,) = load_dataset(write_lines("d.jsonl", [odd, GOOD]))
    assert example.id == "line-2"
    assert "surrogate" in str(problem)


HEADED = "image,question,answers\na.png,Is it red?,yes\na.png,How many?,2|two\n"
SEMICOLONS = HEADED.replace(",", ";")
MARK = "\ufeff"
READ: dict[str, bytes] = {
    "commas": HEADED.encode(),
    "semicolons": SEMICOLONS.encode(),
    "tabs": HEADED.replace(",", "\t").encode(),
    "semicolons, quoted": b'"image";"question";"answers"\na.png;"Is it red?";yes\n'
    b'a.png;"How many?";2|two\n',
    "sep=;": f"sep=;\n{SEMICOLONS}".encode(),
    "sep=, in quotes": f'"SEP=,"\r\n{HEADED}'.encode(),
    "sep=tab": f"sep=\t\n{HEADED}".replace(",", "\t").encode(),
    "a mark and sep=;": f"{MARK}sep=;\r\n{SEMICOLONS}".encode(),
    "UTF-8 with a mark": f"{MARK}{HEADED}".encode(),
    "UTF-16, low byte first": f"{MARK}{HEADED}".encode("utf-16-le"),
    "UTF-16, high byte first": f"{MARK}{SEMICOLONS}".encode("utf-16-be"),
    "UTF-16, tabs, CRLF": f"{MARK}{HEADED}".replace(",", "\t").replace("\n", "\r\n").encode(
        "utf-16-le"
    ),
    "capital letters": HEADED.replace("image,question", "IMAGE,Question").encode(),
    "blanks in the head": HEADED.replace("question,answers", " question , Answers ").encode(),
    "CRLF": HEADED.replace("\n", "\r\n").encode(),
    "CR": HEADED.replace("\n", "\r").encode(),
    "no end of the last line": HEADED.strip().encode(),
    "blank lines": f"\n , ,\n{HEADED}".replace("\na", "\n\n,,\na").encode(),
    "blank columns": HEADED.replace("\n", ",,\n").encode(),
    "blanks behind commas": HEADED.replace(",", ", ").encode(),
    "blanks before quotes": b'image, question, answers\na.png, "Is it red?", yes\n'
    b'a.png, "How many?", "2|two"\n',
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("suffix", ["csv", "TSV"])
def test_a_table_is_read_as_it_is_written(folder: Path, name: str, suffix: str) -> None:
    path = folder / f"d.{suffix}"
    path.write_bytes(READ[name])
    examples, problems = load_dataset(path)
    assert problems == ()
    assert [(one.question.strip(), one.references) for one in examples] == [
        ("Is it red?", ("yes",)),
        ("How many?", ("2", "two")),
    ]


def test_lines_are_counted_as_an_editor_counts_them(folder: Path) -> None:
    lines = [
        "sep=;",
        "image;question;answers",
        'a.png;"Is it;',
        ' red?";yes',
        "a.png;x",
        "",
        "b;c;d",
    ]
    for end in ("\n", "\r\n", "\r"):
        (folder / "d.csv").write_bytes(end.join(lines).encode())
        (example,), problems = load_dataset(folder / "d.csv")
        assert (example.where, example.question) == ("line 3", f"Is it;{end} red?")
        assert [str(one) for one in problems] == [
            "line 5: has 2 cells for 3 columns; quote cells with semicolons",
            f"line 7: image: b does not exist in {folder.name}",
        ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (r"sub\b.png", None),
        (r"sub/b.png", None),
        (r".\sub\b.png", None),
        (r"odd\name.png", None),
        (r"sub\gone.png", r"image: sub\gone.png does not exist"),
        (r"C:\data\b.png", r"name the file as it lies below"),
        (r"d:\b.png", r"such as b.png"),
        (r"\\server\share\b.png", r"a path of one Windows machine"),
        ("a" * 300 + ".png", "does not exist"),
        ("sub/" * 2000 + "b.png", "does not exist"),
    ],
)
def test_paths_of_windows(folder: Path, suffix: str, name: str, message: str | None) -> None:
    (folder / "sub").mkdir()
    for other in ("sub/b.png", r"odd\name.png"):
        (folder / other).write_bytes((folder / "a.png").read_bytes())
    rows = {
        "csv": f"image,question,answers\n{name},q?,a\na.png,q?,a\n",
        "jsonl": "\n".join(json.dumps({**GOOD, "image": one}) for one in (name, "a.png")),
    }
    (folder / f"d.{suffix}").write_text(rows[suffix])
    examples, problems = load_dataset(folder / f"d.{suffix}")
    assert len(examples) == (2 if message is None else 1)
    if message is not None:
        assert str(problems[0]).startswith(f"line {2 if suffix == 'csv' else 1}: image: ")
        assert message in str(problems[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADED.encode("utf-16-le"), "save it as UTF-8"),
        (HEADED.encode("utf-16-be"), "save it as UTF-8"),
        (HEADED.encode("utf-32"), "save it as UTF-8"),
        (f"{MARK}{HEADED}".encode("utf-16-le")[:-1], "no whole UTF-16"),
    ],
)
def test_other_encodings_are_told(folder: Path, content: bytes, message: str) -> None:
    (folder / "d.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(folder / "d.csv")


def test_json_lines_of_utf_16(folder: Path) -> None:
    (folder / "d.jsonl").write_text(f"{MARK}{json.dumps(GOOD)}\n", encoding="utf-16-le")
    (example,), problems = load_dataset(folder / "d.jsonl")
    assert (example.question, problems) == (GOOD["question"], ())
