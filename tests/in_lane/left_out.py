"""Tests that are not played with the lane everywhere, as patterns of their names, each with its reason."""

_AGAIN = "its pool would be solo here, in which the same is played by itself"
_LIMITS = "a task is ended, by its time limit or by an operator: only processes can be"
_MAIL = "its mailer writes mail to files, which is the embedded mode's alone"
_LASTS = "a task lasts longer than the broker waits for a heartbeat, which the thread that runs the lane has to send"
_FOLDER = "it looks into the embedded mode's folder of messages"
_CHILDREN = "it counts, stops or kills the processes of a pool, and the lane's pools have none"
_SOONER = "it waits until the next worker says that it consumes; in a solo pool that has done the task before"
_HOSTS = "it counts queues by their names, of which each virtual host of these tests has some, and no worker takes part"
_NO_WORKER = "no worker takes part in it"

LEFT_OUT: dict[str, str] = {
    "tests/canvas/test_the_page.py::test_the_page_is_true_without_a_server": _LIMITS,
    "tests/canvas/test_pools.py::*?prefork?": _AGAIN,
    "tests/canvas/test_pools.py::*?gevent?": _AGAIN,
    "tests/mail/test_error_mail.py::*": _NO_WORKER,
    "tests/mail/test_examples.py::test_a_request_is_not_held*": _NO_WORKER,
    "tests/mail/test_killed_in_the_cluster.py::*a child of the pool*": _CHILDREN,
    "tests/mail/test_killed_in_the_cluster.py::*the whole worker*": _SOONER,
    "tests/mail/test_worker.py::test_without_a_mail_server*": _MAIL,
    "tests/scope/test_gone.py::test_what_follows_a_killed_task*": _LIMITS,
    "tests/scope/test_gone.py::test_a_task_that_its_soft_limit_ends*": _LIMITS,
    "tests/scope/test_gone.py::test_a_task_that_is_revoked_while_it_runs*": _LIMITS,
    "tests/scope/test_services.py::*": _MAIL,
    "tests/shutdown/test_stopping.py::test_a_hard_limit*": _LIMITS,
    "tests/shutdown/test_stopping.py::test_what_*": _LASTS,
    "tests/task_logs/test_task_logs.py::test_a_task_that_its_time_limit_kills*": _LIMITS,
    "tests/task_logs/test_task_logs.py::test_ten_thousand_tasks_over_eight*": _FOLDER,
    "tests/telemetry/test_telemetry.py::test_a_request_its_publish*": _CHILDREN,
    "tests/telemetry/test_telemetry.py::test_retries_failures_and_lost*": _CHILDREN,
    "tests/telemetry/test_telemetry.py::test_what_a_process_has_left*": _CHILDREN,
    "tests/watching/test_flower.py::test_the_lengths_of_queues*": _HOSTS,
    "tests/watching/test_top.py::test_one_look_has_the_counts*": _CHILDREN,
    "tests/watching/test_trace.py::test_what_replaces_itself_calls_others_or_dies*": _CHILDREN,
    "tests/watching/test_worker_health.py::test_a_pool_that_hangs*": _CHILDREN,
    "tests/watching/test_worker_metrics.py::test_the_counts_of_a_pool_whose_processes*": _CHILDREN,
    "tests/watching/test_worker_metrics.py::test_what_a_worker_does_not_do*": _CHILDREN,
}
