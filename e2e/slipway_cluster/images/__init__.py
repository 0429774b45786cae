"""Container images made on this machine, without a daemon and without a registry.

* :mod:`~slipway_cluster.images.sandbox` runs a program in an image's file system and keeps what it changes.
* :mod:`~slipway_cluster.images.layers` turns files into layers, each made once.
* :mod:`~slipway_cluster.images.archive` puts layers together to images as OCI archives.
* :mod:`~slipway_cluster.images.recipes` says what each image is made of.
"""
