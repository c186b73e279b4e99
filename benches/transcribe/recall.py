"""How often names are heard in speech, and what else is heard wrong."""

from compare import words

SWALLOWED = 4  # most words that may have been heard in a name's place


def holds(name, heard):
    """Whether these words hold the name's, one after the other."""
    return any(heard[at : at + len(name)] == name for at in range(len(heard) - len(name) + 1))


def names_in(names, text, language):
    """Which of the names a text holds."""
    heard = words(text, language)
    return [name for name in names if holds(words(name, language), heard)]


def other_errors(name, sentence, text, language):
    """(errors, words) of a sentence beside its name: in whose place anything may have been heard."""
    before, after = (words(part, language) for part in sentence.split(name, 1))
    heard = words(text, language)
    row = list(range(len(heard) + 1))
    for word in before:
        row = step(row, word, heard)
    row = [min(row[max(0, at - SWALLOWED) : at + 1]) for at in range(len(row))]
    for word in after:
        row = step(row, word, heard)
    return row[-1], len(before) + len(after)


def step(row, word, heard):
    """The next row of the least number of words to insert, delete or replace."""
    new = [row[0] + 1]
    for at, other in enumerate(heard):
        new.append(min(row[at + 1] + 1, new[at] + 1, row[at] + (word != other)))
    return new
