#!/usr/bin/env bash
# What the containers of Spark on Kubernetes start with. Spark gives the role as the first argument and everything else
# in variables (org.apache.spark.deploy.k8s.Constants): a driver submits its program in client mode, an executor joins
# its driver. Any other argument is a command of the pod's own.
set -euo pipefail

classpath="$SPARK_HOME/conf:$SPARK_HOME/jars/*${SPARK_EXTRA_CLASSPATH:+:$SPARK_EXTRA_CLASSPATH}"

java_options() {
  # SPARK_JAVA_OPT_0, SPARK_JAVA_OPT_1 … hold one option each.
  local number=0 name
  while name="SPARK_JAVA_OPT_$number"; [[ -v "$name" ]]; do
    options+=("${!name}")
    number=$((number + 1))
  done
}

case "${1:-}" in
  driver)
    shift
    exec "$SPARK_HOME/bin/spark-submit" --deploy-mode client \
      --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
      --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS" "$@"
    ;;
  executor)
    options=()
    java_options
    exec "$JAVA_HOME/bin/java" "${options[@]}" -Xms"$SPARK_EXECUTOR_MEMORY" -Xmx"$SPARK_EXECUTOR_MEMORY" \
      -cp "$classpath" org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
  *)
    exec "$@"
    ;;
esac
