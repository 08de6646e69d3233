import * as fs from "node:fs";
import * as path from "node:path";
import { writeFile } from "./layout";
import { run } from "./processes";

/**
 * The container that holds a pod's namespaces runs a program that only waits. Kubernetes publishes one as an image;
 * this one is written out as machine code, because a builder, a C compiler or a download for nine bytes of program
 * would be more to go wrong.
 */
export const PAUSE_IMAGE = "sandbox.local/pause:1";

const MACHINES: Partial<Record<NodeJS.Architecture, { elf: number; code: number[] }>> = {
    x64: {
        elf: 62,
        // mov eax, 34 (pause); syscall; jmp back
        code: [0xb8, 0x22, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xeb, 0xf7],
    },
    arm64: {
        elf: 183,
        // mov x8, 73 (ppoll); mov x0..x3, 0; svc 0; b back
        code: [0xd2800928, 0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd4000001, 0x17fffffa].flatMap((word) => [
            word & 255,
            (word >> 8) & 255,
            (word >> 16) & 255,
            word >>> 24,
        ]),
    },
};

export function pauseProgram(arch: NodeJS.Architecture = process.arch): Buffer {
    const machine = MACHINES[arch];
    if (machine === undefined) {
        throw new Error(`no pause program for ${arch}`);
    }
    // elf(5): one header, one loadable segment that covers the file, and the wish for a stack that cannot be executed.
    const [base, headers] = [0x400000n, 176];
    const file = Buffer.alloc(headers + machine.code.length);
    file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    file.writeUInt16LE(2, 16); // executable
    file.writeUInt16LE(machine.elf, 18);
    file.writeUInt32LE(1, 20);
    file.writeBigUInt64LE(base + BigInt(headers), 24); // entry
    file.writeBigUInt64LE(64n, 32); // program headers follow
    file.writeUInt16LE(64, 52);
    file.writeUInt16LE(56, 54);
    file.writeUInt16LE(2, 56);
    file.writeUInt32LE(1, 64); // PT_LOAD
    file.writeUInt32LE(5, 68); // read, execute
    file.writeBigUInt64LE(base, 80);
    file.writeBigUInt64LE(base, 88);
    file.writeBigUInt64LE(BigInt(file.length), 96);
    file.writeBigUInt64LE(BigInt(file.length), 104);
    file.writeBigUInt64LE(0x1000n, 112);
    file.writeUInt32LE(0x6474e551, 120); // PT_GNU_STACK
    file.writeUInt32LE(6, 124); // read, write
    file.set(machine.code, headers);
    return file;
}

/** A `docker save` archive, which `ctr images import` takes. */
export async function pauseArchive(dir: string): Promise<string> {
    const archive = path.join(dir, "pause.tar");
    if (!fs.existsSync(archive)) {
        const [image, layer] = [path.join(dir, "pause-image"), path.join(dir, "pause-layer")];
        writeFile(path.join(layer, "pause"), pauseProgram(), 0o755);
        fs.mkdirSync(image, { recursive: true });
        const tar = (out: string, from: string) =>
            run("tar", ["--create", `--file=${out}`, "--sort=name", "--owner=0", "--group=0", "--mtime=@0", `--directory=${from}`, "."]);
        await tar(path.join(image, "layer.tar"), layer);
        const digest = (await run("sha256sum", [path.join(image, "layer.tar")])).split(" ")[0];
        writeFile(
            path.join(image, "config.json"),
            JSON.stringify({
                architecture: process.arch === "x64" ? "amd64" : process.arch,
                os: "linux",
                config: { Entrypoint: ["/pause"] },
                rootfs: { type: "layers", diff_ids: [`sha256:${digest}`] },
            }),
        );
        writeFile(path.join(image, "manifest.json"), JSON.stringify([{ Config: "config.json", RepoTags: [PAUSE_IMAGE], Layers: ["layer.tar"] }]));
        await tar(`${archive}.new`, image);
        fs.renameSync(`${archive}.new`, archive);
        fs.rmSync(image, { recursive: true });
        fs.rmSync(layer, { recursive: true });
    }
    return archive;
}
