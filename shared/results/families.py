"""A result store that keeps with each result what `celery -A shared.app trace` needs; see `shared.trace.facts`."""

from typing import Any

from shared.trace import facts


class FamilyStore:
    """In front of a store of Celery's, which notes what `facts.family` says where it writes a result."""

    app: Any

    def _get_result_meta(self, *args: Any, request: Any = None, **kwargs: Any) -> dict[str, Any]:
        meta: dict[str, Any] = super()._get_result_meta(*args, request=request, **kwargs)  # type: ignore[misc]
        if request is not None:
            spec = getattr(self.app, "spec", None)
            meta |= facts.fields(request, spec.name if spec else None)
        return meta

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        with facts.storing(task_id, request):
            return super()._store_result(  # type: ignore[misc]
                task_id, result, state, traceback=traceback, request=request, **kwargs
            )
