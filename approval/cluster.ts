import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

interface ClusterEntry {
    server?: string;
    "certificate-authority"?: string;
    "certificate-authority-data"?: string;
    "insecure-skip-tls-verify"?: boolean;
}

/** What Kubernetes documents of a kubeconfig, as far as it says which cluster is meant (kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig). */
interface KubeConfig {
    "current-context"?: string;
    contexts?: { name: string; context?: { cluster?: string } }[];
    clusters?: { name: string; cluster?: ClusterEntry }[];
}

/**
 * The cluster that an update deploys to, by what it proves itself with: the fingerprint of its certificate authority, which is one cluster's
 * own. Nobody is asked, so that a preview says the same.
 *
 * @param kubeconfig text or path; the ambient one where undefined.
 */
export async function clusterIdentity(kubeconfig: string | undefined, context: string | undefined, env: NodeJS.ProcessEnv): Promise<string> {
    // A tenth of the time that a preview's own modules take to load, and only where somebody signs it.
    const { parse } = await import("yaml");
    const found = (kubeconfig === undefined ? ambient(env) : [kubeconfig]).flatMap((source) => readConfig(source, parse) ?? []);
    if (found.length === 0) {
        return "none";
    }
    const named = context ?? found.map(({ config }) => config["current-context"]).find((name) => name !== undefined && name !== "");
    const cluster = found.flatMap(({ config }) => config.contexts ?? []).find(({ name }) => name === named)?.context?.cluster;
    const entries = found.flatMap(({ config, folder }) => (config.clusters ?? []).map((entry) => ({ ...entry, folder })));
    const entry = entries.find(({ name }) => name === cluster);
    return entry === undefined ? `none: no context ${named ?? ""}`.trim() : identityOf(entry.cluster ?? {}, entry.folder);
}

function identityOf(cluster: ClusterEntry, folder: string): string {
    const server = (cluster.server ?? "").replace(/\/\/[^/@]*@/, "//");
    if (cluster["insecure-skip-tls-verify"] === true || !server.startsWith("https:")) {
        return `whoever answers at ${server}`;
    }
    const { "certificate-authority-data": data, "certificate-authority": file } = cluster;
    const authority = data !== undefined ? Buffer.from(data, "base64").toString() : file !== undefined ? readText(path.resolve(folder, file)) : undefined;
    return authority === undefined ? `${server}, by a public authority` : `certificate authority ${fingerprint(authority)}`;
}

/** SHA-256 over the certificates, as `openssl x509 -fingerprint -sha256` has it of one. */
function fingerprint(pem: string): string {
    const certificates = [...pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g)];
    const hashes = certificates.map(([, base64 = ""]) => createHash("sha256").update(Buffer.from(base64, "base64")).digest("hex"));
    return hashes.length === 0
        ? "none"
        : [...new Set(hashes)]
              .sort()
              .map((hash) => `sha256:${hash}`)
              .join(", ");
}

interface Found {
    config: KubeConfig;
    /** What paths in it are relative to. */
    folder: string;
}

/** As client-go merges them: the first file that has a name counts. */
function ambient(env: NodeJS.ProcessEnv): string[] {
    const listed = (env.KUBECONFIG ?? "").split(path.delimiter).filter(Boolean);
    return (listed.length > 0 ? listed : [path.join(env.HOME ?? os.homedir(), ".kube", "config")]).filter((file) => fs.existsSync(file));
}

function readConfig(textOrPath: string, parse: (text: string) => unknown): Found | undefined {
    const file = textOrPath.replace(/^~(?=$|\/)/, os.homedir());
    const isPath = !textOrPath.includes("\n") && fs.existsSync(file);
    try {
        const config = parse(isPath ? fs.readFileSync(file, "utf8") : textOrPath);
        return typeof config === "object" && config !== null ? { config, folder: isPath ? path.dirname(file) : process.cwd() } : undefined;
    } catch {
        return undefined;
    }
}

function readText(file: string): string {
    return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
}
