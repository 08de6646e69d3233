import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as http from "node:http";
import * as os from "node:os";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Api } from "./api";
import { CHECKOUT, layoutOf, readJson } from "./layout";

// A pod as the program makes one, of the stand-in base image: what Kubernetes promises about it is tried on the real node.
const MINUTE = 60_000;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-node-test-"));
const layout = layoutOf(path.join(folder, "sandbox"));

const PROGRAM = `
import http.server, os, platform
def written(path):
    try:
        open(path, "w").close()
        return "writable"
    except OSError as error:
        return error.strerror
print(f"machine={platform.machine()} uid={os.getuid()} gid={os.getgid()} root={written('/x')} tmp={written('/tmp/x')}", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/eat":
            self.server.held = b"x" * (512 << 20)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
`;

interface Pod {
    metadata: { name: string; uid: string };
    spec: { nodeName?: string };
    status: {
        podIP?: string;
        conditions?: { type: string; status: string; message?: string }[];
        containerStatuses?: { restartCount: number; lastState: { terminated?: { reason: string; exitCode: number } }; state: object }[];
    };
}

async function sandbox(...args: string[]): Promise<void> {
    const child = spawn(path.join(CHECKOUT, "node_modules", ".bin", "tsx"), ["sandbox/main.ts", ...args, "--dir", layout.dir], {
        cwd: CHECKOUT,
        stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (data: Buffer) => (output += data.toString()));
    child.stderr.on("data", (data: Buffer) => (output += data.toString()));
    const status = await new Promise((resolve) => child.once("close", resolve));
    expect(status, output).toBe(0);
}

function connect(): Api {
    const pki = (name: string): string => path.join(layout.pki, name);
    return new Api(readJson<Record<string, number>>(layout.portsFile)!["kube-apiserver"]!, {
        ca: pki("kubernetes-ca.crt"),
        cert: pki("admin.crt"),
        key: pki("admin.key"),
    });
}

function pods(api: Api): Promise<Pod[]> {
    return api.get<{ items: Pod[] }>("/api/v1/namespaces/default/pods").then(({ items }) => items);
}

async function eventually<T>(what: string, limit: number, find: () => Promise<T | undefined>): Promise<T> {
    for (const deadline = Date.now() + limit; Date.now() < deadline; await sleep(200)) {
        const found = await find();
        if (found !== undefined) {
            return found;
        }
    }
    throw new Error(`${what}: not within ${limit / 1000} s`);
}

const isReady = (pod: Pod): boolean => pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
const ready = (api: Api): Promise<Pod> => eventually("a pod that is Ready", MINUTE, async () => (await pods(api)).find(isReady));

function ask(address: string, at: string): Promise<string> {
    return new Promise((resolve, reject) => {
        http.get({ host: address, port: 8000, path: at, agent: false }, (response) => {
            let text = "";
            response.on("data", (data: Buffer) => (text += data.toString())).once("end", () => resolve(text));
        }).once("error", reject);
    });
}

function deployment(image: string, gpuProduct = "NVIDIA-GH200-480GB"): object {
    const labels = { app: "probe" };
    const resources = { cpu: "500m", memory: "256Mi", "nvidia.com/gpu": "1" };
    return {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "probe" },
        spec: {
            replicas: 1,
            strategy: { type: "Recreate" },
            selector: { matchLabels: labels },
            template: {
                metadata: { labels },
                spec: {
                    runtimeClassName: "nvidia",
                    automountServiceAccountToken: false,
                    imagePullSecrets: [{ name: "pull" }],
                    nodeSelector: { "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": gpuProduct },
                    tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
                    terminationGracePeriodSeconds: 1,
                    securityContext: { runAsNonRoot: true, runAsUser: 2000, runAsGroup: 0, seccompProfile: { type: "RuntimeDefault" } },
                    containers: [
                        {
                            name: "probe",
                            image,
                            command: ["python3", "-c", PROGRAM],
                            resources: { requests: resources, limits: resources },
                            readinessProbe: { httpGet: { path: "/", port: 8000 }, periodSeconds: 1, timeoutSeconds: 5 },
                            securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
                            volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
                        },
                    ],
                    volumes: [{ name: "tmp", emptyDir: {} }],
                },
            },
        },
    };
}

describe("the real node", () => {
    let api: Api;
    let image: string;

    beforeAll(async () => {
        await sandbox("up", "--no-up");
        api = connect();
        const { registry, base } = readJson<{ registry: { address: string; username: string; passwordFile: string }; base: { image: string } }>(
            layout.stateFile,
        )!;
        image = base.image;
        const auth = Buffer.from(`${registry.username}:${fs.readFileSync(registry.passwordFile, "utf8")}`).toString("base64");
        await api.apply("/api/v1/namespaces/default/secrets/pull", {
            apiVersion: "v1",
            kind: "Secret",
            metadata: { name: "pull" },
            type: "kubernetes.io/dockerconfigjson",
            stringData: { ".dockerconfigjson": JSON.stringify({ auths: { [registry.address]: { auth } } }) },
        });
        await api.apply("/apis/apps/v1/namespaces/default/deployments/probe", deployment(image));
    }, 30 * MINUTE);

    afterAll(async () => {
        api?.close();
        await sandbox("down");
        fs.rmSync(folder, { recursive: true, force: true });
    }, MINUTE);

    test(
        "an arm64 image runs as a restricted user and is reached from the host",
        async () => {
            const pod = await ready(api);
            expect(pod.spec.nodeName).toBe("gh200-sandbox");
            expect(await ask(pod.status.podIP!, "/")).toBe("ok");
            expect(await api.text(`/api/v1/namespaces/default/pods/${pod.metadata.name}/log`)).toBe(
                "machine=aarch64 uid=2000 gid=0 root=Read-only file system tmp=writable\n",
            );
        },
        2 * MINUTE,
    );

    test(
        "the GPU is counted: a second pod that wants it waits",
        async () => {
            await api.patch("/apis/apps/v1/namespaces/default/deployments/probe/scale", { spec: { replicas: 2 } });
            const waiting = await eventually("a pod that cannot be scheduled", 20_000, async () =>
                (await pods(api)).find(({ status }) =>
                    status.conditions?.some(({ type, message }) => type === "PodScheduled" && message?.includes("Insufficient nvidia.com/gpu")),
                ),
            );
            await api.patch("/apis/apps/v1/namespaces/default/deployments/probe/scale", { spec: { replicas: 1 } });
            await eventually("it is gone", 20_000, async () =>
                (await pods(api)).some(({ metadata }) => metadata.uid === waiting.metadata.uid) ? undefined : true,
            );
        },
        MINUTE,
    );

    test(
        "past its memory limit it is killed, told so, and started again",
        async () => {
            const pod = await ready(api);
            await ask(pod.status.podIP!, "/eat").catch(() => undefined);
            const status = await eventually("an end that is told", 30_000, async () =>
                (await pods(api))[0]?.status.containerStatuses?.find(({ restartCount }) => restartCount > 0),
            );
            expect(status.lastState.terminated).toMatchObject({ reason: "OOMKilled", exitCode: 137 });
            await ready(api);
        },
        2 * MINUTE,
    );

    test(
        "a kubelet that was killed comes back with the pod still running and the node still a GH200",
        async () => {
            const was = await ready(api);
            process.kill(readJson<{ processes: Record<string, { pid: number }> }>(layout.stateFile)!.processes.kubelet!.pid, "SIGKILL");
            await sandbox("up", "--no-up");
            const now = await ready(api);
            expect(now.metadata.uid).toBe(was.metadata.uid);
            expect(now.status.containerStatuses?.[0]?.restartCount).toBe(was.status.containerStatuses?.[0]?.restartCount);
            const node = await api.get<{ metadata: { labels: Record<string, string> }; status: { allocatable: Record<string, string> } }>(
                "/api/v1/nodes/gh200-sandbox",
            );
            expect(node.metadata.labels).toMatchObject({ "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": "NVIDIA-GH200-480GB" });
            expect(node.status.allocatable["nvidia.com/gpu"]).toBe("1");
        },
        2 * MINUTE,
    );

    test(
        "after a kill of everything the pod serves again",
        async () => {
            process.kill(readJson<{ namespace: { pid: number } }>(layout.stateFile)!.namespace.pid, "SIGKILL");
            await sandbox("up", "--no-up");
            await eventually("an answer", MINUTE, async () => {
                const pod = (await pods(api)).find(isReady);
                return pod === undefined ? undefined : ask(pod.status.podIP!, "/").catch(() => undefined);
            });
        },
        10 * MINUTE,
    );

    test(
        "simulated nodes take only pods that ask for them",
        async () => {
            await sandbox("up", "--no-up", "--simulated-nodes", "2");
            const nodes = await api.get<{ items: { metadata: { name: string }; status: { allocatable: Record<string, string> } }[] }>("/api/v1/nodes");
            expect(nodes.items.map(({ metadata }) => metadata.name)).toEqual(["gh200-sandbox", "gh200-simulated-0", "gh200-simulated-1"]);
            const job = (name: string, tolerations: object[]): object => ({
                apiVersion: "v1",
                kind: "Pod",
                metadata: { name },
                spec: {
                    nodeSelector: { "nvidia.com/gpu.product": "NVIDIA-GH200-480GB" },
                    tolerations: [{ key: "nvidia.com/gpu", operator: "Exists" }, ...tolerations],
                    containers: [{ name: "c", image, resources: { limits: { memory: "400Gi", "nvidia.com/gpu": "1" } } }],
                },
            });
            await api.post("/api/v1/namespaces/default/pods", job("asks", [{ key: "gh200-sandbox/simulated", operator: "Exists" }]));
            await api.post("/api/v1/namespaces/default/pods", job("does-not", []));
            await eventually("a simulated pod that runs", 20_000, async () => (await pods(api)).find((pod) => pod.metadata.name === "asks" && isReady(pod)));
            expect((await pods(api)).find(({ metadata }) => metadata.name === "does-not")?.spec.nodeName).toBeUndefined();
            await sandbox("up", "--no-up", "--simulated-nodes", "0");
            expect((await api.get<{ items: unknown[] }>("/api/v1/nodes")).items).toHaveLength(1);
        },
        2 * MINUTE,
    );
});
