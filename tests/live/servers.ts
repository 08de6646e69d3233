import * as fs from "node:fs";
import * as path from "node:path";
import { expect } from "vitest";
import { LiveSandbox, type Machine } from "./liveSandbox";
import type { Answer } from "./programCopy";

/** Servers as the stack's configuration lists them, on a provider that has its kubeconfig as an input. */
const PROGRAM = `
import * as fs from "node:fs";
import { Provider } from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { VllmServer, type VllmServerArgs } from "./components/serving/vllmServer";

type Server = Partial<VllmServerArgs> & { formerly?: string };
const servers = new pulumi.Config("gh200-vllm").requireObject<Record<string, Server>>("servers");
const kubernetes = new Provider("cluster", { kubeconfig: fs.readFileSync(process.env.TEST_KUBECONFIG!, "utf8"), clusterIdentifier: "test" });
export = Object.fromEntries(
    Object.entries(servers).map(([name, { formerly, ...args }]) => [
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
            { providers: { kubernetes }, aliases: formerly === undefined ? [] : [{ name: formerly }] },
        ).endpoint,
    ]),
);
`;

export type Servers = Record<string, Record<string, unknown>>;

/**
 * Servers of several stacks beside each other, each a small program of its own, on the real engine, Kubernetes provider, API server and
 * controllers. No node takes their pods: whoever tests decides when one is ready, as a kubelet would say it.
 */
export class LiveServers {
    private constructor(
        readonly sandbox: LiveSandbox,
        readonly machine: Machine,
    ) {}

    static async start(): Promise<LiveServers> {
        const sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
        sandbox.start();
        const machine = await sandbox.machine();
        machine.program.edit("index.ts", () => PROGRAM);
        // The ambient cluster is none: whoever asks it, and not the provider's, is answered by nobody.
        fs.writeFileSync(path.join(machine.home, "nowhere"), "apiVersion: v1\nkind: Config\n");
        return new LiveServers(sandbox, machine);
    }

    /** A sandbox that was given is left as it is. */
    end(): void {
        process.env.GH200_TEST_SANDBOX === undefined ? this.sandbox.down() : this.sandbox.forget();
    }

    /** What this person's shell has besides: another backend, another passphrase. */
    readonly shell: NodeJS.ProcessEnv = {};

    private get env(): NodeJS.ProcessEnv {
        return { KUBECONFIG: path.join(this.machine.home, "nowhere"), TEST_KUBECONFIG: path.join(this.sandbox.folder, "kubeconfig"), ...this.shell };
    }

    pulumi(...args: string[]): Promise<Answer> {
        return this.machine.program.pulumi(args, this.env);
    }

    /** A command that reads one line from its standard input. */
    answering(line: string, ...args: string[]): Promise<Answer> {
        return this.machine.program.pulumi(args, this.env, `${line}\n`);
    }

    /** An update that is to be killed. */
    startUp(stack: string): ReturnType<Machine["startUp"]> {
        return this.machine.program.start(["up", "--yes", "--skip-preview", "--stack", stack], this.env);
    }

    up(stack: string, servers: Servers, ...args: string[]): Promise<Answer> {
        this.configure(stack, servers);
        return this.pulumi("up", "--yes", "--skip-preview", "--stack", stack, ...args);
    }

    async init(stack: string): Promise<void> {
        ok(await this.pulumi("stack", "init", stack));
    }

    /** The salt stays, with which the stack's state is encrypted. */
    configure(stack: string, servers: Servers): void {
        const file = path.join(this.machine.program.folder, `Pulumi.${stack}.yaml`);
        const salt = fs.existsSync(file) ? (/^encryptionsalt: .*$/m.exec(fs.readFileSync(file, "utf8"))?.[0] ?? "") : "";
        fs.writeFileSync(file, `${salt}\nconfig:\n  gh200-vllm:servers: ${JSON.stringify(servers)}\n`);
    }

    kubectl(...args: string[]): string {
        return this.sandbox.kubectl(...args);
    }

    object<T>(kind: string, name: string, namespace: string): T {
        return JSON.parse(this.kubectl("get", kind, name, `--namespace=${namespace}`, "--output=json")) as T;
    }

    deployment(namespace: string, name: string) {
        return this.object<{ metadata: { uid: string }; status: { readyReplicas?: number } }>("deployment", name, namespace);
    }

    /** While `work` lasts, every pod of these namespaces becomes ready, as a kubelet would say it. */
    async serving<T>(work: Promise<T>, ...namespaces: string[]): Promise<T> {
        return this.meanwhile(work, () => {
            const ready = [{ type: "Ready", status: "True", lastTransitionTime: new Date().toISOString().replace(/\.\d+/, "") }];
            for (const namespace of namespaces) {
                for (const name of this.kubectl("get", "pods", `--namespace=${namespace}`, "--output=name").split("\n").filter(Boolean)) {
                    this.patchStatus(name, namespace, { phase: "Running", conditions: ready });
                }
            }
        });
    }

    async meanwhile<T>(work: Promise<T>, step: () => void): Promise<T> {
        let over = false;
        const finished = work.finally(() => (over = true));
        while (!over) {
            step();
            await new Promise((done) => setTimeout(done, 500));
        }
        return finished;
    }

    /** An object may be gone meanwhile. */
    patchStatus(name: string, namespace: string, status: object): void {
        try {
            this.kubectl("patch", name, `--namespace=${namespace}`, "--subresource=status", "--type=merge", "--patch", JSON.stringify({ status }));
        } catch (error) {
            expect(String(error)).toContain("NotFound");
        }
    }
}

export function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}
