import * as fs from "node:fs";
import type { Layout } from "./layout";
import type { Namespace } from "./namespace";
import { run } from "./processes";
import { Problem } from "./report";

/**
 * Registers qemu user emulation for arm64 programs with the kernel. The kernel has one such table for the whole machine,
 * and asks the newest entry first, so each sandbox makes an entry of its own name and removes just that one.
 */
const EMULATOR = "/usr/bin/qemu-aarch64-static";

// ELF, 64 bit, little endian, executable or shared object, EM_AARCH64 (183); from qemu's scripts/qemu-binfmt-conf.sh.
const MAGIC = "\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00";
const MASK = "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff";

const entryOf = (layout: Layout): string => `gh200-${layout.id}-aarch64`;

export function ensureEmulation(layout: Layout, namespace: Namespace): "native" | "registered" {
    if (process.arch === "arm64") {
        return "native";
    }
    const table = `${namespace.root}/proc/sys/fs/binfmt_misc`;
    const entry = `${table}/${entryOf(layout)}`;
    if (!fs.existsSync(entry)) {
        if (!fs.existsSync(EMULATOR)) {
            throw new Problem(`${EMULATOR}: missing; the sandbox builds and runs linux/arm64; apt-get install qemu-user-static`);
        }
        // F opens the emulator now, so that it is there inside containers; O and C run the program with its own descriptor and rights.
        fs.writeFileSync(`${table}/register`, `:${entryOf(layout)}:M::${MAGIC}:${MASK}:${EMULATOR}:OCF`);
    }
    return "registered";
}

/** The table is the kernel's: a mount of it that only this command sees is enough, with or without a namespace of the sandbox. */
export async function removeEmulation(layout: Layout): Promise<void> {
    const table = "/proc/sys/fs/binfmt_misc";
    await run("unshare", [
        "--mount",
        "/bin/sh",
        "-ec",
        `[ -e ${table}/register ] || mount -t binfmt_misc binfmt_misc ${table}; [ ! -e ${table}/${entryOf(layout)} ] || echo -1 > ${table}/${entryOf(layout)}`,
    ]);
}
