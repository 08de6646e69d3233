import { z } from "zod";
import { stageTable } from "../components/stages/table";
import { Problem } from "../tools/report";
import type { PreviewFacts } from "./facts";

const line = z.string().max(20_000);
const lines = z.array(line).max(2000);

/** What a run of somebody else's code may say of its preview. Nothing of it is a word of ours: stages are looked up by their names. */
const schema = z.strictObject({
    succeeded: z.boolean(),
    changes: z.array(z.strictObject({ op: line, type: line, name: line, properties: lines })).max(2000),
    unchanged: z.int().nonnegative().max(100_000),
    digest: z
        .string()
        .regex(/^[0-9a-f]{64}$/)
        .optional(),
    change: lines,
    warnings: lines,
    errors: lines,
    rebuilt: z
        .array(z.looseObject({ target: z.enum(stageTable.map(({ target }) => target) as [string, ...string[]]), minutes: z.number().min(0).max(100_000) }))
        .max(stageTable.length),
    violations: z.array(z.strictObject({ policy: line, level: line, message: line })).max(2000),
    policyPacks: lines,
    memoryPlan: lines,
    short: lines,
});

/**
 * Facts that a pull request's run has uploaded, for a comment on the trusted side. Which stack they are of and that nothing was compared are
 * not theirs to say.
 *
 * @throws Problem where they are no facts.
 */
export function uploadedFacts(stack: string, text: string): PreviewFacts {
    const { stack: _stack, compared: _compared, ...said } = parsed(text);
    const { data } = schema.safeParse(said);
    if (data === undefined) {
        throw new Problem(`preview of ${stack}: holds no facts of a preview; accepted: what ci/preview writes`);
    }
    const minutes = new Map(data.rebuilt.map((stage) => [stage.target, stage.minutes]));
    const rebuilt = stageTable.filter(({ target }) => minutes.has(target)).map(({ target, delivers }) => ({ target, delivers, minutes: minutes.get(target)! }));
    return { ...data, digest: data.digest, stack, compared: false, rebuilt };
}

function parsed(text: string): Record<string, unknown> {
    try {
        return { ...(JSON.parse(text) as object) };
    } catch {
        return {};
    }
}
