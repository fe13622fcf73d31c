#!/usr/bin/env bash
# Asks this node's own daemon, as `nodetool` does; works in images that hold only Cassandra's jars.
set -euo pipefail

exec java "@$CONFIG_DIR/tool.options" "-Dcassandra.config=file://$RUN_DIR/cassandra.yaml" \
  "-Dlogback.configurationFile=$CONFIG_DIR/logback-tools.xml" \
  -cp "$CONFIG_DIR:$CASSANDRA_HOME/lib/*" org.apache.cassandra.tools.NodeTool -p "$JMX_PORT" "$@"
