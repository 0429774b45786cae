"""A Kubeflow Pipelines API server for tests: it speaks by the models and operations of the published client.

Nothing here is part of the product. What the API looks like comes from `kfp_server_api`, which Kubeflow generates from
its protocol definitions: paths, parameters, fields, types and enums are read from it, requests are refused where they
do not fit, and answers are instances of its models. What the API does follows the API server, Argo's controller and
the persistence agent of Kubeflow Pipelines 2.5 to 2.17:

* `contract`, `operations`, `status`: the published interface
* `backend` (`experiments`, `pipelines`, `runs`): the API server and its database
* `workflows`: where Workflow objects are, in memory or on a kube-apiserver
* `machinery`: Argo's controller and the persistence agent, one step at a time
* `faults`: what goes wrong
* `server`: all of it behind HTTP
"""
