"""JenkinsAgentPool: build agents that come when builds queue and go when the work is done.

Each agent is known three times: as an intent in the pool's status, as a node on the Jenkins controller, and as a pod.
The intent comes first and goes last, so whatever crashes in between is found again and either finished or taken down.
What carries our mark on either side without an intent is an orphan and is removed: garbage is collected both ways.
"""
