import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { factsPodSpec } from "../../components/node/factsPod";
import { repositoryRoot } from "../support/stackFile";
import { emptyBackend, ProgramCopy } from "../live/programCopy";
import type { EngineEvent } from "../../tools/engine";

// The pack through the real engine and language host. A program of somebody else's, without our components, registers a
// resource that each policy must refuse beside one that it must let pass.
const PROGRAM = `
import * as fs from "node:fs";
import * as pulumi from "@pulumi/pulumi";
const versions: Record<string, string> = { "docker-build": "0.0.22", kubernetes: "4.25.0", docker: "5.2.0" };
for (const { type, name, inputs, standsIn } of JSON.parse(fs.readFileSync("resources.json", "utf8"))) {
    const version = versions[type.split(":")[0]];
    // A component that has a resource's type stands in for one whose provider is not here.
    if (version === undefined || standsIn) {
        const component: any = new pulumi.ComponentResource(type, name, inputs);
        component.registerOutputs(inputs);
    } else {
        new pulumi.CustomResource(type, name, inputs, { version });
    }
}
`;
const digest = `sha256:${"ab".repeat(32)}`;
const image = (name: string, change: object = {}, dockerfile = "FROM scratch\n") => ({
    type: "docker-build:index:Image",
    name,
    inputs: {
        dockerfile: { inline: dockerfile },
        context: { location: "." },
        platforms: ["linux/arm64"],
        push: false,
        buildOnPreview: false,
        exports: [{ cacheonly: {} }],
        ...change,
    },
});
const context = (named: Record<string, string>) => ({
    context: { location: ".", named: Object.fromEntries(Object.entries(named).map(([name, location]) => [name, { location }])) },
});
const pod = (name: string, container: object = {}, spec: object = {}) => ({
    type: "kubernetes:apps/v1:Deployment",
    name,
    inputs: {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name, namespace: "vllm" },
        spec: {
            selector: { matchLabels: { name } },
            template: { metadata: { labels: { name } }, spec: { containers: [{ name: "vllm", image: `example.com/vllm@${digest}`, ...container }], ...spec } },
        },
    },
});
const gpuPod = (name: string, limit: string, request = limit) => {
    const gpu = { "nvidia.com/gpu": "1" };
    return pod(name, { resources: { limits: { memory: limit, ...gpu }, requests: { memory: request, ...gpu } } });
};
const kind = (type: string, name: string, spec: object) => ({
    type: `kubernetes:${type}`,
    name,
    inputs: { apiVersion: type.split(":")[0]!.replace(/^core\//, ""), kind: type.split(":")[1], metadata: { name, namespace: "vllm" }, ...spec },
});
const anyPod = (container: object, spec: object = {}) => ({ containers: [{ name: "vllm", image: `example.com/vllm@${digest}`, ...container }], ...spec });
/** The node's probe as the component makes it, under another name. */
const probe = (name: string, change: object = {}) =>
    kind("core/v1:Pod", name, {
        spec: {
            ...factsPodSpec({
                script: fs.readFileSync(path.join(repositoryRoot, "assets/node/facts"), "utf8"),
                image: `example.com/tools@${digest}`,
                gpuProduct: "NVIDIA-GH200-480GB",
            }),
            ...change,
        },
    });
const builder = (name: string, inputs: object) => ({ type: "gh200-vllm:index:RemoteBuilder", name, inputs });
const node = { type: "gh200-vllm:index:Gh200Node", name: "node", inputs: { podLimitMiB: 4096 } };

interface Case {
    policy: string;
    passes: { type: string; name: string; inputs: object; standsIn?: true }[];
    fails: { type: string; name: string; inputs: object; standsIn?: true }[];
    says: string;
}
const cases: Case[] = [
    {
        policy: "cuda-floor",
        passes: [image("cuda-13", {}, "ARG EXPECTED_CUDA=13.2\nFROM scratch\nARG EXPECTED_CUDA\n")],
        fails: [
            image("cuda-12", {}, "ARG EXPECTED_CUDA=12.9\nFROM scratch\n"),
            image("cuda-12-lower-case", {}, "arg EXPECTED_CUDA=12.9\nFROM scratch\n"),
            image("cuda-12-beside-others", {}, "ARG A=1 EXPECTED_CUDA=12.9\nFROM scratch\n"),
            image("cuda-12-quoted", {}, 'ARG EXPECTED_CUDA="12.9"\nFROM scratch\n'),
            image("cuda-12-in-a-stage", {}, "ARG EXPECTED_CUDA=13.2\nFROM scratch\nARG EXPECTED_CUDA=12.9\n"),
            image("cuda-12-by-ENV", { buildArgs: { EXPECTED_CUDA: "13.2" } }, "FROM scratch\nENV EXPECTED_CUDA 12.9\n"),
        ],
        says: "cuda-12.cuda: 12.9: is below the floor; accepted: 13 or newer",
    },
    {
        policy: "torch-floor",
        passes: [image("torch-2-9", {}, "ARG EXPECTED_TORCH=2.9.1\nFROM scratch\n")],
        fails: [image("torch-2-8", { buildArgs: { EXPECTED_TORCH: "2.8.0" } }, "ARG EXPECTED_TORCH=2.11.0a0\nFROM scratch\n")],
        says: "torch-2-8.torch: 2.8.0: is below the floor; accepted: 2.9 or newer",
    },
    {
        policy: "vllm-floor",
        passes: [image("vllm-0-18-1", {}, "ARG VLLM_RELEASE=0.18.1\nFROM scratch\n")],
        fails: [image("vllm-0-18-0", {}, "ARG VLLM_RELEASE=0.18.0\nFROM scratch\n")],
        says: "vllm-0-18-0.vllm: 0.18.0: is below the floor; accepted: 0.18.1 or newer",
    },
    {
        policy: "every-stage-compiled",
        passes: [
            image("without-infinistore", context({ "build-infinistore": "assets/left-out", "build-vllm": `docker-image://example.com/stages@${digest}` })),
        ],
        fails: [image("without-vllm", context({ "build-vllm": "assets/left-out" }))],
        says: "without-vllm.context.named: build-vllm: cannot be left out; accepted: build-flash-attention, build-infinistore",
    },
    {
        policy: "images-by-digest",
        passes: [
            image("pinned", context({ "build-vllm": `docker-image://example.com/stages@${digest}` })),
            image(
                "pinned-in-its-text",
                { ...context({ wheels: "assets/left-out" }), buildArgs: { BASE_IMAGE: `nvcr.io/nvidia/pytorch@${digest}` } },
                `FROM example.com/a@${digest} AS one\nFROM \${BASE_IMAGE} AS two\nFROM one\nCOPY --from=two a .\nCOPY --from=wheels a .\nADD --checksum=${digest} https://example.com/a .\n`,
            ),
        ],
        fails: [
            image("by-tag", context({ release: "docker-image://example.com/stages:latest" })),
            image("from-a-tag", {}, "FROM ubuntu:latest\n"),
            image("from-a-variable", { buildArgs: { TAG: "24.04" } }, "ARG TAG=x\nFROM ubuntu:${TAG}\n"),
            image("copied-from-a-tag", {}, "FROM scratch\nCOPY --chown=1 --from=busybox:latest /bin/sh /sh\n"),
            image("mounted-from-a-tag", {}, "FROM scratch\nRUN --mount=type=bind,from=busybox:latest,target=/b true\n"),
            image("read-by-a-tag", {}, "# syntax=docker/dockerfile:1\nFROM scratch\n"),
            image("from-variables-declared-anew", {}, `ARG A=busybox:latest B=\nFROM \${A}\${B} AS one\nARG A=busybox B=@${digest}\nFROM scratch\n`),
            image("read-by-an-argument", { buildArgs: { BUILDKIT_SYNTAX: "mallory.example/frontend:1" } }),
            image("fetched", {}, "FROM scratch\nADD https://example.com/a.tar /\n"),
            image("fetched-by-branch", {}, "FROM scratch\nADD git@example.com:a/b.git#main /\n"),
        ],
        says: "by-tag.context.named.release: docker-image://example.com/stages:latest: is not named by digest",
    },
    {
        policy: "base-by-digest",
        passes: [image("base-pinned", { buildArgs: { BASE_IMAGE: `nvcr.io/nvidia/pytorch:26.03-py3@${digest}` } })],
        fails: [image("base-by-tag", { buildArgs: { BASE_IMAGE: "nvcr.io/nvidia/pytorch:26.03-py3" } })],
        says: "base-by-tag.buildArgs.BASE_IMAGE: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned",
    },
    {
        policy: "arm64-sm90a",
        passes: [
            image("hopper", { buildArgs: { CUDA_ARCH_LIST: "9.0a" } }),
            image("for-its-target", {}, "FROM --platform=$TARGETPLATFORM scratch AS a\nFROM --platform=linux/arm64 scratch\n"),
        ],
        fails: [
            image("blackwell", { buildArgs: { CUDA_ARCH_LIST: "10.0a" } }),
            image("x86", { platforms: ["linux/amd64"] }),
            image("x86-in-its-text", {}, "FROM --platform=linux/amd64 scratch\n"),
            image("x86-by-an-argument", {}, "ARG OF=linux/amd64\nFROM --platform=${OF} scratch\n"),
        ],
        says: "x86.platforms: linux/amd64: is not a GH200's platform; accepted: linux/arm64",
    },
    {
        policy: "no-stand-ins-in-production",
        passes: [image("local-stand-in", { tags: ["localhost:5000/vllm:a"], ...context({ "src-vllm": "sandbox/sources/vllm" }) })],
        fails: [image("pushed-stand-in", { tags: ["atl.vultrcr.com/vllm:a"], buildArgs: { BASE_IMAGE: `localhost/stand-in/pytorch@${digest}` } })],
        says: "pushed-stand-in.tags: atl.vultrcr.com/vllm:a: would get stand-ins",
    },
    {
        policy: "no-plaintext-secret-in-build",
        passes: [
            image("no-secret", { buildArgs: { MAX_JOBS: "4", TOKENIZERS_PARALLELISM: "true" } }),
            image(
                "secret-that-is-mounted",
                {},
                "FROM scratch\n# A TOKEN=x of nobody\nRUN --mount=type=secret,id=TOKEN git clone https://example.com/a.git && pip install 'a @ https://example.com/a'\n",
            ),
        ],
        fails: [
            image("token", { buildArgs: { GITHUB_TOKEN: "abc" } }),
            image("token-as-user", context({ "src-vllm": "https://ghtoken@example.com/vllm.git#cmm" })),
            image("token-in-parameters", context({ "src-vllm": "https://example.com/vllm.git?access_token=abc#cmm" })),
            image("token-in-its-text", {}, "ARG GITHUB_TOKEN=abc\nFROM scratch\n"),
            image("token-in-a-step", {}, "FROM scratch\nRUN git clone https://ghtoken@example.com/a.git\n"),
            image("token-in-a-header", {}, `FROM scratch\nRUN curl --header 'Authorization: Bearer hf_${"a".repeat(34)}' https://example.com\n`),
            image("password", context({ "src-vllm": "https://me:secret@example.com/vllm.git#cmm" })),
        ],
        says: "token.buildArgs.GITHUB_TOKEN: holds a secret as plain text",
    },
    {
        policy: "dockerfile-inline",
        passes: [image("inline")],
        fails: [
            image("in-a-file", { dockerfile: { location: "old.Dockerfile" } }),
            image("in-the-context", { dockerfile: undefined, context: { location: "old" } }),
        ],
        says: "in-a-file.dockerfile.location: is a file, which no policy sees; accepted: its text, as dockerfile.inline",
    },
    {
        policy: "stages-of-this-stack",
        passes: [image("stage", { tags: ["example.com/stages:build-vllm-1"] })],
        fails: [image("anybodys", context({ "build-vllm": `docker-image://mallory.example/stages@${digest}` }))],
        says: "anybodys.context.named.build-vllm: docker-image://mallory.example/stages@sha256:",
    },
    {
        policy: "caches-of-this-stack",
        passes: [image("own-cache", { tags: ["example.com/stages:build-vllm-2"], cacheFrom: [{ registry: { ref: "example.com/stages-cache:build-vllm" } }] })],
        fails: [
            image("anybodys-cache", { cacheFrom: [{ registry: { ref: "mallory.example/stages-cache:build-vllm" } }] }),
            image("a-folders-cache", { cacheFrom: [{ local: { src: "/tmp/cache" } }] }),
            image("a-cache-by-its-text", { cacheFrom: [{ raw: "type=registry,ref=mallory.example/cache" }] }),
        ],
        says: "anybodys-cache.cacheFrom: mallory.example/stages-cache:build-vllm: is a cache that this stack does not push; accepted: ",
    },
    {
        policy: "built-by-docker-build",
        passes: [{ type: "docker:index/remoteImage:RemoteImage", name: "pulled", inputs: { name: "example.com/a:b" }, standsIn: true }],
        fails: [
            { type: "docker:index/image:Image", name: "another-builder", inputs: { imageName: "example.com/a:b" }, standsIn: true },
            { type: "docker:index/remoteImage:RemoteImage", name: "a-docker-host", inputs: { name: "a", build: { context: "old" } }, standsIn: true },
        ],
        says: "another-builder: docker:index/image:Image: is built where no policy looks; accepted: docker-build:index:Image",
    },
    {
        policy: "pods-by-digest",
        passes: [pod("by-digest")],
        fails: [
            pod("latest", { image: "vllm/vllm-openai:latest" }),
            pod("image-volume", {}, { volumes: [{ name: "model", image: { reference: "example.com/model:latest" } }] }),
            kind("core/v1:ReplicationController", "controller", { spec: { template: { spec: anyPod({ image: "vllm:latest" }) } } }),
            kind("core/v1:PodTemplate", "template", { template: { spec: anyPod({ image: "vllm:latest" }) } }),
            kind("leaderworkerset.x-k8s.io/v1:LeaderWorkerSet", "workers", {
                spec: { leaderWorkerTemplate: { size: 2, leaderTemplate: { spec: anyPod({}) }, workerTemplate: { spec: anyPod({ image: "vllm:latest" }) } } },
            }),
        ],
        says: "latest.vllm.image: vllm/vllm-openai:latest: is not named by digest",
    },
    {
        policy: "no-privileged-pod",
        passes: [pod("modest", { securityContext: { capabilities: { drop: ["ALL"] } } }), probe("gh200-node-facts"), probe("another-node-facts")],
        fails: [
            pod("privileged", { securityContext: { privileged: true } }),
            pod("host", {}, { hostPID: true }),
            pod("gh200-node-facts", { securityContext: { privileged: true } }),
            probe("looks-like-the-probe", { hostNetwork: true }),
            pod("root", { securityContext: { runAsUser: 0 } }),
            pod("all-root", {}, { securityContext: { runAsUser: 0 } }),
            pod("perhaps-root", { securityContext: { runAsNonRoot: false } }),
            pod("unconfined", { securityContext: { seccompProfile: { type: "Unconfined" } } }),
            pod("no-apparmor", {}, { securityContext: { appArmorProfile: { type: "Unconfined" } } }),
            pod("host-port", { ports: [{ containerPort: 8000, hostPort: 80 }] }),
            pod("unmasked", { securityContext: { procMount: "Unmasked" } }),
            kind("leaderworkerset.x-k8s.io/v1:LeaderWorkerSet", "privileged-workers", {
                spec: { leaderWorkerTemplate: { size: 2, workerTemplate: { spec: anyPod({ securityContext: { privileged: true } }) } } },
            }),
            pod("folder", {}, { volumes: [{ name: "root", hostPath: { path: "/" } }] }),
        ],
        says: "privileged.vllm.securityContext.privileged: true: is privileged; accepted: false",
    },
    {
        policy: "no-plaintext-secret-in-pod",
        passes: [pod("referred", { env: [{ name: "HF_TOKEN", valueFrom: { secretKeyRef: { name: "hf", key: "token" } } }] })],
        fails: [
            pod("plain", { env: [{ name: "HF_TOKEN", value: "hf_abc" }] }),
            pod("in-an-address", { env: [{ name: "INDEX", value: "https://ghtoken@example.com/simple" }] }),
            pod("in-parameters", { env: [{ name: "INDEX", value: "https://example.com/?private_token=abc" }] }),
            pod("by-its-looks", { env: [{ name: "X", value: `hf_${"a".repeat(34)}` }] }),
            pod("in-an-argument", { args: ["--api-key", `sk-${"a".repeat(30)}`] }),
        ],
        says: "plain.vllm.env.HF_TOKEN: holds a secret as plain text",
    },
    {
        policy: "builder-native-and-encrypted",
        passes: [
            builder("encrypted", { endpoint: "tcp://10.0.0.1:1234", encrypted: true, allowEmulation: false }),
            builder("own", { endpoint: "tcp://127.0.0.1:1234", encrypted: false, allowEmulation: true }),
        ],
        fails: [
            builder("open", { endpoint: "tcp://10.0.0.1:1234", encrypted: false }),
            builder("emulating", { endpoint: "tcp://10.0.0.1:1234", encrypted: true, allowEmulation: true }),
        ],
        says: "emulating.allowEmulation: true: lets tcp://10.0.0.1:1234 emulate arm64",
    },
    {
        policy: "memory-within-profile",
        passes: [gpuPod("within", "4096Mi")],
        fails: [gpuPod("beyond", "5Gi"), gpuPod("burstable", "4Gi", "1Gi")],
        says: "beyond.resources.limits.memory: 5120Mi: exceeds what the node's memory profile promises; accepted: at most 4096Mi",
    },
];

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;
const seen: Record<"all" | "passing", { status: number | null; output: string; events: EngineEvent[] }> = {} as never;

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ProgramCopy(backend.env);
    fs.writeFileSync(path.join(program.folder, "index.ts"), PROGRAM);
    fs.writeFileSync(path.join(program.folder, "old.Dockerfile"), "ARG EXPECTED_CUDA=12.9\nFROM scratch\n");
    fs.mkdirSync(path.join(program.folder, "old"));
    fs.writeFileSync(path.join(program.folder, "old/Dockerfile"), "ARG EXPECTED_CUDA=12.9\nFROM scratch\n");
    await program.pulumi(["stack", "init", "policies"]);
    seen.all = await preview([node, ...cases.flatMap(({ passes, fails }) => [...passes, ...fails])]);
    seen.passing = await preview([node, ...cases.flatMap(({ passes }) => passes)]);
}, 300_000);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

async function preview(resources: object[]) {
    const log = path.join(program.folder, "events.json");
    fs.writeFileSync(path.join(program.folder, "resources.json"), JSON.stringify(resources));
    const answer = await program.pulumi(["preview", "--stack", "policies", "--policy-pack", path.resolve(__dirname, "../../policy"), `--event-log=${log}`], {
        PULUMI_DEBUG_COMMANDS: "true",
    });
    const events = fs
        .readFileSync(log, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as EngineEvent);
    fs.rmSync(log);
    return { ...answer, events };
}

function violations(events: EngineEvent[], policy: string): { resource: string; message: string }[] {
    return events.flatMap(({ policyEvent }) =>
        policyEvent?.policyName === policy ? [{ resource: policyEvent.resourceUrn?.split("::").pop() ?? "", message: policyEvent.message }] : [],
    );
}

describe("the policy pack refuses, and lets pass,", () => {
    test.each(cases)("$policy", ({ policy, fails, says }) => {
        const found = violations(seen.all.events, policy);
        expect([...new Set(found.map(({ resource }) => resource))].sort(), seen.all.output).toEqual(fails.map(({ name }) => name).sort());
        expect(found.map(({ message }) => message).join("\n")).toContain(says);
        expect(violations(seen.passing.events, policy)).toEqual([]);
    });

    test("a preview fails with what it refuses and succeeds without", () => {
        expect(seen.all.status).not.toBe(0);
        expect(seen.passing.status, seen.passing.output).toBe(0);
    });
});
