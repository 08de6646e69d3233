import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { builtPath, cacheRoot } from "./cache";
import { type Entry, folderOf } from "./catalogue";
import { isAlive } from "./lock";
import { clock, Problem, progressIntervalMs, type Report } from "./report";

const LINES_OF_A_FAILURE = 15;

/** The same build on every machine: no setting of the user's own changes what comes out, and a missing checksum is refused. */
function goEnvironment(): NodeJS.ProcessEnv {
    const { GOOS, GOARCH, GOFLAGS, ...environment } = process.env;
    return { ...environment, GOFLAGS: "", GOWORK: "off", CGO_ENABLED: "0" };
}

export async function build(entry: Entry, position: string, report: Report): Promise<void> {
    const started = Date.now();
    const target = builtPath(entry);
    const label = `${entry.name} ${entry.version}${entry.standIn ? " (stand-in)" : ""}`;
    const folder = folderOf(entry);
    report(`building ${label} (${position})`);
    const tick = setInterval(() => report(`building ${label} (${position}), ${clock(Date.now() - started)}`, true), progressIntervalMs());
    const partial = path.join(cacheRoot(), "tools", `.partial-${process.pid}`);
    const log = path.join(cacheRoot(), "logs", `${entry.name}.log`);
    fs.mkdirSync(path.dirname(log), { recursive: true });
    fs.mkdirSync(partial, { recursive: true });
    removeDeadPartials(path.dirname(partial));
    try {
        const overlay = entry.embeds === undefined ? [] : ["-overlay", await writeOverlay(entry.embeds, folder, partial, log)];
        const flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", ["-s", "-w", ...entry.linkerFlags].join(" ")];
        await go(["build", ...flags, ...overlay, "-o", path.join(partial, entry.name), entry.package], folder, log, entry);
        fs.mkdirSync(path.dirname(target), { recursive: true });
        fs.renameSync(path.join(partial, entry.name), target);
    } finally {
        clearInterval(tick);
        fs.rmSync(partial, { recursive: true, force: true });
    }
    report(`built ${label} in ${clock(Date.now() - started)}`);
}

/** Files that go:embed takes from another module: laid over the folder, because a module's cache cannot be embedded from outside. */
async function writeOverlay(embeds: NonNullable<Entry["embeds"]>, folder: string, scratch: string, log: string): Promise<string> {
    const module = (await go(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", embeds.module], folder, log)).trim();
    if (module === "") {
        await go(["mod", "download", embeds.module], folder, log);
        return writeOverlay(embeds, folder, scratch, log);
    }
    const replaced = Object.entries(embeds.files).map(([name, source]): [string, string] => [path.join(folder, name), path.join(module, source)]);
    const file = path.join(scratch, "overlay.json");
    fs.writeFileSync(file, JSON.stringify({ Replace: Object.fromEntries(replaced) }));
    return file;
}

function go(args: string[], folder: string, log: string, entry?: Entry): Promise<string> {
    return new Promise((resolve, reject) => {
        const child = spawn("go", args, { cwd: folder, env: goEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
        const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
        process.once("SIGTERM", forward);
        let stdout = "";
        let stderr = "";
        child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
        child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
        child.on("error", (error: NodeJS.ErrnoException) => {
            reject(
                error.code === "ENOENT"
                    ? new Problem("go: not found on PATH; needed to build what cannot be downloaded; `npm run doctor` says which version")
                    : error,
            );
        });
        child.on("close", (code, signal) => {
            process.off("SIGTERM", forward);
            fs.writeFileSync(log, `go ${args.join(" ")}\n${stderr}${stdout}`);
            if (code === 0) {
                resolve(stdout);
                return;
            }
            const end = stderr.trimEnd().split("\n").slice(-LINES_OF_A_FAILURE).join("\n  ");
            const how = signal === null ? `go exited with ${code}` : `go was ended by ${signal}`;
            reject(
                new Problem(
                    `${entry?.name ?? args.join(" ")}: could not be built: ${how}; log ${log}; run the same command again after mending, finished parts are kept\n  ${end}`,
                ),
            );
        });
    });
}

function removeDeadPartials(folder: string): void {
    for (const name of fs.readdirSync(folder)) {
        const pid = /^\.partial-(\d+)$/.exec(name)?.[1];
        if (pid !== undefined && !isAlive(Number(pid))) {
            fs.rmSync(path.join(folder, name), { recursive: true, force: true });
        }
    }
}
