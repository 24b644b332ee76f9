"""Messages that are large, and one that is too large."""

from tests.chaos.stage import Stage

MIB = 2**20
#: `MAX_MESSAGE_SIZE`, in bytes, as a person reads it.
LIMIT = f"{16 * MIB:,}"


def large(stage: Stage) -> None:
    """Bodies of 1, 15 and 17 MiB."""
    for size in (1, 15, 17):
        stage.publish(prefix=f"of{size}mib-", ballast=size * MIB)
    stage.drained()
    for publish in stage.journal():
        expected = "failed" if "of17mib" in publish.key else "confirmed"
        if publish.outcome != expected:
            stage.complain("size", f"{publish.key} is {publish.outcome} and not {expected}: {publish.says}")
    stage.says_of("failed", LIMIT)
