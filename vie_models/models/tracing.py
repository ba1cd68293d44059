"""What torch.fx sees of an encoder: its layers whole, each by the path of its module, as it sees those of torch.nn.

Layers and checks ask what kind of tensor they got, which a tracer cannot answer. So each of them begins with

    if isinstance(x, Proxy):
        return traced_module(self, x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.fx import Proxy

__all__ = ["Proxy", "traced_function", "traced_module"]


def traced_module(module: nn.Module, *inputs: Any) -> Any:
    """Records one call of `module` in the graph that is being traced."""
    tracer: Any = inputs[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), inputs, {})


def traced_function(function: Callable[..., Any], *args: Any) -> Any:
    """Records one call of `function` in the graph that is being traced. The first argument is the traced tensor."""
    return args[0].tracer.create_proxy("call_function", function, args, {})
