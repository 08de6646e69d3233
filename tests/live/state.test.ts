import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LiveSandbox, type Machine } from "./liveSandbox";
import type { Answer } from "./programCopy";

/*
 * What the state says against what the cluster does, on the real engine, Kubernetes provider, API server and controllers. Servers of several
 * stacks beside each other, each a small program of its own. No node takes their pods: this file decides when one is ready, as a kubelet would say it.
 */
const MINUTE = 60_000;

let sandbox: LiveSandbox;
let machine: Machine;

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    machine = await sandbox.machine();
    machine.program.edit("index.ts", () => PROGRAM);
    // The ambient cluster is none: whoever asks it, and not the provider's, is answered by nobody.
    fs.writeFileSync(path.join(machine.home, "nowhere"), "apiVersion: v1\nkind: Config\n");
}, 15 * MINUTE);
// A sandbox that was given is left as it is.
afterAll(() => (process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget()), 10 * MINUTE);

/** Servers as the stack's configuration lists them, on a provider that has its kubeconfig as an input. */
const PROGRAM = `
import * as fs from "node:fs";
import { Provider } from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { VllmServer, type VllmServerArgs } from "./components/serving/vllmServer";

const servers = new pulumi.Config("gh200-vllm").requireObject<Record<string, Partial<VllmServerArgs>>>("servers");
const kubernetes = new Provider("cluster", { kubeconfig: fs.readFileSync(process.env.TEST_KUBECONFIG!, "utf8"), clusterIdentifier: "test" });
export = Object.fromEntries(
    Object.entries(servers).map(([name, args]) => [
        name,
        new VllmServer(
            name,
            {
                image: "registry.example.com/vllm@sha256:" + "0".repeat(64),
                model: "some/model",
                podLimitMiB: 4096,
                hbmBudgetMiB: 1024,
                hostBudgetMiB: 1024,
                warmupSeconds: 1,
                shutdownSeconds: 1,
                runtimeClassName: "",
                nodeSelector: { "test/no-node": "true" },
                ...args,
            },
            { providers: { kubernetes } },
        ).endpoint,
    ]),
);
`;

type Servers = Record<string, Record<string, unknown>>;

async function pulumi(...args: string[]): Promise<Answer> {
    return machine.program.pulumi(args, { KUBECONFIG: path.join(machine.home, "nowhere"), TEST_KUBECONFIG: path.join(sandbox.folder, "kubeconfig") });
}

async function up(stack: string, servers: Servers, ...args: string[]): Promise<Answer> {
    fs.writeFileSync(path.join(machine.program.folder, `Pulumi.${stack}.yaml`), configOf(stack, servers));
    return pulumi("up", "--yes", "--skip-preview", "--stack", stack, ...args);
}

/** The salt stays, with which the stack's state is encrypted. */
function configOf(stack: string, servers: Servers): string {
    const file = path.join(machine.program.folder, `Pulumi.${stack}.yaml`);
    const salt = fs.existsSync(file) ? (/^encryptionsalt: .*$/m.exec(fs.readFileSync(file, "utf8"))?.[0] ?? "") : "";
    return `${salt}\nconfig:\n  gh200-vllm:servers: ${JSON.stringify(servers)}\n`;
}

const kubectl = (...args: string[]) => sandbox.kubectl(...args);

/** A pod may be gone meanwhile. */
function attempt(...args: string[]): void {
    try {
        kubectl(...args);
    } catch (error) {
        expect(String(error)).toContain("NotFound");
    }
}

/** While `work` lasts, every pod of these namespaces becomes ready, as a kubelet would say it. */
async function serving<T>(work: Promise<T>, ...namespaces: string[]): Promise<T> {
    let over = false;
    const finished = work.finally(() => (over = true));
    while (!over) {
        for (const namespace of namespaces) {
            const ready = [{ type: "Ready", status: "True", lastTransitionTime: new Date().toISOString().replace(/\.\d+/, "") }];
            for (const name of kubectl("get", "pods", `--namespace=${namespace}`, "--output=name").split("\n").filter(Boolean)) {
                attempt(
                    "patch",
                    name,
                    `--namespace=${namespace}`,
                    "--subresource=status",
                    "--type=merge",
                    "--patch",
                    JSON.stringify({ status: { phase: "Running", conditions: ready } }),
                );
            }
        }
        await new Promise((done) => setTimeout(done, 500));
    }
    return finished;
}

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}
const deployment = (namespace: string, name: string) =>
    JSON.parse(kubectl("get", "deployment", name, `--namespace=${namespace}`, "--output=json")) as {
        metadata: { uid: string };
        status: { readyReplicas?: number };
    };
const initStack = async (name: string): Promise<void> => {
    ok(await pulumi("stack", "init", name));
};

describe("an update whose pods do not serve", () => {
    beforeAll(() => initStack("one"), MINUTE);

    test(
        "is red, and red again for whoever asks next, until they serve; the ambient cluster is never asked",
        async () => {
            const servers = { a: { namespace: "first" } };
            for (const attempt of ["first", "second"]) {
                const answer = await up("one", servers);
                expect(answer.status, attempt).not.toBe(0);
                expect(answer.output, attempt).toMatch(/pod a-\S+: is pending/);
            }
            ok(await serving(up("one", servers), "first"));
            expect(deployment("first", "a").status.readyReplicas).toBe(1);
            // Nothing changed, and they serve.
            expect(ok(await up("one", servers)).output).not.toMatch(/created|updated/);
        },
        8 * MINUTE,
    );

    test.each([
        [
            "scaled to zero",
            () => kubectl("scale", "deployment", "a", "--namespace=first", "--replicas=0"),
            /Deployment first\/a: is not as the last update left it: spec\.replicas 1 → 0/,
        ],
        [
            "patched",
            () => kubectl("set", "image", "deployment/a", "vllm=registry.example.com/other:latest", "--namespace=first"),
            /Deployment first\/a: is not as the last update left it: spec\.template\.spec\.containers\[0\]\.image registry\.example\.com\/vllm@sha256:0+ → registry\.example\.com\/other:latest/,
        ],
        ["deleted", () => kubectl("delete", "deployment", "a", "--namespace=first"), /Deployment first\/a: is gone/],
    ])(
        "because it was %s by hand is red and says so, and a refresh puts it back",
        async (_, change, line) => {
            const servers = { a: { namespace: "first" } };
            change();
            const plain = await up("one", servers);
            expect(plain.status).not.toBe(0);
            expect(plain.output).toMatch(line);
            expect(plain.output).toMatch(/pulumi up --refresh/);
            ok(await serving(up("one", servers, "--refresh"), "first"));
            ok(await up("one", servers));
        },
        6 * MINUTE,
    );
});

describe("beside the first server", () => {
    beforeAll(() => initStack("two"), MINUTE);
    let uid: string;
    const untouched = () => {
        const found = deployment("first", "a");
        expect([found.metadata.uid, found.status.readyReplicas]).toEqual([uid, 1]);
    };

    test(
        "a second stack may share the namespace, and takes only its own with it",
        async () => {
            uid = deployment("first", "a").metadata.uid;
            ok(await serving(up("two", { b: { namespace: "first" } }), "first"));
            ok(await pulumi("destroy", "--yes", "--skip-preview", "--stack", "two"));
            untouched();
            expect(kubectl("get", "deployments", "--namespace=first", "--output=name").trim()).toBe("deployment.apps/a");
        },
        4 * MINUTE,
    );

    test(
        "a second stack with a server of the same name is refused, and its destroy touches nothing",
        async () => {
            const answer = await up("two", { a: { namespace: "first", maxNumSeqs: 7 } });
            expect(answer.status).not.toBe(0);
            expect(answer.output).toMatch(/ServiceAccount first\/a: belongs to another stack or component \(annotation ai\.vllm\.gh200\/owner\)/);
            ok(await pulumi("destroy", "--yes", "--skip-preview", "--stack", "two"));
            untouched();
        },
        4 * MINUTE,
    );

    test(
        "a second server of the same stack comes and goes",
        async () => {
            const first = { a: { namespace: "first" } };
            ok(await serving(up("one", { ...first, c: { namespace: "first", createNamespace: false } }), "first"));
            ok(await up("one", first));
            untouched();
        },
        4 * MINUTE,
    );
});

test(
    "a server moves to another namespace: the old pod goes before the new one comes, which waits for its GPU",
    async () => {
        const { output } = ok(await serving(up("one", { a: { namespace: "second", createNamespace: true } }), "first", "second"));
        const order = (what: RegExp) => output.search(what);
        expect(order(/Deployment a delet/)).toBeGreaterThan(-1);
        expect(order(/Deployment a delet/)).toBeLessThan(order(/Deployment a creat/));
    },
    5 * MINUTE,
);

test(
    "what is kept at destroy is kept: the models, and the namespace that they lie in",
    async () => {
        ok(await serving(up("one", { a: { namespace: "second", modelCacheGiB: 1 } }), "second"));
        const claim = () =>
            JSON.parse(kubectl("get", "pvc", "a-models", "--namespace=second", "--output=json")) as { metadata: { uid: string; deletionTimestamp?: string } };
        const { uid } = claim().metadata;
        ok(await pulumi("destroy", "--yes", "--skip-preview", "--stack", "one"));
        expect(kubectl("get", "deployments,secrets,services,serviceaccounts", "--namespace=second", "--output=name")).not.toMatch(/\/a(-pull)?$/m);
        expect(claim().metadata).toMatchObject({ uid });
        expect(claim().metadata).not.toHaveProperty("deletionTimestamp");
        // The same stack takes them up again.
        ok(await serving(up("one", { a: { namespace: "second", modelCacheGiB: 1 } }), "second"));
        expect(claim().metadata.uid).toBe(uid);
    },
    6 * MINUTE,
);
