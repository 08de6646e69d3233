import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkout } from "./armRoot";
import { NativeRoot } from "./nativeRoot";
import { sdist } from "./sources";

/*
 * What the patch of vLLM's opaque types does, on vLLM 0.19.0's own source and PyTorch 2.11.0, on this machine's processor. The NGC image's
 * 2.11.0a0 is taken for PyTorch 2.11.0 without the argument `hoist`.
 */
const HOUR = 3_600_000;
const root = new NativeRoot();
const work = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-patches-"));
const tree = (name: string): string => path.join(work, name);
const patches = path.join(checkout, "assets/vllm/patches/vllm");

beforeAll(() => {
    root.open();
    sdist("src-vllm", tree("upstream"));
    fs.cpSync(tree("upstream"), tree("patched"), { recursive: true });
    execFileSync(path.join(checkout, "assets/vllm/build/common/apply-patches"), [patches], { cwd: tree("patched") });
}, HOUR);

afterAll(() => {
    fs.rmSync(work, { recursive: true, force: true });
}, HOUR);

const operator = (source: string, flag: string) =>
    root.run(`python3 /moe_op.py /vllm ${flag}`, {}, { "/vllm": tree(source), "/moe_op.py": path.join(__dirname, "moe_op.py") });

test(
    "unpatched, vLLM dies at import on a PyTorch that cannot hoist",
    () => {
        const { status, output } = operator("upstream", "--without-hoist");
        expect(output).toContain("TypeError: register_opaque_type() got an unexpected keyword argument 'hoist'");
        expect(status).toBe(1);
    },
    HOUR,
);

test.each([
    ["a PyTorch that cannot hoist, by plain strings", "--without-hoist", false],
    ["PyTorch 2.11.0, by opaque types as upstream has it", "", true],
])(
    "patched, layers of experts are compiled on %s, in one graph that names none of them",
    (_, flag, opaque) => {
        const { output } = operator("patched", flag);
        expect(JSON.parse(output.trim().split("\n").at(-1)!), output).toEqual({ opaque, same: true, graphs: 1, named: [] });
    },
    HOUR,
);
