import { spawnSync } from "node:child_process";
import * as path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(__dirname, "..", "..");

// Each loads every type of the project, which takes a while on few cores.
test.each([
    ["types are right", "tsc", ["--noEmit"]],
    ["no rule of ESLint is broken", "eslint", ["."]],
])(
    "%s",
    (_what, tool, args) => {
        const { status, stdout, stderr } = spawnSync(path.join(root, "node_modules", ".bin", tool), args, { cwd: root, encoding: "utf8" });
        expect(status, `${stdout}${stderr}`).toBe(0);
    },
    5 * 60_000,
);
