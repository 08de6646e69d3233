import * as fs from "node:fs";
import * as path from "node:path";

/**
 * Folder of the recipes that the package brings: `vllm`, `lmcache` or `node`. A program that has
 * `assets/NAME` itself, as this repository's does, uses its own instead.
 */
export function assetsFolder(name: "vllm" | "lmcache" | "node"): string {
    const places = placesOf(name);
    return places.find((folder) => fs.existsSync(folder)) ?? places[0];
}

/** One of their files, where a program's own recipes may lack it. */
export function assetsFile(name: "vllm" | "lmcache" | "node", file: string): string {
    const paths = placesOf(name).map((folder) => path.join(folder, file));
    return paths.find((candidate) => fs.existsSync(candidate)) ?? file;
}

function placesOf(name: string): [string, ...string[]] {
    // In a checkout the recipes lie beside the package, for people who build without Pulumi.
    return [path.join("assets", name), path.join(packageFolder(), "assets", name), path.join(packageFolder(), "..", "assets", name)];
}

/** The folder of our package.json, whether the code runs as it stands or compiled into `bin`. */
export function packageFolder(from: string = __dirname): string {
    return fs.existsSync(path.join(from, "package.json")) ? from : packageFolder(path.dirname(from));
}
