import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { Problem, type Report } from "./report";

/** What the sandbox takes from the operating system: small, everywhere packaged, and better tested there than built. */
interface SystemPackage {
    readonly name: string;
    readonly needed: string;
    /** Any of these shows that it is there, whichever package brought it. */
    readonly anyOf: readonly string[];
}

const systemPackages: readonly SystemPackage[] = [
    // An arm64 machine runs arm64 images itself.
    ...(process.arch === "arm64" ? [] : [{ name: "qemu-user-static", needed: "runs linux/arm64 build steps and pods", anyOf: ["qemu-aarch64-static"] }]),
    { name: "mmdebstrap", needed: "makes the stand-in base image", anyOf: ["mmdebstrap"] },
    { name: "arch-test", needed: "lets mmdebstrap see that arm64 programs run", anyOf: ["arch-test"] },
    { name: "runc", needed: "runs containers", anyOf: ["runc"] },
    { name: "containernetworking-plugins", needed: "connects pods", anyOf: ["/usr/lib/cni/host-local", "/opt/cni/bin/host-local"] },
];

const FOLDERS = [...(process.env.PATH ?? "").split(path.delimiter), "/usr/sbin", "/sbin"];

export function locateAny(names: readonly string[]): string | undefined {
    return names.flatMap((name) => (path.isAbsolute(name) ? [name] : FOLDERS.map((folder) => path.join(folder, name)))).find((file) => fs.existsSync(file));
}

export const packageStates = (): { package: SystemPackage; at: string | undefined }[] =>
    systemPackages.map((wanted) => ({ package: wanted, at: locateAny(wanted.anyOf) }));

export const missingPackages = (): string[] =>
    packageStates()
        .filter(({ at }) => at === undefined)
        .map((state) => state.package.name);

const isDebian = (): boolean => fs.existsSync("/etc/debian_version");

export function packageFix(names: readonly string[]): string {
    return isDebian() ? `sudo apt-get install -y ${names.join(" ")}` : `install ${names.join(", ")} with your package manager`;
}

export function installPackages(names: readonly string[], report: Report): void {
    if (!isDebian() || process.getuid?.() !== 0) {
        throw new Problem(`system packages: ${names.join(", ")}: missing; ${packageFix(names)}`);
    }
    report(`installing ${names.join(", ")}`);
    const apt = (...args: string[]): void => {
        const { status, stderr } = spawnSync("apt-get", ["-qq", ...args], { encoding: "utf8", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
        if (status !== 0) {
            throw new Problem(`apt-get ${args.join(" ")}: exited with ${status}\n  ${stderr.trim().split("\n").slice(-5).join("\n  ")}`);
        }
    };
    apt("update");
    apt("install", "-y", "--no-install-recommends", ...names);
}
