import * as fs from "node:fs";
import * as path from "node:path";
import { assetsFolder } from "../internal/assets";
import { type Installed, knownHoleLines, lockedPackages } from "../rules/advisories";
import { dockerfileFacts } from "../rules/dockerfile";
import type { SettledPlatform } from "./cmmPlatformArgs";
import { isOwnRegistry } from "./openPoints";

/** Build arguments of the Dockerfile that say which release is compiled. */
const releases: Record<string, string> = { VLLM_RELEASE: "vllm", LMCACHE_RELEASE: "lmcache" };

/** The known holes of what a platform builds, a line for each version; none of stand-ins on this machine, nor of an image that others built. */
export function knownHoles({ registry, image, stages }: SettledPlatform): string[] {
    return image.use !== undefined || isOwnRegistry(registry.address) ? [] : knownHoleLines(installedBy(stages.locks));
}

/** vLLM, LMCache and what is locked beside them, each version once. */
function installedBy(locks: string | undefined): Installed[] {
    const [vllm, lmcache] = [assetsFolder("vllm"), assetsFolder("lmcache")];
    const { declared } = dockerfileFacts(fs.readFileSync(path.join(vllm, "Dockerfile"), "utf8"));
    const compiled = declared.flatMap(({ name, value }) => (releases[name] === undefined ? [] : [{ package: releases[name], version: value }]));
    const folders = [...new Set(locks === undefined ? [path.join(vllm, "locks"), path.join(lmcache, "locks")] : [locks])];
    const files = folders.filter((folder) => fs.existsSync(folder)).flatMap((folder) => fs.readdirSync(folder).map((file) => path.join(folder, file)));
    const locked = files.filter((file) => file.endsWith(".txt")).flatMap((file) => lockedPackages(fs.readFileSync(file, "utf8")));
    const all = [...compiled, ...locked].map((one) => [`${one.package}==${one.version}`, one] as const);
    return [...new Map(all).values()];
}
