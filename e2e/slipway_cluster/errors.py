"""The one error users of this package see."""


class ClusterError(Exception):
    """Something about the local cluster is not as wanted; the message is a sentence that says what to do."""
