import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { Engine, type EngineEvent, firstError } from "../tools/engine";
import { main, Problem } from "../tools/report";
import { changeDigest, describeChange, fromDigest } from "./change";
import { destroyed, trusted } from "./gate";
import { approvalResource, changeResource, type Attempt, type Deployed, ledgerOf } from "./ledger";
import { type Decision, recordFile, sign, signatureProblem, signersFile, type Statement } from "./record";

const USAGE = `usage: npm run approve -- -s STACK [--after-failure REASON | --rollback REASON | --destroy REASON] [--key FILE] [--change DIGEST]
  -s, --stack      the stack whose next update is approved
  --after-failure  the last approved update failed, and this one may try again
  --rollback       go back to a state that the stack had before
  --destroy        let \`pulumi destroy --run-program\` through
  --key            SSH key to sign with; git's user.signingkey, else ~/.ssh/id_ed25519
  --change         sign only if the change has this digest, without asking; needed where there is no terminal`;

/** `npm run approve`: shows what the next update of a stack changes, and signs it. Changes nothing but approvals/STACK.json. */
main(async () => {
    const options = parse(process.argv.slice(2));
    const engine = await Engine.of(options.stack, options.configFile);
    const ledger = ledgerOf(await engine.resources());
    const next = await plannedChange(engine, options.decision);
    const { stack } = next;
    const change = changeDigest({ stack, from: fromDigest(ledger.deployed, ledger.attempt), to: next.to });
    if (next.serial === ledger.attempt?.serial && options.decision !== "destroy") {
        throw new Problem(`stack ${options.stack}: is as it was deployed, so there is nothing to approve`);
    }
    if (next.needs !== options.decision) {
        throw new Problem(
            `change ${change}: is ${articled[next.needs]}; accepted: npm run approve -- -s ${options.stack}${next.needs === "update" ? "" : ` --${next.needs} REASON`}`,
        );
    }
    const signers = fs.existsSync(signersFile) ? fs.readFileSync(signersFile, "utf8") : "";
    const { approver, signers: allowed } = trusted({ ledger, approver: next.approver, signers });
    const words = options.decision === "destroy" ? ["everything that the stack has deployed is removed"] : describeChange(ledger.deployed?.facts, next.facts);
    console.log(
        [`stack     ${stack}`, `change    ${change}`, `decision  ${options.decision}`, `approver  ${approver}`, ...words.map((line) => `  ${line}`)].join("\n"),
    );
    await confirm(options.change, change);
    const statement: Statement = { stack, change, decision: options.decision, approver, time: new Date().toISOString(), reason: options.reason, words };
    const record = sign(statement, options.key);
    const unsigned = signatureProblem(record, approver, allowed);
    if (unsigned !== undefined) {
        throw new Problem(
            `${options.key}: signs, but not for ${approver} (${unsigned}); accepted: a key of ${approver} in ${signersFile}${ledger.attempt ? " as it was at the last update" : ""}`,
        );
    }
    const file = recordFile(options.stack);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `${JSON.stringify(record, null, 2)}\n`);
    console.log(`wrote ${file}; the next update of this change is let through once`);
    return 0;
});

const articled: Record<Decision, string> = {
    update: "an ordinary update",
    "after-failure": "a decision after a failed update",
    rollback: "a rollback to a state that this stack had",
    destroy: "a destroy",
};

interface Planned {
    stack: string;
    serial: number;
    to: string;
    needs: Decision;
    approver: string;
    facts: Record<string, string>;
}

/** What the program itself says of its change, from the engine's events. */
async function plannedChange(engine: Engine, decision: Decision): Promise<Planned> {
    const { status, output, events } = await engine.events("preview");
    const next = plannedInput<Attempt>(events, approvalResource);
    const deployed = plannedInput<Deployed>(events, changeResource);
    if (status !== 0) {
        throw new Problem(`stack ${engine.stack}: its preview fails, so there is nothing to approve: ${firstError(output)}`);
    }
    if (next === undefined || deployed === undefined) {
        throw new Problem(`stack ${engine.stack}: needs no approval; accepted: a stack with gh200-vllm:approval.required`);
    }
    const destroys = decision === "destroy";
    return {
        stack: next.stack,
        serial: next.serial,
        to: destroys ? destroyed : deployed.to,
        needs: destroys ? "destroy" : (next.decision as Decision),
        approver: next.next.approver,
        facts: deployed.facts,
    };
}

function plannedInput<T>(events: EngineEvent[], name: string): T | undefined {
    const step = events.find(({ resourcePreEvent }) => resourcePreEvent?.metadata.urn.endsWith(`::${name}`))?.resourcePreEvent;
    return step?.metadata.new?.inputs.input as T | undefined;
}

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

function parse(args: string[]): { stack: string; decision: Decision; reason: string; key: string; change: string | undefined; configFile: string | undefined } {
    const text = { type: "string" } as const;
    let values;
    try {
        values = parseArgs({
            args,
            options: { stack: { ...text, short: "s" }, "after-failure": text, rollback: text, destroy: text, key: text, change: text, "config-file": text },
        }).values;
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
    const given = (["after-failure", "rollback", "destroy"] as const).filter((decision) => values[decision] !== undefined);
    const decision = given[0];
    if (values.stack === undefined || given.length > 1 || (decision !== undefined && values[decision] === "")) {
        throw new Problem(USAGE);
    }
    return {
        stack: values.stack,
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
