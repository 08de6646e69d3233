import { hours, type PreviewFacts } from "./facts";
import { fenced } from "../components/internal/untrusted";

/** By which a workflow finds the comment that it updates. */
export const marker = (stack: string): string => `<!-- gh200-vllm preview of ${plainName(stack)} -->`;

/** One comment for a pull request. Whatever a stranger may have written stands in fenced blocks alone. */
export function previewComment(facts: PreviewFacts): string {
    return [
        marker(facts.stack),
        `## Preview of ${plainName(facts.stack)}: ${verdict(facts)}`,
        "",
        ...(facts.compared
            ? []
            : [
                  "Not compared with what is deployed: this run has neither the stack's state nor its passphrase, so everything shows as new, and the digest is that of a first deployment. In a pull request it is what the pull request's own code says of itself.",
                  "",
              ]),
        ...block("Refused", facts.errors),
        ...block("In short", facts.short),
        ...block("Change digest", facts.change),
        ...policies(facts),
        ...rebuilt(facts),
        ...folded("Resources", facts.changes.map(changeLine), "diff"),
        ...block("Memory plan", facts.memoryPlan),
        ...block(
            "Warnings",
            facts.warnings.filter((line) => !facts.memoryPlan.includes(line)),
        ),
    ].join("\n");
}

function verdict(facts: PreviewFacts): string {
    const mandatory = facts.violations.filter(({ level }) => level === "mandatory").length;
    if (mandatory > 0) {
        return `refused by ${count(mandatory, "policy violation")}`;
    }
    if (!facts.succeeded) {
        return "refused";
    }
    return facts.changes.length === 0 ? "no change" : `${count(facts.changes.length, "change")}, ${facts.unchanged} unchanged`;
}

function rebuilt({ rebuilt: stages }: PreviewFacts): string[] {
    if (stages.length === 0) {
        return [];
    }
    const minutes = stages.reduce((sum, stage) => sum + stage.minutes, 0);
    return [
        `### Rebuilt: ${count(stages.length, "stage")}, about ${hours(minutes)}`,
        "",
        "| stage | delivers | expected |",
        "| --- | --- | ---: |",
        // Our own table's words, no stranger's.
        ...stages.map(({ target, delivers, minutes: own }) => `| ${target} | ${delivers} | ${hours(own)} |`),
        "",
        "Estimates for the builder's jobs and an empty compiler cache; none was measured on a GH200.",
        "",
    ];
}

const signs: Record<string, string> = { create: "+", delete: "-", update: "!", replace: "!", "create-replacement": "+", "delete-replaced": "-" };

function changeLine({ op, type, name, properties }: PreviewFacts["changes"][number]): string {
    return `${signs[op] ?? "!"} ${op.padEnd(7)} ${type} ${name}${properties.length > 0 ? ` [${properties.join(", ")}]` : ""}`;
}

function policies({ violations, policyPacks, succeeded }: PreviewFacts): string[] {
    if (policyPacks.length === 0 && violations.length === 0) {
        return ["### Policies", "", "No policy pack ran.", ""];
    }
    return violations.length === 0
        ? ["### Policies", "", succeeded ? "No violation." : "Not checked to the end, because the preview was refused before.", ""]
        : block(
              `Policies: ${count(violations.length, "violation")}${violations.every(({ level }) => level === "advisory") ? ", advisory alone" : ""}`,
              violationLines(violations),
          );
}

/** The same policy says the same of many resources: the first three are enough to understand it. */
function violationLines(violations: PreviewFacts["violations"]): string[] {
    const byPolicy = new Map<string, string[]>();
    for (const { policy, level, message } of violations) {
        const name = `${policy} (${level})`;
        byPolicy.set(name, [...(byPolicy.get(name) ?? []), message]);
    }
    return [...byPolicy].flatMap(([name, messages]) => [
        name,
        ...messages.slice(0, 3).map((message) => `  ${message}`),
        ...(messages.length > 3 ? [`  and ${messages.length - 3} more`] : []),
    ]);
}

/** A long list is folded away: the reader wants to see that it is long, and seldom all of it. */
function folded(title: string, lines: readonly string[], language: string): string[] {
    return lines.length <= 12
        ? block(title, lines, language)
        : [`### ${title}`, "", `<details><summary>${count(lines.length, "change")}</summary>`, "", ...fenced(lines, language), "", "</details>", ""];
}

function block(title: string, lines: readonly string[], language = "text"): string[] {
    return lines.length === 0 ? [] : [`### ${title}`, "", ...fenced(lines, language), ""];
}

function count(number: number, noun: string): string {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Pulumi's own rule for a stack's name; what else a caller passes is no name. */
function plainName(stack: string): string {
    return stack.slice(0, 100).replace(/[^A-Za-z0-9_.-]/g, "_");
}
