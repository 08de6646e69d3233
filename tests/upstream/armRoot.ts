import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

export const checkout = path.resolve(__dirname, "../..");
const recipe = [
    "tests/upstream/root/make",
    "tests/upstream/root/unpack",
    "tests/upstream/root/git",
    "tests/upstream/root/ninja",
    "tests/upstream/root/torch.txt",
    "sandbox/base/cuda.txt",
    "sandbox/base/python-tools.txt",
];
const emulator = "/usr/bin/qemu-aarch64-static";
// ELF, 64 bit, little endian, EM_AARCH64; as sandbox/binfmt.ts registers it.
const magic = "\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00";
const mask = "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff";

/*
 * The kernel's table of emulators is the machine's, and newer kernels keep an entry only as long as the table is mounted somewhere:
 * each command mounts it where only it sees it, and registers the emulator if it is not.
 */
const table = "/proc/sys/fs/binfmt_misc";
const entry = `${table}/gh200-upstream-${process.pid}-aarch64`;
const mountTable = `[ -e ${table}/register ] || mount -t binfmt_misc binfmt_misc ${table}`;
const register = `[ -e ${entry} ] || echo ':${path.basename(entry)}:M::${magic}:${mask}:${emulator}:OCF' >${table}/register`;
const emulation = process.arch === "arm64" ? [] : [mountTable, register];

export interface Ended {
    status: number | null;
    /** Standard output and error together. */
    output: string;
}

/** A folder on this machine by the place at which a command in the root sees it, writable. */
export type Places = Record<string, string>;

/**
 * A Debian root for arm64 with the base image's nvcc and the real PyTorch, in which recipes run as on a
 * GH200, natively or under emulation. Made once per recipe and kept: about 7 GB, removed with `remove()`.
 */
export class ArmRoot {
    readonly folder: string;

    constructor() {
        const hash = createHash("sha256");
        recipe.forEach((file) => hash.update(fs.readFileSync(path.join(checkout, file))));
        this.folder = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), ".cache"), "gh200-vllm", `upstream-${hash.digest("hex").slice(0, 16)}`);
    }

    /** Finds or makes the root. */
    open(): void {
        if (process.getuid?.() !== 0) {
            throw new Error("tests/upstream: not root; accepted: root, because it makes and enters a root file system");
        }
        if (process.arch !== "arm64" && !fs.existsSync(emulator)) {
            throw new Error(`${emulator}: missing; apt-get install qemu-user-static`);
        }
        if (fs.existsSync(this.folder)) {
            return;
        }
        const debian = `${path.dirname(this.folder)}/upstream-debian.tar`;
        const part = `${this.folder}.part`;
        fs.rmSync(part, { recursive: true, force: true });
        const base = path.join(checkout, "sandbox", "base");
        const found = this.debianOfTheSandbox();
        for (const command of [
            ...(found === undefined ? [[path.join(base, "debian"), debian]] : []),
            [path.join(__dirname, "root", "make"), part, found ?? debian],
        ]) {
            const { status } = spawnSync("unshare", ["--mount", "/bin/sh", "-ec", [...emulation, 'exec "$@"'].join("\n"), "sh", ...command], {
                stdio: ["ignore", "inherit", "inherit"],
            });
            if (status !== 0) {
                throw new Error(`${command.join(" ")}: status ${status}`);
            }
        }
        fs.rmSync(debian, { force: true });
        fs.renameSync(part, this.folder);
    }

    /** Runs a command in the root, with an environment of its own. */
    run(command: string, env: Record<string, string> = {}, places: Places = {}): Ended {
        const inside = {
            PATH: "/opt/upstream:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            HOME: "/root",
            LC_ALL: "C.UTF-8",
            CUDA_HOME: "/usr/local/cuda",
            PIP_CONFIG_FILE: "/wheelhouse/pip.conf",
            PIP_BREAK_SYSTEM_PACKAGES: "1",
            PIP_NO_CACHE_DIR: "1",
            ...env,
        };
        const mounts = Object.entries(places).flatMap(([at, from]) => {
            const target = path.join(this.folder, at);
            const make = fs.statSync(from).isDirectory() ? `mkdir -p '${target}'` : `[ -f '${target}' ] || { rm -rf '${target}'; touch '${target}'; }`;
            return [make, `mount --bind '${from}' '${target}'`];
        });
        const script = [
            ...emulation,
            ...mounts,
            `mkdir -p '${this.folder}/dev' '${this.folder}/proc'`,
            `mount -t proc proc '${this.folder}/proc'`,
            `mount --bind /dev '${this.folder}/dev'`,
            `exec chroot '${this.folder}' /usr/bin/env -i ${Object.entries(inside)
                .map(([key, value]) => `'${key}=${value}'`)
                .join(" ")} /bin/bash -c "$1"`,
        ].join("\n");
        const { status, stdout } = spawnSync(
            "unshare",
            ["--mount", "--pid", "--fork", "--kill-child=KILL", "/bin/sh", "-euc", `exec 2>&1\n${script}`, "sh", command],
            {
                encoding: "utf8",
                maxBuffer: 2 ** 30,
            },
        );
        return { status, output: stdout };
    }

    /** Takes back what an older kernel keeps. */
    close(): void {
        spawnSync("unshare", ["--mount", "/bin/sh", "-ec", `${mountTable}; [ ! -e ${entry} ] || echo -1 >${entry}`], { stdio: "inherit" });
    }

    private debianOfTheSandbox(): string | undefined {
        const cache = path.join(path.dirname(this.folder), "base");
        const names = fs.existsSync(cache) ? fs.readdirSync(cache).filter((name) => /^debian-[0-9a-f]+\.tar$/.test(name)) : [];
        return names[0] === undefined ? undefined : path.join(cache, names[0]);
    }
}
