import { spawnSync } from "node:child_process";
import * as path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(__dirname, "../..");

test.each([
    ["all TypeScript compiles", "tsc", ["--noEmit"]],
    ["no rule of ESLint is broken", "eslint", ["."]],
    ["all code has Prettier's form", "prettier", ["--list-different", "."]],
])(
    "%s",
    (_, tool, args) => {
        const { status, stdout } = spawnSync(path.join(root, "node_modules", ".bin", tool), args, { cwd: root, encoding: "utf8" });
        expect(stdout).toBe("");
        expect(status).toBe(0);
    },
    180_000,
);
