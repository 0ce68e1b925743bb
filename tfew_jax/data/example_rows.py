"""Rows to show a template with before any data is at hand.

Of T-Few's sets and a few more there is a row that was made up for this, with the fields
and types of the set's own rows. For any other set the columns stand for themselves,
`<premise>`, and labels are 0.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_PAIR = {
    "premise": "The last train leaves at ten, and Ana missed it by a minute.",
    "hypothesis": "Ana was at the station after ten.",
    "label": 0,
}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "super_glue/rte": _PAIR,
    "super_glue/cb": _PAIR,
    "anli": _PAIR,
    "super_glue/copa": {
        "premise": "The ice on the pond cracked.",
        "choice1": "The weather turned warm.",
        "choice2": "The ducks flew south.",
        "question": "cause",
        "label": 0,
    },
    "super_glue/wic": {
        "word": "bank",
        "sentence1": "They sat on the bank of the river.",
        "sentence2": "The bank opens at nine.",
        "start1": 16,
        "start2": 4,
        "end1": 20,
        "end2": 8,
        "label": 0,
    },
    "super_glue/wsc.fixed": {
        "text": "Tom lent Paul his ladder because he had to clean a window.",
        "span1_index": 2,
        "span1_text": "Paul",
        "span2_index": 6,
        "span2_text": "he",
        "label": 1,
    },
    "super_glue/boolq": {
        "passage": "Cork is the bark of a kind of oak. It floats, and keeps heat in.",
        "question": "does cork come from a tree",
        "label": 1,
    },
    "winogrande/winogrande_xl": {
        "sentence": "The piano did not fit the door because the _ was too wide.",
        "option1": "piano",
        "option2": "door",
        "answer": "1",
    },
    "hellaswag": {
        "ctx": "A woman fills a kettle with water. She",
        "ctx_a": "A woman fills a kettle with water.",
        "ctx_b": "She",
        "activity_label": "Making tea",
        "endings": [
            "puts it on the stove and lights the gas.",
            "paints it green and hangs it on the wall.",
            "reads it a story until it sleeps.",
            "throws it over the fence to the dog.",
        ],
        "label": "0",
    },
    "story_cloze/2016": {
        "input_sentence_1": "Lea planted beans in a pot.",
        "input_sentence_2": "She forgot about them for weeks.",
        "input_sentence_3": "One morning she looked out of the window.",
        "input_sentence_4": "Green leaves hung over the edge of the pot.",
        "sentence_quiz1": "Lea was glad that it had rained so often.",
        "sentence_quiz2": "Lea sold her car.",
        "answer_right_ending": 1,
    },
    "glue/sst2": {"sentence": "a warm , funny little film", "label": 1},
    "glue/mrpc": {
        "sentence1": "The shop closed in May after forty years.",
        "sentence2": "After forty years the shop shut its doors in May.",
        "label": 1,
    },
    "glue/qqp": {
        "question1": "How do I keep bread fresh?",
        "question2": "What is the best way to store bread?",
        "label": 1,
    },
    "trec": {
        "text": "Who built the first lighthouse ?",
        "label_coarse": 3,
        "label_fine": 28,
    },
}


def make(set_name: str, columns: Iterable[str]) -> tuple[Mapping[str, Any], str]:
    """A row with these columns, and how to call it.

    Args:
        set_name: promptsource's name of the set.
        columns: What the template reads.

    Returns:
        The row, and "a made-up row" or "placeholders".
    """
    if set_name in ROWS and set(columns) <= set(ROWS[set_name]):
        return ROWS[set_name], "a made-up row"
    row = {name: 0 if "label" in name else f"<{name}>" for name in columns}
    return row, "placeholders"
