#!/usr/bin/env bash
# Starts one Kafka node: fills in what differs from node to node, formats an empty disk, and becomes the broker.
# It starts Java's classes directly, so that it runs in every image with Kafka's jars in $KAFKA_HOME/libs.
set -euo pipefail

ordinal="${POD_NAME##*-}"
node_id=$((FIRST_NODE_ID + ordinal))
properties="$RUN_DIR/server.properties"
classpath="$KAFKA_HOME/libs/*"

# Listeners reached from outside are known node by node, once their Services have addresses.
more_listeners="" more_advertised=""
if [[ -f "$CONFIG_DIR/external-$ordinal" ]]; then
  while read -r name port address; do
    more_listeners+=",$name://:$port"
    more_advertised+=",$name://${address/@HOST_IP@/$HOST_IP}"
  done < "$CONFIG_DIR/external-$ordinal"
fi

sed -e "s|@NODE_ID@|$node_id|g" -e "s|@HOST@|$NODE_HOST|g" \
  -e "s|@MORE_LISTENERS@|$more_listeners|g" -e "s|@MORE_ADVERTISED@|$more_advertised|g" \
  "$CONFIG_DIR/server.properties" > "$properties"
if [[ -n "${RACK:-}" ]]; then
  echo "broker.rack=$RACK" >> "$properties"
fi

mapfile -t options < "$CONFIG_DIR/jvm.options"
logging="-Dlog4j2.configurationFile=$CONFIG_DIR/log4j2.properties"

if [[ ! -f "$DATA_DIR/meta.properties" ]]; then
  echo "formatting $DATA_DIR for node $node_id of cluster $CLUSTER_ID"
  arguments=(format "--cluster-id=$CLUSTER_ID" --config "$properties" --ignore-formatted)
  if [[ " $FOUNDER_IDS " == *" $node_id "* ]]; then
    arguments+=(--initial-controllers "$FOUNDERS")
    if [[ -n "${ADMIN_PASSWORD_FILE:-}" ]]; then
      password="$(< "$ADMIN_PASSWORD_FILE")"
      arguments+=(--add-scram "SCRAM-SHA-512=[name=$ADMIN_NAME,password=$password]")
    fi
  elif [[ "$CONTROLLER" == "true" ]]; then
    arguments+=(--no-initial-controllers)
  fi
  java -Xmx128m -XX:TieredStopAtLevel=1 "$logging" -cp "$classpath" kafka.tools.StorageTool "${arguments[@]}"
fi

exec java "${options[@]}" "$logging" -cp "$classpath" kafka.Kafka "$properties"
