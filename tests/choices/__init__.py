"""A team's other choices: each broker, serializer, compression and pool."""
