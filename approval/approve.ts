import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { main, Problem } from "../tools/report";
import { askedOf } from "./asked";
import { describeChange } from "./change";
import { type Asked, decide, declaredSigners, declaredTrust, rebuiltImages } from "./decision";
import type { Facts } from "./facts";
import { type Decision, recordFile, recordText, sign, signatureProblem, signersFile, type Statement } from "./record";
import { signersText, type Trust } from "./trust";

const USAGE = `usage: npm run approve -- -s STACK [--after-failure REASON | --rollback REASON | --destroy REASON | --signers REASON | --rebuild REASON] [--tree FOLDER] [--key FILE] [--change DIGEST]
  -s, --stack      the stack whose next update is approved
  --after-failure  the last approved update failed, and this one may try again
  --rollback       go back to a state that the stack had before
  --destroy        let \`pulumi destroy --run-program\` through
  --signers        another approver, or other keys
  --rebuild        an image that came out different from the same sources
  --tree           the checkout of the change; this one where absent. Nothing of it is run
  --key            SSH key to sign with; git's user.signingkey, else ~/.ssh/id_ed25519
  --change         sign only if the change has this digest, without asking; needed where there is no terminal`;

/**
 * `npm run approve`: shows what the next update of a stack changes, and signs it. Changes nothing but the stack's records in approvals/.
 *
 * It reads files, the state and what a preview recorded. Nothing of the program is loaded: whoever made the change would run code beside
 * the approver's key. tests/unit/approveReads.test.ts holds it to that.
 */
main(async () => {
    const options = parse(process.argv.slice(2));
    const { stack, tree, decision, reason } = options;
    const reading = await askedOf({ ...options, destroys: decision === "destroy" });
    if (reading === undefined) {
        throw new Problem(`stack ${stack}: needs no approval; accepted: a stack with gh200-vllm:approval.required`);
    }
    const { asked, facts } = reading;
    const { change, words, trust } = decision === "signers" ? signersQuestion(stack, asked) : question(stack, decision, asked, facts);
    const { approver } = trust;
    const shown = [`stack     ${asked.fullName}`, `change    ${change}`, `decision  ${decision}`, `approver  ${approver}`];
    console.log([...shown, ...words.map((line) => `  ${line}`)].join("\n"));
    await confirm(options.change, change);
    const statement: Statement = { stack: asked.fullName, change, decision, approver, time: new Date().toISOString(), reason, words };
    const record = sign(statement, options.key);
    const unsigned = signatureProblem(record, approver, signersText(trust));
    if (unsigned !== undefined) {
        const remembered = asked.ledger.attempt === undefined ? "" : " as it was at the last update";
        throw new Problem(`${options.key}: signs, but not for ${approver} (${unsigned}); accepted: a key of ${approver} in ${signersFile}${remembered}`);
    }
    const file = recordFile(stack, decision);
    fs.mkdirSync(path.join(tree, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(tree, file), recordText(record));
    console.log(`wrote ${file}; the next update of this change is let through once`);
    return 0;
});

/** What is put before the approver. */
interface Question {
    change: string;
    words: string[];
    /** Whose signature will count. */
    trust: Trust;
}

function signersQuestion(stack: string, asked: Asked): Question {
    const change = declaredTrust(asked);
    if (change === undefined) {
        throw new Problem(`stack ${stack}: names the approver and the keys that it had, so there is nothing to approve`);
    }
    return { change: change.change, words: change.words, trust: change.before };
}

function question(stack: string, decision: Decision, asked: Asked, facts: Facts): Question {
    const { ledger } = asked;
    const { change, changed, needs } = decide(asked);
    if (!changed) {
        throw new Problem(`stack ${stack}: is as it was deployed, so there is nothing to approve`);
    }
    if (needs !== decision) {
        const how = `npm run approve -- -s ${stack}${needs === "update" ? "" : ` --${needs} REASON`}`;
        throw new Problem(`change ${change}: is ${articled[needs]}; accepted: ${how}`);
    }
    const words =
        decision === "destroy"
            ? ["everything that the stack has deployed is removed"]
            : [...rebuiltImages(ledger), ...describeChange(ledger.deployed?.facts, facts)];
    // Whom the tree names: an update that changes them too needs their own approval beside this one.
    const removed = ledger.attempt?.next.removed;
    return { change, words, trust: { ...declaredSigners(asked), ...(removed && { removed }) } };
}

const articled: Record<Decision, string> = {
    update: "an ordinary update",
    "after-failure": "a decision after a failed update",
    rollback: "a rollback to a state that this stack had",
    destroy: "a destroy",
    signers: "a change of who approves",
    rebuild: "an image that came out different from the same sources",
};

async function confirm(asked: string | undefined, change: string): Promise<void> {
    if (asked !== undefined) {
        if (asked !== change) {
            throw new Problem(`--change ${asked}: is not what this checkout would do; accepted: ${change}`);
        }
        return;
    }
    if (!process.stdin.isTTY) {
        throw new Problem(`--change: is missing, and there is no terminal to ask at; accepted: ${change}`);
    }
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    const answer = await terminal.question("Sign this? Type yes: ");
    terminal.close();
    if (answer !== "yes") {
        throw new Problem("not signed");
    }
}

interface Options {
    stack: string;
    /** Folder of the change's checkout. */
    tree: string;
    decision: Decision;
    reason: string;
    key: string;
    change: string | undefined;
    configFile: string | undefined;
}

function parse(args: string[]): Options {
    const text = { type: "string" } as const;
    let values;
    try {
        values = parseArgs({
            args,
            options: {
                stack: { ...text, short: "s" },
                "after-failure": text,
                rollback: text,
                destroy: text,
                signers: text,
                rebuild: text,
                tree: text,
                key: text,
                change: text,
                "config-file": text,
            },
        }).values;
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
    const given = (["after-failure", "rollback", "destroy", "signers", "rebuild"] as const).filter((decision) => values[decision] !== undefined);
    const decision = given[0];
    if (values.stack === undefined || given.length > 1 || (decision !== undefined && values[decision] === "")) {
        throw new Problem(USAGE);
    }
    return {
        stack: values.stack,
        tree: path.resolve(values.tree ?? path.join(__dirname, "..")),
        decision: decision ?? "update",
        reason: decision === undefined ? "" : (values[decision] ?? ""),
        key: values.key ?? signingKey(),
        change: values.change,
        configFile: values["config-file"],
    };
}

function signingKey(): string {
    try {
        const key = execFileSync("git", ["config", "user.signingkey"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
        if (key !== "") {
            return key.replace(/^~/, os.homedir());
        }
    } catch {
        // git has none.
    }
    return path.join(os.homedir(), ".ssh", "id_ed25519");
}
