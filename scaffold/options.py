"""What can be asked of a new service, and what of it cannot be."""

import re
from dataclasses import dataclass
from typing import Self

from shared.errors import TopologyError
from shared.signatures import declarations
from shared.spec import Pool, ServiceSpec
from shared.topology import SERVICES, validate

#: What people say, and what a firewall must know.
DESTINATIONS = {"http": ("*:80",), "https": ("*:443",), "s3": ("*:443",), "smtp": ("*:25", "*:465", "*:587")}

#: Characters of what people are told of a service.
LONGEST_SUMMARY = 90


@dataclass(frozen=True)
class Options:
    """A service that does not exist yet.

    Attributes:
        spec: what the topology will say of it.
        packages: its Python packages, as requirements.txt writes them.
    """

    spec: ServiceSpec
    packages: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        name: str,
        *,
        summary: str = "",
        pool: Pool = "prefork",
        concurrency: str = "2-4",
        packages: str = "",
        system_packages: str = "",
        calls: str = "",
        egress: str = "",
        gpus: int = 0,
    ) -> Self:
        """From what was typed; lists are parted by blanks or commas.

        Raises:
            TopologyError: the service cannot be so. The message names the option.
        """
        spec = ServiceSpec(
            name=name,
            summary=" ".join(summary.split()) or f"{name}: say here in one line what it does",
            pool=pool,
            concurrency=_concurrency(concurrency),
            soft_time_limit=30,
            time_limit=45,
            memory=384 * 2**20,
            calls=_words(calls),
            egress=tuple(dict.fromkeys(place for word in _words(egress) for place in DESTINATIONS.get(word, (word,)))),
            settings=("LOG_LEVEL", "LOG_FORMAT"),
            system_packages=_words(system_packages),
            gpus=gpus,
        )
        if len(spec.summary) > LONGEST_SUMMARY:
            raise TopologyError(f"SUMMARY: must be one line of at most {LONGEST_SUMMARY} characters")
        validate((*SERVICES, spec))
        _free(name)
        return cls(spec, _words(packages))


def _free(name: str) -> None:
    # Celery's delayed delivery binds each queue to `#.<name>.#`, which matches the name anywhere in a key.
    for task in declarations():
        if name in task.split("."):
            raise TopologyError(
                f"service {name!r}: delayed messages of the task {task} would reach it too, because its name is a part "
                "of theirs: choose another"
            )


def _concurrency(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text.strip())
    if found is None:
        raise TopologyError(f"CONCURRENCY={text}: must be a number, 4, or two, 2-8")
    return int(found[1]), int(found[2] or found[1])


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in re.split(r"[\s,]+", text) if word))
