import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { emptyBackend, ProgramCopy } from "../live/programCopy";
import type { EngineEvent } from "../../tools/engine";

// The pack through the real engine and language host. A program of somebody else's, without our components, registers a
// resource that each policy must refuse beside one that it must let pass.
const PROGRAM = `
import * as fs from "node:fs";
import * as pulumi from "@pulumi/pulumi";
const versions: Record<string, string> = { "docker-build": "0.0.22", kubernetes: "4.25.0", docker: "5.2.0" };
for (const { type, name, inputs } of JSON.parse(fs.readFileSync("resources.json", "utf8"))) {
    const version = versions[type.split(":")[0]];
    if (version === undefined) {
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
const builder = (name: string, inputs: object) => ({ type: "gh200-vllm:index:RemoteBuilder", name, inputs });
const node = { type: "gh200-vllm:index:Gh200Node", name: "node", inputs: { podLimitMiB: 4096 } };

interface Case {
    policy: string;
    passes: { type: string; name: string; inputs: object }[];
    fails: { type: string; name: string; inputs: object }[];
    says: string;
}
const cases: Case[] = [
    {
        policy: "cuda-floor",
        passes: [image("cuda-13", {}, "ARG EXPECTED_CUDA=13.2\nFROM scratch\n")],
        fails: [image("cuda-12", {}, "ARG EXPECTED_CUDA=12.9\nFROM scratch\n")],
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
        passes: [image("pinned", context({ "build-vllm": `docker-image://example.com/stages@${digest}` }))],
        fails: [image("by-tag", context({ release: "docker-image://example.com/stages:latest" }))],
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
        passes: [image("hopper", { buildArgs: { CUDA_ARCH_LIST: "9.0a" } })],
        fails: [image("blackwell", { buildArgs: { CUDA_ARCH_LIST: "10.0a" } }), image("x86", { platforms: ["linux/amd64"] })],
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
        passes: [image("no-secret", { buildArgs: { MAX_JOBS: "4", TOKENIZERS_PARALLELISM: "true" } })],
        fails: [
            image("token", { buildArgs: { GITHUB_TOKEN: "abc" } }),
            image("password", context({ "src-vllm": "https://me:secret@example.com/vllm.git#cmm" })),
        ],
        says: "token.buildArgs.GITHUB_TOKEN: holds a secret as plain text",
    },
    {
        policy: "pods-by-digest",
        passes: [pod("by-digest")],
        fails: [pod("latest", { image: "vllm/vllm-openai:latest" })],
        says: "latest.vllm.image: vllm/vllm-openai:latest: is not named by digest",
    },
    {
        policy: "no-privileged-pod",
        passes: [pod("modest", { securityContext: { capabilities: { drop: ["ALL"] } } }), pod("gh200-node-facts", { securityContext: { privileged: true } })],
        fails: [
            pod("privileged", { securityContext: { privileged: true } }),
            pod("host", {}, { hostPID: true }),
            pod("folder", {}, { volumes: [{ name: "root", hostPath: { path: "/" } }] }),
        ],
        says: "privileged.vllm.securityContext.privileged: true: is privileged; accepted: false",
    },
    {
        policy: "no-plaintext-secret-in-pod",
        passes: [pod("referred", { env: [{ name: "HF_TOKEN", valueFrom: { secretKeyRef: { name: "hf", key: "token" } } }] })],
        fails: [pod("plain", { env: [{ name: "HF_TOKEN", value: "hf_abc" }] })],
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
