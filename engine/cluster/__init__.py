"""Beyond one machine: the same work, done by the processes of a Ray cluster. Ray is optional."""
