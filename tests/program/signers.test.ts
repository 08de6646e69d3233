import * as fs from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, emptyBackend } from "../live/programCopy";
import { ApprovedProgram, digestIn } from "../support/approvedProgram";

// Who approves, by the real engine and ssh-keygen: a stack that remembers another approver is taken over by his own word.
const MINUTE = 60_000;
let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ApprovedProgram;

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ApprovedProgram(backend);
    program.allow({ biondizzle: fs.readFileSync(program.file("approver.pub"), "utf8").trim() });
    name("biondizzle");
    await program.copy.pulumi(["stack", "init", "gh200"]);
}, 5 * MINUTE);

afterAll(() => {
    program?.copy.remove();
    backend?.remove();
});

const name = (approver: string) => program.copy.edit("Pulumi.gh200.yaml", (text) => text.replace(/approver: \w+/, `approver: ${approver}`));

async function passed(run: Promise<Answer>): Promise<string> {
    const { status, output } = await run;
    expect(status, output).toBe(0);
    return output;
}

function approve(...args: string[]): Answer {
    const change = digestIn(program.approve("", ...args).output);
    return program.approve(change, ...args);
}

test(
    "a stack that remembers another approver asks him once, and from then on the new one",
    async () => {
        await passed(program.preview());
        expect(approve().status).toBe(0);
        await passed(program.up());

        name("mike");
        program.allow({ mike: fs.readFileSync(program.file("stranger.pub"), "utf8").trim() });
        const before = program.state();
        const { status, output } = await program.up();
        expect(status).not.toBe(0);
        expect(output).toMatch(
            /approvals\/allowed_signers: change [0-9a-f]{64}: is not approved: approver: biondizzle → mike, removed key SHA256:\S+ ssh-ed25519, added key SHA256:/,
        );
        expect(program.state()).toBe(before);

        expect(approve("--signers", "he clears changes", "--key", program.file("stranger")).output).toContain("signs, but not for biondizzle");
        expect(approve("--signers", "he clears changes").output).toContain("wrote approvals/gh200.signers.json");
        expect(await passed(program.up())).toContain("who approves changes, change");
        expect(program.state()).toContain("mike ssh-ed25519");
        expect(await passed(program.up())).not.toContain("who approves changes");

        program.copy.edit("assets/vllm/managed_alloc.cu", (text) => `${text}// one\n`);
        await passed(program.preview());
        expect(approve().output).toContain("signs, but not for mike");
        expect(approve("--key", program.file("stranger")).status).toBe(0);
        await passed(program.up());
    },
    10 * MINUTE,
);
