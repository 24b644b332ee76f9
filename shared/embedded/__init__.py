"""The whole system on one machine without any server: for a first look, and for tests.

Its limits: one machine; a message that a killed worker held is lost; no dead-letter queue; no protection between
services. Set `BROKER_URL` and `REDIS_URL` for everything else.
"""
