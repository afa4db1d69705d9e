"""Real Kafka, OpenSearch and SeaweedFS on loopback and free ports, without Docker and without root.

``python -m tests.parts up`` starts the three and leaves them running; the fixtures in ``tests.parts.fixtures`` use
those, or start their own and end them with the test run.
"""
