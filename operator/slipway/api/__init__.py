"""Typed models of the `slipway.dev/v1alpha1` API, one module a kind.

The models are the single source: CRDs (`crds/`), reference pages (`docs/reference/`) and offline checks
(`slipway lint`) are generated from them, and the operator parses live objects with them.
"""

from slipway.api.registry import KINDS, KindInfo, kind_named

__all__ = ["KINDS", "KindInfo", "kind_named"]
