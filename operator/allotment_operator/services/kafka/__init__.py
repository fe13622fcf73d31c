"""KafkaCluster, KafkaTopic and KafkaUser: Kafka in KRaft mode, its topics and its users.

`cluster`, `topic` and `user` are the kinds. What they render is in modules named for what they render; all are pure.
Only `kafka_python` talks to brokers, behind the port in `admin`.
"""
