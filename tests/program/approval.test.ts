import * as fs from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, emptyBackend } from "../live/programCopy";
import { ApprovedProgram, digestIn } from "../support/approvedProgram";

// The tests are one story: each starts from what the one before left.
const ALLOCATOR = "assets/vllm/managed_alloc.cu";

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ApprovedProgram;
const file = (name: string) => program.file(name);

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ApprovedProgram(backend);
    await program.copy.pulumi(["stack", "init", "gh200"]);
}, 300_000);

afterAll(() => {
    program?.copy.remove();
    backend?.remove();
});

const preview = () => program.preview();
const up = () => program.up();
const state = () => program.state();
const approve = (change: string, ...args: string[]): Answer => program.approve(change, ...args);

/** The one line of a refusal, after checking that nothing was done. */
async function refused(answer: Promise<Answer>): Promise<string> {
    const before = state();
    const { status, output } = await answer;
    expect(status, output).not.toBe(0);
    expect(output).not.toMatch(/\n\s+at .*\(.*:\d+:\d+\)/);
    expect(state()).toBe(before);
    const lines = output.split("\n").filter((line) => /^\s+error: .*(approv|version)/.test(line));
    expect([...new Set(lines.map((line) => line.trim()))], output).toHaveLength(1);
    return lines[0] ?? "";
}

async function passed(answer: Promise<Answer>): Promise<string> {
    const { status, output } = await answer;
    expect(status, output).toBe(0);
    return output;
}

const edit = (text: string) => program.copy.edit(ALLOCATOR, (before) => `${before}// ${text}\n`);

const MINUTE = 60_000;

describe("an update that nobody approved", () => {
    test(
        "is refused before its first resource, in one line that says how",
        async () => {
            const line = await refused(up());
            expect(line).toMatch(/approval: change [0-9a-f]{64}: is not approved; mike approves it with: npm run approve -- -s gh200$/);
            expect(state()).toBe("[]");
        },
        5 * MINUTE,
    );

    test(
        "passes once the digest that a preview prints is approved, and an update without changes asks for nothing",
        async () => {
            const seen = await passed(preview());
            expect(seen).toContain("nothing is deployed: all");
            expect(approve("0".repeat(64)).output).toContain(`is not what this checkout would do; accepted: ${digestIn(seen)}`);
            expect(approve(digestIn(seen)).output).toContain("wrote approvals/gh200.json");
            expect(await passed(up())).toContain("+ 3 created");
            expect(await passed(up())).toContain("nothing that decides the result differs");
        },
        10 * MINUTE,
    );
});

describe("a changed byte of an asset", () => {
    test(
        "asks again and names the file, and neither the record of the update before nor one for another byte lets it through",
        async () => {
            edit("one");
            const seen = await passed(preview());
            expect(seen).toContain(`${ALLOCATOR}: edited`);
            expect(await refused(up())).toContain("was used for the update before; an approval lets one update through");
            approve(digestIn(seen));
            edit("two");
            expect(await refused(up())).toContain("is stale: something that decides the result, or the stack itself, is not what was approved");
        },
        10 * MINUTE,
    );
});

describe("a record", () => {
    test(
        "edited by hand, or signed by somebody else, is refused",
        async () => {
            const good = program.record;
            program.record = { ...good, time: "2031-01-01T00:00:00.000Z" };
            expect(await refused(up())).toContain("is not signed by mike as approvals/allowed_signers has it");
            const change = digestIn(await passed(preview()));
            expect(approve(change, "--key", file("stranger")).output).toContain("signs, but not for mike");
        },
        10 * MINUTE,
    );

    test(
        "cannot be replayed by going back and forth",
        async () => {
            approve(digestIn(await passed(preview())));
            const forth = program.record;
            await passed(up());
            const after = fs.readFileSync(file(ALLOCATOR), "utf8");
            program.copy.restore(ALLOCATOR);
            const line = await refused(up());
            expect(line).toContain("--rollback REASON");
            approve(digestIn(line.split("this is")[1] ?? ""), "--rollback", "the test goes back");
            await passed(up());
            fs.writeFileSync(file(ALLOCATOR), after);
            program.record = forth;
            expect(await refused(up())).toContain("is stale");
        },
        10 * MINUTE,
    );
});

describe("after a failed build", () => {
    test(
        "the next update needs a decision of its own, and nothing else lets it through",
        async () => {
            edit("three");
            fs.writeFileSync(file("fail"), "");
            approve(digestIn(await passed(preview())));
            expect((await up()).output).toContain("the build failed");
            fs.rmSync(file("fail"));
            const line = await refused(up());
            expect(line).toMatch(/the update approved at \S+ did not end well and nothing is retried: a person decides; .*--after-failure REASON/);
            const change = digestIn(line.split("this is")[1] ?? "");
            expect(approve(change).output).toContain("is a decision after a failed update");
            approve(change, "--after-failure", "the disk was full");
            await passed(up());
            expect(program.record).toMatchObject({ decision: "after-failure", reason: "the disk was full" });
        },
        10 * MINUTE,
    );
});

describe("a downgrade", () => {
    test.each([
        [
            "of vLLM in a Dockerfile ARG",
            "assets/vllm/Dockerfile",
            "ARG VLLM_RELEASE=0.19.0",
            "ARG VLLM_RELEASE=0.18.2",
            "version.vllm: 0.18.2: is lower than what is deployed; accepted: 0.19.0 or newer",
        ],
        [
            "of PyTorch in a Dockerfile ARG",
            "assets/vllm/Dockerfile",
            "ARG EXPECTED_TORCH=2.11.0a0",
            "ARG EXPECTED_TORCH=2.10.0",
            "version.torch: 2.10.0: is lower than what is deployed",
        ],
        [
            "of CUDA below the floor",
            "assets/vllm/Dockerfile",
            "ARG EXPECTED_CUDA=13.2",
            "ARG EXPECTED_CUDA=12.9",
            "version.cuda: 12.9: is below the floor; accepted: 13 or newer",
        ],
        [
            "of the base image in the configuration",
            "Pulumi.gh200.yaml",
            "pytorch:26.03-py3",
            "pytorch:25.09-py3",
            "version.base: 25.09-py3: is lower than what is deployed",
        ],
    ])(
        "%s is refused by a preview already",
        async (_, name, from, to, line) => {
            program.copy.edit(name, (text) => text.replace(from, to));
            for (const answer of [await preview(), await up()]) {
                expect(answer.status).not.toBe(0);
                expect(answer.output).toContain(line);
            }
            program.copy.restore(name);
        },
        5 * MINUTE,
    );
});

describe("destroy", () => {
    const destroy = (...args: string[]) => program.destroy(...args);

    test(
        "without the program is refused before any step",
        async () => {
            const before = state();
            const answer = await destroy();
            expect(answer.status).not.toBe(0);
            expect(answer.output).toContain("Hooks: a destroy needs an approval: docs/rules.md");
            expect(state()).toBe(before);
        },
        5 * MINUTE,
    );

    test(
        "with the program is refused until it is approved, and an approved one lets no update through",
        async () => {
            expect(await refused(destroy("--run-program"))).toContain("--destroy REASON");
            const change = digestIn(approve("", "--destroy", "the test is over").output);
            expect(approve(change, "--destroy", "the test is over").status).toBe(0);
            edit("four");
            expect(await refused(up())).toContain("is stale");
            program.copy.edit(ALLOCATOR, (text) => text.replace("// four\n", ""));
            await passed(destroy("--run-program"));
            expect(state()).toBe("[]");
        },
        10 * MINUTE,
    );
});
