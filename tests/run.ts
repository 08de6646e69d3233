import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

/*
 * `npm test`: runs the suites, the quick ones first and one after another, beside them the live one, which mostly waits for
 * daemons, and closes with one line of totals. What a suite prints is shown when it has ended.
 * `npm test -- unit components` runs only those; `npm run test:deployment` the live tests of pods, rules,
 * sources and stages, `npm run test:package` the package and its examples as other programs use them. A suite is a folder, with
 * the tests that stand beside the code they are of; one without a test fails.
 */

interface Totals {
    passed: number;
    failed: number;
    skipped: number;
}

const tests = __dirname;
const root = path.dirname(tests);

/** Suites of vitest: the folders whose tests they run, and further arguments. */
const vitestSuites: Record<string, string[]> = {
    unit: ["tests/unit/", "tools/"],
    components: ["tests/components/"],
    package: ["tests/package/"],
    program: ["tests/program/"],
    // A live test owns a sandbox and its ports, and the machine's few cores.
    sandbox: ["sandbox/", "--no-file-parallelism"],
    live: ["tests/live/graph.test.ts"],
    deployment: ["tests/live/", "--exclude", "tests/live/graph.test.ts", "--no-file-parallelism"],
    examples: ["tests/examples/", "--no-file-parallelism"],
};

/** What takes longer than a person waits for after each change. */
const onlyByName = ["deployment", "examples"];

/** They run beside the others, each for itself. */
const beside = ["live"];

interface Suite {
    folder: string;
    run: () => Promise<Ended>;
}

interface Ended {
    totals: Totals;
    output: string;
}

const suites: Record<string, Suite> = {
    ...Object.fromEntries(Object.entries(vitestSuites).map(([name, args]) => [name, { folder: path.join(root, args[0] ?? ""), run: () => vitest(args) }])),
    runtime: { folder: path.join(tests, "runtime", "run"), run: runtime },
};

async function vitest(args: string[]): Promise<Ended> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-tests-"));
    const report = path.join(folder, "report.json");
    try {
        const cli = path.join(root, "node_modules", "vitest", "vitest.mjs");
        const { status, output } = await run(process.execPath, [cli, "run", ...args, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`]);
        const totals = fs.existsSync(report) ? readReport(report) : { passed: 0, failed: 0, skipped: 0 };
        return { totals: atLeastOneFailure(totals, status), output };
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}

function readReport(file: string): Totals {
    const report = JSON.parse(fs.readFileSync(file, "utf8")) as Record<string, number>;
    return {
        passed: report.numPassedTests ?? 0,
        failed: report.numFailedTests ?? 0,
        skipped: (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0),
    };
}

/** Python and C++, by pytest, which closes with a line such as `1 failed, 75 passed in 34.42s`. */
async function runtime(): Promise<Ended> {
    const { status, output } = await run("bash", [path.join(tests, "runtime", "run"), "--fast"]);
    const closing =
        output
            .split("\n")
            .filter((line) => / in \d+\.\d+s/.test(line))
            .at(-1) ?? "";
    const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(closing)?.[1] ?? 0);
    const totals = { passed: count("passed"), failed: count("failed") + count("error"), skipped: count("skipped") };
    return { totals: atLeastOneFailure(totals, status), output };
}

/** A file that cannot be loaded, an unhandled error or a suite without a test is a failure that no test counts. */
function atLeastOneFailure(totals: Totals, status: number | null): Totals {
    const vacuous = totals.passed + totals.failed === 0;
    return status !== 0 || vacuous ? { ...totals, failed: Math.max(1, totals.failed) } : totals;
}

function run(command: string, args: string[]): Promise<{ status: number | null; output: string }> {
    return new Promise((resolve, reject) => {
        const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
        let output = "";
        const keep = (chunk: Buffer) => (output += chunk.toString());
        child.stdout.on("data", keep);
        child.stderr.on("data", keep);
        child.once("error", reject);
        child.once("close", (status) => resolve({ status, output }));
    });
}

/** Runs these suites one after another and shows each when it has ended; its totals by its name. */
async function inOrder(names: string[]): Promise<[string, Totals][]> {
    const ended: [string, Totals][] = [];
    for (const name of names) {
        const since = Date.now();
        const { totals, output } = await (suites[name] as Suite).run();
        console.log(`${name}\n${output}${name}: ${Math.round((Date.now() - since) / 1000)} s`);
        ended.push([name, totals]);
    }
    return ended;
}

async function main(named: string[]): Promise<number> {
    const unknown = named.filter((name) => suites[name] === undefined);
    if (unknown.length > 0) {
        console.error(`tests: ${unknown.join(", ")}: no such suite; accepted: ${Object.keys(suites).join(", ")}`);
        return 1;
    }
    const all = Object.entries(suites).filter(([name, { folder }]) => !onlyByName.includes(name) && fs.existsSync(folder));
    const wanted = named.length > 0 ? Object.keys(suites).filter((name) => named.includes(name)) : all.map(([name]) => name);
    console.log(`running ${wanted.join(", ")}`);
    const lanes = [wanted.filter((name) => !beside.includes(name)), ...wanted.filter((name) => beside.includes(name)).map((name) => [name])];
    const results = (await Promise.all(lanes.map(inOrder))).flat();
    const sum = (key: keyof Totals) => results.reduce((total, [, totals]) => total + totals[key], 0);
    const failing = results.filter(([, { failed }]) => failed > 0).map(([name]) => name);
    if (failing.length > 0) {
        console.log(`failed in ${failing.join(", ")}`);
    }
    console.log(`${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
    return failing.length > 0 || sum("passed") === 0 ? 1 : 0;
}

void main(process.argv.slice(2)).then((status) => (process.exitCode = status));
