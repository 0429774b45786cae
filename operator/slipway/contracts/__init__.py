"""What the operator and the Jobs that it starts say to each other.

The operator writes a request to the artifact store and starts `slipway-job COMMAND --request KEY --digest SHA256`;
the Job writes progress and one result beside it. Both sides parse with these models, so a drift is a type error.
This package imports neither Kubernetes clients nor anything heavy.
"""
