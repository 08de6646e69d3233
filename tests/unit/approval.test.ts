import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { changeDigest, describeChange, fromDigest } from "../../approval/change";
import { factsDigest } from "../../approval/facts";
import { destroyed, rebuiltImages } from "../../approval/decision";
import { judge, type Request, type Verdict } from "../../approval/gate";
import { type Attempt, type Deployed, type Ledger, ledgerOf, nextDeployed } from "../../approval/ledger";
import { type Decision, type Record, sign, signatureProblem, type Statement } from "../../approval/record";
import { problemLine } from "../../components/internal/errors";

// The decision itself, with ssh-keygen's own signatures. That the engine asks it before anything else is tests/program's.
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-keys-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));

function key(name: string): { file: string; line: string } {
    const file = path.join(folder, name);
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file]);
    return { file, line: `${name} ${fs.readFileSync(`${file}.pub`, "utf8").trim()}\n` };
}
const approver = key("approver");
const spare = key("spare");
const stranger = key("stranger");

const now = new Date("2026-11-24T12:00:00Z");
const fullName = "organization/gh200-vllm/gh200";

function request(overrides: Partial<Request> = {}): Request {
    return {
        ...{ stack: "gh200", fullName, required: true, approver: "approver", validDays: 7, ledger: {}, to: "X", versions: {} },
        ...{ record: undefined, signers: approver.line, now, signatureProblem },
        ...overrides,
    };
}

function approve(from: Request, overrides: Partial<Statement> = {}, signer = approver.file): Record {
    const { change, needs } = judge(from);
    return sign(
        { stack: fullName, change, decision: needs, approver: "approver", time: "2026-11-24T11:00:00.000Z", reason: "", words: ["a file"], ...overrides },
        signer,
    );
}

/** What the stack remembers after an update that was let through; `fails` after its first resource. */
function after(from: Request, verdict: Verdict, fails = false): Ledger {
    const attempt = verdict.attempt as Attempt;
    const deployed = nextDeployed(from.ledger, { to: from.to, facts: {}, versions: from.versions, builder: "" }, attempt.serial);
    return fails ? { ...from.ledger, attempt } : { deployed, attempt };
}

/** Approves and makes an update; the ledger that it leaves. */
function update(ledger: Ledger, to: string, versions = {}, fails = false): { ledger: Ledger; record: Record } {
    const asked = request({ ledger, to, versions });
    const record = approve(asked);
    const verdict = judge({ ...asked, record });
    expect(verdict.problems).toEqual([]);
    return { ledger: after(asked, verdict, fails), record };
}

const line = (asked: Request) => judge(asked).problems.map(problemLine).join("\n");

describe("a change", () => {
    test("has another digest from another start, to another end, or on another stack", () => {
        const base = { stack: "a", from: "f", to: "t" };
        const digests = [base, { ...base, stack: "b" }, { ...base, from: "g" }, { ...base, to: "u" }].map(changeDigest);
        expect(new Set(digests).size).toBe(4);
        expect(digests[0]).toMatch(/^[0-9a-f]{64}$/);
    });

    test("does not depend on the order of the facts", () => {
        expect(factsDigest({ a: "1", b: "2" })).toBe(factsDigest({ b: "2", a: "1" }));
        expect(factsDigest({ a: "1", b: "2" })).not.toBe(factsDigest({ a: "1", b: "3" }));
    });

    test("is told in words: files edited, added and removed, values from and to", () => {
        const hash = (character: string) => character.repeat(64);
        const before = { "file a.cu": hash("1").slice(0, 16), "file old": "2", "gh200-vllm:node.egmEnabled": "true" };
        const now = { "file a.cu": hash("3"), "file new": hash("4"), "gh200-vllm:node.egmEnabled": "false" };
        expect(describeChange(before, now)).toEqual(["a.cu: edited", "new: added", "old: removed", "gh200-vllm:node.egmEnabled: true → false"]);
        expect(describeChange(before, { ...before })).toEqual([]);
    });
});

describe("an approval", () => {
    test("is asked for in one line that says how", () => {
        const asked = request();
        expect(line(asked)).toBe(`approval: change ${judge(asked).change}: is not approved; approver approves it with: npm run approve -- -s gh200`);
    });

    test("lets exactly its change through", () => {
        const record = approve(request());
        expect(line(request({ record }))).toBe("");
        expect(line(request({ record, to: "Y" }))).toContain("is stale");
    });

    test.each<[string, Partial<Record>]>([
        ["stack", { stack: "organization/gh200-vllm/other" }],
        ["change", { change: "0".repeat(64) }],
        ["decision", { decision: "rollback" }],
        ["approver", { approver: "stranger" }],
        ["time", { time: "2026-11-24T11:30:00.000Z" }],
        ["reason", { reason: "none" }],
        ["words", { words: ["another file"] }],
    ])("whose %s was edited is refused", (_, edit) => {
        expect(line(request({ record: { ...approve(request()), ...edit } }))).toMatch(/is not signed by approver as approvals\/allowed_signers has it \(.+\)/);
    });

    test("by another key, for another purpose or with a signature of something else is refused", () => {
        expect(line(request({ record: approve(request(), {}, stranger.file) }))).toContain("is not signed by approver");
        const file = path.join(folder, "statement");
        fs.writeFileSync(file, "anything");
        execFileSync("ssh-keygen", ["-q", "-Y", "sign", "-n", "git", "-f", approver.file, file]);
        expect(line(request({ record: { ...approve(request()), signature: fs.readFileSync(`${file}.sig`, "utf8") } }))).toContain("is not signed by approver");
        expect(line(request({ record: { ...approve(request()), signature: "" } }))).toContain("is not signed by approver");
    });

    test("by an allowed signer who is not the approver is refused", () => {
        const both = request({ signers: approver.line + stranger.line });
        expect(line({ ...both, record: approve(both, { approver: "stranger" }, stranger.file) })).toContain("is not signed by approver");
    });

    test("without any allowed signer is refused", () => {
        expect(line(request({ signers: "", record: approve(request()) }))).toContain("is not signed by approver");
    });

    test("of another stack is refused", () => {
        expect(line(request({ record: approve(request(), { stack: "organization/gh200-vllm/other" }) }))).toContain(
            "is for stack organization/gh200-vllm/other",
        );
    });

    test("is worth nothing after its days, nor before it was signed", () => {
        expect(line(request({ record: approve(request(), { time: "2026-11-17T11:59:59.000Z" }) }))).toContain("was signed more than 7 days ago");
        expect(line(request({ record: approve(request(), { time: "2026-11-17T12:00:01.000Z" }) }))).toBe("");
        expect(line(request({ record: approve(request(), { time: "2026-11-24T12:06:00.000Z" }) }))).toContain("was signed in the future");
    });

    test("lets one update through, and none after it has failed", () => {
        const { ledger, record } = update({}, "X");
        expect(judge(request({ ledger, to: "X" }))).toMatchObject({ changed: false, problems: [] });
        expect(line(request({ ledger, to: "Y", record }))).toContain("was used for the update before");
        const failed = update({}, "X", {}, true);
        expect(line(request({ ledger: failed.ledger, to: "X", record: failed.record }))).toMatch(
            /did not end well and nothing is retried: a person decides; .*--after-failure REASON/,
        );
    });

    test("cannot be replayed by going back and forth", () => {
        const first = update({}, "X");
        const forth = update(first.ledger, "Y");
        const back = update(forth.ledger, "X");
        expect(judge(request({ ledger: back.ledger, to: "Y" })).change).not.toBe(forth.record.change);
        expect(line(request({ ledger: back.ledger, to: "Y", record: forth.record }))).toContain("is stale");
    });
});

describe("who may approve", () => {
    const both = approver.line + spare.line.replace(/^spare/, "approver");
    const stolen = approver.line + stranger.line.replace(/^stranger/, "approver");

    /** Signs the change of signers that a request makes. */
    function approveSigners(from: Request, signer = approver.file): Record {
        const trust = from.ledger.attempt?.next;
        const change = judge(from).signers?.change ?? "no change of signers";
        return approve(from, { decision: "signers", change, approver: trust?.approver ?? "" }, signer);
    }

    /** Makes an update of the signers alone; the ledger that it leaves. */
    function changeSigners(ledger: Ledger, signers: string, signer = approver.file): Ledger {
        const asked = request({ ledger, signers });
        const verdict = judge({ ...asked, signersRecord: approveSigners(asked, signer) });
        expect(verdict.problems).toEqual([]);
        return { ...ledger, attempt: verdict.attempt as Attempt };
    }

    test("is whom the stack remembers, not whom the change appoints", () => {
        const { ledger } = update({}, "X");
        const takeover = request({ ledger, to: "Y", approver: "stranger", signers: stranger.line });
        expect(line({ ...takeover, record: approve(takeover, { approver: "stranger" }, stranger.file) })).toMatch(
            /^approvals\/allowed_signers: change [0-9a-f]{64}: is not approved: approver: approver → stranger, removed key SHA256:\S+ ssh-ed25519, added key SHA256:\S+ ssh-ed25519; approver approves it with: npm run approve -- -s gh200 --signers REASON$/,
        );
        const handedOver = { ...takeover, signersRecord: approveSigners(takeover) };
        expect(line(handedOver)).toContain("stranger approves it with: npm run approve -- -s gh200");
        expect(line({ ...handedOver, record: approve(handedOver) })).toContain("is not signed by stranger");
        const approved = { ...handedOver, record: approve(handedOver, { approver: "stranger" }, stranger.file) };
        expect(line(approved)).toBe("");
        const next = request({ ledger: after(takeover, judge(approved)), to: "Z", approver: "stranger", signers: stranger.line });
        expect(line({ ...next, record: approve(next, { approver: "stranger" }, stranger.file) })).toBe("");
        expect(line({ ...next, record: approve(next) })).toContain("is not signed by stranger");
    });

    test("is nobody whose key was added after the signature", () => {
        const { ledger } = update({}, "X");
        const signed = request({ ledger, to: "Y" });
        const added = { ...signed, record: approve(signed), signers: stolen };
        expect(line(added)).toContain("added key SHA256:");
        expect(judge(added).attempt?.next.signers).not.toContain(stranger.line.split(" ")[2]);
    });

    test("is asked for an addition by a key that is trusted, not by the added one", () => {
        const { ledger } = update({}, "X");
        const asked = request({ ledger, signers: stolen });
        expect(line({ ...asked, signersRecord: approveSigners(asked, stranger.file) })).toContain("is not signed by approver");
        expect(line({ ...asked, signersRecord: approveSigners(asked) })).toBe("");
    });

    test("is a change of its own: an ordinary approval does not settle it, and neither settles the update", () => {
        const { ledger } = update({}, "X");
        const asked = request({ ledger, to: "Y", signers: both });
        expect(line({ ...asked, record: approve(asked) })).toContain("--signers REASON");
        expect(line({ ...asked, record: approveSigners(asked) })).toContain("--signers REASON");
        const settled = { ...asked, signersRecord: approveSigners(asked) };
        expect(line({ ...settled, record: approveSigners(asked) })).toContain("is stale");
        expect(line({ ...settled, record: approve(settled) })).toBe("");
    });

    test("is no longer whose key was removed, for records that it signed before too", () => {
        const first = changeSigners(update({}, "X").ledger, both);
        const early = request({ ledger: first, to: "Y", signers: both });
        const record = approve(early);
        expect(line({ ...early, record })).toBe("");
        const spareOnly = both.replace(approver.line, "");
        expect(line({ ...early, record, signers: spareOnly })).toContain("removed key SHA256:");
        const ledger = changeSigners(first, spareOnly, spare.file);
        expect(line({ ...early, ledger, signers: spareOnly, record })).toContain("is not signed by approver");
    });

    test("is never again whose key was removed, even where a trusted key says so", () => {
        const first = changeSigners(update({}, "X").ledger, both);
        const ledger = changeSigners(first, both.replace(approver.line, ""), spare.file);
        const asked = request({ ledger, signers: both });
        expect(line({ ...asked, signersRecord: approveSigners(asked, spare.file) })).toContain("was removed before, and a removed key is never trusted again");
    });

    test("cannot be made by a record for another change of signers, nor by one that was used", () => {
        const { ledger } = update({}, "X");
        const signersRecord = approveSigners(request({ ledger, signers: both }));
        expect(line(request({ ledger, signers: stolen, signersRecord }))).toContain("is stale");
        const next = changeSigners(ledger, both);
        expect(line(request({ ledger: next, signers: stolen, signersRecord }))).toContain("was used for the update before");
    });

    const strangersKey = stranger.line.split(" ").slice(1).join(" ");

    test.each([
        ["a pattern", `* ${strangersKey}`],
        ["a negated pattern", `!mallory,* ${strangersKey}`],
    ])("is never %s", (_, added) => {
        const first = request({ signers: `${approver.line}${added}\n` });
        expect(line({ ...first, record: approve(first, {}, stranger.file) })).toContain("approvals/allowed_signers:2: names no single key");
        expect(line({ ...first, record: approve(first, {}, stranger.file) })).toContain("is not signed by approver");
        const { ledger } = update({}, "X");
        const later = request({ ledger, to: "Y", signers: `${approver.line}${added}\n` });
        expect(line({ ...later, record: approve(later) })).toContain("names no single key");
    });

    test("is nobody by the word of a certificate authority", () => {
        const leaf = key("leaf");
        execFileSync("ssh-keygen", ["-q", "-s", stranger.file, "-I", "leaf", "-n", "approver", `${leaf.file}.pub`]);
        const started = execFileSync("ssh-agent", ["-s"], { encoding: "utf8" });
        const [, socket = "", , pid = ""] = /SSH_AUTH_SOCK=([^;]+);.*\nSSH_AGENT_PID=((\d+));/.exec(started) ?? [];
        vi.stubEnv("SSH_AUTH_SOCK", socket);
        try {
            execFileSync("ssh-add", ["-q", leaf.file]);
            const asked = request({ signers: `${approver.line}approver cert-authority ${strangersKey}\n` });
            expect(line({ ...asked, record: approve(asked, {}, `${leaf.file}-cert.pub`) })).toContain("names no single key");
        } finally {
            vi.unstubAllEnvs();
            process.kill(Number(pid));
        }
    });

    test.each(['namespaces="git,gh200-vllm-approval"', 'valid-after="20200101",valid-before="20991231"'])(
        "may be bound by %s, which is part of the key",
        (option) => {
            const bound = approver.line.replace(" ", ` ${option} `);
            const first = request({ signers: bound });
            const { ledger } = update({}, "X");
            expect(line({ ...first, record: approve(first) })).toBe("");
            expect(line(request({ ledger, signers: bound }))).toContain(`${option}; approver approves it with`);
        },
    );

    test("is nobody whose key has ended, or is for something else", () => {
        for (const option of ['valid-before="20200101"', 'namespaces="git"']) {
            const ended = request({ signers: approver.line.replace(" ", ` ${option} `) });
            expect(line({ ...ended, record: approve(ended) })).toContain("is not signed by approver");
        }
    });

    test("may change its comment, its order and other principals' lines without a word", () => {
        const { ledger } = update({}, "X");
        const asked = request({ ledger, signers: `# a comment\n${stranger.line}\n${approver.line.trim()} work laptop\n` });
        expect(judge(asked)).toMatchObject({ changed: false, signers: undefined, problems: [] });
    });

    test("is remembered as it was by a stack of before, whose next approver it appoints", () => {
        const { ledger } = update({}, "X");
        const attempt = { ...(ledger.attempt as Attempt), next: { approver: "biondizzle", signers: approver.line.replace(/^approver/, "biondizzle") } };
        const mike = approver.line.replace(/^approver/, "mike");
        const asked = request({ ledger: { ...ledger, attempt }, approver: "mike", signers: mike });
        expect(judge(asked).signers?.words[0]).toBe("approver: biondizzle → mike");
        expect(line(asked)).toContain("biondizzle approves it with");
        const signersRecord = approveSigners(asked);
        expect(signersRecord.approver).toBe("biondizzle");
        expect(judge({ ...asked, signersRecord })).toMatchObject({ problems: [], attempt: { next: { approver: "mike" } } });
    });

    test("is asked when approval is to be switched off", () => {
        const { ledger } = update({}, "X");
        const off = request({ ledger, to: "Y", required: false });
        expect(line(off)).toContain("is not approved");
        const verdict = judge({ ...off, record: approve(off) });
        expect(verdict).toMatchObject({ problems: [], attempt: undefined });
        expect(line(request({ ledger, to: "Y", required: false, approver: "", record: approve(off) }))).toBe("");
    });

    test("is nobody on a stack without approvals", () => {
        expect(judge(request({ required: false }))).toMatchObject({ changed: true, gated: false, problems: [], attempt: undefined });
    });
});

describe("decisions of their own", () => {
    const needed = (asked: Request): Decision => judge(asked).needs;

    test("after a failure even what was deployed before needs one", () => {
        const { ledger } = update(update({}, "X").ledger, "Y", {}, true);
        expect(needed(request({ ledger, to: "X" }))).toBe("after-failure");
        expect(needed(request({ ledger, to: "Y" }))).toBe("after-failure");
        const asked = request({ ledger, to: "Y" });
        expect(line({ ...asked, record: approve(asked, { decision: "update" }) })).toContain("says update, which is another decision");
        expect(line({ ...asked, record: approve(asked) })).toBe("");
    });

    test("going back to what the stack had is a rollback", () => {
        const { ledger } = update(update({}, "X").ledger, "Y");
        expect(needed(request({ ledger, to: "X" }))).toBe("rollback");
    });

    test("lower versions are refused, but by a rollback", () => {
        const { ledger } = update(update({}, "X", { vllm: "0.19.0" }).ledger, "Y", { vllm: "0.20.0" });
        const lower = request({ ledger, to: "Z", versions: { vllm: "0.19.5" } });
        expect(line({ ...lower, record: approve(lower) })).toContain("version.vllm: 0.19.5: is lower than what is deployed; accepted: 0.20.0 or newer");
        const back = request({ ledger, to: "X", versions: { vllm: "0.19.0" } });
        expect(line({ ...back, record: approve(back) })).toBe("");
        expect(line(request({ ledger: { deployed: ledger.deployed as Deployed }, required: false, to: "Z", versions: { vllm: "0.19.5" } }))).toContain(
            "is lower than what is deployed",
        );
    });

    test("a destroy is one, and lets no update through", () => {
        const { ledger } = update({}, "X");
        const asked = request({ ledger, to: destroyed });
        const record = approve(asked);
        expect(record.decision).toBe("destroy");
        expect(line({ ...asked, record })).toBe("");
        expect(line(request({ ledger, to: "Y", record }))).toContain("is stale");
    });

    describe("an image that came out different from the same sources", () => {
        const [old, other] = ["1", "2"].map((digit) => `sha256:${digit.repeat(64)}`) as [string, string];
        const image = "urn:pulumi:gh200::gh200-vllm::gh200-vllm:index:CmmPlatform$docker-build:index:Image::gh200-image";

        /** The ledger of a stack whose image was deployed as `old`, and has `now` in the state. */
        function deployedAs(now: string): Ledger {
            const { ledger } = update({}, "X");
            const deployed = { ...(ledger.deployed as Deployed), images: { "gh200-image": old } };
            return ledgerOf([
                { urn: "urn:pulumi:gh200::gh200-vllm::pulumi:index:Stash::gh200-change", type: "pulumi:index:Stash", outputs: { input: deployed } },
                { urn: "urn:pulumi:gh200::gh200-vllm::pulumi:index:Stash::gh200-approval", type: "pulumi:index:Stash", outputs: { input: ledger.attempt } },
                { urn: image, type: "docker-build:index:Image", outputs: { digest: now } },
            ]);
        }

        test("is a change, named by both digests", () => {
            expect(rebuiltImages(deployedAs(other))).toEqual([`image gh200-image: ${old} → ${other}`]);
            expect(line(request({ ledger: deployedAs(other) }))).toContain(
                "is not approved; approver approves it with: npm run approve -- -s gh200 --rebuild REASON",
            );
            expect(judge(request({ ledger: deployedAs(old) }))).toMatchObject({ changed: false, problems: [] });
        });

        test("is let through by an approval of exactly that digest, once", () => {
            const asked = request({ ledger: deployedAs(other) });
            const record = approve(asked);
            expect(record.decision).toBe("rebuild");
            const verdict = judge({ ...asked, record });
            expect(verdict.problems).toEqual([]);
            expect(line(request({ ledger: deployedAs(`sha256:${"3".repeat(64)}`), record }))).toContain("is stale");
            const ledger = { ...deployedAs(other), attempt: verdict.attempt as Attempt };
            expect(needed(request({ ledger }))).toBe("after-failure");
        });

        test("goes with an approved change of the sources, which may come out as anything", () => {
            expect(needed(request({ ledger: deployedAs(other), to: "Y" }))).toBe("update");
        });
    });

    test("the start of a change is another after every attempt", () => {
        const { ledger } = update({}, "X");
        const starts = [
            fromDigest(undefined, undefined),
            fromDigest(ledger.deployed, ledger.attempt),
            fromDigest(ledger.deployed, { ...(ledger.attempt as Attempt), signature: "other" }),
        ];
        expect(new Set(starts).size).toBe(3);
    });
});
