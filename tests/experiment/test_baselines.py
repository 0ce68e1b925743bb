from tfew_jax.experiment import baselines

TEXTS = ["Review: awful dull plot", "Review: dull film", "Review: lovely plot"]


def test_majority_is_the_most_frequent_label_and_the_smallest_of_equal_ones():
    assert baselines.predict_majority([1, 2, 1], 2).tolist() == [1, 1]
    assert baselines.predict_majority([2, 1], 3).tolist() == [1, 1, 1]


def test_tfidf_predicts_by_the_words_of_the_rows():
    predictions = baselines.predict_tfidf(
        [*TEXTS, "Review: lovely film"], [0, 0, 1, 1], ["lovely lovely", "dull awful"]
    )
    assert predictions.tolist() == [1, 0]


def test_tfidf_falls_back_to_the_majority_where_nothing_can_be_learned():
    assert baselines.predict_tfidf(TEXTS, [2, 2, 2], ["dull"]).tolist() == [2]
    same = ["Review: same", "Review: same", "Review: same"]
    assert baselines.predict_tfidf(same, [0, 1, 1], ["same"]).tolist() == [1]


def test_words_of_the_template_change_no_prediction():
    plain = [text.removeprefix("Review: ") for text in TEXTS]
    queries = ["awful", "lovely", "plot", "film"]
    assert (
        baselines.predict_tfidf(TEXTS, [0, 0, 1], queries).tolist()
        == baselines.predict_tfidf(plain, [0, 0, 1], queries).tolist()
    )


def test_nearly_as_many_classes_as_rows_are_no_reason_to_warn(recwarn):
    texts = [f"word{n} other{n}" for n in range(60)]
    predicted = baselines.predict_tfidf(texts, list(range(60)), ["word7 other7"])
    assert predicted.tolist() == [7]
    assert not [str(w.message) for w in recwarn]
