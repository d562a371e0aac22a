"""ONNX graphs of a traced function, and of the chain that repeats one reverse step in a loop.

The chain contains its step once, in an ONNX `Loop`. The size of the file and the time to trace and
to load it therefore do not depend on the number of steps.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.export import ExportedProgram

from syndiff.translators import Shape

OPSET = 18
NOTE = "Makes synthetic medical images. For research, not for diagnosis."


def graph_of(
    program: ExportedProgram, inputs: Mapping[str, Shape], output: str
) -> onnx.ModelProto:
    """Convert a program to an ONNX model.

    Args:
        program: see `trace.program_of`.
        inputs: name → shape of the inputs, in the program's order.
        output: the name of the output.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hides the warning that torchvision is missing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            traced = torch.onnx.export(
                program,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[output],
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if traced is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = traced.model_proto
    # torch adds metadata to every node: source lines and file names of the exporting machine.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:], model.graph.metadata_props[:]
    return _model(
        helper.make_graph(
            model.graph.node,
            "syndiff",
            [_info(name, shape) for name, shape in inputs.items()],
            [_info(output, ("batch", 1, "height", "width"))],
            initializer=model.graph.initializer,
        ),
        model,
    )


def chain_of(step: onnx.ModelProto, inputs: Mapping[str, Shape], steps: int) -> onnx.ModelProto:
    """Wrap one reverse step into the loop of the whole reverse process.

    Args:
        step: model of (x_t, source, t, the step's draws with names as in `now`) → x_prev.
        inputs: name → shape of the chain's inputs: source, x_T, and the draws of all steps, which
            are stacked along axis 1.
        steps: number of steps; t runs from steps - 1 down to 0.
    """
    draws = [name for name in inputs if name not in ("source", "x_T")]
    prepare = [
        helper.make_node("Sub", ["loop.last", "loop.place"], ["loop.index"]),
        helper.make_node("Shape", ["source"], ["loop.batch"], start=0, end=1),
        helper.make_node("Expand", ["loop.index", "loop.batch"], ["t"]),  # b
        *(helper.make_node("Gather", [d, "loop.place"], [now(d)], axis=1) for d in draws),
    ]
    go_on = helper.make_node("Identity", ["loop.go"], ["loop.go_on"])
    body = helper.make_graph(
        [*prepare, *step.graph.node, go_on],
        "reverse_step",
        [_info("loop.place", ()), _info("loop.go", ()), _info("x_t", inputs["x_T"])],
        [_info("loop.go_on", ()), _info("x_prev", inputs["x_T"])],
        initializer=[*step.graph.initializer, _constant("loop.last", steps - 1)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["loop.steps", "", "x_T"], ["image"], body=body)],
        "syndiff",
        [_info(name, shape) for name, shape in inputs.items()],
        [_info("image", inputs["x_T"])],
        initializer=[_constant("loop.steps", steps)],
    )
    return _model(graph, step)


def now(draw: str) -> str:
    """The name of a draw inside the step; names in a subgraph must differ from the outer names."""
    return f"{draw}.now"


def _info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    types = {
        "t": TensorProto.INT64,
        "loop.place": TensorProto.INT64,
        "loop.go": TensorProto.BOOL,
        "loop.go_on": TensorProto.BOOL,
    }
    return helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), list(shape))


def _constant(name: str, value: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.int64), name)


def _model(graph: onnx.GraphProto, like: onnx.ModelProto) -> onnx.ModelProto:
    model = helper.make_model(
        graph,
        opset_imports=like.opset_import,
        ir_version=like.ir_version,
        producer_name="syndiff",
        doc_string=NOTE,
    )
    onnx.checker.check_model(model, full_check=True)
    return model
