import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { z } from "zod";
import type { Problem } from "../components/internal/errors";

/** What an approver can decide. */
export const decisions = ["update", "after-failure", "rollback", "destroy", "signers", "rebuild"] as const;
export type Decision = (typeof decisions)[number];

const statementSchema = z.strictObject({
    stack: z.string(),
    change: z.string().regex(/^[0-9a-f]{64}$/),
    decision: z.enum(decisions),
    approver: z.string().min(1),
    time: z.iso.datetime(),
    /** Why; required for every decision but an update. */
    reason: z.string(),
    /** What changes, in the words that the approver saw. */
    words: z.array(z.string()),
});
const recordSchema = z.strictObject({ ...statementSchema.shape, signature: z.string() });

/** What is signed. */
export type Statement = z.output<typeof statementSchema>;
export type Record = z.output<typeof recordSchema>;

/** A signature for something else, a git commit for instance, must not count here. */
const namespace = "gh200-vllm-approval";

export const signersFile = "approvals/allowed_signers";
/** Of a record that is attached to an image. */
export const recordType = "application/vnd.gh200-vllm.approval.v1+json";

/** As it lies in its file, and wherever else it is kept. */
export const recordText = (record: Record): string => `${JSON.stringify(record, null, 2)}\n`;

/** A change of signers has a record of its own: an update may need both. */
export const recordFile = (stack: string, decision: Decision = "update"): string => `approvals/${stack}${decision === "signers" ? ".signers" : ""}.json`;

/** The record in a file; a problem where the file is no record. Undefined where there is none. */
export function readRecord(file: string): Record | Problem | undefined {
    if (!fs.existsSync(file)) {
        return undefined;
    }
    try {
        return recordSchema.parse(JSON.parse(fs.readFileSync(file, "utf8")));
    } catch {
        return { path: file, wrong: "is no approval record", accepted: "what npm run approve writes" };
    }
}

/** Text of a tree's allowed signers; empty where it has none. */
export function readSigners(root: string): string {
    const file = path.join(root, signersFile);
    return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
}

export const isProblem = (value: object): value is Problem => "wrong" in value;

export function sign(statement: Statement, key: string): Record {
    return inTemporaryFolder((folder) => {
        const file = path.join(folder, "statement");
        fs.writeFileSync(file, signedText(statement));
        // The agent or a passphrase may be asked for: ssh-keygen talks to the terminal itself.
        const { status, error, stderr } = spawnSync("ssh-keygen", ["-Y", "sign", "-f", key, "-n", namespace, file], {
            encoding: "utf8",
            stdio: ["inherit", "ignore", "pipe"],
        });
        if (status !== 0) {
            throw new Error(`ssh-keygen could not sign with ${key}: ${(error?.message ?? stderr).trim()}`);
        }
        return { ...statement, signature: fs.readFileSync(`${file}.sig`, "utf8") };
    });
}

/** Why the signature does not count; undefined where it does. */
export function signatureProblem(record: Record, approver: string, signers: string): string | undefined {
    return inTemporaryFolder((folder) => {
        const [signersAt, signatureAt] = [path.join(folder, "signers"), path.join(folder, "signature")];
        fs.writeFileSync(signersAt, signers);
        fs.writeFileSync(signatureAt, record.signature);
        const args = ["-Y", "verify", "-f", signersAt, "-I", approver, "-n", namespace, "-s", signatureAt];
        const { status, error, stdout, stderr } = spawnSync("ssh-keygen", args, { encoding: "utf8", input: signedText(record) });
        if (status === 0) {
            return undefined;
        }
        return error === undefined ? (stderr || stdout).trim().split("\n")[0] || "no reason given" : `ssh-keygen: ${error.message}`;
    });
}

/** Keys in the schema's order, whatever the order in the file. */
function signedText(statement: Statement | Record): string {
    return JSON.stringify(Object.keys(statementSchema.shape).map((key) => [key, statement[key as keyof Statement]]));
}

function inTemporaryFolder<T>(use: (folder: string) => T): T {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-approval-"));
    try {
        return use(folder);
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}
