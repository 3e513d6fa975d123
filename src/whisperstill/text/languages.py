"""Whisper's languages, in the order of their tokens: the n-th code has the n-th language token.

`yue` was added with large-v3.
"""

from whisperstill.errors import SettingsError

_TABLE = """
    en:english zh:chinese de:german es:spanish ru:russian ko:korean fr:french ja:japanese pt:portuguese tr:turkish
    pl:polish ca:catalan nl:dutch ar:arabic sv:swedish it:italian id:indonesian hi:hindi fi:finnish vi:vietnamese
    he:hebrew uk:ukrainian el:greek ms:malay cs:czech ro:romanian da:danish hu:hungarian ta:tamil no:norwegian
    th:thai ur:urdu hr:croatian bg:bulgarian lt:lithuanian la:latin mi:maori ml:malayalam cy:welsh sk:slovak
    te:telugu fa:persian lv:latvian bn:bengali sr:serbian az:azerbaijani sl:slovenian kn:kannada et:estonian
    mk:macedonian br:breton eu:basque is:icelandic hy:armenian ne:nepali mn:mongolian bs:bosnian kk:kazakh
    sq:albanian sw:swahili gl:galician mr:marathi pa:punjabi si:sinhala km:khmer sn:shona yo:yoruba so:somali
    af:afrikaans oc:occitan ka:georgian be:belarusian tg:tajik sd:sindhi gu:gujarati am:amharic yi:yiddish lo:lao
    uz:uzbek fo:faroese ht:haitian_creole ps:pashto tk:turkmen nn:nynorsk mt:maltese sa:sanskrit lb:luxembourgish
    my:myanmar bo:tibetan tl:tagalog mg:malagasy as:assamese tt:tatar haw:hawaiian ln:lingala ha:hausa ba:bashkir
    jw:javanese su:sundanese yue:cantonese
"""

LANGUAGES: dict[str, str] = {
    code: name.replace("_", " ") for code, _, name in (entry.partition(":") for entry in _TABLE.split())
}
"""English name by language code, in token order."""

_ALIASES = {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
    "jv": "jw",
    "iw": "he",
    "nb": "no",
    "cmn": "zh",
    "fil": "tl",
}

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces between words, scored and split by character (as in the Whisper paper)."""


def language_code(name: str) -> str:
    """Language code for a code (`de`), a tag (`de-AT`, `zh_CN`) or an English name (`German`).

    Raises `SettingsError` for a language that Whisper does not support.
    """
    lowered = name.strip().lower()
    candidates = (lowered, lowered.replace("_", "-").split("-")[0])
    for candidate in candidates:
        if candidate in LANGUAGES:
            return candidate
        if candidate in _ALIASES:
            return _ALIASES[candidate]
    for code, language in LANGUAGES.items():
        if lowered == language:
            return code
    raise SettingsError(f"expected a language of Whisper, as code (de) or English name (German), got {name!r}")
