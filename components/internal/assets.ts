import * as fs from "node:fs";
import * as path from "node:path";

/**
 * Folder of the recipes that the package brings: `vllm`, `lmcache` or `node`. A program that has
 * `assets/NAME` itself, as this repository's does, uses its own instead.
 */
export function assetsFolder(name: "vllm" | "lmcache" | "node"): string {
    const own = path.join("assets", name);
    const inPackage = path.join(packageFolder(), "assets", name);
    // In a checkout the recipes lie beside the package, for people who build without Pulumi.
    const inCheckout = path.join(packageFolder(), "..", "assets", name);
    return [own, inPackage, inCheckout].find((folder) => fs.existsSync(folder)) ?? own;
}

/** The folder of our package.json, whether the code runs as it stands or compiled into `bin`. */
export function packageFolder(from: string = __dirname): string {
    return fs.existsSync(path.join(from, "package.json")) ? from : packageFolder(path.dirname(from));
}
