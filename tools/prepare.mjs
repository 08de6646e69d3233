// Runs `npm ci` where node_modules is missing or belongs to another package-lock.json. Plain JavaScript without
// dependencies, because it runs before there are any.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lock = join(root, "package-lock.json");
const wanted = createHash("sha256").update(readFileSync(lock)).digest("hex");
const mark = join(root, "node_modules", ".installed-lock");
const npmMark = join(root, "node_modules", ".package-lock.json");

// npm's own mark is newer than the lock file after any install. A git checkout gives the lock file a new time and,
// mostly, the same text: then our mark tells.
const installed = existsSync(npmMark) && (statSync(npmMark).mtimeMs >= statSync(lock).mtimeMs || (existsSync(mark) && readFileSync(mark, "utf8") === wanted));

if (!installed) {
    console.error("installing npm packages");
    const { status } = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
    if (status !== 0) {
        console.error("npm ci: failed; mend what it says above and run the same command again");
        process.exit(status ?? 1);
    }
    writeFileSync(mark, wanted);
}
