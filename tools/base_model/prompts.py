"""Wordings of the prompted tasks: many, so that no single one is learned by heart.

A template is text with one `{}` (two for pairs of texts); a verbaliser names the
classes in order. `lay_out` puts a template on several lines.

The prompts that the base is measured with (the example tasks' and promptsource's) are
not among the wordings, nor are the example tasks' words for bad and good among the
sentiment answers: zero-shot accuracy is that of a prompt never seen, as for T0's
held-out tasks. A test compares them.
"""

LINE_BREAKS = (" ", "\n", "\n\n")


def lay_out(template: str, line_break: str) -> str:
    """The template with a line break in place of the spaces around its texts."""
    return template.replace(" {}", line_break + "{}").replace("{} ", "{}" + line_break)


OPTIONS = (  # wordings that name the choices; the second `{}` stands for them
    "{} Is it {}?",
    "{} Options: {}",
    "{} Choose from {}.",
    "{} Which one fits: {}?",
    "{} Is this about {}?",
    "Read this and choose {}. {}",
)
OPTIONS_FIRST = 5  # from this one on the choices come before the text

SENTIMENT = (
    "{} It was",
    "{}",
    "{} The reviewer found it",
    "Opinion: {} Rating?",
    "Comment: {} Feeling?",
    "What is the sentiment? {}",
    "Text: {} Sentiment?",
    "Feedback: {} Verdict?",
    "{} Overall, it is",
    "How does the writer feel? {}",
    "Sentence: {} Tone?",
    "{} In one word:",
)
SENTIMENT_WORDS = (  # negative, positive
    ("negative", "positive"),
    ("terrible", "great"),
    ("awful", "wonderful"),
    ("poor", "excellent"),
    ("hate", "love"),
    ("dislike", "like"),
    ("unhappy", "happy"),
    ("disappointed", "satisfied"),
    ("disappointing", "impressive"),
    ("worst", "best"),
    ("weak", "strong"),
    ("horrible", "amazing"),
    ("con", "pro"),
    ("complaint", "praise"),
    ("boring", "enjoyable"),
    ("useless", "useful"),
    ("one star", "five stars"),
    ("thumbs down", "thumbs up"),
    ("Negative", "Positive"),
)
RECOMMEND = (
    "{} Would they recommend it?",
    "Review: {} Is it positive?",
    "{} Did they like it?",
    "Is the writer pleased? {}",
)
YES_NO = (("no", "yes"), ("No", "Yes"), ("false", "true"))
TOPIC = (
    "Message: {} Topic?",
    "Message: {} Intent?",
    "Message: {} What is it about?",
    "Text: {} Topic?",
    "{} This is about",
    "{} Category?",
    "{} Topic:",
    "What is this about? {}",
    "Customer: {} Subject?",
    "Question: {} It asks about",
    "{} Keyword:",
    "{} Label:",
    "Sentence: {} Subject?",
    "Request: {} Type?",
    "News: {} Section?",
    "Classify: {}",
    "{}",
    "{} Best match?",
    "{} In short:",
    "Email: {} Subject?",
)
DEFINITION = (
    "Definition: {} Word?",
    "What is the word for: {}?",
    "{} This is called",
    "Meaning: {} Term?",
    "{} Word:",
)
TITLE = (
    "{} Title?",
    "Article: {} Title:",
    "Summary: {} Name?",
    "What does this describe? {}",
    "{} Heading?",
)
PAIR = (
    "{} Next: {} Does it follow?",
    "First: {} Second: {} Connected?",
    "{} Then: {} Same story?",
    "Text: {} Claim: {} Related?",
)
PAIR_WORDS = (*YES_NO, ("unrelated", "related"), ("different", "same"))
COMPARATIVE = (
    "{} Does it compare things?",
    "Sentence: {} Is there a comparison?",
    "Comparison? {}",
)
COMPARATIVE_WORDS = (*YES_NO, ("plain", "comparison"))
QUESTION = (
    "{} Reply:",
    "{}",
    "Q: {} A:",
    "Question: {} Short answer:",
    "Quiz: {} Solution?",
    "{} The answer is",
    "Answer this: {}",
    "Someone asks: {} Response?",
)
