"""Is what strangers read short and plain? Prints what is not, and then exits with 1.

    python docs/check_english.py            # README.md, CONTRIBUTING.md and the pages
    python docs/check_english.py FILE ...   # some of them, as pre-commit gives them

Held are the words of a page, the mean length of its sentences, and turns of phrase that native
readers stumble over. Code, tables, formulas and headings do not count as sentences. The laboratory
notes, docs/notes/, are exempt.
"""

import re
import sys
from pathlib import Path

import textstat

ROOT = Path(__file__).parents[1]
MOST_WORDS = {"README.md": 450}
MOST_WORDS_OF_OTHERS = 900
LONGEST_MEAN_SENTENCE = 20
# A pattern, in any case, and what to write.
PHRASES = {
    r"in place of": "instead of",
    r"at the line\b": "on the line; the page is called Command line",
    r"some (two|three|four|five|ten|dozen|\d[\d,.]*)\b": "about, or a few",
    r"goes? before\b": "takes precedence over",
    r"take out what\b": "remove those that",
    r"what good (images|material) shows?\b": "the residual of good images",
    r"what lies (above|below)\b": "pixels above",
    r"nothing of this package": "the package does not",
    r"no way out": "say what was measured",
    r"(the|this|that|a) look of\b": "the local mean and contrast of",
    r"\bforet(ell|old)": "predict",
    r"most of which the computer": "most of it unattended",
    r"as (far as|soon as) (they|this) (tells?|shows?)\b": "say what is known",
    r"\*\*turn\*\*": "**Try**",
    r"\bis (gone on with|held against)\b": "is continued; is compared with",
    r"\b(of ours|of yours)\b": "our own, your own",
    r"\bwhat is none\b": "what is not one",
    r"\bbut for (the|what|its|some)\b": "except",
    r"\bas a rule\b": "usually",
    r"\bno (other|more) than those that\b": "only those that",
    r"\bhe that\b": "anyone who",
    r"\bthe very\b": "the same",
    r"\bmade out of\b": "made from",
    r"\bnot before\b": "only after",
}


def prose_of(markdown: str) -> str:
    """The sentences alone; each item of a list and each paragraph ends with a full stop."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.S)
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1 *$", "", text, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->|<[^>]+>", "", text, flags=re.S)
    # Tables, headings, pictures, directives, their options, targets and footnotes.
    text = re.sub(r"^ *(\||#|!\[|:|\(\w|\[\^?\w+\]:|---).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$", "code", text)
    # Points that end no sentence.
    text = re.sub(r"(?<=\d)[.,](?=\d)", "", text)
    text = re.sub(r"\b(e\.g|i\.e|al|etc|vs|No|Fig)\.", "", text)
    text = re.sub(r"(?<=\w)\.(?=\w)", "", text)
    text = re.sub(r"^ *([-*+]|\d+\.) +", "\n\n", text, flags=re.M)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return "\n".join(
        part if part[-1] in ".!?" else f"{part.rstrip(':;,')}." for part in paragraphs if part
    )


def complaints(path: Path) -> list[str]:
    """What is to be mended in a page, a line each."""
    markdown = path.read_text(encoding="utf-8")
    found = []
    n_words, most = len(markdown.split()), MOST_WORDS.get(path.name, MOST_WORDS_OF_OTHERS)
    if n_words > most:
        found.append(f"{n_words} words, at most {most}: divide it, or move what few need")
    prose = prose_of(markdown)
    mean = textstat.words_per_sentence(prose) if prose else 0
    if mean > LONGEST_MEAN_SENTENCE:
        found.append(f"{mean:.1f} words a sentence, at most {LONGEST_MEAN_SENTENCE}: say one thing")
    for pattern, better in PHRASES.items():
        for phrase in re.finditer(pattern, prose, flags=re.I):
            found.append(f"{phrase.group()!r}: {better}")
    return found


def main(arguments: list[str]) -> int:
    pages = [Path(argument).resolve() for argument in arguments]
    pages = pages or [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    kept = [page for page in sorted(pages) if page.name != "CHANGELOG.md"]
    n_complaints = 0
    for page in kept:
        for complaint in complaints(page):
            print(f"{page.relative_to(ROOT)}: {complaint}")
            n_complaints += 1
    return int(n_complaints > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
