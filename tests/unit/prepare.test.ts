import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const newFolder = temporaryFolders();

test("packages are installed without running a script of theirs, since that may be beside somebody's key", () => {
    const folder = newFolder();
    const project = { name: "test", version: "1.0.0", dependencies: { evil: "file:evil" }, scripts: { postinstall: "touch ran" } };
    const evil = { name: "evil", version: "1.0.0", scripts: { install: "touch ../ran" } };
    const packages = { "": project, evil: { version: "1.0.0", hasInstallScript: true }, "node_modules/evil": { resolved: "evil", link: true } };
    writeTree(folder, {
        "tools/prepare.mjs": fs.readFileSync(path.join(repositoryRoot, "tools/prepare.mjs"), "utf8"),
        "package.json": JSON.stringify(project),
        "evil/package.json": JSON.stringify(evil),
        "package-lock.json": JSON.stringify({ name: "test", version: "1.0.0", lockfileVersion: 3, packages }),
    });
    const { status, stderr } = spawnSync(process.execPath, ["tools/prepare.mjs"], { cwd: folder, encoding: "utf8" });
    expect(status, stderr).toBe(0);
    expect(fs.existsSync(path.join(folder, "node_modules/evil"))).toBe(true);
    expect(fs.existsSync(path.join(folder, "ran"))).toBe(false);
}, 60_000);
