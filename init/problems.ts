import * as fs from "node:fs";
import { sections } from "../components/config/schema";
import { type Problem, UserError } from "../components/internal/errors";
import { zodProblems } from "../components/internal/resolve";
import { type PlannedNode, planNode } from "../components/node/planNode";
import { stagesSchema } from "../components/platform/cmmPlatformArgs";
import { servingFitProblems } from "../components/platform/servingFit";
import { declaredBuilderProblems } from "../components/rules/builder";
import { planProblems } from "../components/stages/plan";
import { type Answers, given } from "./answers";
import { contextProblems } from "./cluster";
import { type Declaration, declare } from "./declaration";
import { applicable, type Question, questions } from "./questions";
import { stackFile } from "./stackFile";

/** Everything that is wrong with the answers so far, each at the flag of its answer. Nothing is dialled. */
export function answerProblems(answers: Answers): Problem[] {
    const declared = declare(answers);
    const context = given(answers, "context");
    const typed = [...stackProblems(answers), ...declared.problems, ...(context === undefined ? [] : contextProblems(context))];
    const flags = new Set(typed.map(({ path }) => path));
    // What could not even be read is not in the sections, and must not be called unset there too.
    return [...typed, ...byFlag(answers, [...schemaProblems(declared), ...ruleProblems(declared)]).filter(({ path }) => !flags.has(path))];
}

/** A line for each question that applies and has no answer. */
export function missingProblems(answers: Answers): Problem[] {
    return questions
        .filter((question) => applicable(question, answers) && answers[question.flag] === undefined)
        .map(({ flag, accepts }) => ({ path: `--${flag}`, wrong: "is missing", accepted: accepts, fix: `add --${flag}` }));
}

/** Problems at configuration paths as problems of the answers that decided them; what is not answered yet is left out. */
export function byFlag(answers: Answers, problems: readonly Problem[]): Problem[] {
    return problems.flatMap((problem) => {
        const question = questionOf(problem.path.replace(/^[a-z0-9-]+:/, ""), answers);
        if (question === undefined) {
            return [problem];
        }
        const value = answers[question.flag];
        return value === undefined
            ? []
            : [
                  {
                      ...problem,
                      path: `--${question.flag}`,
                      value,
                      accepted: inFlags(problem.accepted),
                      fix: problem.fix && (question.fix ?? inFlags(problem.fix)),
                  },
              ];
    });
}

/** A text that speaks of configuration, with the flags that set it. */
function inFlags(text: string | undefined): string | undefined {
    const flags = questions.flatMap(({ flag, paths }) => paths.filter((path) => /[.A-Z]/.test(path)).map((path) => ({ path, flag })));
    return flags
        .sort((a, b) => b.path.length - a.path.length)
        .reduce((said, { path, flag }) => said?.replaceAll(`${path}: `, `--${flag} `).replaceAll(path, `--${flag}`), text);
}

/**
 * The question whose path is the longest that contains this one; of two the later, which is asked only where the first gave
 * nothing. An answer of none decided nothing that another answer below the section decided.
 */
function questionOf(path: string, answers: Answers): Question | undefined {
    const longest = ({ paths }: Question) =>
        paths.filter((own) => path === own || path.startsWith(`${own}.`)).reduce((a, b) => (b.length > a.length ? b : a), "");
    const candidates = questions
        .filter((question) => applicable(question, answers) && longest(question) !== "")
        .sort((a, b) => longest(a).length - longest(b).length);
    return candidates.filter((question) => given(answers, question.flag) !== undefined && longest(question).includes(".")).at(-1) ?? candidates.at(-1);
}

/** As the program's own reading of the stack file would report them. The node's section is checked with its plan. */
function schemaProblems(declared: Declaration): Problem[] {
    const { clientKey: _, problems: __, remarks: ___, node: ____, ...parts } = declared;
    return Object.entries(parts).flatMap(([name, section]) => zodProblems(name, sections[name as keyof typeof parts].safeParse(section).error, section));
}

/** As the platform's components would refuse it. */
function ruleProblems({ builder, stages, node, serving }: Declaration): Problem[] {
    const settled = stagesSchema.safeParse(stages);
    const builderMemoryGiB = stagesSchema.shape.builderMemoryGiB.safeParse(stages.builderMemoryGiB).data ?? 0;
    const planned = node === undefined ? undefined : tryPlan({ ...node, builderMiB: Math.round(builderMemoryGiB * 1024) });
    return [
        ...(builder.endpoint === undefined || !sections.builder.safeParse(builder).success
            ? []
            : declaredBuilderProblems("builder", { endpoint: builder.endpoint, encrypted: builder.caCertificate !== undefined, allowEmulation: false })),
        ...(settled.success ? planProblems(settled.data) : []),
        ...(planned === undefined ? [] : "plan" in planned ? servingFitProblems(serving, planned) : planned.problems),
    ];
}

function tryPlan(node: Parameters<typeof planNode>[0]): PlannedNode | { problems: Problem[] } {
    try {
        return planNode(node);
    } catch (error) {
        if (error instanceof UserError) {
            return { problems: error.problems };
        }
        throw error;
    }
}

/** Pulumi's own rule for the name of a stack, and ours that no stack file is lost. */
function stackProblems({ stack, force }: Answers): Problem[] {
    if (stack === undefined) {
        return [];
    }
    if (!/^[A-Za-z0-9_.-]{1,100}$/.test(stack)) {
        return [{ path: "--stack", value: stack, wrong: "is no name of a stack", accepted: "letters, digits, dashes, dots and underscores, at most 100" }];
    }
    const exists = fs.existsSync(stackFile(stack));
    return exists && force !== "yes"
        ? [
              {
                  path: "--stack",
                  value: stack,
                  wrong: `has the file Pulumi.${stack}.yaml already`,
                  accepted: "a new stack",
                  fix: "take another name, or --force to write the file anew",
              },
          ]
        : [];
}
