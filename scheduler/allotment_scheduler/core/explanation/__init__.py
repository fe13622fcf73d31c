"""Why a pod waits: a code, a sentence with numbers, who is ahead, and the smallest change that would start it."""
