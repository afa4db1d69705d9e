"""`collector watch`: what the Kubernetes API says of pods and of what they belong to, as lines that travel like any."""
