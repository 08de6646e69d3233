import * as path from "node:path";
import { parseArgs } from "node:util";
import { problemLine } from "../components/internal/errors";
import { main, Problem } from "../tools/report";
import { askedOf } from "./asked";
import { backendProblems } from "./backend";
import { judge } from "./gate";
import { readRecord, recordFile, signatureProblem } from "./record";

const USAGE = `usage: npm run approved -- -s STACK [--destroy] [--tree FOLDER]
  -s, --stack   the stack whose next update is asked about
  --destroy     ask about a destroy
  --tree        the checkout of the change; this one where absent. Nothing of it is run`;

/**
 * `npm run approved`: exits with 0 where the next update of a stack is approved, changes nothing or needs nobody. It asks the same as the program itself, from
 * outside: a program that leaves its check out, or a hook that takes its place, is not asked.
 */
main(async () => {
    const { stack, tree, configFile, destroys } = parse(process.argv.slice(2));
    const reading = await askedOf({ stack, tree, configFile, destroys });
    if (reading === undefined) {
        console.log(`stack ${stack}: is not under approval`);
        return 0;
    }
    const { asked, required, validDays } = reading;
    const read = (file: string) => readRecord(path.join(tree, file));
    const { change, changed, problems } = judge({
        ...asked,
        ...{ stack, required, validDays, signatureProblem, now: new Date() },
        record: read(recordFile(stack)),
        signersRecord: read(recordFile(stack, "signers")),
        unsettled: await backendProblems(tree),
        // What a version may be is no matter of approval; the program itself says.
        versions: {},
    });
    if (problems.length > 0) {
        throw new Problem(problems.map(problemLine).join("\n"));
    }
    console.log(changed ? `change ${change}: is approved` : `stack ${stack}: nothing that decides the result differs from what is deployed`);
    return 0;
});

function parse(args: string[]): { stack: string; tree: string; configFile: string | undefined; destroys: boolean } {
    const text = { type: "string" } as const;
    try {
        const { values } = parseArgs({ args, options: { stack: { ...text, short: "s" }, tree: text, "config-file": text, destroy: { type: "boolean" } } });
        if (values.stack !== undefined) {
            const tree = path.resolve(values.tree ?? path.join(__dirname, ".."));
            return { stack: values.stack, tree, configFile: values["config-file"], destroys: values.destroy ?? false };
        }
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
    throw new Problem(USAGE);
}
