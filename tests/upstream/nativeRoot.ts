import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { checkout, type Ended, type Places } from "./armRoot";

const packages = path.join(__dirname, "native.txt");
const compiler = path.join(checkout, "sandbox/base/cuda.txt");

/**
 * This machine's root, as a layer above it that is gone after each command, with the real PyTorch and the base image's
 * nvcc for this machine: recipes run in it at full speed, and leave nothing. Made once per recipe and kept: about 6 GB.
 */
export class NativeRoot {
    readonly folder: string;

    constructor() {
        const hash = createHash("sha256");
        [packages, compiler].forEach((file) => hash.update(fs.readFileSync(file)));
        this.folder = path.join(
            process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), ".cache"),
            "gh200-vllm",
            `upstream-native-${hash.digest("hex").slice(0, 16)}`,
        );
    }

    /** Finds or makes what is laid over the root. */
    open(): void {
        if (process.getuid?.() !== 0) {
            throw new Error("tests/upstream: not root; accepted: root, because it mounts a root file system of its own");
        }
        if (spawnSync("ccache", ["--version"]).status !== 0) {
            throw new Error("ccache: missing; apt-get install ccache");
        }
        const whole = path.join(this.folder, ".whole");
        if (fs.existsSync(whole)) {
            return;
        }
        fs.rmSync(this.folder, { recursive: true, force: true });
        const cuda = path.join(this.folder, "cuda");
        // The hashes there are the other machine's.
        const versions = fs.readFileSync(compiler, "utf8").match(/^nvidia[^ ]*/gm)!;
        const pip = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--only-binary", ":all:"];
        const site = path.join(this.folder, "venv/lib/python*/site-packages/nvidia/cu13/include");
        for (const [command, ...args] of [
            ["python3", "-m", "venv", path.join(this.folder, "venv")],
            [path.join(this.folder, "venv/bin/pip"), "install", ...pip, "--requirement", packages],
            [path.join(this.folder, "venv/bin/pip"), "install", ...pip, "--no-deps", "--target", cuda, ...versions],
            // The toolkit's mathematical libraries, as PyTorch's wheels have them; the compiler and its headers stay the base's own.
            ["sh", "-c", `cp -an ${site}/. ${cuda}/nvidia/cu13/include/`],
        ] as [string, ...string[]][]) {
            const { status } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });
            if (status !== 0) {
                throw new Error(`${command} ${args.join(" ")}: status ${status}`);
            }
        }
        fs.symlinkSync("libcudart.so.13", path.join(cuda, "nvidia/cu13/lib/libcudart.so"));
        fs.symlinkSync("lib", path.join(cuda, "nvidia/cu13/lib64"));
        fs.writeFileSync(whole, "");
    }

    /** Runs a command in it. Folders of `places` are this machine's, writable; all else that is written is gone. */
    run(command: string, env: Record<string, string> = {}, places: Places = {}): Ended {
        const bound = { ...places, [this.folder]: this.folder, "/usr/local/cuda": path.join(this.folder, "cuda/nvidia/cu13"), "/dev": "/dev" };
        const mounts = Object.entries(bound).flatMap(([at, from]) => [
            fs.statSync(from).isDirectory() ? `mkdir -p "/mnt/all${at}"` : `mkdir -p "/mnt/all${path.dirname(at)}" && touch "/mnt/all${at}"`,
            `mount --bind '${from}' "/mnt/all${at}"`,
        ]);
        const inside = {
            PATH: `${this.folder}/venv/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin`,
            HOME: "/tmp",
            CUDA_HOME: "/usr/local/cuda",
            ...env,
        };
        const assignments = Object.entries(inside).map(([key, value]) => `'${key}=${value}'`);
        const script = [
            "exec 2>&1",
            "mount -t tmpfs tmpfs /mnt",
            "mkdir /mnt/changes /mnt/work /mnt/all",
            "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work /mnt/all",
            ...mounts,
            "mount -t proc proc /mnt/all/proc",
            `exec chroot /mnt/all /usr/bin/env -i ${assignments.join(" ")} /bin/bash --norc -c "$1"`,
        ].join("\n");
        const { status, stdout } = spawnSync("unshare", ["--mount", "--pid", "--fork", "--kill-child=KILL", "/bin/sh", "-euc", script, "sh", command], {
            encoding: "utf8",
            maxBuffer: 2 ** 28,
        });
        return { status, output: stdout };
    }
}
