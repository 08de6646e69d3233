import { execFile, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LiveSandbox, type Machine, summary } from "./liveSandbox";
import type { Answer } from "./programCopy";

/*
 * The pod on the sandbox's real node: kubelet, containerd, the arm64 image under emulation. One sandbox for the whole file,
 * and its tests in order. Without a GPU: the launcher says SIMULATED.
 */
const MINUTE = 60_000;
/** For an update that is to fail: long enough for the fault to show, 30 s and what an end may take. */
const SHORT_WAIT = { warmupSeconds: 20, shutdownSeconds: 5 };

let sandbox: LiveSandbox;
let machine: Machine;
let released: string;

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    machine = await sandbox.machine();
    ok(await machine.up());
    released = String((await machine.outputs()).deployRef);
}, 30 * MINUTE);
// A sandbox that was given is left as it is.
afterAll(() => (process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget()), 10 * MINUTE);

type Section = Record<string, unknown>;

/** An update with the released image and these changes; nothing is built. */
function up(changes: { serving?: Section; node?: Section; registry?: Section; use?: string } = {}, ...secrets: string[]): Promise<Answer> {
    const file = machine.configOf((config) => {
        config["gh200-vllm:image"] = { ...config["gh200-vllm:image"], use: changes.use ?? released };
        for (const section of ["serving", "node", "registry"] as const) {
            config[`gh200-vllm:${section}`] = { ...config[`gh200-vllm:${section}`], ...changes[section] };
        }
    });
    return machine.upWith(file, ...secrets);
}

interface Pod {
    metadata: { name: string; deletionTimestamp?: string };
    spec: { terminationGracePeriodSeconds: number; containers: { image: string }[] };
    status: {
        qosClass: string;
        podIP: string;
        containerStatuses?: { ready: boolean; restartCount: number; lastState: { terminated?: { reason: string; exitCode: number } } }[];
    };
}
const kubectl = (...args: string[]) => sandbox.kubectl(...args);
const pods = () =>
    (JSON.parse(kubectl("get", "pods", "--namespace=vllm", "--output=json")) as { items: Pod[] }).items.filter(
        ({ metadata }) => metadata.deletionTimestamp === undefined,
    );
const readyPod = () => pods().find(({ status }) => status.containerStatuses?.[0]?.ready === true);
const name = () => readyPod()!.metadata.name;

async function eventually<T>(what: string, seconds: number, find: () => T | undefined): Promise<T> {
    for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await new Promise((done) => setTimeout(done, 500))) {
        const found = find();
        if (found !== undefined) {
            return found;
        }
    }
    throw new Error(`${what}: not within ${seconds} s; ${JSON.stringify(pods().map(({ metadata, status }) => [metadata.name, status.containerStatuses]))}`);
}

/** A command in the ready pod; never throws for its status. */
function inPod(...command: string[]): { status: number | null; output: string } {
    const answer = spawnSync(sandbox.kubectlPath(), ["exec", "--namespace=vllm", name(), "--", ...command], {
        encoding: "utf8",
        env: { ...process.env, KUBECONFIG: path.join(sandbox.folder, "kubeconfig") },
    });
    return { status: answer.status, output: answer.stdout + answer.stderr };
}

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}

describe("the pod", () => {
    test("is Ready as no root, Guaranteed, on a root file system that it cannot write", () => {
        expect(readyPod()?.status.qosClass).toBe("Guaranteed");
        const program =
            "import os\ntry: open('/x', 'w'); root = 'writable'\nexcept OSError as e: root = e.strerror\nprint(os.getuid(), os.getgid(), root, os.path.exists('/var/run/secrets/kubernetes.io'))";
        expect(inPod("python3", "-c", program).output.trim()).toBe("2000 0 Read-only file system False");
    });

    test(
        "passes the launcher's self-test, which says SIMULATED",
        () => {
            const { status, output } = inPod("/opt/gh200/vllm_managed_mem.py", "--self-test");
            expect(output).toContain("self-test: passed (SIMULATED)");
            expect(status).toBe(0);
        },
        5 * MINUTE,
    );

    test(
        "fails it with the same library over plain cudaMalloc",
        () => {
            // The name that the loader looks up, in place: every managed allocation is then a plain one.
            const swap =
                "import os; data = open('/opt/gh200/managed_alloc.so', 'rb').read(); found = data.count(b'\\0cudaMallocManaged\\0'); assert found == 1, found; os.mkdir('/cache/plain', 0o700); open('/cache/plain/plain.so', 'wb').write(data.replace(b'\\0cudaMallocManaged\\0', b'\\0cudaMalloc\\0anaged\\0'))";
            expect(inPod("python3", "-c", `${swap}; os.chmod('/cache/plain/plain.so', 0o755)`)).toEqual({ status: 0, output: "" });
            const { status, output } = inPod("env", "MANAGED_MEM_LIBRARY=/cache/plain/plain.so", "/opt/gh200/vllm_managed_mem.py", "--self-test");
            // Advice about managed memory is refused for plain memory, so that nothing is placed.
            expect(output).toMatch(/hbm-first +FAILED/);
            expect(output).toContain("the driver refused 0.000 GiB on the device and 0.250 GiB on the host: invalid argument");
            expect(output).toContain("self-test: FAILED (SIMULATED)");
            expect(status).not.toBe(0);
        },
        5 * MINUTE,
    );

    test(
        "answers a request in flight after SIGTERM, and is gone within its grace period",
        async () => {
            const pod = readyPod()!;
            const asked = fetch(`http://${pod.status.podIP}:8000/v1/completions`, {
                method: "POST",
                headers: { "content-type": "application/json", authorization: `Bearer ${sandbox.apiKey()}` },
                body: JSON.stringify({ model: "stand-in/echo", prompt: "in flight", stand_in_seconds: 9 }),
            });
            await new Promise((done) => setTimeout(done, 1000));
            const since = Date.now();
            const gone = new Promise<void>((done, fail) =>
                execFile(
                    sandbox.kubectlPath(),
                    ["delete", "pod", pod.metadata.name, "--namespace=vllm", "--wait=true"],
                    { env: { ...process.env, KUBECONFIG: path.join(sandbox.folder, "kubeconfig") } },
                    (error) => (error === null ? done() : fail(new Error(error.message))),
                ),
            );
            expect(await (await asked).text()).toContain("in flight");
            await gone;
            const seconds = (Date.now() - since) / 1000;
            // preStop's 5 s and what was left of the answer; never the whole grace period, after which it would be killed.
            expect(seconds).toBeGreaterThan(5);
            expect(seconds).toBeLessThan(pod.spec.terminationGracePeriodSeconds - 5);
            await eventually("the next pod", 120, readyPod);
        },
        5 * MINUTE,
    );

    test(
        "has a network policy that makes no difference here: the sandbox enforces none, and its page says so",
        async () => {
            const policy = JSON.parse(kubectl("get", "networkpolicy", "gh200-vllm", "--namespace=vllm", "--output=json")) as {
                spec: { policyTypes: string[]; ingress?: object[] };
            };
            // Nobody was named who may come.
            expect(policy.spec).toMatchObject({ policyTypes: ["Ingress", "Egress"] });
            expect(policy.spec.ingress ?? []).toEqual([]);
            // vLLM's port and another one, from a pod of another namespace.
            inPod(
                "python3",
                "-c",
                "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'http.server', '9001', '--directory', '/tmp'], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)",
            );
            const ask = `import socket\nfor port in (8000, 9001):\n    try:\n        socket.create_connection(("${readyPod()!.status.podIP}", port), 5); print("let through")\n    except OSError as error: print(error)`;
            const spec = {
                restartPolicy: "Never",
                runtimeClassName: "nvidia",
                imagePullSecrets: [{ name: "gh200-vllm-pull" }],
                tolerations: [{ operator: "Exists" }],
                nodeSelector: { "kubernetes.io/hostname": "gh200-sandbox" },
                containers: [{ name: "ask", image: released, command: ["python3", "-c", ask] }],
            };
            const pull = JSON.parse(kubectl("get", "secret", "gh200-vllm-pull", "--namespace=vllm", "--output=json")) as { type: string; data: object };
            const secret = { apiVersion: "v1", kind: "Secret", metadata: { name: "gh200-vllm-pull", namespace: "default" }, type: pull.type, data: pull.data };
            kubectl("create", "--filename", sandbox.write("outsider-pull.json", JSON.stringify(secret)));
            kubectl(
                "create",
                "--filename",
                sandbox.write("outsider.json", JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name: "outsider", namespace: "default" }, spec })),
            );
            await eventually("an answer", 120, () =>
                /Succeeded|Failed/.test(kubectl("get", "pod", "outsider", "--namespace=default", "--output=jsonpath={.status.phase}")) ? true : undefined,
            );
            const [named, unnamed] = kubectl("logs", "outsider", "--namespace=default").trim().split("\n");
            kubectl("delete", "pod", "outsider", "--namespace=default", "--wait=false");
            const page = fs.readFileSync(path.resolve(__dirname, "../../docs/sandbox.md"), "utf8");
            // The same for both: the policy makes no difference (here nothing forwards from pod to pod either).
            expect([unnamed, /enforces no\s+NetworkPolicy/.test(page)]).toEqual([named, true]);
        },
        4 * MINUTE,
    );
});

test(
    "a pod past its memory limit is killed alone, and the term that was exceeded is named",
    async () => {
        const before = readyPod()!;
        const eat = inPod("python3", "-c", "held = []\nwhile True: held.append(b'x' * (64 << 20))");
        expect(eat.status).not.toBe(0);
        // The limit holds a process of the pod to it, not the node: everything else runs on.
        expect(kubectl("get", "node", "gh200-sandbox", "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}")).toBe("True");
        expect(readyPod()?.metadata.name ?? before.metadata.name).toBe(before.metadata.name);
        const answer = await up({ node: { hostProcessMiB: 32, managedGiB: 1, headroomMiB: 0 }, serving: SHORT_WAIT });
        expect(answer.status).not.toBe(0);
        expect(answer.output).toMatch(/was killed at its memory limit of 0\.1 GiB: term hostProcess .* was exceeded.*raise node\.hostProcessMiB/);
    },
    8 * MINUTE,
);

describe("an update ends with the cause in one line, and the last lines of the log", () => {
    // The registry's user has another password by now, as after a rotation that the secret's own operator missed.
    beforeAll(() => {
        const { address, username } = sandbox.facts.registry;
        const login = [`--docker-server=${address}`, `--docker-username=${username}`, "--docker-password=of-last-year"];
        kubectl("create", "secret", "docker-registry", "stale", "--namespace=vllm", ...login);
    });

    test.each<[string, Parameters<typeof up>[0], RegExp, RegExp]>([
        [
            "a crash loop",
            { serving: { acceptStandIn: false } },
            /pod gh200-vllm-\S+: the launcher refused: .*a stand-in; accepted: the real one/,
            / log managed-mem: /,
        ],
        [
            "a failing probe",
            { serving: { extraArgs: ["--stand-in-port", "9999"] } },
            /pod gh200-vllm-\S+: its probe fails: Startup probe failed: /,
            / log stand-in vLLM of the sandbox/,
        ],
        [
            "a bad pull secret",
            { serving: { existingPullSecret: "stale" } },
            /image localhost\S+ cannot be pulled: the registry refuses the credentials/,
            / event Failed: /,
        ],
    ])(
        "of %s",
        async (_, changes, cause, end) => {
            const answer = await up({ ...changes, serving: { ...SHORT_WAIT, ...changes?.serving } });
            expect(answer.status).not.toBe(0);
            expect(answer.output).toMatch(cause);
            expect(answer.output).toMatch(end);
        },
        6 * MINUTE,
    );

    test(
        "or begins with nothing where the registry has no such image, or refuses its user",
        async () => {
            const gone = `${released.split("@")[0]}@sha256:${"1".repeat(64)}`;
            const [missing, unread] = [await up({ use: gone }), await up({ registry: { username: "nobody" } })];
            expect(missing.output).toMatch(/gh200-vllm:image\.use: localhost\S+: is not in its registry; accepted: an image that is there/);
            expect(unread.output).toMatch(/gh200-vllm:image\.use: localhost\S+: has labels that cannot be read: \S+ answered 401/);
            expect([missing.status, unread.status]).not.toContain(0);
            expect([missing, unread].map(({ output }) => summary(output).updated)).toEqual([undefined, undefined]);
        },
        2 * MINUTE,
    );

    test(
        "and is mended by the next",
        async () => {
            ok(await up());
            expect(readyPod()?.spec.containers[0]?.image).toBe(released);
        },
        5 * MINUTE,
    );
});

test(
    "a rotated token reaches the running pod as a file, without a restart",
    async () => {
        const token = (text: string) => ["--config", `gh200-vllm:hfToken=${text}`];
        ok(await up({}, ...token("hf_first")));
        const [pod] = pods();
        expect(inPod("cat", "/var/run/secrets/huggingface/token").output).toBe("hf_first");
        ok(await up({}, ...token("hf_second")));
        // The kubelet renews mounted secrets once a minute.
        await eventually("the new token", 150, () => (inPod("cat", "/var/run/secrets/huggingface/token").output === "hf_second" ? true : undefined));
        expect(readyPod()?.metadata.name).toBe(pod!.metadata.name);
        expect(readyPod()?.status.containerStatuses?.[0]?.restartCount).toBe(0);
    },
    8 * MINUTE,
);

test(
    "the previous digest is rolled back to",
    async () => {
        machine.program.edit("assets/vllm/vllm_managed_mem.py", (text) => `${text}\n# another image\n`);
        ok(await machine.up());
        const next = readyPod()?.spec.containers[0]?.image;
        expect(next).not.toBe(released);
        ok(await up());
        expect(readyPod()?.spec.containers[0]?.image).toBe(released);
    },
    12 * MINUTE,
);

describe("the facts Pod", () => {
    const probe = () => ({
        method: "pod",
        image: released,
        imagePullSecret: "gh200-vllm-pull",
        namespace: "facts",
        runtimeClassName: "nvidia",
        nodeName: "gh200-sandbox",
    });
    // A namespace that admits privileged pods, with the credentials of the image.
    beforeAll(() => {
        const secret = JSON.parse(kubectl("get", "secret", "gh200-vllm-pull", "--namespace=vllm", "--output=json")) as { type: string; data: object };
        kubectl("create", "namespace", "facts");
        const copy = { apiVersion: "v1", kind: "Secret", metadata: { name: "gh200-vllm-pull", namespace: "facts" }, type: secret.type, data: secret.data };
        kubectl("create", "--filename", sandbox.write("facts-pull.json", JSON.stringify(copy)));
    });

    test("is refused in the server's own namespace, before anything is changed", async () => {
        const answer = await up({ node: { probe: { ...probe(), namespace: "vllm" } } });
        expect(answer.status).not.toBe(0);
        expect(answer.output).toContain("gh200-vllm:node.probe.namespace: vllm: is the server's, which admits no privileged pod");
    });

    test(
        "runs on the node while vLLM holds its GPU, is read back, and stops an update that declares more than there is",
        async () => {
            const before = readyPod()!.metadata.name;
            // This machine has no HBM at all, so what the Pod says is less than any declaration.
            const answer = await up({ node: { probe: probe() } });
            expect(answer.status).not.toBe(0);
            expect(answer.output).toMatch(/node: did not say its HBM \(nvidia-smi\); install the NVIDIA driver/);
            const facts = JSON.parse(kubectl("get", "pod", "gh200-node-facts-1", "--namespace=facts", "--output=json")) as {
                status: { phase: string; containerStatuses: { state: { terminated: { message: string } } }[] };
            };
            expect(facts.status.phase).toBe("Succeeded");
            const said = facts.status.containerStatuses[0]!.state.terminated.message;
            expect(said).toMatch(/== numactl --hardware\navailable: \d+ nodes.*\nnode 0 cpus: .+\nnode 0 size: \d+ MB/);
            expect(said).toMatch(/== \/proc\/iomem\nSystem RAM: [1-9]\d* MiB/);
            expect(readyPod()?.metadata.name).toBe(before);
        },
        5 * MINUTE,
    );
});
