"""Languages: which one a reader gets, and how it says things, counts them, and writes numbers and dates."""

from dataclasses import dataclass
from datetime import date
from functools import cache
from gettext import GNUTranslations
from io import BytesIO
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

FOLDER = Path(__file__).parent / "catalogues"
DEFAULT = "en"


@dataclass(frozen=True)
class Language:
    """What a reader reads.

    Attributes:
        locale: of numbers and dates; it may name a region that the catalogue does not know.
        catalogue: which translations are used.
    """

    locale: Locale
    catalogue: str

    @classmethod
    def best(cls, tag: str | None) -> "Language":
        """The language for `tag`: its own catalogue, else that of the language without its region, else English.

        Where the words are English, so are numbers and dates: half a sentence in each would help nobody.
        """
        try:
            locale = Locale.parse((tag or DEFAULT).replace("-", "_"))
        except (UnknownLocaleError, ValueError):
            locale = Locale.parse(DEFAULT)
        for name in (str(locale), locale.language):
            if name in catalogues():
                return cls(locale, name)
        return cls(Locale.parse(DEFAULT), DEFAULT)

    def say(self, message: str) -> str:
        """The translation of `message`, or of the default's where this catalogue lacks it."""
        return _translations(self.catalogue).gettext(message)

    def count(self, one: str, many: str, number: int) -> str:
        """The form of `one` or `many` that this language has for `number` things."""
        return _translations(self.catalogue).ngettext(one, many, number)

    def number(self, value: float) -> str:
        """`value` with this language's separators."""
        return format_decimal(value, locale=self.locale)

    def date(self, value: date) -> str:
        """`value` in words, as this language writes it."""
        return format_date(value, "long", locale=self.locale)


@cache
def catalogues() -> frozenset[str]:
    """The languages that there are translations for."""
    return frozenset(path.stem for path in FOLDER.glob("*.po"))


@cache
def _translations(name: str) -> GNUTranslations:
    # Compiled in memory at first use, so that no generated file has to be kept in step with its source.
    with (FOLDER / f"{name}.po").open("rb") as source:
        catalogue = read_po(source, locale=name)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    translations = GNUTranslations(compiled)
    if name != DEFAULT:
        translations.add_fallback(_translations(DEFAULT))
    return translations
