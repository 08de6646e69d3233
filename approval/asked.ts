import { Engine } from "../tools/engine";
import { Problem } from "../tools/report";
import { type Asked, destroyed } from "./decision";
import { approverOf, changeFacts, type Facts, factsDigest, isRequired, validDaysOf } from "./facts";
import { ledgerOf } from "./ledger";
import { planFile, readPlan } from "./plan";
import { readSigners } from "./record";

/** Where a stack is, and where a checkout would take it. */
export interface Reading {
    asked: Asked;
    facts: Facts;
    /** Whether the checkout's configuration asks for approvals. */
    required: boolean;
    validDays: number;
}

/** Reads it from the stack's state, the checkout's files and what a preview recorded. Nothing of the program is loaded. Undefined where nobody approves. */
export async function askedOf({
    stack,
    tree,
    configFile,
    destroys,
}: {
    stack: string;
    tree: string;
    configFile?: string | undefined;
    destroys: boolean;
}): Promise<Reading | undefined> {
    const engine = await Engine.of(stack, configFile, {}, tree);
    const ledger = ledgerOf(await engine.resources());
    const config = await engine.rawConfig();
    const required = isRequired(config);
    if (!required && ledger.attempt === undefined) {
        return undefined;
    }
    const plan = readPlan(tree, stack);
    if (plan === undefined) {
        throw new Problem(`${planFile(stack)}: is missing; accepted: what a preview records; npm run pulumi -- preview --stack ${stack}`);
    }
    const facts = changeFacts(tree, config, plan.cluster);
    const to = destroys ? destroyed : factsDigest(facts);
    return {
        asked: { fullName: plan.stack, ledger, to, approver: approverOf(config), signers: readSigners(tree) },
        facts,
        required,
        validDays: validDaysOf(config),
    };
}
