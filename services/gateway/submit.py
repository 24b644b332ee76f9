"""Handing a task in: its id is known before it is published, and forgotten when it is not."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from celery import Signature
from celery.utils import uuid
from fastapi import Body, Response
from pydantic import BaseModel

from services.gateway.broker import BrokerAway, Uncertain
from services.gateway.house import House, TheHouse
from services.gateway.problem import Problem
from services.gateway.results import ResultsAway
from services.gateway.states import Links, links
from shared.errors import InvalidArguments
from shared.signatures import Declaration

logger = logging.getLogger(__name__)

#: Seconds for a note in the result store. Together with the broker's time it must stay below two seconds.
NOTE_TIMEOUT = 0.2
#: Seconds after which a client may try again.
RETRY_AFTER = 5


class Submitted(BaseModel):
    """A task was handed in.

    Attributes:
        id: of the task.
        links: where its state is.
    """

    id: str
    links: Links


def submission(declaration: Declaration[..., Any]) -> Callable[..., Awaitable[Submitted]]:
    """The endpoint that submits the declared task: its body has the declared parameters, checked by their types."""

    async def submit(arguments: Any, response: Response, house: TheHouse) -> Submitted:
        try:
            given = {name: getattr(arguments, name) for name in arguments.model_fields_set}
            signature = declaration(**declaration.flat(given))
        except InvalidArguments as error:
            raise Problem(422, "invalid-request", str(error)) from error
        submitted = await hand_in(house, signature)
        response.headers["Location"] = submitted.links.self
        return submitted

    submit.__annotations__["arguments"] = Annotated[declaration.arguments, Body()]
    submit.__doc__ = declaration.__doc__
    return submit


async def hand_in(house: House, signature: Signature) -> Submitted:
    """Publish a task, so that it can be asked for from now on.

    Raises:
        Problem: 503; the task will not run, or, where it says so, may.
    """
    task_id = uuid()
    noted = await _noted(house, task_id)
    try:
        await house.publisher.publish(signature, task_id)
    except BrokerAway as error:
        logger.warning("%s was not submitted: %s", signature.task, error)
        if noted:
            await _withdrawn(house, task_id)
        raise Problem(
            503, "broker-away", "The task was not taken, and will not run: try again later", retry_after=RETRY_AFTER
        ) from error
    except Uncertain as error:
        logger.warning("%s[%s] may have been submitted: %s", signature.task, task_id, error)
        raise Problem(
            503,
            "broker-uncertain",
            "The broker did not confirm: the task may run. Look at it before you try again",
            retry_after=RETRY_AFTER,
            task=links(task_id).self,
        ) from error
    return Submitted(id=task_id, links=links(task_id))


async def _noted(house: House, task_id: str) -> bool:
    try:
        await house.results.submitted(task_id, NOTE_TIMEOUT)
    except ResultsAway as error:
        # The task does its work without; its state can be read once the worker could store it.
        logger.warning("%s is submitted without a note: %s", task_id, error)
        return False
    return True


async def _withdrawn(house: House, task_id: str) -> None:
    try:
        await house.results.withdraw(task_id, NOTE_TIMEOUT)
    except ResultsAway as error:
        logger.warning("%s keeps its note until results expire: %s", task_id, error)
