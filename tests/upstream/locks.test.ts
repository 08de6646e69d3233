import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { expect, test } from "vitest";
import { checkout } from "./armRoot";

/* The hash-locked requirements against the real index, as ci/check has them checked before anything is built. */
const check = (assets: string) => spawnSync(path.join(assets, "vllm/build/lock/lock"), ["--check"], { encoding: "utf8" });

test("every lock is what its requirements resolve to for aarch64", () => {
    const { status, stdout, stderr } = check(path.join(checkout, "assets"));
    expect(status, stdout + stderr).toBe(0);
}, 600_000);

test("pytorch.txt is what PyTorch's wheel for aarch64 says of itself", () => {
    const asked = "--only-binary :all: --platform manylinux_2_28_aarch64 --python-version 3.12 --target /nowhere --no-deps --ignore-installed --dry-run";
    const { status, stdout, stderr } = spawnSync("python3", ["-m", "pip", "install", "--quiet", ...asked.split(" "), "--report", "-", "torch==2.11.0"], {
        encoding: "utf8",
    });
    expect(status, stderr).toBe(0);
    const [wheel] = (JSON.parse(stdout) as { install: [{ download_info: { archive_info: { hash: string } }; metadata: { requires_dist: string[] } }] }).install;
    const fixture = fs.readFileSync(path.join(checkout, "assets/vllm/build/lock/pytorch.txt"), "utf8");
    const plain = wheel.metadata.requires_dist.filter((line) => !line.includes("extra ==")).map((line) => line.replace(/\[.*?\]|;.*/g, ""));
    expect(fixture.split("\n").filter((line) => line !== "" && !line.startsWith("#"))).toEqual(plain);
    expect(fixture).toContain(wheel.download_info.archive_info.hash.replace("sha256=", ""));
}, 600_000);

test.each([
    ["a conflict", "runtime.in", "transformers>=5", /No solution found[\s\S]*transformers/],
    ["a requirement that is not locked", "build.in", "click", /^\+click==/m],
])(
    "%s is an error",
    (_, file, requirement, line) => {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-locks-"));
        fs.cpSync(path.join(checkout, "assets"), folder, { recursive: true });
        fs.appendFileSync(path.join(folder, "vllm/build/lock", file), `${requirement}\n`);
        const { status, stdout, stderr } = check(folder);
        fs.rmSync(folder, { recursive: true });
        expect(stdout + stderr).toMatch(line);
        expect(status).toBe(1);
    },
    600_000,
);
