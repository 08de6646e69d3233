import { afterwards, matrix, meanings, operations, states } from "./operations";

/** docs/operations.md, from the table that tests/live/matrix.test.ts does. */
export function operationsPage(): string {
    return [
        "# What each operation does in each state",
        "",
        "In no state does an operation lose data: the models' claim, the stack's own state, what another stack serves. And no `up` is green while nothing",
        "serves. Made from `docs/operations.ts` by `npm run docs`; `tests/live/matrix.test.ts`, part of `npm run test:deployment`, does every cell with the real engine,",
        "Kubernetes provider and API server, one server beside another stack's in one namespace. A kubelet's part, saying that a pod is ready, is the test's.",
        "",
        "| state | how it came about |",
        "| --- | --- |",
        ...states.map((state) => `| ${state} | ${meanings[state]} |`),
        "",
        `| operation | ${states.join(" | ")} |`,
        `| --- |${" --- |".repeat(states.length)}`,
        ...operations.map((operation) => {
            const cells = states.map((state) => matrix[operation][state]).map(({ green, does }) => (green ? does : `**red**: ${does}`));
            return `| ${operation} | ${cells.join(" | ")} |`;
        }),
        "",
        "What is done by hand, or goes wrong (`tests/live/state.test.ts`; the other operations in these states have no test yet):",
        "",
        "| the server | `up` | `up --refresh` |",
        "| --- | --- | --- |",
        ...afterwards.map((row) => `| ${row.join(" | ")} |`),
        "",
        "A digest that the registry no longer has is a state of images and not of a server: the build that needs it is refused before it begins, and",
        "`pulumi up --refresh` builds it again (`tests/unit/collected.test.ts`, against a registry's answers; no live test has it).",
        "",
    ].join("\n");
}
