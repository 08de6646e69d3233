import { expect, test } from "vitest";
import { curlLines, pictureOf, statusRows } from "../../status/report";

const resources = [
    {
        urn: "urn:pulumi:s::p::pulumi:pulumi:Stack::p-s",
        type: "pulumi:pulumi:Stack",
        outputs: {
            deployRef: "r/x@sha256:aa",
            releaseRef: "r/x:cmm-cmm",
            memoryPlan: ["one", "two"],
            knownHoles: ["vllm 0.19.0: CVE-2026-0001; mended in 0.22.0", "starlette 1.0.0: CVE-2026-0002; mended in 1.0.1"],
            __memoryPicture: "<svg/>",
            stageDigests: { "build-managed-alloc": "sha256:cc", "build-triton": `sha256:${"b".repeat(64)}` },
        },
    },
    {
        urn: "urn:pulumi:s::p::docker-build:index:Image::gh200-build-triton",
        type: "docker-build:index:Image",
        inputs: { context: { named: { "src-triton": {}, locks: {} } }, buildArgs: { SRC_TRITON_REVISION: "0123456789abcdef" } },
    },
    { urn: "a", type: "kubernetes:core/v1:Service", inputs: { metadata: { name: "gh200-vllm", namespace: "vllm" } } },
    { urn: "b", type: "kubernetes:apps/v1:Deployment" },
];

test("a stack's status has every fact, stages in build order, and its last failure", () => {
    const history = [
        { kind: "update", result: "succeeded", startTime: "2026-11-24T10:00:00Z", message: "mend" },
        { kind: "update", result: "failed", startTime: "2026-11-24T09:00:00Z" },
    ];
    expect(statusRows({ stack: "gh200", resources, history, approver: "someone" })).toEqual([
        ["stack", "gh200"],
        ["deployed", "r/x@sha256:aa"],
        ["release", "r/x:cmm-cmm"],
        ["build-triton", "sha256:bbbbbbbbbbbb  src-triton=0123456789ab"],
        ["build-managed-alloc", "sha256:cc"],
        ["memory", "one"],
        ["", "two"],
        ["known holes", "vllm 0.19.0: CVE-2026-0001; mended in 0.22.0"],
        ["", "starlette 1.0.0: CVE-2026-0002; mended in 1.0.1"],
        ["approver", "someone"],
        ["last update", "update succeeded at 2026-11-24T10:00:00Z: mend"],
        ["last failure", "update failed at 2026-11-24T09:00:00Z"],
    ]);
});

test("its memory plan is a picture too; a state without one has none", () => {
    expect(pictureOf(resources)).toBe("<svg/>");
    expect(pictureOf([])).toBeUndefined();
});

test("a plan that was one text is shown by its lines", () => {
    const [stack] = resources;
    const earlier = [{ ...stack!, outputs: { ...stack!.outputs, memoryPlan: "one\ntwo" } }];
    expect(statusRows({ stack: "s", resources: earlier, history: [], approver: undefined })).toEqual(
        expect.arrayContaining([
            ["memory", "one"],
            ["", "two"],
        ]),
    );
});

test("a stack without an update says so", () => {
    expect(statusRows({ stack: "gh200", resources: [], history: [], approver: undefined })).toEqual([
        ["stack", "gh200"],
        ["deployed", "nothing"],
        ["release", "none"],
        ["memory", "none"],
        ["known holes", "not recorded"],
        ["approver", "none required"],
        ["last update", "none"],
        ["last failure", "none"],
    ]);
    expect(curlLines([], undefined)).toEqual([]);
});

test("the lines to paste name the deployed objects, the kubeconfig, and where the API's key lies", () => {
    const forward = "KUBECONFIG=/k kubectl -n vllm port-forward deployment/gh200-vllm 8000 &";
    expect(curlLines(resources, "/k")).toEqual([forward, "curl -s http://localhost:8000/v1/models"]);
    const env = [{ name: "VLLM_API_KEY", valueFrom: { secretKeyRef: { name: "gh200-vllm-api-key", key: "api-key" } } }];
    const guarded = resources.map((resource) =>
        resource.type === "kubernetes:apps/v1:Deployment" ? { ...resource, inputs: { spec: { template: { spec: { containers: [{ env }] } } } } } : resource,
    );
    expect(curlLines(guarded, "/k")).toEqual([
        forward,
        "curl -s -H \"authorization: Bearer $(KUBECONFIG=/k kubectl -n vllm get secret gh200-vllm-api-key -o jsonpath='{.data.api-key}' | base64 -d)\" http://localhost:8000/v1/models",
    ]);
});

test("known holes are none where none is known, and not recorded in a state of before", () => {
    const of = (outputs: object) =>
        statusRows({ stack: "gh200", resources: [{ urn: "s", type: "pulumi:pulumi:Stack", outputs: { ...outputs } }], history: [], approver: undefined });
    expect(of({ knownHoles: [] })).toContainEqual(["known holes", "none"]);
    expect(of({})).toContainEqual(["known holes", "not recorded"]);
});
