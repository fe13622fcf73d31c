#!/usr/bin/env bash
# Starts one Cassandra node: fills in its address and rack, and becomes the daemon. It starts Java's class directly, so
# that it runs in every image with Cassandra's jars in $CASSANDRA_HOME/lib.
set -euo pipefail

sed -e "s|@ADDRESS@|$POD_IP|g" "$CONFIG_DIR/cassandra.yaml" > "$RUN_DIR/cassandra.yaml"
printf 'dc=%s\nrack=%s\n' "$DATACENTER" "$RACK" > "$RUN_DIR/cassandra-rackdc.properties"

agent=("$CASSANDRA_HOME"/lib/jamm-*.jar)
exec java "@$CONFIG_DIR/jvm.options" "-javaagent:${agent[0]}" \
  "-Dcassandra.config=file://$RUN_DIR/cassandra.yaml" \
  "-Dcassandra-rackdc.properties=file://$RUN_DIR/cassandra-rackdc.properties" \
  "-Dlogback.configurationFile=$CONFIG_DIR/logback.xml" \
  -cp "$CONFIG_DIR:$CASSANDRA_HOME/lib/*" org.apache.cassandra.service.CassandraDaemon
