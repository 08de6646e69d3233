import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { Problem } from "./report";

/** Where one sandbox keeps everything it owns. Several can exist side by side; nothing is shared between them but the tool cache. */
export interface Layout {
    readonly dir: string;
    /** Six hex digits of the folder's path: names what has to live outside the folder (cgroup, address, binfmt entry), so that it can be found without any record. */
    readonly id: string;
    readonly pki: string;
    readonly logs: string;
    readonly registry: string;
    readonly buildkit: string;
    readonly etcd: string;
    readonly node: string;
    readonly pulumi: string;
    readonly portsFile: string;
    readonly stateFile: string;
    readonly kubeconfig: string;
    readonly stackConfig: string;
}

export const CHECKOUT = path.resolve(__dirname, "..");

export function sandboxDirectory(flag: string | undefined): string {
    return path.resolve(flag ?? process.env.GH200_SANDBOX_DIR ?? path.join(CHECKOUT, ".sandbox"));
}

export function layoutOf(dir: string): Layout {
    const real = realpath(dir);
    return {
        dir: real,
        id: createHash("sha256").update(real).digest("hex").slice(0, 6),
        pki: path.join(real, "pki"),
        logs: path.join(real, "logs"),
        registry: path.join(real, "registry"),
        buildkit: path.join(real, "buildkit"),
        etcd: path.join(real, "etcd"),
        node: path.join(real, "node"),
        pulumi: path.join(real, "pulumi"),
        portsFile: path.join(real, "ports.json"),
        stateFile: path.join(real, "sandbox.json"),
        kubeconfig: path.join(real, "kubeconfig"),
        stackConfig: path.join(real, "Pulumi.sandbox.yaml"),
    };
}

/** The real path of a folder that may not exist yet: a symbolic link above it must not give the same sandbox two identities. */
function realpath(dir: string): string {
    let missing = "";
    for (let at = dir; ; at = path.dirname(at)) {
        try {
            return path.join(fs.realpathSync(at), missing);
        } catch {
            missing = path.join(path.basename(at), missing);
        }
    }
}

const MARKER = ".gh200-sandbox";
// OVERLAYFS_SUPER_MAGIC, linux/magic.h.
const OVERLAYFS = 0x794c7630;

export const isSandbox = (layout: Layout): boolean => fs.existsSync(path.join(layout.dir, MARKER));

/** Owner only: the folder holds private keys and the API server's data. `down` removes it whole, so it must be one of ours. */
export function createFolders(layout: Layout): void {
    if (!isSandbox(layout) && fs.existsSync(layout.dir) && fs.readdirSync(layout.dir).length > 0) {
        throw new Problem(`${layout.dir}: is not empty and not a sandbox; \`down\` would remove what is in it; name an empty or new folder with --dir`);
    }
    fs.mkdirSync(layout.dir, { recursive: true, mode: 0o700 });
    if (fs.statfsSync(layout.dir).type === OVERLAYFS) {
        throw new Problem(
            `${layout.dir}: is on overlayfs, on which no container can have its file system; accepted: a folder on a disk or a volume; name one with --dir`,
        );
    }
    fs.writeFileSync(path.join(layout.dir, MARKER), "");
    for (const dir of [layout.pki, layout.logs, layout.registry, layout.buildkit, layout.etcd, layout.node, layout.pulumi, path.join(layout.dir, "tmp")]) {
        fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    }
}

/** Written under another name first, so that a kill leaves the old file or the new one. Says whether the content changed. */
export function writeFile(file: string, content: string | Buffer, mode = 0o600): boolean {
    const bytes = Buffer.from(content as string);
    try {
        if (fs.readFileSync(file).equals(bytes)) {
            return false;
        }
    } catch {
        // Not there yet.
    }
    fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    const partial = `${file}.${process.pid}`;
    fs.writeFileSync(partial, bytes, { mode });
    fs.renameSync(partial, file);
    return true;
}

export function readJson<T>(file: string): T | undefined {
    try {
        return JSON.parse(fs.readFileSync(file, "utf8")) as T;
    } catch {
        return undefined;
    }
}
