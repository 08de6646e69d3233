import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { Engine } from "../tools/engine";
import { main, Problem } from "../tools/report";
import { temporaryStack } from "../tools/temporaryStack";
import { previewFacts } from "./facts";
import { previewComment } from "./markdown";

const USAGE = `usage: npm run preview:report -- -s STACK [--temporary] [--registry] [--expect DIGEST] [--out FILE] [--facts FILE] [--config-file FILE]
  -s, --stack    the stack that is previewed
  --temporary    without the stack's state and passphrase, as for a pull request from a fork: a new local stack with the same configuration
  --registry     look whether the registry still has what the state names
  --expect       fail if the change is another one
  --out          where the comment is written; standard output where absent
  --facts        where what the comment is made of is written, as JSON`;

const CHECKOUT = path.resolve(__dirname, "..");

/** `npm run preview:report`: a preview with the policy pack, as one comment. Exits with 1 where an update would be refused. */
main(async () => {
    const { stack, temporary, registry, expect, out, factsFile, configFile } = parse(process.argv.slice(2));
    const looking: NodeJS.ProcessEnv = registry ? { GH200_PREVIEW_REGISTRY: "true" } : {};
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-report-"));
    try {
        const engine = temporary
            ? (await temporaryStack(stack, configFile ?? path.join(CHECKOUT, `Pulumi.${stack}.yaml`), folder)).engine
            : await Engine.of(stack, configFile, looking);
        const run = await engine.events("preview", "--policy-pack", path.join(CHECKOUT, "policy"));
        if (run.events.length === 0) {
            throw new Problem(`stack ${stack}: could not be previewed: ${run.output.trim()}`);
        }
        const facts = previewFacts(stack, run, !temporary);
        const comment = previewComment(facts);
        if (out === undefined) {
            console.log(comment);
        } else {
            write(out, comment);
        }
        if (factsFile !== undefined) {
            write(factsFile, `${JSON.stringify(facts, undefined, 4)}\n`);
        }
        if (expect !== undefined && expect !== facts.digest) {
            throw new Problem(`--expect ${expect}: is not this change; accepted: ${facts.digest ?? "nothing, since nothing changes"}`);
        }
        return facts.succeeded ? 0 : 1;
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
});

function write(file: string, text: string): void {
    fs.mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
    fs.writeFileSync(file, text);
}

function parse(args: string[]): {
    stack: string;
    temporary: boolean;
    registry: boolean;
    expect: string | undefined;
    out: string | undefined;
    factsFile: string | undefined;
    configFile: string | undefined;
} {
    try {
        const { values } = parseArgs({
            args,
            options: {
                stack: { type: "string", short: "s" },
                temporary: { type: "boolean" },
                registry: { type: "boolean" },
                expect: { type: "string" },
                out: { type: "string" },
                facts: { type: "string" },
                "config-file": { type: "string" },
            },
        });
        if (values.stack !== undefined) {
            const { stack, temporary = false, registry = false, expect, out, facts: factsFile, "config-file": configFile } = values;
            return { stack, temporary, registry, expect, out, factsFile, configFile };
        }
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
    throw new Problem(USAGE);
}
