"""An outcome by HTTP: for a caller who speaks nothing else."""

from celery import Signature

from shared.errors import InvalidArguments
from shared.signatures import webhook


def tell(signature: Signature, url: str) -> Signature:
    """A copy of `signature`, of a task or a chain, whose outcome is POSTed to `url`, whether it succeeds or fails.

    The body is JSON: `id`, `task`, `status` (SUCCESS, FAILURE or REVOKED) and `result`. It is signed, see
    docs/callbacks.md. The id is known already: `tell(...).freeze().id`.

    Raises:
        InvalidArguments: `url` is none, or `signature` is a group, which has no outcome of its own.
    """
    if signature.subtask_type == "group":
        raise InvalidArguments("callbacks.tell: a group has no outcome of its own: make it a chord")
    told = signature.clone()
    delivery = webhook.deliver.si(told.freeze().id, url)
    # What it gives must be kept until it has been told.
    told.set(ignore_result=False)
    told.link(delivery)
    told.link_error(delivery)
    return told
