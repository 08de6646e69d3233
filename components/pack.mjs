// What `npm pack` adds to the package: JavaScript and types of the components, and the recipes they build by.
// `--clean` removes it again, so that a checkout always runs its TypeScript.
import { execFileSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const [bin, assets] = [join(root, "bin"), join(root, "assets")];
for (const made of [bin, assets]) {
    rmSync(made, { recursive: true, force: true });
}
if (!process.argv.includes("--clean")) {
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, "--project", join(root, "tsconfig.build.json")], { stdio: "inherit" });
    cpSync(join(root, "builder", "control.proto"), join(bin, "builder", "control.proto"));
    cpSync(join(root, "..", "assets"), assets, { recursive: true, filter: (source) => !/__pycache__|\.pyc$/.test(source) });
}
