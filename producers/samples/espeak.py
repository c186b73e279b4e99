"""Phonemes from eSpeak NG, written as Kokoro learnt them for Spanish and French."""

import ctypes
import re

import espeakng_loader

SILENT = 2  # espeak_AUDIO_OUTPUT: nothing is played
UTF8 = 1
IPA_TIED = 0x02 | 0x80 | ord("^") << 8  # IPA, with ^ between the letters of one sound
PUNCTUATION = re.compile(r"\s*[,.;:!?¡¿]+\s*")
LANGUAGE_SWITCH = re.compile(r"\([a-z-]+\)")
SOUNDS = {"a^ɪ": "I", "a^ʊ": "W", "d^z": "ʣ", "d^ʒ": "ʤ", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q"} | {
    "s^s": "S", "t^s": "ʦ", "t^ʃ": "ʧ", "ɔ^ɪ": "Y", "^": "", "-": ""
}  # fmt: skip


class Espeak:
    """One language of eSpeak NG; a process can hold only one."""

    def __init__(self, language):
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        if self.library.espeak_Initialize(SILENT, 0, espeakng_loader.get_data_path().encode(), 0) < 0:
            raise RuntimeError("espeak-ng does not start")
        if self.library.espeak_SetVoiceByName(language.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {language}")

    def phonemes(self, text):
        """The text as one line, its punctuation kept."""
        parts = re.split(f"({PUNCTUATION.pattern})", text)
        line = "".join(part if PUNCTUATION.fullmatch(part) else self.clause(part) for part in parts)
        for old, new in SOUNDS.items():
            line = line.replace(old, new)
        return line.strip()

    def clause(self, text):
        rest = ctypes.c_char_p(text.encode())
        spoken = []
        while rest.value:
            spoken.append(self.library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA_TIED).decode())
        return LANGUAGE_SWITCH.sub("", " ".join(spoken)).strip()
