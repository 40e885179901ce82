from probes.signals.question_templates import fits_template, learn_templates


def test_slots_are_where_equal_questions_differ() -> None:
    found = learn_templates(
        ["Is there a dent?", "Is there a stain?", "Is the seal left of the hole?",
         "Is the seal above the hole?", "Is the nut above the hole?", "How many holes?"]
    )  # fmt: skip
    assert [str(one) for one in found] == [
        "Is there a {dent?|stain?}",
        "Is the seal left of the hole?",
        "Is the {nut|seal} above the hole?",
        "How many holes?",
    ]
    assert fits_template("Is the nut above the hole?", found)
    assert not fits_template("Is the nut left of the hole?", found)
    assert not fits_template("Is the dent? above the hole?", found)


def test_nothing_is_learned_from_one_question() -> None:
    assert [str(one) for one in learn_templates(["Is it whole?"])] == ["Is it whole?"]
    assert learn_templates([]) == ()
