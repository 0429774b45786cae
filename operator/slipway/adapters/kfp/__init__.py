"""Kubeflow Pipelines: its HTTP API, the documents that it runs, and what its Workflows and pods say.

endpoint   where it is and how it is spoken to, from a Platform
api        the v2beta1 API, as far as it is needed
runs       what it says of a run, read leniently
document   the compiled pipeline, made ready for one project: image, environment, Secrets, placement
evidence   why a run failed or waits, from its Workflow and pods
launcher   whether the launcher knows how to reach the store
submission a run as it is handed over
port       what the engine does: submit, terminate
"""
