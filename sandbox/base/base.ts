import { spawn } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { Problem } from "../report";

/** The stand-in for the NGC PyTorch image: an OCI layout on disk, made once per recipe and kept in the cache. */
export interface Base {
    /** OCI image layout with one linux/arm64 image of one layer. */
    readonly layout: string;
    readonly digest: string;
    readonly recipeHash: string;
}

/** Files that say how the image is made; anything else in the folder (this program) is not part of the recipe. */
const RECIPE = ["build", "config.json", "cuda.txt", "customize", "debian", "debian.txt", "exclude.txt", "python-tools.txt", "root", "src", "torch"];

const NEEDED = [
    { command: "mmdebstrap", apt: "mmdebstrap arch-test" },
    { command: "unshare", apt: "util-linux" },
    { command: "gzip", apt: "gzip" },
];

const hex = (hash: Hash): string => hash.digest("hex");
const sha256 = (data: string | Buffer): string => hex(createHash("sha256").update(data));

/**
 * Finds or makes the stand-in base. Interrupted at any moment, the next call starts from the last finished step; the
 * result appears with one rename, so that a folder that exists is whole.
 */
export async function ensureBase(cacheDir: string, report: (line: string) => void): Promise<Base> {
    const recipeHash = hashOfRecipe(__dirname);
    const cache = path.join(cacheDir, "base");
    const layout = path.join(cache, recipeHash);
    if (!fs.existsSync(layout)) {
        fs.mkdirSync(cache, { recursive: true });
        removeLeftovers(cache);
        const work = path.join(cache, `work-${process.pid}`);
        fs.mkdirSync(work);
        await buildLayer(work, cache, report);
        const made = await assemble(work);
        try {
            fs.renameSync(made, layout);
        } catch (error) {
            // Another sandbox on this machine was faster; what it made is the same.
            if (!fs.existsSync(layout)) {
                throw error;
            }
        }
        fs.rmSync(work, { recursive: true, force: true });
    }
    const index = JSON.parse(fs.readFileSync(path.join(layout, "index.json"), "utf8")) as { manifests: { digest: string }[] };
    return { layout, digest: index.manifests[0]!.digest, recipeHash };
}

/** Names, contents and executable bits; never times, owners or a checkout's place. */
export function hashOfRecipe(folder: string): string {
    const hash = createHash("sha256");
    const add = (relative: string): void => {
        const full = path.join(folder, relative);
        const stat = fs.statSync(full);
        if (stat.isDirectory()) {
            for (const name of fs.readdirSync(full).sort()) {
                if (name !== "__pycache__") {
                    add(`${relative}/${name}`);
                }
            }
        } else {
            hash.update(`${relative}\0${(stat.mode & 0o100) !== 0 ? "x" : "-"}\0${sha256(fs.readFileSync(full))}\n`);
        }
    };
    RECIPE.forEach(add);
    return hex(hash).slice(0, 16);
}

/** Work folders whose process is gone. Their mounts went with their namespace, so that plain removal is safe. */
function removeLeftovers(cache: string): void {
    for (const name of fs.readdirSync(cache)) {
        const pid = /^work-(\d+)$/.exec(name)?.[1];
        if (pid !== undefined && (Number(pid) === process.pid || !fs.existsSync(`/proc/${pid}`))) {
            fs.rmSync(path.join(cache, name), { recursive: true, force: true });
        }
    }
}

async function buildLayer(work: string, cache: string, report: (line: string) => void): Promise<void> {
    if (process.getuid?.() !== 0) {
        throw new Problem("stand-in base image: not root; accepted: root, because a root file system with its owners is made; run it with sudo");
    }
    const missing = NEEDED.filter(({ command }) => !onPath(command));
    if (missing.length > 0) {
        throw new Problem(
            `stand-in base image: ${missing.map((m) => m.command).join(", ")}: not on PATH; apt-get install ${missing.map((m) => m.apt).join(" ")}`,
        );
    }
    const logFile = path.join(cache, "build.log");
    const log = fs.openSync(logFile, "w");
    // A mount and PID namespace of its own: whatever ends this process, no mount and no process stays behind.
    const command = [
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        path.join(__dirname, "build"),
        work,
        cache,
    ];
    const child = spawn("setpriv", command, { stdio: ["ignore", "pipe", log] });
    let rest = "";
    child.stdout?.on("data", (data: Buffer) => {
        const lines = (rest + data.toString()).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
            fs.writeSync(log, `${line}\n`);
            if (line.startsWith("step ")) {
                report(line.slice("step ".length));
            }
        }
    });
    const status = await new Promise<number | string>((resolve, reject) => {
        child.on("error", reject);
        child.on("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
    });
    fs.closeSync(log);
    if (status !== 0) {
        const tail = fs.readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-15).join("\n");
        throw new Problem(`stand-in base image: its build ended with ${status}; the log is ${logFile} and ends:\n${tail}`);
    }
}

function onPath(command: string): boolean {
    return (process.env.PATH ?? "").split(":").some((folder) => folder !== "" && fs.existsSync(path.join(folder, command)));
}

/** The layer and a config and manifest around it, as an OCI image layout. */
async function assemble(work: string): Promise<string> {
    const layout = path.join(work, "layout");
    const blobs = path.join(layout, "blobs", "sha256");
    fs.mkdirSync(blobs, { recursive: true });
    const blob = (mediaType: string, value: object): { mediaType: string; digest: string; size: number } => {
        const text = JSON.stringify(value);
        const digest = sha256(text);
        fs.writeFileSync(path.join(blobs, digest), text);
        return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
    };
    const layerFile = path.join(work, "layer.tar.gz");
    const layerHash = await hashOfFile(layerFile);
    const diffId = `sha256:${fs.readFileSync(path.join(work, "layer.tar.sha256"), "utf8").trim()}`;
    const layer = { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: `sha256:${layerHash}`, size: fs.statSync(layerFile).size };
    fs.renameSync(layerFile, path.join(blobs, layerHash));

    const given = JSON.parse(fs.readFileSync(path.join(__dirname, "config.json"), "utf8")) as object;
    const created = new Date(1795478400 * 1000).toISOString().replace(".000Z", "Z");
    const config = blob("application/vnd.oci.image.config.v1+json", {
        created,
        ...given,
        rootfs: { type: "layers", diff_ids: [diffId] },
        history: [{ created, created_by: "stand-in base" }],
    });
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const manifest = blob(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] });
    fs.writeFileSync(
        path.join(layout, "index.json"),
        JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, platform: { architecture: "arm64", os: "linux" } }] }),
    );
    fs.writeFileSync(path.join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    return layout;
}

async function hashOfFile(file: string): Promise<string> {
    const hash = createHash("sha256");
    for await (const chunk of fs.createReadStream(file)) {
        hash.update(chunk as Buffer);
    }
    return hex(hash);
}
