"""Run in an environment of its own (`make clients`): ``protocol_clients.py tritonclient|kserve URL``; prints what a client saw.

It imports nothing of Noria: these are the clients as anybody installs them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

MODEL = "delays"
CARRIERS = np.array(["AA", "UA", "never seen"], dtype=object)
DISTANCES = np.array([0.5, 3.0, 7.25])
# name of the way -> datatype and NumPy's name of it: every one that holds these numbers
NUMBERS = {"FP64": np.float64, "FP32": np.float32, "FP16": np.float16}


def by_tritonclient(url: str) -> dict[str, Any]:
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    def inputs(datatype: str, carriers_binary: bool, numbers_binary: bool) -> list[Any]:
        carrier = triton.InferInput("carrier", [3], "BYTES")
        carrier.set_data_from_numpy(CARRIERS, binary_data=carriers_binary)
        distance = triton.InferInput("distance", [3, 1], datatype)
        distance.set_data_from_numpy(DISTANCES.astype(NUMBERS[datatype]).reshape(3, 1), binary_data=numbers_binary)
        return [carrier, distance]

    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready(MODEL, "9")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    ways = {}
    for datatype in NUMBERS:
        for carriers_binary, numbers_binary in ((True, True), (True, False), (False, True), (False, False)):
            answer = client.infer(MODEL, inputs(datatype, carriers_binary, numbers_binary), request_id="7")
            assert answer.get_response()["id"] == "7"
            ways[f"{datatype} {carriers_binary} {numbers_binary}"] = answer.as_numpy("probability").tolist()
    for packed in ("gzip", "deflate"):
        answer = client.infer(
            MODEL, inputs("FP64", True, True), request_compression_algorithm=packed, response_compression_algorithm=packed
        )
        ways[packed] = answer.as_numpy("probability").tolist()
    wanted = [triton.InferRequestedOutput("probability", binary_data=False)]
    only = client.infer(MODEL, inputs("FP64", True, True), outputs=wanted)
    assert only.as_numpy("prediction") is None
    ways["requested"] = only.as_numpy("probability").tolist()
    ways["async"] = client.async_infer(MODEL, inputs("FP64", True, True)).get_result().as_numpy("probability").tolist()
    answer = client.infer(MODEL, inputs("FP64", True, True))
    assert answer.as_numpy("prediction").dtype == np.int64
    error = ""
    try:
        client.infer(MODEL, inputs("FP64", True, True)[:1])
    except InferenceServerException as refused:
        error = refused.message()
    found = {
        "metadata": [i["name"] for i in client.get_model_metadata(MODEL)["inputs"]],
        "prediction": answer.as_numpy("prediction").tolist(),
        "probability": answer.as_numpy("probability").tolist(),
        "before": client.infer(MODEL, inputs("FP64", True, True), model_version="2").as_numpy("probability").tolist(),
        "ways": ways,
        "error": error,
    }
    client.close()
    return found


async def by_kserve(url: str) -> dict[str, Any]:
    import httpx
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    def request(datatype: str = "FP64", binary: bool = True, **more: Any) -> Any:
        carrier = InferInput("carrier", [3], "BYTES")
        carrier.set_data_from_numpy(CARRIERS, binary_data=binary)
        distance = InferInput("distance", [3], datatype)
        distance.set_data_from_numpy(DISTANCES.astype(NUMBERS[datatype]), binary_data=binary)
        return InferRequest(MODEL, [carrier, distance], **more)

    def output(answer: Any, name: str) -> list[Any]:
        return next(o for o in answer.outputs if o.name == name).as_numpy().tolist()

    ways = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, MODEL)
        assert not await client.is_model_ready(url, "other")
        answer = await client.infer(url, request(request_id="7"), model_name=MODEL)
        assert answer.id == "7"
        assert (answer.model_name, answer.parameters["release"]) == (MODEL, "v3")
        for datatype, binary in _ways():
            ways[f"{datatype} {binary}"] = output(
                await client.infer(url, request(datatype, binary), model_name=MODEL), "probability"
            )
        raw = request(parameters={"binary_data_output": True})
        ways["binary answer"] = output(await client.infer(url, raw, model_name=MODEL), "probability")
        only = await client.infer(url, request(request_outputs=[RequestedOutput("probability")]), model_name=MODEL)
        assert [o.name for o in only.outputs] == ["probability"]
        path = f"{url}/v2/models/{MODEL}"
        before = await client.infer(f"{path}/versions/2/infer", request(binary=False), is_graph_endpoint=True)
        error = ""
        try:
            await client.infer(url, InferRequest(MODEL, request().inputs[:1]), model_name=MODEL)
        except httpx.HTTPStatusError as refused:
            error = str(refused)
    return {
        "metadata": [i["name"] for i in httpx.get(path).json()["inputs"]],  # this client has no call for it
        "prediction": output(answer, "prediction"),
        "probability": output(answer, "probability"),
        "before": next(o["data"] for o in before["outputs"] if o["name"] == "probability"),
        "ways": ways,
        "error": error,
    }


def _ways() -> Iterator[tuple[str, bool]]:
    yield from ((datatype, True) for datatype in NUMBERS)
    yield from ((datatype, False) for datatype in NUMBERS if datatype != "FP16")  # which it sends in binary form only


if __name__ == "__main__":
    client, address = sys.argv[1:]
    print(json.dumps(by_tritonclient(address) if client == "tritonclient" else asyncio.run(by_kserve(address))))
