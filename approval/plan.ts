import * as fs from "node:fs";
import * as path from "node:path";
import { z } from "zod";

/** What a run of the program saw that no file of it says, and `npm run approve` cannot know. */
const planSchema = z.strictObject({
    /** `ORGANIZATION/PROJECT/STACK`. */
    stack: z.string(),
    /** Digest of the change that was seen. */
    change: z.string(),
    /** What the cluster proves itself with. */
    cluster: z.string(),
});

export type Plan = z.output<typeof planSchema>;

export const planFile = (stack: string): string => `.gh200/plans/${stack}.json`;

/** Left by each run of the program, previews above all. */
export function writePlan(stack: string, plan: Plan): void {
    const file = planFile(stack);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `${JSON.stringify(plan, null, 2)}\n`);
}

/** Undefined where there is none that can be read. */
export function readPlan(root: string, stack: string): Plan | undefined {
    try {
        return planSchema.parse(JSON.parse(fs.readFileSync(path.join(root, planFile(stack)), "utf8")));
    } catch {
        return undefined;
    }
}
