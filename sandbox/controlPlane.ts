import { generateKeyPairSync } from "node:crypto";
import * as fs from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import * as path from "node:path";
import { Api } from "./api";
import { httpHealth } from "./health";
import { type Layout, writeFile } from "./layout";
import { findNamespace } from "./namespace";
import { type Certificate, ensureAuthority, ensureCertificate } from "./pki";
import { portOf } from "./ports";
import type { Daemon } from "./processes";

export interface ControlPlane {
    readonly port: number;
    readonly admin: Certificate;
    readonly etcd: Daemon;
    readonly apiServer: Daemon;
    /** Both need the API server, and nothing needs them before the first pod. */
    readonly controllers: readonly Daemon[];
}

// Sockets in the namespace's own /run: etcd knows no users, and is reached by nobody but the API server.
const ETCD = "/run/sandbox/etcd.sock";
const ETCD_PEER = "/run/sandbox/etcd-peer.sock";
const SERVICES = "10.96.0.0/16";

/** A control plane as kubeadm would set it up (RBAC, node restriction, a certificate for every user), on loopback and without leader election, as there is one of each. */
export async function prepareControlPlane(layout: Layout, binaries: { etcd: string; kubernetes: string }, address: string): Promise<ControlPlane> {
    const port = await portOf(layout, "kube-apiserver");
    const ca = await ensureAuthority(layout, "kubernetes");
    const issue = (name: string, usage: "server" | "client", commonName: string, more: { organization?: string; names?: string[] } = {}) =>
        ensureCertificate(layout, { authority: "kubernetes", name, usage, commonName, ...more });
    const server = await issue("kube-apiserver", "server", "kube-apiserver", {
        names: ["DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1", "IP:10.96.0.1"],
    });
    const toKubelet = await issue("kube-apiserver-kubelet-client", "client", "kube-apiserver-kubelet-client", { organization: "system:masters" });
    const admin = await issue("admin", "client", "gh200-sandbox-admin", { organization: "system:masters" });
    const controllerManager = await issue("kube-controller-manager", "client", "system:kube-controller-manager");
    const scheduler = await issue("kube-scheduler", "client", "system:kube-scheduler");
    const tokens = serviceAccountKey(layout);
    writeFile(layout.kubeconfig, kubeconfig(port, admin));

    const kube = (name: string, ...args: string[]): string[] => [binaries.kubernetes, name, ...args];
    const controller = async (name: "kube-controller-manager" | "kube-scheduler", client: Certificate, ...args: string[]): Promise<Daemon> => {
        const securePort = await portOf(layout, name);
        const config = path.join(layout.dir, "control-plane", `${name}.kubeconfig`);
        writeFile(config, kubeconfig(port, client));
        return {
            name,
            command: kube(name, `--kubeconfig=${config}`, "--leader-elect=false", "--bind-address=127.0.0.1", `--secure-port=${securePort}`, ...args),
            files: [config, client.cert],
            // It serves with a certificate that it makes for itself at every start; all that is asked is whether it is well.
            probe: () => httpHealth(https, { host: "127.0.0.1", port: securePort, path: "/healthz", rejectUnauthorized: false }),
            timeoutSeconds: 60,
        };
    };

    return {
        port,
        admin,
        etcd: {
            name: "etcd",
            command: [
                binaries.etcd,
                "--name=sandbox",
                `--data-dir=${path.join(layout.etcd, "data")}`,
                `--listen-client-urls=unix://${ETCD}`,
                `--advertise-client-urls=unix://${ETCD}`,
                `--listen-peer-urls=unix://${ETCD_PEER}`,
                `--initial-advertise-peer-urls=unix://${ETCD_PEER}`,
                `--initial-cluster=sandbox=unix://${ETCD_PEER}`,
                "--logger=zap",
                "--log-level=warn",
            ],
            probe: () => httpHealth(http, { socketPath: `${findNamespace(layout)?.root ?? ""}${ETCD}`, path: "/health" }),
            timeoutSeconds: 30,
        },
        apiServer: {
            name: "kube-apiserver",
            command: kube(
                "kube-apiserver",
                `--etcd-servers=unix://${ETCD}`,
                "--bind-address=127.0.0.1",
                `--secure-port=${port}`,
                // Left out, a machine without a default route has none; nobody is told, as pods here do not call the API server.
                `--advertise-address=${address}`,
                "--endpoint-reconciler-type=none",
                `--tls-cert-file=${server.cert}`,
                `--tls-private-key-file=${server.key}`,
                `--client-ca-file=${ca}`,
                "--anonymous-auth=false",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                `--kubelet-certificate-authority=${ca}`,
                `--kubelet-client-certificate=${toKubelet.cert}`,
                `--kubelet-client-key=${toKubelet.key}`,
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc",
                `--service-account-key-file=${tokens.publicKey}`,
                `--service-account-signing-key-file=${tokens.privateKey}`,
                `--service-cluster-ip-range=${SERVICES}`,
                "--allow-privileged=true",
                "--profiling=false",
            ),
            files: [server.cert, toKubelet.cert, ca],
            probe: async () => {
                const api = new Api(port, admin);
                await api.text("/readyz").finally(() => api.close());
            },
            timeoutSeconds: 60,
        },
        controllers: [
            await controller(
                "kube-controller-manager",
                controllerManager,
                "--use-service-account-credentials=true",
                `--service-account-private-key-file=${tokens.privateKey}`,
                `--root-ca-file=${ca}`,
                // Its default is a folder in /usr, which it creates.
                `--flex-volume-plugin-dir=${path.join(layout.dir, "control-plane", "volume-plugins")}`,
                "--profiling=false",
            ),
            await controller("kube-scheduler", scheduler, "--profiling=false"),
        ],
    };
}

/** JSON is YAML. The certificates are inside, so that the file works from anywhere. */
export function kubeconfig(port: number, client: Certificate): string {
    const data = (file: string): string => fs.readFileSync(file).toString("base64");
    const name = "gh200-sandbox";
    return `${JSON.stringify(
        {
            apiVersion: "v1",
            kind: "Config",
            clusters: [{ name, cluster: { server: `https://127.0.0.1:${port}`, "certificate-authority-data": data(client.ca) } }],
            users: [{ name, user: { "client-certificate-data": data(client.cert), "client-key-data": data(client.key) } }],
            contexts: [{ name, context: { cluster: name, user: name } }],
            "current-context": name,
        },
        null,
        2,
    )}\n`;
}

function serviceAccountKey(layout: Layout): { publicKey: string; privateKey: string } {
    const [publicKey, privateKey] = [path.join(layout.pki, "service-account.pub"), path.join(layout.pki, "service-account.key")];
    if (!fs.existsSync(publicKey) || !fs.existsSync(privateKey)) {
        const pair = generateKeyPairSync("ec", {
            namedCurve: "P-256",
            publicKeyEncoding: { type: "spki", format: "pem" },
            privateKeyEncoding: { type: "sec1", format: "pem" },
        });
        writeFile(privateKey, pair.privateKey);
        writeFile(publicKey, pair.publicKey);
    }
    return { publicKey, privateKey };
}
