import { once } from "node:events";
import * as fs from "node:fs";
import * as net from "node:net";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeBuilder, unreachableProblem } from "../../components/builder/probe";
import { problemLine } from "../../components/internal/errors";
import { overlappingCompiles } from "./buildHistory";
import { builtImages, LiveSandbox, type Machine, summary } from "./liveSandbox";
import { killTree, plannedChanges, processesUnder } from "./programCopy";
import type { Answer } from "./programCopy";

// One sandbox for the whole file, and its tests in order: each starts from what the one before left.
const MINUTE = 60_000;
const RESOURCES = 40;
const IMAGES = ["triton", "triton-kernels", "flashinfer", "lmcache", "flash-attention", "vllm", "infinistore", "managed-alloc"].map(
    (stage) => `gh200-build-${stage}`,
);
const AFTER_A_STAGE = ["Deployment gh200-vllm", "Image gh200-image", "Image gh200-image-verify", "Image gh200-release", "Stash gh200-change"];
const INFINISTORE = "sandbox/sources/infinistore/src/infinistore.cpp";

let sandbox: LiveSandbox;
let machine: Machine;

beforeAll(async () => {
    sandbox = new LiveSandbox();
    sandbox.start();
    machine = await sandbox.machine();
}, 60 * MINUTE);

// On a busy disk the layers of a sandbox take minutes to remove.
afterAll(() => sandbox?.down(), 10 * MINUTE);

const marker = (text: string) => `\nextern "C" const char *live_test_marker() { return "${text}"; }\n`;

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}

describe("the first update", () => {
    test(
        "builds every stage in order, the image and its release, and deploys it",
        async () => {
            const answer = ok(await machine.up());
            expect(summary(answer.output)).toEqual({ created: RESOURCES });
            expect(builtImages(answer.output)).toEqual([...IMAGES, "gh200-image", "gh200-image-verify", "gh200-lmcache-image", "gh200-release"]);
            const outputs = await machine.outputs();
            expect(outputs.deployRef).toMatch(/^localhost:\d+\/vllm\/gh200-vllm-cmm@sha256:[0-9a-f]{64}$/);
            expect(outputs.releaseRef).toBe(`${sandbox.facts.registry.address}/vllm/gh200-vllm-cmm:cmm-cmm`);
        },
        20 * MINUTE,
    );

    test("leaves a pod that is Ready on the real node and runs exactly the released digest", async () => {
        const { deployRef } = await machine.outputs();
        const pods = JSON.parse(sandbox.kubectl("get", "pods", "--namespace=vllm", "--output=json")) as PodList;
        expect(pods.items.map(({ spec, status }) => [spec.nodeName, spec.containers[0]?.image, status.containerStatuses?.[0]?.ready])).toEqual([
            ["gh200-sandbox", deployRef, true],
        ]);
        const ask = (headers: Record<string, string>) =>
            fetch(`http://${pods.items[0]?.status.podIP}:8000/v1/completions`, {
                method: "POST",
                headers: { "content-type": "application/json", ...headers },
                body: JSON.stringify({ model: "stand-in/echo", prompt: "Hello", max_tokens: 8 }),
            });
        expect((await ask({})).status).toBe(401);
        const answer = await ask({ authorization: `Bearer ${sandbox.apiKey()}` });
        expect(answer.status).toBe(200);
        expect(await answer.text()).toContain("[stand-in, no model] Hello");
    });

    test("the release tag names the deployed digest, and so does the tag that never moves", async () => {
        const { deployRef } = await machine.outputs();
        const tags = await registry("/v2/vllm/gh200-vllm-cmm/tags/list");
        const names = ((await tags.json()) as { tags: string[] }).tags;
        expect(names).toHaveLength(2);
        for (const name of names) {
            const manifest = await registry(`/v2/vllm/gh200-vllm-cmm/manifests/${name}`);
            expect(`${String(deployRef).split("@")[0]}@${manifest.headers.get("docker-content-digest")}`).toBe(deployRef);
        }
    });
});

describe("an update without changes", () => {
    test(
        "calls neither builder nor registry",
        async () => {
            const before = [sandbox.log("registry").length, sandbox.buildctl("debug", "histories").length];
            expect(summary(ok(await machine.up()).output)).toEqual({ unchanged: RESOURCES });
            expect([sandbox.log("registry").length, sandbox.buildctl("debug", "histories").length]).toEqual(before);
        },
        2 * MINUTE,
    );

    test(
        "is the same from another home, checkout path and umask",
        async () => {
            const umask = process.umask(0o077);
            try {
                const other = await sandbox.machine();
                expect(summary(ok(await other.up()).output)).toEqual({ unchanged: RESOURCES });
            } finally {
                process.umask(umask);
            }
        },
        2 * MINUTE,
    );
});

describe("a preview", () => {
    test(
        "of an edited allocator names the allocator, the image, the release and the rollout alone",
        async () => {
            machine.program.edit("assets/vllm/managed_alloc.cu", (text) => `${text}\nstatic int live_test_marker = 1;\n`);
            const changes = plannedChanges(await machine.preview());
            machine.program.restore("assets/vllm/managed_alloc.cu");
            expect(changes.update?.sort()).toEqual([...AFTER_A_STAGE, "Image gh200-build-managed-alloc"].sort());
            expect(Object.keys(changes)).toEqual(["update"]);
        },
        2 * MINUTE,
    );

    test(
        "of an edited source names its stage and what follows from it alone",
        async () => {
            machine.program.edit(INFINISTORE, (text) => text + marker("preview"));
            const changes = plannedChanges(await machine.preview());
            machine.program.restore(INFINISTORE);
            expect(changes.update?.sort()).toEqual([...AFTER_A_STAGE, "Image gh200-build-infinistore"].sort());
        },
        2 * MINUTE,
    );
});

describe("one stage changes", () => {
    test(
        "a rebuilt stage whose wheel comes out the same moves nothing after it",
        async () => {
            machine.program.edit(INFINISTORE, (text) => `${text}\n// A comment compiles to nothing.\n`);
            const answer = ok(await machine.up());
            expect(builtImages(answer.output)).toEqual(["gh200-build-infinistore"]);
            expect(summary(answer.output)).toEqual({ updated: 2, unchanged: RESOURCES - 2 });
        },
        5 * MINUTE,
    );

    test(
        "a stage that fails to compile stops the update, names itself and shows the error; nothing is retried",
        async () => {
            machine.program.restore(INFINISTORE);
            machine.program.edit(INFINISTORE, (text) => `${text}\n#error planted by the test\n`);
            const builds = () => sandbox.buildctl("debug", "histories").split("\n").length;
            const before = builds();
            const answer = await machine.up();
            expect(answer.status).not.toBe(0);
            expect(answer.output).toContain("gh200-build-infinistore");
            expect(answer.output).toContain("#error planted by the test");
            expect(answer.output).toContain("[build-infinistore] failed after");
            expect(builtImages(answer.output)).toEqual([]);
            expect(builds() - before).toBe(1);
        },
        5 * MINUTE,
    );

    test(
        "after the mend the next update starts at that stage, and a log line of 1 MB does not hang it",
        async () => {
            machine.program.restore(INFINISTORE);
            machine.program.edit(INFINISTORE, (text) => text + marker("mended"));
            machine.program.edit("sandbox/sources/infinistore/setup.py", (text) => `${text}\nprint("x" * 1_000_000)\n`);
            const answer = ok(await machine.up());
            expect(builtImages(answer.output)).toEqual(["gh200-build-infinistore", "gh200-image", "gh200-image-verify", "gh200-release"]);
            expect(summary(answer.output)).toEqual({ updated: 6, unchanged: RESOURCES - 6 });
        },
        10 * MINUTE,
    );

    test(
        "a second machine that never saw the builder builds too",
        async () => {
            const other = await sandbox.machine();
            other.program.edit(INFINISTORE, (text) => text + marker("second machine"));
            expect(fs.existsSync(path.join(other.home, "buildx"))).toBe(false);
            expect(builtImages(ok(await other.up()).output)).toContain("gh200-build-infinistore");
            ok(await machine.up());
        },
        10 * MINUTE,
    );
});

describe("a builder is refused in one line", () => {
    const refusal = async (change: (text: string) => string): Promise<string[]> => {
        machine.program.edit(INFINISTORE, (text) => text + marker("refused"));
        const answer = await machine.upWith(machine.configWith(change));
        machine.program.restore(INFINISTORE);
        expect(answer.status).not.toBe(0);
        expect(answer.output).not.toMatch(/\n\s+at .*\(.*:\d+:\d+\)/);
        return answer.output.split("\n").filter((line) => line.trim().startsWith("error: before hook"));
    };

    test(
        "when it only emulates and the stack does not allow that",
        async () => {
            const lines = await refusal((text) => text.replace(/allowEmulation: true.*/, "allowEmulation: false"));
            expect(lines).toHaveLength(1);
            expect(lines[0]).toContain("runs on linux/amd64 and only emulates linux/arm64, which turns hours into days");
        },
        2 * MINUTE,
    );

    test(
        "when it does not build for the platform",
        async () => {
            const lines = await refusal((text) => text.replace("platform: linux/arm64", "platform: linux/riscv64"));
            expect(lines[0]).toMatch(/builds linux\/amd64.*, not linux\/riscv64/);
        },
        2 * MINUTE,
    );

    test(
        "when nothing answers there",
        async () => {
            const lines = await refusal((text) => text.replace(/endpoint: tcp:\S+/, "endpoint: tcp://127.0.0.1:1"));
            expect(lines[0]).toContain("tcp://127.0.0.1:1: no BuildKit daemon answered within 4 s");
        },
        2 * MINUTE,
    );

    test(
        "within five seconds, dead or untrusted",
        async () => {
            const { endpoint, certFile, keyFile, serverName } = sandbox.facts.builder;
            const read = (file: string) => fs.readFileSync(file, "utf8");
            const connection = {
                ...{ name: "x", platform: "linux/arm64", minBuildkitVersion: "0.31.0", allowEmulation: true, refuseWhenBusy: false, endpoint, serverName },
                ...{ caCertificate: read(sandbox.facts.registry.caFile), clientCertificate: read(certFile), clientKey: read(keyFile) },
            };
            const silent = net.createServer().listen(0, "127.0.0.1");
            await once(silent, "listening");
            for (const [candidate, text] of [
                [
                    connection,
                    "the TLS handshake failed: its certificate is signed by an authority that is not trusted (unable to verify the first certificate)",
                ],
                [
                    { ...connection, endpoint: "tcp://127.0.0.1:1" },
                    "no BuildKit daemon answered within 4 s: nothing listens there (connect ECONNREFUSED 127.0.0.1:1)",
                ],
                [{ ...connection, endpoint: `tcp://127.0.0.1:${(silent.address() as net.AddressInfo).port}` }, "no BuildKit daemon answered within 4 s"],
            ] as const) {
                const start = Date.now();
                const error = await probeBuilder(candidate).then(
                    () => undefined,
                    (reason: unknown) => reason,
                );
                expect(problemLine(unreachableProblem(candidate, error))).toContain(text);
                expect(Date.now() - start).toBeLessThan(5000);
            }
            silent.close();
        },
        MINUTE,
    );
});

describe("two stacks on one builder", () => {
    test(
        "never run two compile steps at once",
        async () => {
            const others = [await sandbox.machine(), await sandbox.machine()];
            for (const [index, other] of others.entries()) {
                other.program.edit(INFINISTORE, (text) => text + marker(`stack ${index}`));
                ok(await other.program.pulumi(["stack", "init", `parallel-${index}`]));
                fs.copyFileSync(other.stackConfig, path.join(other.home, "stack.yaml"));
            }
            // The GPU and the release tag are the first stack's, and so the record of what was deployed.
            const imagesOnly = ["--exclude", "**VllmServer$**", "--exclude", "**ImageRelease$**", "--exclude", "**Stash::gh200-change"];
            const since = Date.now();
            const answers = await Promise.all(others.map((other, index) => other.buildOnly(`parallel-${index}`, imagesOnly)));
            answers.forEach(ok);
            const compiles = overlappingCompiles(sandbox, since);
            expect(compiles.total).toBeGreaterThanOrEqual(2);
            expect(compiles.overlapping).toEqual([]);
        },
        10 * MINUTE,
    );
});

describe("killed at any moment", () => {
    test(
        "the CLI in the middle of a build: the same command goes on and ends well",
        async () => {
            machine.program.restore(INFINISTORE);
            machine.program.edit(INFINISTORE, (text) => text + marker("killed"));
            const running = machine.startUp();
            await until(() => running.seen().includes("gh200-build-infinistore updating"), running.seen);
            await beginning();
            killTree(running.pid);
            await running.ended;
            sandbox.clearLocks();
            ok(await machine.up());
            expect(summary(ok(await machine.up()).output)).toEqual({ unchanged: RESOURCES });
            const deployments = JSON.parse(sandbox.kubectl("get", "deployments", "--all-namespaces", "--output=json")) as { items: unknown[] };
            expect(deployments.items).toHaveLength(1);
        },
        10 * MINUTE,
    );

    test(
        "BuildKit in the middle of a build: the update fails, and goes on once the daemon is back",
        async () => {
            machine.program.restore(INFINISTORE);
            machine.program.edit(INFINISTORE, (text) => text + marker("daemon killed"));
            const running = machine.startUp();
            await until(() => running.seen().includes("gh200-build-infinistore updating"), running.seen);
            await beginning();
            for (const line of processesUnder(sandbox.folder).filter((text) => text.includes("buildkitd"))) {
                process.kill(Number(line.trim().split(/\s+/)[0]), "SIGKILL");
            }
            expect((await running.ended).status).not.toBe(0);
            sandbox.start();
            ok(await machine.up());
        },
        10 * MINUTE,
    );
});

describe("secrets", () => {
    test(
        "stand in no state, log, temporary file or image",
        async () => {
            const key = fs.readFileSync(sandbox.facts.builder.keyFile, "utf8").split("\n")[1] ?? "";
            const clusterKey = /client-key-data"?: "?([\w+/=]+)/.exec(fs.readFileSync(path.join(sandbox.folder, "kubeconfig"), "utf8"))?.[1] ?? "";
            const secrets = [sandbox.password(), key, clusterKey];
            const state = sandbox.stateText();
            expect(state).toContain("ciphertext");
            const logs = fs
                .readdirSync(path.join(sandbox.folder, "logs"), { withFileTypes: true, recursive: true })
                .filter((entry) => entry.isFile())
                .map((entry) => fs.readFileSync(path.join(entry.parentPath, entry.name), "utf8"));
            const left = fs.readdirSync(os.tmpdir()).filter((name) => /^kubeconfig\d+$/.test(name));
            const leftTexts = left.map((name) => fs.readFileSync(path.join(os.tmpdir(), name), "utf8"));
            const history = sandbox.buildctl("debug", "histories", "--format", "{{json .}}");
            const { deployRef } = await machine.outputs();
            const manifest = await registry(`/v2/vllm/gh200-vllm-cmm/manifests/${String(deployRef).split("@")[1]}`);
            const config = ((await manifest.json()) as { config: { digest: string } }).config.digest;
            const image = await (await registry(`/v2/vllm/gh200-vllm-cmm/blobs/${config}`)).text();
            for (const secret of secrets) {
                expect(secret.length).toBeGreaterThan(10);
                for (const text of [state, history, image, ...logs, ...leftTexts]) {
                    expect(text.includes(secret)).toBe(false);
                }
            }
        },
        MINUTE,
    );
});

describe("the builder as a resource of Docker's", () => {
    test(
        "comes and goes without building anything, over the entry that earlier builds left",
        async () => {
            expect(fs.existsSync(path.join(machine.home, "buildx", "instances", "gh200-sandbox"))).toBe(true);
            const asResource = machine.configWith((text) => text.replace(/allowEmulation: true.*/, "$&\n    buildxBuilderResource: true"));
            expect(summary(ok(await machine.upWith(asResource)).output)).toEqual({ created: 1, updated: 1, unchanged: RESOURCES - 1 });
            expect(sandbox.stateText()).toContain("docker:index/buildxBuilder:BuildxBuilder");
            expect(summary(ok(await machine.up()).output)).toEqual({ deleted: 1, updated: 1, unchanged: RESOURCES - 1 });
        },
        5 * MINUTE,
    );
});

describe("an image that exists already", () => {
    test(
        "is deployed by its digest, and nothing is built",
        async () => {
            const { deployRef } = await machine.outputs();
            const builds = sandbox.buildRefs();
            const adopted = machine.configWith((text) => text.replace(/^( *)imageTag:/m, `$1use: ${String(deployRef)}\n$&`));
            ok(await machine.upWith(adopted));
            expect(await machine.outputs()).toMatchObject({ deployRef, stageDigests: {}, lmcacheRef: "" });
            expect(sandbox.stateText()).not.toContain("docker-build:index:Image");
            const image = sandbox.kubectl("get", "deployment", "gh200-vllm", "--namespace=vllm", "--output=jsonpath={.spec.template.spec.containers[0].image}");
            expect(image).toBe(deployRef);
            expect(sandbox.buildRefs()).toEqual(builds);
        },
        5 * MINUTE,
    );
});

describe("the end", () => {
    test(
        "destroy leaves nothing but what lies in the registry",
        async () => {
            const { deployRef } = await machine.outputs();
            ok(await machine.destroy());
            // The namespace stays, as docs/deployment.md says, and what any namespace has.
            const left = sandbox.kubectl("get", "all,secrets,networkpolicies,poddisruptionbudgets,serviceaccounts", "--namespace=vllm", "--output=name");
            expect(left.trim().split("\n")).toEqual(["serviceaccount/default"]);
            const manifest = await registry(`/v2/vllm/gh200-vllm-cmm/manifests/${String(deployRef).split("@")[1]}`);
            expect(manifest.status).toBe(200);
        },
        5 * MINUTE,
    );

    test(
        "down leaves no process and no file",
        () => {
            sandbox.down();
            expect(processesUnder(sandbox.folder)).toEqual([]);
            expect(fs.readFileSync("/proc/mounts", "utf8")).not.toContain(sandbox.folder);
            expect(fs.existsSync(sandbox.folder)).toBe(false);
        },
        10 * MINUTE,
    );
});

interface PodList {
    items: {
        spec: { nodeName: string; containers: { image: string }[] };
        status: { podIP: string; containerStatuses?: { ready: boolean }[] };
    }[];
}

/** The sandbox's registry has a CA of its own, which this process does not know; curl is told. */
async function registry(url: string): Promise<Response> {
    return sandbox.registryGet(url);
}

/** Into the build, past the state that Pulumi writes when a step begins: once a kill at that moment left the file backend an empty checkpoint. */
function beginning(): Promise<void> {
    return new Promise((done) => setTimeout(done, 3000));
}

async function until(condition: () => boolean, seen: () => string): Promise<void> {
    for (const deadline = Date.now() + 2 * MINUTE; !condition();) {
        if (Date.now() > deadline) {
            throw new Error(`did not happen within two minutes; seen: ${seen().slice(-2000)}`);
        }
        await new Promise((done) => setTimeout(done, 50));
    }
}
