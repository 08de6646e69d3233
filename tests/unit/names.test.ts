import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { remoteBuilderSchema } from "../../components/builder/remoteBuilder";
import { sections } from "../../components/config/schema";
import { problemLine } from "../../components/internal/errors";
import { isLabelKey } from "../../components/internal/names";
import { zodProblems } from "../../components/internal/resolve";
import { imageSchema, registrySchema } from "../../components/platform/cmmPlatformArgs";
import { lmcacheServerSchema } from "../../components/serving/lmcacheServer";

beforeAll(
    () => void pulumi.runtime.setMocks({ call: ({ inputs }) => inputs as object, newResource: ({ name, inputs }) => ({ id: name, state: inputs as object }) }),
);

/** The lines that a section of a stack file is answered with. */
function lines(path: string, schema: { safeParse: (value: unknown) => { error?: unknown } }, value: object): string[] {
    return zodProblems(path, schema.safeParse(value).error as Parameters<typeof zodProblems>[1], value).map(problemLine);
}
const serving = (value: object) => lines("serving", sections.serving, { model: "m", ...value });
const builder = (endpoint: string, more: object = {}) => lines("builder", remoteBuilderSchema, { endpoint, ...more });
const registry = (address: string) => lines("registry", registrySchema, { address });
const image = (value: object) => lines("image", imageSchema, value);
const digest = `sha256:${"1".repeat(64)}`;

describe("accepted are", () => {
    test.each(["tcp://[::1]:1234", "tcp://10.0.0.1:1", "tcp://gh200:65535", "tcp://gh200.example.com:1234", ""])("the builder's endpoint %j", (endpoint) => {
        expect(builder(endpoint)).toEqual([]);
    });
    test("one-letter names", () => {
        expect([
            ...serving({ namespace: "a", runtimeClassName: "b", priorityClassName: "c" }),
            ...registry("r.example/v"),
            ...registry("[::1]:5000/v"),
        ]).toEqual([]);
    });
    test("Docker Hub's names as base and as an image by digest", () => {
        expect([
            ...image({ base: { name: "nvidia/cuda:13.0" } }),
            ...image({ base: { name: "ubuntu:24.04" } }),
            ...image({ use: `nvidia/cuda@${digest}` }),
        ]).toEqual([]);
    });
    test("a product of NVIDIA's, labels and taints with a domain, nothing where nothing is needed", () => {
        expect(
            serving({
                gpuProduct: "NVIDIA-GH200-144G-HBM3e",
                nodeSelector: { "topology.kubernetes.io/zone": "a", pool: "" },
                tolerations: [{ key: "nvidia.com/gpu", value: "present" }],
                runtimeClassName: "",
                priorityClassName: "",
                storageClassName: "",
            }),
        ).toEqual([]);
    });
});

describe("refused in one line with the key are", () => {
    test.each([
        "tcp://h:0",
        "tcp://h:65536",
        "tcp://h:99999",
        "tcp://h",
        "tcp://::1:1234",
        "tcp://h:1234/",
        "https://h:1234",
        "h:1234",
        " tcp://h:1234",
        "tcp://h :1234",
        "tcp://[::1]",
    ])("the builder's endpoint %j", (endpoint) => {
        expect(builder(endpoint)).toEqual([`builder.endpoint: ${endpoint}: is no BuildKit address; accepted: tcp://HOST:PORT`]);
    });

    test.each([
        ["https://atl.vultrcr.com/vllm", "is no registry and namespace; accepted: HOST/NAMESPACE"],
        ["atl.vultrcr.com/VLLM", "is no registry and namespace; accepted: HOST/NAMESPACE"],
        ["atl.vultrcr.com:70000/vllm", "is no registry and namespace; accepted: HOST/NAMESPACE"],
        ["registry/vllm", "names no host, so that Docker Hub would be asked; accepted: HOST/NAMESPACE with a dot or a port in HOST, or docker.io/NAMESPACE"],
    ])("the registry %s", (address, words) => {
        expect(registry(address)).toEqual([`registry.address: ${address}: ${words}`]);
    });

    test.each<[string, string[], string]>([
        [
            "a tag with a slash",
            image({ vllmVersion: "feature/x" }),
            "image.vllmVersion: feature/x: is no part of a tag; accepted: letters, digits, dots, dashes and underscores",
        ],
        [
            "a suffix with a colon",
            image({ imageSuffix: ":x" }),
            "image.imageSuffix: :x: is no part of a tag; accepted: letters, digits, dots, dashes and underscores",
        ],
        [
            "a repository in upper case",
            image({ imageTag: "GH200" }),
            "image.imageTag: GH200: is no repository; accepted: lower-case letters, digits, and single dots, dashes or underscores between them",
        ],
        [
            "a base that is a URL",
            image({ base: { name: "https://nvcr.io/a:b" } }),
            "image.base.name: https://nvcr.io/a:b: is no image name with a tag; accepted: NAME:TAG",
        ],
        ["an image by tag", image({ use: "r.example/a:b" }), "image.use: r.example/a:b: is no image by digest; accepted: REPOSITORY@sha256:DIGEST"],
        [
            "an empty product",
            serving({ gpuProduct: "" }),
            'serving.gpuProduct: "": is no value of a node\'s label; accepted: 1 to 63 letters, digits, dots, dashes and underscores, with a letter or digit first and last',
        ],
        [
            "a product with blanks",
            serving({ gpuProduct: "NVIDIA GH200 480GB" }),
            "serving.gpuProduct: NVIDIA GH200 480GB: is no value of a node's label; accepted: 1 to 63 letters, digits, dots, dashes and underscores, with a letter or digit first and last",
        ],
        [
            "a namespace in upper case",
            serving({ namespace: "vLLM" }),
            "serving.namespace: vLLM: is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last",
        ],
        [
            "a namespace with a dot",
            serving({ namespace: "a.b" }),
            "serving.namespace: a.b: is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last",
        ],
        [
            "a long namespace",
            serving({ namespace: "a".repeat(64) }),
            `serving.namespace: ${"a".repeat(64)}: is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last`,
        ],
        [
            "one of several namespaces",
            serving({ allowFromNamespaces: ["a", "B"] }),
            "serving.allowFromNamespaces.1: B: is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last",
        ],
        [
            "a claim with a slash",
            serving({ modelCacheClaim: "a/b" }),
            "serving.modelCacheClaim: a/b: is no name of an object; accepted: 1 to 253 lower-case letters, digits, dashes and dots, with a letter or digit first and last, or nothing",
        ],
        [
            "a taint's key with two slashes",
            serving({ tolerations: [{ key: "a/b/c" }] }),
            "serving.tolerations.0.key: a/b/c: is no key of a taint; accepted: NAME or DOMAIN/NAME",
        ],
        [
            "a host name with a scheme",
            serving({ route: { gateway: "g", gatewayNamespace: "n", hostname: "https://a.b" } }),
            "serving.route.hostname: https://a.b: is no host name; accepted: lower-case, without scheme and port",
        ],
        [
            "an LMCache server's namespace",
            lines("lmcache", lmcacheServerSchema, { image: `a@${digest}`, memoryMiB: 2048, namespace: "" }),
            'lmcache.namespace: "": is no namespace; accepted: 1 to 63 lower-case letters, digits and dashes, with a letter or digit first and last',
        ],
    ])("%s", (_, told, line) => {
        expect(told).toEqual([line]);
    });
});

test("a key of a label is a name with one domain at most", () => {
    expect(["a", "nvidia.com/gpu.product", "A_b.c"].map(isLabelKey)).toEqual([true, true, true]);
    expect(["", "/a", "a/", "A.com/x", "a/b/c", "a b", "-a"].map(isLabelKey)).toEqual(Array(7).fill(false));
});
