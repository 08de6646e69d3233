import * as fs from "node:fs";
import { parseArgs } from "node:util";
import { type Problem as AnswerProblem, problemLine } from "../components/internal/errors";
import { describePlan } from "../components/node/describe";
import { planNode } from "../components/node/planNode";
import { servingOn } from "../components/platform/servingFit";
import { describeServing } from "../components/serving/servingProblems";
import { bold, green } from "../sandbox/report";
import { main, Problem } from "../tools/report";
import { renderTable } from "../tools/table";
import { type Answers, given } from "./answers";
import { declare, nodeRemarks } from "./declaration";
import { askAll, confirm } from "./dialogue";
import { answerProblems, byFlag, missingProblems } from "./problems";
import { applicable, questions, steps } from "./questions";
import { principals } from "./signers";
import { configKey, keptOf, stackFile, stackFileText } from "./stackFile";
import { say, withTerminal } from "./terminal";

const switches = {
    yes: "asks nothing: what no flag gives gets its default",
    offline: "asks no builder, registry, cluster or node",
    force: "writes the stack's file anew; encrypted values in it stay",
    help: "shows this",
};

/*
 * `npm run init`: asks what a new stack must know, checks each answer as it is entered, and writes Pulumi.STACK.yaml. With
 * flags and --yes it asks nothing. Nothing is written before the last answer.
 */
main(async () => {
    const answers = parse(process.argv.slice(2));
    if (answers.help === "yes") {
        usage().forEach((line) => console.log(line));
        return 0;
    }
    if (answers.offline === "yes") {
        say("offline: builder, registry, cluster and node are not asked");
    }
    if (answers.yes === "yes") {
        write(await settle(answers));
        return 0;
    }
    if (!process.stdin.isTTY) {
        const noTerminal = {
            path: "--yes",
            wrong: "is missing, and standard input is no terminal to ask at",
            accepted: "--yes, with a flag for each answer",
            fix: "npm run init -- --help",
        };
        refuse([...missingProblems(withPresets(answers)), ...answerProblems(answers), noTerminal]);
    }
    await withTerminal(interrupted, async (terminal) => {
        const asked = await askAll(steps, answers, terminal);
        refuse(answerProblems(asked));
        showPlan(asked);
        if (await confirm(`Write Pulumi.${asked.stack}.yaml?`, terminal)) {
            write(asked);
        } else {
            say("nothing is written");
        }
    });
    return 0;
});

function interrupted(): never {
    console.log("\nnothing is written");
    process.exit(130);
}

function parse(args: string[]): Answers {
    const flags = questions.map(({ flag, consent }) => [flag, { type: consent ? "boolean" : "string" }] as const);
    const options = Object.fromEntries([...flags, ...Object.keys(switches).map((name) => [name, { type: "boolean" }] as const)]);
    try {
        const { values } = parseArgs({ args, options });
        return Object.fromEntries(Object.entries(values).map(([flag, value]) => [flag, typeof value === "boolean" ? "yes" : String(value)]));
    } catch (error) {
        throw new Problem(`${(error as Error).message}\nnpm run init -- --help`);
    }
}

function usage(): string[] {
    const rows = [
        ...questions.map(({ flag, asks, accepts, consent }) => ({ name: `--${flag}`, where: consent ? asks : `${asks} (${accepts})` })),
        ...Object.entries(switches).map(([flag, where]) => ({ name: `--${flag}`, where })),
    ];
    return [
        "usage: npm run init [-- FLAG VALUE ...]; what no flag gives is asked",
        ...renderTable(
            rows.map((row) => ({ ...row, version: "" })),
            process.stdout.columns || 100,
        ),
    ];
}

/** What nobody gave gets its default, in the order of the questions, since a default may follow from an answer. */
function withPresets(start: Answers): Answers {
    return questions.reduce((answers, question) => {
        const { flag } = question;
        return answers[flag] !== undefined || !applicable(question, answers) ? answers : { ...answers, [flag]: question.preset?.(answers) };
    }, start);
}

/** All answers without a question; every problem at once. */
async function settle(start: Answers): Promise<Answers> {
    const answers = withPresets(start);
    refuse([...missingProblems(answers), ...answerProblems(answers)]);
    if (answers.offline !== "yes") {
        const reached = await Promise.all(steps.flatMap(({ reach }) => (reach === undefined ? [] : [reach(answers)])));
        reached.flatMap(({ found }) => found).forEach((line) => say(line, green));
        refuse(
            byFlag(
                answers,
                reached.flatMap(({ problems }) => problems),
            ),
            "nothing is written; --offline writes it without asking them",
        );
    }
    showPlan(answers);
    return answers;
}

function refuse(problems: readonly AnswerProblem[], advice?: string): void {
    if (problems.length > 0) {
        throw new Problem([...problems.map(problemLine), ...(advice === undefined ? [] : [advice])].join("\n"));
    }
}

function showPlan(answers: Answers): void {
    const { node, stages, serving, remarks } = declare(answers);
    remarks.forEach((line) => say(`model: ${line}`));
    if (node === undefined) {
        return;
    }
    const planned = planNode({ ...node, builderMiB: Math.round((stages.builderMemoryGiB ?? 0) * 1024) });
    const settings = servingOn(serving, planned);
    say("Memory plan", bold);
    [...nodeRemarks(answers), ...describePlan(planned.plan), ...(settings === undefined ? [] : describeServing(settings))].forEach((line) => say(`  ${line}`));
}

function write(answers: Answers): void {
    const stack = answers.stack ?? "";
    const file = stackFile(stack);
    const before = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
    fs.writeFileSync(file, stackFileText(declare(answers), before), { flag: answers.force === "yes" ? "w" : "wx" });
    say(`Pulumi.${stack}.yaml is written`, green);
    const kept = [...keptOf(before).keys()].map((at) => at.at(-1));
    if (kept.length > 0) {
        say(`kept from before: ${kept.join(", ")}`);
    }
    const approver = given(answers, "approver");
    if (approver !== undefined && !principals().includes(approver)) {
        say(`approvals/allowed_signers has no key of ${approver} yet; until it has, every update is refused`);
    }
    say("Next", bold);
    nextCommands(answers).forEach((command) => console.log(`  ${command}`));
}

/** Whole, whatever the terminal's width is, so that each can be copied. */
function nextCommands(answers: Answers): string[] {
    const { stack } = answers;
    const secret = (name: string) => `npm run -s pulumi -- config set --secret ${configKey(name)} --stack ${stack}`;
    const [user, puller, key] = [given(answers, "user"), given(answers, "pull-user"), given(answers, "builder-key")];
    return [
        `npm run pins -- --stack ${stack} --write`,
        `npm run preview:report -- -s ${stack} --temporary`,
        `npm run pulumi -- stack init ${stack}`,
        ...(user === undefined ? [] : [secret("registryPassword")]),
        ...(puller === undefined ? [] : [secret("registryPullPassword")]),
        ...(key === undefined ? [] : [`${secret("builderClientKey")} < ${key}`]),
        `npm run pulumi -- up --stack ${stack}`,
    ];
}
